"""At least once: one value for everybody, whoever was first; and exclusive steps, which are claimed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from docket import ConfigurationError, Docket, InDoubt, Refused
from docket.cache import Cache, MemoryCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest
from tests.certify.steps import CHARGE, Charging, Gate, charged, failing

PLAIN: dict[str, Any] = {"cache_result": "at_least_once"}
EXCLUSIVE: dict[str, Any] = {"cache_result": "at_least_once", "exclusive": True}


def named(name: str) -> Callable[[], Awaitable[ChargeResult]]:
    """Make a body whose result carries a name."""

    async def body() -> ChargeResult:
        return ChargeResult(charge_id=name)

    return body


async def test_the_first_writer_wins_and_all_go_on_with_its_value(cache: Cache) -> None:
    """Two processes at once may both run the step, and both return the value that was certified first."""
    gate = Gate(named("slow"))
    slow, quick = Charging(cache, gate, **PLAIN), Charging(cache, named("quick"), **PLAIN)
    running = asyncio.create_task(slow.run())
    await gate.reached.wait()
    assert (await quick.run()).charge_id == "quick"
    gate.go.set()

    assert (await running).charge_id == "quick"
    assert (len(slow.runs), len(quick.runs)) == (1, 1)


async def test_a_refusal_does_not_override_a_result(cache: Cache) -> None:
    """Whoever refuses after another process has certified a result returns that."""
    gate = Gate(failing(Refused("sold out")))
    slow, quick = Charging(cache, gate, **PLAIN), Charging(cache, named("quick"), **PLAIN)
    running = asyncio.create_task(slow.run())
    await gate.reached.wait()
    await quick.run()
    gate.go.set()

    assert (await running).charge_id == "quick"


async def test_a_failure_leaves_nothing_and_is_tried_again(cache: Cache) -> None:
    """A failed at-least-once step has no row; the next attempt runs it."""
    charging = Charging(cache, failing(OSError("gone")), **PLAIN)
    with pytest.raises(OSError, match="gone"):
        await charging.run()
    charging.body = charged

    assert (await cache.load("order-1")).results == {}
    assert await charging.run() == CHARGE


async def test_an_exclusive_step_runs_in_one_process_at_a_time(cache: Cache) -> None:
    """Ten processes at once, one run of the expensive step."""
    gate = Gate()
    all_of_them = [Charging(cache, gate, **EXCLUSIVE) for _ in range(10)]
    running = [asyncio.create_task(each.run()) for each in all_of_them]
    await gate.reached.wait()
    await asyncio.sleep(0.05)
    gate.go.set()

    assert await asyncio.gather(*running) == [CHARGE] * 10
    assert sum(len(each.runs) for each in all_of_them) == 1


async def test_an_exclusive_step_that_failed_is_free_at_once(cache: Cache) -> None:
    """Its error passes through unchanged, and the next attempt need not wait for a lease."""
    charging = Charging(cache, failing(OSError("gone")), **EXCLUSIVE)
    with pytest.raises(OSError, match="gone"):
        await charging.run()
    charging.body = charged

    assert await charging.run() == CHARGE
    assert [run.attempt for run in charging.runs] == [1, 2]


async def test_a_lost_holder_is_replaced_and_adopts_the_new_value(cache: Cache) -> None:
    """A frozen holder's step is run by another; its own late answer is not the certificate (F22)."""
    gate = Gate(named("frozen"))
    frozen, other = Charging(cache, gate, lease=0.1, **EXCLUSIVE), Charging(cache, named("other"), lease=0.1, **EXCLUSIVE)
    frozen.freeze()
    running = asyncio.create_task(frozen.run())
    await gate.reached.wait()
    await asyncio.sleep(0.2)
    assert (await other.run()).charge_id == "other"
    gate.go.set()

    assert (await running).charge_id == "other"


