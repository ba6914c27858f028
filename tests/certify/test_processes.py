"""Connections that are ended by the server, pools that are forked, closed or used from another loop."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from docket import ConfigurationError
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, Shipment
from tests.certify.records import Records
from tests.certify.steps import Charging
from tests.database import connected
from tests.orders import Orders, request


async def test_backends_that_are_terminated_cost_nothing(dsn: str) -> None:
    """The server ends every connection again and again: all orders ship, each charged once, none in doubt (F10)."""
    orders = Orders(PostgresCache(dsn))
    done = asyncio.Event()

    async def storm() -> None:
        async with connected(dsn) as db:
            while not done.is_set():
                await db.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid()"
                )
                await asyncio.sleep(0.1)

    await orders.d.fetch("open", ChargeResult)
    storming = asyncio.create_task(storm())
    for tens in range(0, 60, 10):
        await asyncio.gather(*(orders.d.run(f"order-{tens + one}", Shipment, request()) for one in range(10)))
    done.set()
    await storming
    await orders.d.close()

    assert (orders.calls["charge"], orders.calls["reserve"]) == (60, 60)
    for number in range(60):
        records = await Records.of(dsn, f"order-{number}")
        assert (records.states, records.events) == (["certified", "certified"], [])


async def test_a_role_with_asynchronous_commit_changes_nothing(dsn: str) -> None:
    """Claims and certificates are on disk when they return, whatever the role's setting (B09)."""
    async with connected(dsn) as db:
        await db.execute("ALTER DATABASE " + dsn.rpartition("/")[2] + " SET synchronous_commit = off")
    charging = Charging(PostgresCache(dsn))
    async with connected(dsn) as db:
        assert await db.fetchval("SHOW synchronous_commit") == "off"
        before = await db.fetchval("SELECT pg_current_wal_flush_lsn()")
        await charging.run()
        flushed = await db.fetchval("SELECT pg_current_wal_flush_lsn() > $1", before)
        await db.execute("ALTER DATABASE " + dsn.rpartition("/")[2] + " RESET synchronous_commit")
    await charging.d.close()
    assert flushed


async def test_a_forked_child_refuses_its_parents_pool(dsn: str) -> None:
    """A pool that a parent opened or was given is not used by its child; the parent is unharmed (F37)."""
    async with asyncpg.create_pool(dsn, min_size=0) as pool:
        for cache in (PostgresCache(dsn), PostgresCache(pool)):
            await cache.load("order-1")
            database = cache._line.database
            database._process += 1  # as it is in a child

            with pytest.raises(ConfigurationError, match="forked child"):
                await cache.load("order-1")
            database._process -= 1
            assert (await cache.load("order-1")).results == {}
            await cache.close()


async def test_a_closed_pool_is_told_at_once(dsn: str) -> None:
    """A given pool that has been closed cannot come back, so nobody waits for it."""
    pool = asyncpg.create_pool(dsn, min_size=0)
    await pool
    cache = PostgresCache(pool)
    await pool.close()

    with pytest.raises(ConfigurationError, match="has been closed"):
        await asyncio.wait_for(cache.load("order-1"), 1)


async def test_a_cache_serves_one_loop_at_a_time(dsn: str) -> None:
    """Used from another thread's loop while its own still runs, it says so instead of hanging."""
    cache = PostgresCache(dsn)
    await cache.load("order-1")

    def elsewhere() -> str:
        with pytest.raises(ConfigurationError) as refused:
            asyncio.run(_load(cache))
        return str(refused.value)

    assert "another event loop" in await asyncio.to_thread(elsewhere)
    await cache.close()


async def _load(cache: PostgresCache) -> None:
    await cache.load("order-1")


def test_a_cache_serves_one_loop_after_the_other(session_database: str) -> None:
    """A module's cache works in each `asyncio.run` that follows."""
    cache = PostgresCache(session_database)

    async def once() -> None:
        await cache.load("order-1")
        await cache.close()

    asyncio.run(once())
    asyncio.run(once())
