"""Processes that die, freeze or fork, and connections that are ended by the server."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from typing import Any

import asyncpg
import pytest

from docket import ConfigurationError, InDoubt
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, Shipment
from tests.certify.records import Records
from tests.certify.steps import CHARGE, Charging
from tests.database import connected
from tests.orders import Orders, request

WORKER = """
import asyncio, os, sys
from docket.postgres import PostgresCache
from tests.certify.steps import CHARGE, Charging

dsn, semantics, what = sys.argv[1:]

async def body():
    print("reached", flush=True)
    if what == "die":
        os.kill(os.getpid(), 9)
    await asyncio.sleep(float(what))
    return CHARGE

options = {"cache_result": semantics, "exclusive": semantics == "at_least_once"}

async def main():
    charging = Charging(PostgresCache(dsn), body, lease=0.4, **options)
    charge = await charging.run()
    await charging.d.close()
    print(charge.charge_id, flush=True)

asyncio.run(main())
"""


async def _worker(dsn: str, semantics: str, what: str) -> Process:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WORKER, dsn, semantics, what, stdout=PIPE)
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"reached\n"
    return process


async def _rest(process: Process) -> bytes:
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    return out


async def test_a_killed_process_leaves_a_doubt(dsn: str, postgres: PostgresCache) -> None:
    """SIGKILL in the middle of an at-most-once step: after the lease it is in doubt, and never run by itself (R3, F03)."""
    process = await _worker(dsn, "at_most_once", "die")
    await process.wait()
    charging = Charging(postgres, lease=0.4)

    with pytest.raises(InDoubt, match="holder_lost"):
        await charging.run()
    assert charging.runs == []
    await charging.d.release("order-1", ChargeResult, note="nothing at the provider")
    assert await charging.run() == CHARGE


async def test_a_killed_process_is_replaced(dsn: str, postgres: PostgresCache) -> None:
    """SIGKILL in the middle of an exclusive at-least-once step: after the lease another process runs it (R2)."""
    process = await _worker(dsn, "at_least_once", "die")
    await process.wait()
    charging = Charging(postgres, lease=0.4, cache_result="at_least_once", exclusive=True)

    assert await charging.run() == CHARGE
    assert [run.attempt for run in charging.runs] == [2]


@pytest.mark.parametrize("semantics", ["at_most_once", "at_least_once"])
async def test_a_paused_process_comes_back_too_late(dsn: str, postgres: PostgresCache, semantics: str) -> None:
    """SIGSTOP for longer than the lease: at most once it settles its own doubt, at least once it adopts the other's value."""
    process = await _worker(dsn, semantics, "0.05")
    os.kill(process.pid, signal.SIGSTOP)
    await asyncio.sleep(0.6)

    async def other() -> ChargeResult:
        return ChargeResult(charge_id="other")

    charging = Charging(postgres, other, lease=0.4, cache_result=semantics, exclusive=semantics == "at_least_once")
    if semantics == "at_most_once":
        with pytest.raises(InDoubt):
            await charging.run()
    else:
        assert (await charging.run()).charge_id == "other"
    os.kill(process.pid, signal.SIGCONT)
    answer = (await _rest(process)).decode().strip()

    assert answer == (await charging.run()).charge_id
    assert answer == ("ch-1" if semantics == "at_most_once" else "other")
    assert (await Records.of(dsn, "order-1")).states == ["certified"]


async def test_a_blocked_loop_is_like_a_pause(dsn: str, postgres: PostgresCache) -> None:
    """A step that blocks its event loop renews nothing: it is fenced like any frozen holder (F25)."""
    code = WORKER.replace("await asyncio.sleep(float(what))", "__import__('time').sleep(float(what))")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, dsn, "at_least_once", "1.2", stdout=PIPE
    )
    assert process.stdout is not None
    await process.stdout.readline()
    charging = Charging(postgres, lease=0.4, cache_result="at_least_once", exclusive=True)

    answer = await charging.run()
    assert len(charging.runs) == 1
    assert (await _rest(process)).decode().strip() == answer.charge_id


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


async def test_a_pool_inside_a_transaction_is_refused(dsn: str) -> None:
    """A claim that a caller's rollback could undo would be none (R32, B03)."""

    async def begin(connection: Any) -> None:
        await connection.execute("BEGIN")

    async with asyncpg.create_pool(dsn, min_size=0, setup=begin) as pool:
        charging = Charging(PostgresCache(pool))
        with pytest.raises(ConfigurationError, match="inside a transaction"):
            await charging.run()
    assert charging.runs == []


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
