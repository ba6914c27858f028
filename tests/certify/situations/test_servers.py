"""The database itself crashes, is failed over, or is restored from a backup. One server for all doors in each test."""

from __future__ import annotations

import asyncio

import pytest

from docket import Busy
from examples.orders.orders_pb2 import ChargeResult
from tests.certify.doors import Door
from tests.certify.records import Records
from tests.certify.situations.servers import copy, doors_to, own_server, replicate, restore, standby_of
from tests.certify.steps import CHARGE, Charging, Gate
from tests.database import connected
from tests.procrastinate.wire import Proxy


async def charged_once(door: Door, run_id: str) -> str:
    """Make a charge through the cache of a process of its own; return the key that the provider was handed."""
    charging = Charging(door.cache())
    assert await charging.run(run_id) == CHARGE
    await charging.d.close()
    (run,) = charging.runs
    return run.idempotency_key


async def known(door: Door, run_id: str) -> bool:
    """Whether a charge is certified: then nobody is charged."""
    charging = Charging(door.cache())
    assert await charging.run(run_id) == CHARGE
    await charging.d.close()
    return not charging.runs


@pytest.mark.timeout(180)
async def test_r28_database_crashes_and_comes_back() -> None:
    """Every claim and every certificate that returned is there, on a server that forgets what it is not told to keep."""
    async with own_server() as server, doors_to(server) as doors:
        gates = [Gate() for _ in doors]
        holders = [Charging(door.cache(), gate) for door, gate in zip(doors, gates, strict=True)]
        running = [asyncio.create_task(holder.run("claimed")) for holder in holders]
        for gate in gates:
            await gate.reached.wait()
        await asyncio.gather(*(charged_once(door, "certified") for door in doors))
        server.stop()
        await server.start()
        for door in doors:
            assert (await Records.of(door.straight, "claimed")).states == ["running"]
            with pytest.raises(Busy):
                await Charging(door.cache(), wait=0.0).run("claimed")
            assert await known(door, "certified")
        for gate in gates:
            gate.go.set()

        assert await asyncio.gather(*running) == [CHARGE] * len(doors)
        for door in doors:
            assert (await Records.of(door.straight, "claimed")).states == ["certified"]
            assert await known(door, "claimed")


@pytest.mark.timeout(180)
async def test_r29_failover_to_a_replica() -> None:
    """What a synchronous replica confirmed is there; what an asynchronous one missed is done again, under the same key."""
    async with own_server() as server:
        proxy = Proxy(server.dsn)
        await proxy.arrive()
        async with doors_to(server, proxy.dsn) as doors, standby_of(server) as standby:
            await replicate(server, "sync")
            for door in doors:
                await charged_once(door, "confirmed")
            await replicate(server, "async")
            standby.stop()
            keys = [await charged_once(door, "missed") for door in doors]
            await proxy.leave()
            server.stop()
            await standby.start()
            async with connected(standby.dsn) as connection:
                assert await connection.fetchval("SELECT pg_promote()")
            proxy.turn_to(standby.dsn)
            await proxy.arrive()

            assert [await known(door, "confirmed") for door in doors] == [True] * len(doors)
            assert [await charged_once(door, "missed") for door in doors] == keys
        await proxy.leave()


@pytest.mark.timeout(180)
async def test_r30_backup_is_restored() -> None:
    """What was certified before it is there. What came later is forgotten: a person settles it, or it is done again."""
    async with own_server() as server, doors_to(server) as doors:
        for door in doors:
            await charged_once(door, "before")
        server.stop()
        copy(server, "backup")
        await server.start()
        keys = [await charged_once(door, "since") for door in doors]
        for door in doors:
            await charged_once(door, "on the dashboard")
        server.stop()
        restore(server, "backup")
        await server.start()

        assert [await known(door, "before") for door in doors] == [True] * len(doors)
        assert [await charged_once(door, "since") for door in doors] == keys
        for door in doors:
            person = Charging(door.cache())
            await person.d.settle("on the dashboard", ChargeResult, CHARGE, token=0, note="forgotten by the backup", by="ada")
            await person.d.close()
            assert await known(door, "on the dashboard")
            assert (await Records.of(door.straight, "on the dashboard")).events == ["settled"]
