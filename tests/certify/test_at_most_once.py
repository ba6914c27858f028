"""At most once: what a step's failures mean, and what is done about a doubt."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from docket import Busy, Docket, InDoubt, InputsChanged, NotApplied, NotCertified, Refused
from docket.cache import Cache, MemoryCache
from docket.errors import UnexpectedInput
from examples.orders.orders_pb2 import ChargeResult, OrderRequest
from tests.certify.steps import CHARGE, REQUEST, Charging, Gate, charged, failing


async def test_an_error_puts_the_step_in_doubt(cache: Cache) -> None:
    """An unexplained failure is never retried, whoever asks (F40)."""
    charging = Charging(cache, failing(OSError("read timed out")))

    with pytest.raises(InDoubt, match="OSError: read timed out") as doubt:
        await charging.run()
    with pytest.raises(InDoubt):
        await charging.run()

    assert (doubt.value.reason, len(charging.runs)) == ("error", 1)
    assert isinstance(doubt.value.__cause__, OSError)


async def test_not_applied_lets_it_run_again(cache: Cache) -> None:
    """A step that says nothing happened is run by the next attempt, with a larger token."""
    charging = Charging(cache, failing(NotApplied("refused to connect")))
    with pytest.raises(NotApplied):
        await charging.run()
    charging.body = charged

    assert await charging.run() == CHARGE
    assert [(run.attempt, run.token) for run in charging.runs] == [(1, 1), (2, 2)]
    assert charging.runs[0].idempotency_key == charging.runs[1].idempotency_key


@pytest.mark.parametrize("semantics", ["at_most_once", "at_least_once"])
async def test_a_refusal_is_certified(cache: Cache, semantics: str) -> None:
    """A final "no" is raised again on every later attempt and the step is not asked again."""
    charging = Charging(cache, failing(Refused("card declined")), cache_result=semantics)

    for _ in range(3):
        with pytest.raises(Refused, match="card declined"):
            await charging.run()

    assert len(charging.runs) == 1


async def test_a_refusal_of_a_class_of_its_own_is_known_by_its_kind(cache: Cache) -> None:
    """Whoever asks first sees the class; later it is a `Refused` that names it."""

    class Declined(Refused):
        """The bank says no."""

    charging, seen = Charging(cache, failing(Declined("no funds"))), list[tuple[type, str, str]]()
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await charging.run()
        seen.append((refused.type, refused.value.kind, refused.value.reason))

    assert seen == [(Declined, "Declined", "no funds"), (Refused, "Declined", "no funds")]


async def test_a_refusal_of_a_step_that_is_not_kept_is_not_kept_either() -> None:
    """It passes through, and the next attempt asks again."""
    d, asked = Docket(cache=MemoryCache()), list[str]()

    @d.step
    async def charge(request: OrderRequest) -> ChargeResult:
        asked.append(request.order_id)
        raise Refused("card declined")

    for _ in range(2):
        with pytest.raises(Refused, match="card declined"):
            await d.run("order-1", ChargeResult, REQUEST)

    assert asked == ["order-1", "order-1"]


async def test_the_secret_in_an_error_is_not_stored(dsn: str, postgres: Cache) -> None:
    """Passwords, NUL and half characters do not reach the row, and the doubt is written all the same (F59)."""
    error = OSError("postgresql://app:hunter2@db/shop \x00 \ud800 failed")
    with pytest.raises(InDoubt) as doubt:
        await Charging(postgres, failing(error)).run()

    assert "hunter2" not in str(doubt.value)
    assert "failed" in str(doubt.value)


@pytest.mark.parametrize("semantics", ["at_most_once", "at_least_once"])
async def test_a_result_that_cannot_be_stored_is_handed_over_and_not_made_again(cache: Cache, semantics: str) -> None:
    """The value is in the error, the step in doubt: running again would repeat the effect for nothing (F47)."""
    large = ChargeResult(charge_id="x" * 2_000_000)

    async def huge() -> ChargeResult:
        return large

    charging = Charging(cache, huge, cache_result=semantics)

    with pytest.raises(NotCertified, match="blobs=") as failure:
        await charging.run()
    with pytest.raises(InDoubt, match="unstorable"):
        await charging.run()

    assert failure.value.result is large or failure.value.result == large
    assert len(charging.runs) == 1


async def test_two_processes_make_one_charge(cache: Cache) -> None:
    """Twenty processes at once: one runs the step, the others wait for its answer (F17)."""
    gate = Gate()
    all_of_them = [Charging(cache, gate) for _ in range(20)]
    running = [asyncio.create_task(each.run()) for each in all_of_them]
    await gate.reached.wait()
    await asyncio.sleep(0.05)
    gate.go.set()

    answers = await asyncio.gather(*running)

    assert answers == [CHARGE] * 20
    assert sum(len(each.runs) for each in all_of_them) == 1


async def test_a_waiter_gives_up_and_says_when_to_come_back(cache: Cache) -> None:
    """Whoever waits longer than its limit raises Busy with the rest of the lease; the holder is not disturbed (F20)."""
    gate = Gate()
    holder, waiter = Charging(cache, gate), Charging(cache, wait=0.1)
    held = asyncio.create_task(holder.run())
    await gate.reached.wait()

    with pytest.raises(Busy) as busy:
        await waiter.run()
    gate.go.set()

    assert await held == CHARGE
    assert 0 < busy.value.retry_after <= 60
    assert waiter.runs == []


async def test_other_inputs_are_refused_while_the_first_are_at_work(cache: Cache) -> None:
    """The same run id with another amount is refused before anything runs, also when both ask at once (F49)."""
    gate = Gate()
    first, second = Charging(cache, gate), Charging(cache)
    held = asyncio.create_task(first.run())
    await gate.reached.wait()

    with pytest.raises(InputsChanged, match="amount_cents"):
        await second.run(request=OrderRequest(order_id="order-1", amount_cents=1))
    gate.go.set()

    assert await held == CHARGE
    assert second.runs == []


async def test_the_loser_of_a_race_with_other_inputs_is_refused(cache: Cache) -> None:
    """Two requests under one run id that start together: one is answered, the other one is not given its answer."""
    both = [Charging(cache), Charging(cache)]
    requests = [REQUEST, OrderRequest(order_id="order-1", amount_cents=1)]

    answers = await asyncio.gather(
        *(each.run(request=one) for each, one in zip(both, requests, strict=True)), return_exceptions=True
    )

    (refused,) = [answer for answer in answers if isinstance(answer, InputsChanged)]
    assert [change.field for change in refused.changes] == ["amount_cents"]
    assert sum(len(each.runs) for each in both) == 1


async def test_a_frozen_holder_settles_its_own_doubt(cache: Cache) -> None:
    """Presumed dead, put in doubt, and back with the answer: it is certified, since nobody else has run it (F23)."""
    gate = Gate()
    frozen, other = Charging(cache, gate, lease=0.1), Charging(cache, lease=0.1)
    frozen.freeze()
    held = asyncio.create_task(frozen.run())
    await gate.reached.wait()
    await asyncio.sleep(0.2)
    with pytest.raises(InDoubt, match="holder_lost"):
        await other.run()
    gate.go.set()

    assert await held == CHARGE
    assert await other.run() == CHARGE
    assert other.runs == []


async def test_an_answer_after_a_release_is_kept_aside(cache: Cache) -> None:
    """Released and run again, then the first answer comes: the second stands, the first is in the journal (F42)."""
    gate = Gate()
    frozen = Charging(cache, gate, lease=0.1)

    async def second() -> ChargeResult:
        return ChargeResult(charge_id="ch-2")

    other = Charging(cache, second, lease=0.1)
    frozen.freeze()
    held = asyncio.create_task(frozen.run())
    await gate.reached.wait()
    await asyncio.sleep(0.2)
    with pytest.raises(InDoubt):
        await other.run()
    await other.d.release("order-1", ChargeResult, note="nothing at the provider")
    assert (await other.run()).charge_id == "ch-2"
    gate.go.set()

    assert (await held).charge_id == "ch-2"
    assert (await other.run()).charge_id == "ch-2"
    if isinstance(cache, MemoryCache):
        assert [move.event for move in cache.journal] == ["doubted", "released", "stray"]


async def test_an_answer_after_a_release_that_nobody_used_is_handed_over(cache: Cache) -> None:
    """Released, not yet run again, and the first answer comes: whoever holds it is told, with the value."""
    gate = Gate()
    frozen, other = Charging(cache, gate, lease=0.1), Charging(cache, lease=0.1)
    frozen.freeze()
    held = asyncio.create_task(frozen.run())
    await gate.reached.wait()
    await asyncio.sleep(0.2)
    with pytest.raises(InDoubt):
        await other.run()
    await other.d.release("order-1", ChargeResult)
    gate.go.set()

    with pytest.raises(NotCertified, match="released") as failure:
        await held
    assert failure.value.result == CHARGE


async def test_a_mode_change_keeps_the_stricter_rules(cache: Cache) -> None:
    """A lost claim made under one mode and met under the other is in doubt, in both directions (F51)."""
    for stored, registered in (("at_most_once", "at_least_once"), ("at_least_once", "at_most_once")):
        run_id = f"{stored}"
        gate = Gate()
        options: dict[str, Any] = {"cache_result": stored, "exclusive": stored == "at_least_once"}
        old = Charging(cache, gate, lease=0.1, **options)
        old.freeze()
        held = asyncio.create_task(old.run(run_id))
        await gate.reached.wait()
        await asyncio.sleep(0.2)
        new = Charging(cache, lease=0.1, cache_result=registered)

        with pytest.raises(InDoubt):
            await new.run(run_id)
        gate.go.set()
        await asyncio.gather(held, return_exceptions=True)

        assert new.runs == []


async def test_an_answer_after_the_timeout_ends_the_doubt(cache: Cache) -> None:
    """A step that ignores its timeout is left behind and in doubt; when it returns after all, that is certified (F34)."""
    go = asyncio.Event()

    async def stubborn() -> ChargeResult:
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()
        return CHARGE

    charging = Charging(cache, stubborn, grace=0.05, cache_result="at_most_once", timeout=0.05)
    with pytest.raises(InDoubt, match="timeout"):
        await charging.run()
    go.set()
    async with asyncio.timeout(10):
        while (await cache.load("order-1")).results["orders.ChargeResult"].state == "doubt":  # noqa: ASYNC110 - the row tells
            await asyncio.sleep(0.01)

    assert await charging.run() == CHARGE
    assert len(charging.runs) == 1


@pytest.mark.parametrize(("value", "kind"), [(None, "None"), (REQUEST, "OrderRequest")])
async def test_a_verdict_is_a_result_of_the_step(
    cache: Cache, value: object, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A doubt is not settled with what the step could not have returned, and the error does not say that it was made."""
    charging = Charging(cache, failing(OSError("gone")))
    with pytest.raises(InDoubt):
        await charging.run()

    with pytest.raises(UnexpectedInput, match=rf"{kind} was passed, but .* gives ChargeResult; settle it with one"):
        await charging.d.settle("order-1", ChargeResult, value)

    assert not caplog.records
    await charging.d.settle("order-1", ChargeResult, CHARGE)
    assert await charging.run() == CHARGE
