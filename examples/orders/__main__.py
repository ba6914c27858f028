"""Twenty orders, real workers, two of them killed: ``python -m examples.orders``, or with ``--queue pgqueuer``.

Ends by itself with exit code 0 if every order is shipped in the end and none was charged twice.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from docket.postgres.embedded import fresh_database, postgres_server
from examples.orders.queues import QUEUES, queue_named
from examples.orders.scene import Scene


async def main(queue: str) -> int:
    """Set the scene on a fresh database, play it, and say how it ended."""
    began = time.monotonic()
    async with postgres_server() as server, fresh_database(server, prefix="docket_orders") as dsn:
        async with Scene(dsn, queue_named(queue, dsn)) as scene:
            good = await scene.play()
        scene.say(f"[dim]{time.monotonic() - began:.1f} s in all, database and workers included[/]")
    return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m examples.orders", description="Twenty orders, and two workers killed.")
    parser.add_argument("--queue", choices=QUEUES, default="procrastinate", help="what the orders are handed over by")
    sys.exit(asyncio.run(main(parser.parse_args().queue)))
