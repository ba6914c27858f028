"""The driver for Procrastinate, with its own workers in this process, on either connector."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import procrastinate
import psycopg
import pytest

from docket.testing import ATTEMPTS, QUEUE, QUEUE_RULES, QueueRig, exercise_queue
from docket_procrastinate import AsyncpgConnector, ProcrastinateQueue
from tests.database import connected, empty_tables


def asyncpg_connector(dsn: str) -> procrastinate.BaseConnector:
    """Connect as this package offers."""
    return AsyncpgConnector(dsn)


def psycopg_connector(dsn: str) -> procrastinate.BaseConnector:
    """Connect as Procrastinate does by itself."""
    return procrastinate.PsycopgConnector(conninfo=dsn)


CONNECTORS = {"asyncpg": asyncpg_connector, "psycopg": psycopg_connector}


class Rig:
    """The driver on an app of its own, and the table where its jobs are."""

    def __init__(self, dsn: str, connector: str, caller: str) -> None:
        self._dsn, self._caller = dsn, caller
        self.app = procrastinate.App(connector=CONNECTORS[connector](dsn))
        self.queue = ProcrastinateQueue(
            self.app, attempts=ATTEMPTS, backoff=0.05, longest=0.1, rescue_after=60.0, rescue_cron="* * * * * */1"
        )

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Run a worker of Procrastinate's."""
        async with self.app.open_async():
            worker = asyncio.create_task(
                self.app.run_worker_async(
                    queues=[QUEUE], install_signal_handlers=False, shutdown_graceful_timeout=0.1,
                    fetch_job_polling_interval=0.05, update_heartbeat_interval=0.2,
                )
            )  # fmt: skip
            try:
                yield
            finally:
                worker.cancel()
                await asyncio.wait((worker,))

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Open a transaction with the caller's driver."""
        return asyncpg_transaction(self._dsn) if self._caller == "asyncpg" else psycopg_transaction(self._dsn)

    async def strand(self) -> None:
        """Leave the job as its worker does that was killed an hour ago."""
        async with connected(self._dsn) as connection:
            await connection.execute(
                "WITH worker AS (INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')"
                " RETURNING id) UPDATE procrastinate_jobs SET status = 'doing', worker_id = (SELECT id FROM worker)"
            )

    async def reason(self, run_id: str) -> str:
        """Look into the jobs' arguments."""
        async with connected(self._dsn) as connection:
            rows = await connection.fetch(
                "SELECT args #>> '{outcome,why}' AS why FROM procrastinate_jobs"
                " WHERE args ->> 'run_id' = $1 AND status NOT IN ('todo', 'doing')", run_id
            )  # fmt: skip
        return " ".join(row["why"] or "" for row in rows)


@asynccontextmanager
async def asyncpg_transaction(dsn: str) -> AsyncGenerator[object]:
    """Open a transaction on a connection of a pool, which has a codec for jsonb as many applications set."""

    async def codec(connection: Any) -> None:
        await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")

    pool = asyncpg.create_pool(dsn, min_size=0, max_size=2, init=codec)
    async with pool, pool.acquire() as connection, connection.transaction():
        yield connection


@asynccontextmanager
async def psycopg_transaction(dsn: str) -> AsyncGenerator[object]:
    """Open a transaction on a connection of psycopg's."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection, connection.transaction():
        yield connection


IN_TRANSACTION = "takes_part_in_a_transaction"
"""The one rule in which the caller's driver plays a part."""


@pytest.mark.parametrize(
    ("rule", "connector", "caller"),
    [
        *((rule, connector, connector) for rule in QUEUE_RULES for connector in CONNECTORS),
        (IN_TRANSACTION, "asyncpg", "psycopg"),
        (IN_TRANSACTION, "psycopg", "asyncpg"),
    ],
)
async def test_it_keeps_to_the_rules_of_drivers(rule: str, connector: str, caller: str, dsn: str) -> None:
    """Every rule holds, with either connector; and inside of a transaction of either driver."""

    @asynccontextmanager
    async def rig() -> AsyncGenerator[QueueRig]:
        await empty_tables(dsn)
        made = Rig(dsn, connector, caller)
        yield made
        await made.queue.close()

    await exercise_queue(rig, rule)
