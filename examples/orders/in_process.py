"""The demo with queues in the memory of its workers: ``python -m examples.orders.in_process``, as often as you like.

What such a process had in hand is forgotten when it dies. So each asks for every order that stands open in the shop's table,
when it starts and from then on. They all ask for the same orders, and only the claims decide who charges.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys

import asyncpg

from docket.inprocess import InProcessQueue
from docket.queue import Policy
from examples.orders.app import DSN, QUEUE, CreateShipment, docket_on
from examples.orders.orders_pb2 import OrderRequest
from examples.orders.queues import Connection

LOOK_EVERY = 0.5
"""Seconds between two looks at the shop's table."""

OPEN = """
SELECT s.request FROM shop.sale s
WHERE NOT EXISTS (SELECT FROM docket.result r
                  WHERE r.run_id = s.order_id AND r.key = 'orders.Shipment' AND r.state = 'certified')
  AND NOT EXISTS (SELECT FROM docket.status t WHERE t.run_id = s.order_id AND t.state = 'in doubt')
"""


class InProcess:
    """No queue but each process's memory."""

    worker = (sys.executable, "-m", "examples.orders.in_process")
    called = "python -m examples.orders.in_process"

    def __init__(self, dsn: str) -> None:
        self.queue = InProcessQueue(policy=Policy(backoff=0.5), concurrency=1)
        self.d = docket_on(dsn, self.queue)

    async def lay_tables(self, connection: Connection, /) -> None:
        """Need none."""

    async def enqueue(self, connection: Connection, order_id: str, /, *inputs: object) -> None:
        """Do nothing: the processes find the order in the shop's table, where the same transaction put it."""


async def main() -> None:
    """Work on open orders until told to stop."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    shop = InProcess(DSN)
    connection = await asyncpg.connect(DSN)
    async with shop.queue.working():
        while not stopped.is_set():
            orders = [OrderRequest.FromString(request) for (request,) in await connection.fetch(OPEN)]
            random.shuffle(orders)
            for order in orders:
                await shop.d.enqueue(QUEUE, CreateShipment, order, run_id=order.order_id)
            try:
                await asyncio.wait_for(stopped.wait(), LOOK_EVERY)
            except TimeoutError:
                continue
    await connection.close()
    await shop.d.close()


if __name__ == "__main__":
    asyncio.run(main())