async def test_a_holder_that_lost_its_lease_stops_and_adopts_the_new_value(cache: Cache) -> None:
    """The heartbeat finds out that another process has the claim: the step is cancelled, its run goes on with that value."""
    gate = Gate()
    holder, other = Charging(cache, gate, lease=0.3, **EXCLUSIVE), Charging(cache, named("other"), **EXCLUSIVE)
    renew, renewed = cache.renew, asyncio.Event()

    async def too_short(held: Any, lease: float) -> Any:
        renewed.set()
        return await renew(held, 0.01)

    cache.renew = too_short  # type: ignore[method-assign]
    running = asyncio.create_task(holder.run())
    await gate.reached.wait()
    await renewed.wait()
    await asyncio.sleep(0.03)

    assert (await other.run()).charge_id == "other"
    assert (await asyncio.wait_for(running, 5)).charge_id == "other"


async def test_a_holder_stops_when_its_lease_is_over_by_its_own_clock(cache: Cache) -> None:
    """Whatever the renewal is waiting for: in a network that swallows everything it may wait for minutes."""
    d = Docket(cache=cache, lease=0.2)
    calls: list[str] = []

    @d.step(cache_result="at_least_once", exclusive=True)
    async def charge(order: OrderRequest) -> ChargeResult:
        calls.append("begun")
        try:
            await asyncio.sleep(30 if len(calls) == 1 else 0)
        except asyncio.CancelledError:
            calls.append("stopped")
            raise
        return ChargeResult(charge_id=order.order_id)

    async def swallowed(held: Any, lease: float) -> Any:
        await over.wait()

    over = asyncio.Event()
    cache.renew = swallowed  # type: ignore[method-assign]
    async with asyncio.timeout(5):
        await d.run("order-1", ChargeResult, OrderRequest(order_id="order-1"))
    over.set()

    assert calls == ["begun", "stopped", "begun"]


async def test_a_heartbeat_outlives_the_lease(cache: Cache) -> None:
    """A step longer than its lease is not taken over as long as its process lives; one beat serves all it holds."""
    gate = Gate()
    holder, other = Charging(cache, gate, lease=0.15, **EXCLUSIVE), Charging(cache, lease=0.15, wait=0.6, **EXCLUSIVE)
    running = asyncio.create_task(holder.run())
    await gate.reached.wait()
    waiting = asyncio.create_task(other.run())
    await asyncio.sleep(0.5)
    gate.go.set()

    assert await asyncio.gather(running, waiting) == [CHARGE, CHARGE]  # type: ignore[comparison-overlap]
    assert other.runs == []


async def test_a_step_that_kills_its_process_again_and_again_is_buried(cache: Cache) -> None:
    """After max_attempts lost holders nobody starts it again until a person has looked (F38)."""
    lost: list[tuple[Gate, asyncio.Task[ChargeResult]]] = []
    for _ in range(3):
        gate = Gate()
        frozen = Charging(cache, gate, lease=0.05, max_attempts=3, **EXCLUSIVE)
        frozen.freeze()
        lost.append((gate, asyncio.create_task(frozen.run())))
        await gate.reached.wait()
        await asyncio.sleep(0.1)
    charging = Charging(cache, lease=0.05, max_attempts=3, **EXCLUSIVE)

    with pytest.raises(InDoubt, match="attempts"):
        await charging.run()
    await charging.d.release("order-1", ChargeResult)
    assert await charging.run() == CHARGE

    for gate, task in lost:
        gate.go.set()
        assert await task == CHARGE


@pytest.mark.parametrize(
    "options",
    [
        {"cache_result": "at_most_once", "exclusive": True},
        {"cache_result": "at_least_once", "reconcile": charged},
        {"cache_result": "at_least_once", "max_attempts": 0},
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any]) -> None:
    """An option that could not do what it says is refused at registration."""
    with pytest.raises(ConfigurationError):
        Charging(MemoryCache(), **options)


def test_a_key_that_no_row_takes_is_refused_before_anything_runs() -> None:
    """A storage key over 255 bytes is refused when the wiring is checked, not after the effect."""
    charging = Charging(MemoryCache(), cache_result="at_most_once", key="k" * 256)

    with pytest.raises(ConfigurationError, match="256 bytes"):
        charging.d.check()
