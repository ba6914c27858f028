"""One server and one database for each session (each worker, under xdist), emptied before every test that uses it.

``DATABASE_URL`` names the server; without it one is started for the session. Everything runs in the session's loop.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import asyncpg
import hypothesis
import pytest

from docket.postgres.embedded import fresh_database, postgres_server
from tests.database import NewDatabase, empty_tables, lay_tables, left_open, tasks_left

# No test is timed: a machine may be busy.
hypothesis.settings.register_profile("docket", deadline=None)
hypothesis.settings.load_profile("docket")


@pytest.fixture(scope="session")
async def server() -> AsyncGenerator[str]:
    """The DSN of the server, for making databases on it. Nothing may be created in the database it names."""
    async with postgres_server() as dsn:
        yield dsn


@pytest.fixture(scope="session")
async def session_database(server: str) -> AsyncGenerator[str]:
    """The DSN of the session's own database with all tables, whatever tests left in them: use ``dsn``."""
    async with fresh_database(server, prefix="docket_test") as dsn:
        await lay_tables(dsn)
        yield dsn


@pytest.fixture(autouse=True)
async def no_task_left() -> AsyncGenerator[None]:
    """Fail a test that leaves a task running in the session's loop."""
    before = asyncio.all_tasks()
    yield
    left = await tasks_left(before)
    assert left == []


@pytest.fixture
async def dsn(session_database: str) -> AsyncGenerator[str]:
    """A database with the tables of Docket and Procrastinate, all empty; it fails a test that leaves a transaction."""
    await empty_tables(session_database)
    yield session_database
    left = await left_open(session_database)
    assert left == []


@pytest.fixture
async def pool(dsn: str) -> AsyncGenerator["asyncpg.Pool[asyncpg.Record]"]:
    """A pool to ``dsn`` as an application makes one, which connects when it is first used."""
    async with asyncpg.create_pool(dsn, min_size=0, max_size=8) as pool:
        yield pool


@pytest.fixture
async def new_database(server: str) -> AsyncGenerator[NewDatabase]:
    """Makes databases of the test's own, for what cannot share one: other schemas, outages, settings."""
    async with AsyncExitStack() as databases:

        async def make(*, tables: bool = True) -> str:
            dsn = await databases.enter_async_context(fresh_database(server, prefix="docket_own"))
            if tables:
                await lay_tables(dsn)
            return dsn

        yield make
