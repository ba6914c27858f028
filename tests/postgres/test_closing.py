"""Closing a cache's pool ends, whatever became of its connections."""

from __future__ import annotations

import asyncio
import logging

import asyncpg
import pytest

from docket.postgres.connection import Database, close_pool


async def test_a_connection_that_is_never_given_back_is_cut_off(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """The log says what happened."""
    pool = await Database(dsn, {}).pool()
    kept = await pool.acquire()
    await kept.execute("SELECT 1")
    with caplog.at_level(logging.WARNING, "docket"):
        async with asyncio.timeout(30):
            await close_pool(pool, within=0.2)

    assert "have been cut off" in caplog.text
    with pytest.raises(asyncpg.InterfaceError):
        await kept.execute("SELECT 1")


async def test_a_statement_that_ends_in_time_is_waited_for(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """It gets its answer, and nothing is cut off."""
    database = Database(dsn, {})
    pool = await database.pool()
    kept = await pool.acquire()
    closing = asyncio.create_task(database.close())
    answer = await kept.fetchval("SELECT 7 FROM pg_sleep(0.1)")
    assert not closing.done()
    await pool.release(kept)
    await closing

    assert answer == 7
    assert caplog.text == ""


async def test_a_statement_under_way_does_not_hold_up_closing(dsn: str) -> None:
    """One connection is at hand and another one at work: both go back to the pool that is closed, and it opens again."""
    database = Database(dsn, {})
    await asyncio.gather(database.fetch("SELECT pg_sleep(0.1)"), database.fetch("SELECT pg_sleep(0.1)"))
    slow = asyncio.create_task(database.fetch("SELECT pg_sleep(0.3)"))
    await asyncio.sleep(0)

    async with asyncio.timeout(20):
        await database.close()

    assert len(await slow) == 1
    assert [row["two"] for row in await database.fetch("SELECT 2 AS two")] == [2]
    await database.close()
