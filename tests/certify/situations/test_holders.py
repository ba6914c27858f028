"""Whoever holds a step: together with others, killed, frozen, cut off."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from docket import InDoubt
from examples.orders.orders_pb2 import ChargeResult
from tests.certify.boundary import Boundary
from tests.certify.doors import Door
from tests.certify.records import Records
from tests.certify.situations.processes import EXCLUSIVE, LEASE, ONCE, Ledger, process
from tests.certify.steps import CHARGE, Charging, Gate
from tests.database import connected
from tests.procrastinate.queueing import until
from tests.procrastinate.wire import Proxy


@pytest.mark.parametrize("options", [ONCE, EXCLUSIVE], ids=["at_most_once", "exclusive"])
async def test_r01_two_processes_and_one_run(door: Door, ledger: Ledger, options: dict[str, Any]) -> None:
    """One claims and does it; whoever waits gets its answer, whoever will not wait is told to come back."""
    async with process(door, ledger, options, lease=60.0) as holder:
        await holder.called()
        async with process(door, ledger, options, wait=0.0) as hasty, process(door, ledger, options) as patient:
            assert await hasty.error() == "Busy"
            holder.go_on()
            assert [await holder.answer(), await patient.answer()] == [holder.effect] * 2
    records = await Records.of(door.straight, "order-1")

    assert ledger.effects() == [holder.effect]
    assert [(row["state"], row["token"], row["attempt"]) for row in records.results] == [("certified", 1, 1)]
    assert records.events == []


async def test_r02_holder_killed_at_least_once(door: Door, ledger: Ledger) -> None:
    """After the lease another does it, under a larger token."""
    async with process(door, ledger, EXCLUSIVE) as holder:
        await holder.called()
        holder.kill()
    heir = Charging(door.cache(), lease=LEASE, **EXCLUSIVE)

    assert await heir.run() == CHARGE
    assert [(run.attempt, run.token) for run in heir.runs] == [(2, 2)]


async def test_r03_holder_killed_at_most_once(door: Door, ledger: Ledger) -> None:
    """After the lease it is in doubt, and nobody does it again until somebody who knows says so."""
    async with process(door, ledger) as holder:
        await holder.called()
        holder.kill()
    heir = Charging(door.cache(), lease=LEASE)
    for _ in range(2):
        with pytest.raises(InDoubt, match="holder_lost"):
            await heir.run()
    assert (heir.runs, ledger.effects()) == ([], [holder.effect])
    await heir.d.settle("order-1", ChargeResult, ChargeResult(charge_id=holder.effect), note="on the dashboard")

    assert (await heir.run()).charge_id == holder.effect
    assert heir.runs == []


@pytest.mark.parametrize("frozen", ["by a signal", "by its own loop"])
async def test_r04_holder_paused_for_longer_than_its_lease_at_least_once(door: Door, ledger: Ledger, frozen: str) -> None:
    """Another does it; the holder wakes with an answer of its own, which is kept aside, and goes on with the other's."""
    by_a_signal = frozen == "by a signal"
    async with process(door, ledger, EXCLUSIVE, does="wait" if by_a_signal else "blocked") as holder:
        await holder.called()
        if by_a_signal:
            holder.pause()
        heir = Charging(door.cache(), lease=LEASE, **EXCLUSIVE)
        assert await heir.run() == CHARGE
        holder.go_on()
        holder.resume()
        assert await holder.answer() == CHARGE.charge_id
    records = await Records.of(door.straight, "order-1")

    assert (await heir.run(), len(heir.runs)) == (CHARGE, 1)
    assert (records.states, records.results[0]["token"]) == (["certified"], 2)
    # A holder whose loop is free may hear that it has lost its claim before its step returns; then there is nothing to keep.
    assert records.events in ([["stray"], []] if by_a_signal else [["stray"]])
    for row in records.journal:
        assert ChargeResult.FromString(row["body"]).charge_id == holder.effect


@pytest.mark.parametrize("frozen", ["by a signal", "by its own loop"])
async def test_r05_holder_paused_for_longer_than_its_lease_at_most_once(door: Door, ledger: Ledger, frozen: str) -> None:
    """It is in doubt meanwhile; its late answer, the only one there can be, is certified and ends the doubt."""
    by_a_signal = frozen == "by a signal"
    async with process(door, ledger, does="wait" if by_a_signal else "blocked") as holder:
        await holder.called()
        if by_a_signal:
            holder.pause()
        heir = Charging(door.cache(), lease=LEASE)
        with pytest.raises(InDoubt, match="holder_lost"):
            await heir.run()
        holder.go_on()
        holder.resume()
        assert await holder.answer() == holder.effect

    assert (await heir.run()).charge_id == holder.effect
    assert (heir.runs, ledger.effects()) == ([], [holder.effect])
    assert (await Records.of(door.straight, "order-1")).events == ["doubted"]


async def test_r06_holder_paused_between_its_claim_and_the_step(door: Door, ledger: Ledger) -> None:
    """Put in doubt and released while it slept: it does not call the step on a claim that is no longer its own."""
    heir = Charging(door.cache(), lease=LEASE)

    async def meanwhile() -> bool:
        holder.pause()
        with pytest.raises(InDoubt, match="holder_lost"):
            await heir.run()
        await heir.d.release("order-1", ChargeResult, note="nothing at the provider")
        assert await heir.run() == CHARGE
        holder.resume()
        return True

    async with (
        Boundary(door.dsn, at=2, when="committed", act=meanwhile) as boundary,
        process(door.behind(boundary.dsn), ledger) as holder,
    ):
        assert await holder.answer() == CHARGE.charge_id

    assert (ledger.effects(), len(heir.runs)) == ([], 1)
    assert (await Records.of(door.straight, "order-1")).states == ["certified"]


