"""The demo on PgQueuer: ``python -m examples.orders.on_pgqueuer`` is one worker."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import pgqueuer
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from docket.queue import Policy
from docket_pgqueuer import PgQueuerQueue
from examples.orders.app import DSN, QUEUE, CreateShipment, docket_on
from examples.orders.queues import Connection


class OnPgQueuer:
    """PgQueuer."""

    worker = (sys.executable, "-m", "examples.orders.on_pgqueuer")
    called = "python -m examples.orders.on_pgqueuer, which is what pgq run does"

    def __init__(self, dsn: str) -> None:
        self.queue = PgQueuerQueue(dsn, policy=Policy(backoff=0.5), rescues=100)
        self.d = docket_on(dsn, self.queue)

    async def lay_tables(self, connection: Connection, /) -> None:
        """Do what ``pgq install`` does."""
        await Queries(AsyncpgDriver(connection)).install()

    async def enqueue(self, connection: Connection, order_id: str, /, *inputs: object) -> None:
        """Put a job into PgQueuer's table."""
        await self.d.enqueue(QUEUE, CreateShipment, *inputs, run_id=order_id, connection=connection)


@asynccontextmanager
async def worker() -> AsyncGenerator[PgQueuer]:
    """Build what PgQueuer runs."""
    shop = OnPgQueuer(DSN)
    async with asyncpg.create_pool(DSN, min_size=0) as pool:
        pgq = PgQueuer.from_asyncpg_pool(pool)
        shop.queue.work_on(pgq, QUEUE)
        yield pgq
    await shop.d.close()


if __name__ == "__main__":
    # The demo kills workers and has no time to wait; in production leave PgQueuer's defaults. Not its command line, which
    # does not start with the newest Typer (PgQueuer 1.6.0 with Typer 0.29).
    look_every, dead_after = timedelta(seconds=0.5), timedelta(seconds=1.5)
    asyncio.run(
        pgqueuer.run(
            worker, dequeue_timeout=look_every, heartbeat_timeout=dead_after, batch_size=1, max_concurrent_tasks=2
        )
    )
