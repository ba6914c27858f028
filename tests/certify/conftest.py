"""What the tests of certified steps share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from docket.cache import Cache, MemoryCache
from docket.postgres import PostgresCache
from docket.postgres.embedded import fresh_database
from tests.certify.doors import DOORS, Door, closing, lay_split_tables, pooled_door
from tests.certify.pgbouncer import installed, pgbouncer
from tests.database import connected, empty_tables, left_open


@pytest.fixture(params=["memory", "postgres"])
async def cache(request: pytest.FixtureRequest, dsn: str) -> AsyncGenerator[Cache]:
    """Each cache in turn."""
    made: Cache = MemoryCache() if request.param == "memory" else PostgresCache(dsn)
    yield made
    await made.close()


@pytest.fixture
async def postgres(dsn: str) -> AsyncGenerator[PostgresCache]:
    """A cache in PostgreSQL."""
    cache = PostgresCache(dsn)
    yield cache
    await cache.close()


@pytest.fixture(scope="session")
async def pooled_session(session_database: str) -> AsyncGenerator[str]:
    """The session's database through PgBouncer."""
    async with pgbouncer(await asyncio.to_thread(installed), session_database) as through:
        yield through


@pytest.fixture(scope="session")
async def split_session(server: str) -> AsyncGenerator[str]:
    """A database of the session's whose tables are split."""
    async with fresh_database(server, prefix="docket_split") as dsn:
        await lay_split_tables(dsn)
        yield dsn


@pytest.fixture
async def direct(dsn: str) -> AsyncGenerator[Door]:
    """Plain tables, and nothing before them."""
    async with closing(Door(dsn)) as door:
        yield door


@pytest.fixture
async def pooled(pooled_session: str, dsn: str) -> AsyncGenerator[Door]:
    """Plain tables behind PgBouncer in transaction mode."""
    async with closing(pooled_door(pooled_session, dsn)) as door:
        yield door


@pytest.fixture
async def split(split_session: str) -> AsyncGenerator[Door]:
    """Tables split by a hash of the run id."""
    await empty_tables(split_session)
    async with closing(Door(split_session)) as door:
        yield door
    assert await left_open(split_session) == []


@pytest.fixture(params=DOORS)
def door(request: pytest.FixtureRequest) -> Door:
    """Each door in turn."""
    found: Any = request.getfixturevalue(DOORS[request.param])
    assert isinstance(found, Door)
    return found


@pytest.fixture
async def shop(door: Door) -> AsyncGenerator[Door]:
    """A door to a database that has a table of the application's own, too."""
    async with connected(door.straight) as connection:
        await connection.execute("CREATE TABLE public.sale (run_id text, attempt int)")
    yield door
    async with connected(door.straight) as connection:
        await connection.execute("DROP TABLE public.sale")
