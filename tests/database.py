"""What the fixtures do to a database: lay the tables, empty them, and look for what a test left open."""

import asyncio
from collections.abc import AsyncGenerator
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import asyncpg
from procrastinate.schema import SchemaManager
from psycopg.conninfo import conninfo_to_dict

SCHEMA = Path(__file__).parents[1] / "schema.sql"

# Seconds a connection that is being closed has to disappear from the server's list.
_GRACE = 5.0

# Every table of ours and of the queue, whichever there will be; the version of the tables is not data.
_TABLES = r"""
    SELECT string_agg(format('%I.%I', schemaname, tablename), ', ')
    FROM pg_catalog.pg_tables
    WHERE (schemaname = 'docket' OR tablename LIKE 'procrastinate\_%') AND tablename <> 'version'
"""

_OPEN = """
    SELECT pid, state, query FROM pg_catalog.pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
      AND (xact_start IS NOT NULL
           OR pid IN (SELECT pid FROM pg_catalog.pg_locks WHERE locktype = 'advisory'))
"""


class NewDatabase(Protocol):
    """Makes another database on the tests' server, dropped when the test is over."""

    async def __call__(self, *, tables: bool = True) -> str:
        """Give its DSN; empty of tables if not *tables*."""
        ...


async def lay_tables(dsn: str) -> None:
    """Create the tables of Docket and of Procrastinate, each from its own SQL file."""
    async with connected(dsn) as connection:
        await connection.execute(SCHEMA.read_text())
        await connection.execute(SchemaManager.get_schema())


async def empty_tables(dsn: str) -> None:
    """Leave no row in any table of Docket or of Procrastinate."""
    async with connected(dsn) as connection:
        tables = await connection.fetchval(_TABLES)
        await connection.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE")


async def left_open(dsn: str, grace: float = _GRACE) -> list[str]:
    """Name the connections to *dsn* that are in a transaction or hold an advisory lock, and end them.

    Args:
        dsn: The database to look at.
        grace: Seconds that a connection may take to finish by itself.

    Returns:
        One sentence for each; empty if there are none.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + grace
    async with connected(dsn) as connection:
        while True:
            rows = await connection.fetch(_OPEN)
            if not rows or loop.time() > end:
                break
            await asyncio.sleep(0.02)
        for row in rows:
            # Or the next test would wait for its locks.
            await connection.execute("SELECT pg_terminate_backend($1)", row["pid"])
    return [f"A connection was left {row['state']} after: {row['query']}" for row in rows]


async def tasks_left(before: AbstractSet["asyncio.Task[Any]"]) -> list[str]:
    """Name the tasks of this loop that are not among *before* and go on, and cancel them."""
    await asyncio.sleep(0)  # what was cancelled a moment ago ends now
    tasks = asyncio.all_tasks() - before - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return [f"A task was left running: {task.get_coro()}" for task in tasks]


async def open_wire(dsn: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open the bare connection that *dsn* names, over TCP or a unix socket; nothing is sent."""
    parts = conninfo_to_dict(dsn)
    host, port = str(parts["host"]), int(parts.get("port") or 5432)
    if host.startswith("/"):
        return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
    return await asyncio.open_connection(host, port)


@asynccontextmanager
async def connected(dsn: str) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]"]:
    """Open a connection, and close it at the end."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()
