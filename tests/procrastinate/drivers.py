"""Procrastinate's two connectors to PostgreSQL, so that one rule can be asked of both.

The stock one is the measure: a rule that it does not keep is not Procrastinate's.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import asyncpg
import procrastinate
import psycopg
import psycopg_pool
from procrastinate.connector import BaseAsyncConnector
from procrastinate.jobs import Job

from docket_procrastinate import AsyncpgConnector
from tests.database import connected


@dataclass(frozen=True)
class Driver:
    """A connector, and what belongs to its driver.

    Attributes:
        make: Makes a connector for a DSN; takes ``json_dumps`` and ``json_loads`` too.
        connection: Opens a connection of the driver's, which commits each statement outside ``transaction()``.
        pool: Opens a pool of the driver's.
        lent: Gives a connection of such a pool.
    """

    make: Callable[..., BaseAsyncConnector]
    connection: Callable[[str], AbstractAsyncContextManager[Any]]
    pool: Callable[[str], AbstractAsyncContextManager[Any]]
    lent: Callable[[Any], AbstractAsyncContextManager[Any]]


@contextlib.asynccontextmanager
async def _psycopg_connection(dsn: str) -> AsyncGenerator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield connection


def _psycopg_connector(dsn: str, **options: Any) -> BaseAsyncConnector:
    return procrastinate.PsycopgConnector(conninfo=dsn, **options)


def _asyncpg_pool(dsn: str) -> AbstractAsyncContextManager[Any]:
    return asyncpg.create_pool(dsn, min_size=0, max_size=4)


def _psycopg_pool(dsn: str) -> AbstractAsyncContextManager[Any]:
    return psycopg_pool.AsyncConnectionPool(dsn, min_size=1, max_size=4, open=False)


DRIVERS = {
    "asyncpg": Driver(AsyncpgConnector, connected, _asyncpg_pool, lambda pool: pool.acquire()),
    "psycopg": Driver(_psycopg_connector, _psycopg_connection, _psycopg_pool, lambda pool: pool.connection()),
}


@contextlib.asynccontextmanager
async def opened(connector: BaseAsyncConnector) -> AsyncGenerator[BaseAsyncConnector]:
    """Open *connector*, and close it at the end."""
    await connector.open_async()
    try:
        yield connector
    finally:
        await connector.close_async()


def a_job(**changes: Any) -> Job:
    """Make a job that is in no queue yet."""
    plain: dict[str, Any] = {
        "id": None, "queue": "orders", "task_name": "ship", "lock": None, "queueing_lock": None, "task_kwargs": {},
    }  # fmt: skip
    return Job(**{**plain, **changes})


def named(dsn: str) -> tuple[str, str]:
    """Return *dsn* for sessions that have a name which no others have, and the name."""
    name = f"rules-{uuid.uuid4().hex}"
    return f"{dsn}{'&' if '?' in dsn else '?'}application_name={name}", name


async def sessions(database: asyncpg.Connection, name: str, query: str = "%") -> list[int]:
    """Return the processes of the sessions that are called *name* and last ran *query*, a LIKE pattern."""
    find = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND query LIKE $2 AND state = 'idle'"
    return [row["pid"] for row in await database.fetch(find, name, query)]


@contextlib.asynccontextmanager
async def background(work: asyncio.Task[Any]) -> AsyncGenerator[asyncio.Task[Any]]:
    """Let *work* go on until left, then cancel it and wait for its end."""
    try:
        yield work
    finally:
        # More than once: the stock connector listens in asyncio.wait_for, which loses a cancellation now and then before
        # Python 3.12.
        while not work.done():
            work.cancel()
            await asyncio.wait((work,), timeout=10.0)