async def test_r07_holder_cut_off_from_the_database_at_least_once(door: Door, ledger: Ledger) -> None:
    """It stops when its lease is over by its own clock; another does it, and it goes on with that when it is back."""
    proxy = Proxy(door.dsn)
    await proxy.arrive()
    async with process(door.behind(proxy.dsn), ledger, EXCLUSIVE) as holder:
        await holder.called()
        await proxy.leave()
        await holder.stopped()
        heir = Charging(door.cache(), lease=LEASE, **EXCLUSIVE)
        assert await heir.run() == CHARGE
        await proxy.arrive()
        assert await holder.answer() == CHARGE.charge_id
    await proxy.leave()

    assert (len(heir.runs), ledger.effects()) == (1, [holder.effect])


async def test_r07_holder_cut_off_from_the_database_at_most_once(door: Door, ledger: Ledger) -> None:
    """Its step is not stopped: nobody else does it, and its answer is certified when the database is back."""
    proxy = Proxy(door.dsn)
    await proxy.arrive()
    async with process(door.behind(proxy.dsn), ledger) as holder:
        await holder.called()
        await proxy.leave()
        heir = Charging(door.cache(), lease=LEASE)
        with pytest.raises(InDoubt, match="holder_lost"):
            await heir.run()
        holder.go_on()
        await proxy.arrive()
        assert await holder.answer() == holder.effect
    await proxy.leave()

    assert (await heir.run()).charge_id == holder.effect
    assert (heir.runs, ledger.effects()) == ([], [holder.effect])


async def test_r25_step_that_kills_its_process_again_and_again(door: Door, ledger: Ledger) -> None:
    """After ``max_attempts`` lost processes nobody starts it again until a person has looked."""
    options: dict[str, Any] = {**EXCLUSIVE, "max_attempts": 3}
    for _ in range(3):
        async with process(door, ledger, options, does="die", lease=0.2) as holder:
            await holder.died()
    heir = Charging(door.cache(), lease=0.2, **options)
    with pytest.raises(InDoubt, match="attempts"):
        await heir.run()
    assert (heir.runs, len(ledger.effects())) == ([], 3)
    await heir.d.release("order-1", ChargeResult, note="the memory leak is mended")

    assert await heir.run() == CHARGE


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
async def test_r26_clocks_of_the_workers_differ(door: Door, ledger: Ledger, skew: float) -> None:
    """An hour ahead or behind, nobody takes what is held, and what was lost is taken when the database says so."""
    async with process(door, ledger, EXCLUSIVE, lease=60.0) as holder:
        await holder.called()
        async with process(door, ledger, EXCLUSIVE, skew=skew, wait=0.0) as other:
            assert await other.error() == "Busy"
        holder.go_on()
        assert await holder.answer() == holder.effect
    async with process(door, ledger, EXCLUSIVE, run_id="order-2", skew=-skew) as holder:
        await holder.called()
        holder.kill()
    async with process(door, ledger, EXCLUSIVE, run_id="order-2", skew=skew, does="return") as heir:
        assert await heir.answer() == heir.effect

    assert (ledger.effects(), ledger.effects("order-2")) == ([ledger.effects()[0]], [holder.effect, heir.effect])


@pytest.mark.parametrize("options", [ONCE, EXCLUSIVE], ids=["at_most_once", "exclusive"])
async def test_r27_the_databases_clock_jumps_ahead(door: Door, ledger: Ledger, options: dict[str, Any]) -> None:
    """Leases end early: an exclusive step may be done twice with one value, a charge comes to be in doubt and ends it."""
    async with process(door, ledger, options, lease=60.0) as holder, connected(door.straight) as connection:
        await holder.called()
        await connection.execute("UPDATE docket.result SET lease_until = lease_until - interval '1 hour'")
        heir = Charging(door.cache(), **options)
        if options is ONCE:
            with pytest.raises(InDoubt, match="holder_lost"):
                await heir.run()
        else:
            assert await heir.run() == CHARGE
        holder.go_on()
        told = await holder.answer()

    assert told == (await heir.run()).charge_id == (holder.effect if options is ONCE else CHARGE.charge_id)
    assert len(heir.runs) == (options is EXCLUSIVE)


async def test_r27_a_claim_that_waited_for_a_lock(door: Door) -> None:
    """What took most of its lease to be written is renewed before the step is called, which begins with a whole lease."""
    gate = Gate()
    charging = Charging(door.cache(), gate, lease=0.5)
    async with connected(door.straight) as connection, connected(door.straight) as onlooker:
        await connection.execute(
            "INSERT INTO docket.result (run_id, key, mode, state, claim) "
            "VALUES ('order-1', 'orders.ChargeResult', 'at_most_once', 'ready', gen_random_uuid())"
        )
        async with connection.transaction():
            await connection.execute("SELECT FROM docket.result FOR UPDATE")
            running = asyncio.create_task(charging.run())
            await until(lambda: onlooker.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
            await asyncio.sleep(0.3)  # more than half of the lease
            unlocked = await onlooker.fetchval("SELECT clock_timestamp()")
        await gate.reached.wait()
        lease_until = await onlooker.fetchval("SELECT lease_until FROM docket.result")
        gate.go.set()
        await running

    assert (lease_until - unlocked).total_seconds() > 0.5
