"""Answers that come late, are lost, or cannot be kept; and a process killed at every point on the way to one."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any

import pytest

from docket import Docket, InDoubt, NotApplied, NotCertified
from docket.errors import StepTimeout
from examples.orders.orders_pb2 import ChargeResult, OrderRequest
from tests.certify.boundary import MOMENTS, Boundary, When
from tests.certify.doors import Door
from tests.certify.records import Records
from tests.certify.situations.processes import EXCLUSIVE, LEASE, ONCE, TRANSACTIONAL, UNCLAIMED, Ledger, process
from tests.certify.steps import CHARGE, REQUEST, Charging, Selling, charged, sales
from tests.procrastinate.wire import Proxy

CLAIM, CERTIFICATE = 2, 3
"""Which statement of a claimed step's it is that the wire shows: the first reads the run."""


async def never() -> ChargeResult:
    """Wait for what does not come."""
    await asyncio.Event().wait()
    return CHARGE


async def test_r08_timeout_before_the_effect(door: Door) -> None:
    """Exclusive: ready. At most once: in doubt, since nobody but the step can know; unless the step says so itself."""

    async def says_so() -> ChargeResult:
        try:
            return await never()
        except asyncio.CancelledError:
            raise NotApplied("nothing was sent") from None

    exclusive = Charging(door.cache(), never, timeout=0.05, **EXCLUSIVE)
    silent, honest = Charging(door.cache(), never, timeout=0.05, **ONCE), Charging(door.cache(), says_so, timeout=0.05, **ONCE)
    with pytest.raises(StepTimeout):
        await exclusive.run("exclusive")
    with pytest.raises(InDoubt, match="timeout"):
        await silent.run("silent")
    with pytest.raises(NotApplied, match="nothing was sent"):
        await honest.run("honest")
    states = [(await Records.of(door.straight, name)).states for name in ("exclusive", "silent", "honest")]
    exclusive.body = silent.body = honest.body = charged

    assert states == [["ready"], ["doubt"], ["ready"]]
    assert await exclusive.run("exclusive") == await honest.run("honest") == CHARGE
    with pytest.raises(InDoubt):
        await silent.run("silent")
    assert len(silent.runs) == 1


async def test_r09_timeout_with_the_answer_in_the_same_tick(door: Door) -> None:
    """The answer wins: it is certified, and there is no doubt."""
    loop = asyncio.get_running_loop()

    async def just_in_time() -> ChargeResult:
        answer, now = loop.create_future(), loop.time()
        loop.call_at(now + 0.3, answer.set_result, CHARGE)
        loop.call_at(now + 0.2, spin, now + 0.4)  # past the answer and the deadline, which come in one tick then
        found: ChargeResult = await answer
        return found

    def spin(until: float) -> None:
        while loop.time() < until:
            pass

    charging = Charging(door.cache(), just_in_time, timeout=0.3, **ONCE)

    assert await charging.run() == await charging.run() == CHARGE
    assert len(charging.runs) == 1


@pytest.mark.parametrize("when", MOMENTS)
async def test_r10_timeout_or_cancellation_while_the_certificate_is_written(door: Door, when: When) -> None:
    """It is written all the same: the timeout is the step's alone, and the cancellation goes on afterwards."""

    async def outlast() -> bool:
        await asyncio.sleep(0.3)
        return True

    async def cancel() -> bool:
        running.cancel()
        await asyncio.sleep(0.05)
        return True

    for run_id, act in (("outlasted", outlast), ("cancelled", cancel)):
        async with Boundary(door.dsn, CERTIFICATE, when, act) as boundary:
            charging = Charging(door.behind(boundary.dsn).cache(), timeout=0.2, **ONCE)
            running = asyncio.create_task(charging.run(run_id))
            if act is outlast:
                assert await running == CHARGE
            else:
                with pytest.raises(asyncio.CancelledError):
                    await running
            assert await charging.run(run_id) == CHARGE
            await charging.d.close()
        records = await Records.of(door.straight, run_id)

        assert boundary.acted
        assert (len(charging.runs), records.states, records.events) == (1, ["certified"], [])


SEMANTICS = {"at_most_once": ONCE, "at_least_once": UNCLAIMED, "exclusive": EXCLUSIVE, "transactional": TRANSACTIONAL}


@pytest.mark.parametrize("semantics", SEMANTICS)
async def test_r11_process_killed_at_every_point(shop: Door, ledger: Ledger, semantics: str) -> None:
    """Before, inside and after each statement: whoever comes next finishes the run, and no effect is there twice or lost."""
    options = SEMANTICS[semantics]

    async def killed_at(at: int, when: When) -> bool:
        async def kill() -> bool:
            holder.kill()
            return False

        run_id = f"{when}-{at}"
        async with (
            Boundary(shop.dsn, at, when, kill) as boundary,
            process(shop.behind(boundary.dsn), ledger, options, run_id=run_id, does="return", lease=0.2) as holder,
        ):
            await holder.ended()
        if options is TRANSACTIONAL:
            await _sold_once(shop, run_id)
        else:
            await _finished(shop, ledger, run_id, options)
        return boundary.acted

    async def killed(when: When) -> int:
        at = 1
        while await killed_at(at, when):
            at += 1
        return at - 1

    points = await asyncio.gather(*map(killed, MOMENTS))

    assert min(points) >= {"at_most_once": 3, "at_least_once": 2, "exclusive": 3, "transactional": 7}[semantics]


async def _finished(door: Door, ledger: Ledger, run_id: str, options: dict[str, Any]) -> None:
    """Ask again as another process would; a doubt is decided as a person does, by what the ledger says."""
    heir = Charging(door.cache(), lease=0.2, **options)
    try:
        told = (await heir.run(run_id)).charge_id
    except InDoubt:
        if effects := ledger.effects(run_id):
            await heir.d.settle(run_id, ChargeResult, ChargeResult(charge_id=effects[0]))
        else:
            await heir.d.release(run_id, ChargeResult)
        told = (await heir.run(run_id)).charge_id
    effects = [*ledger.effects(run_id), *[CHARGE.charge_id] * len(heir.runs)]
    await heir.d.close()

    assert told in effects
    assert (await Records.of(door.straight, run_id)).states == ["certified"]
    assert len(effects) == 1 or options is not ONCE


async def _sold_once(door: Door, run_id: str) -> None:
    heir = Selling(door.cache())
    await heir.run(run_id)
    await heir.d.close()

    assert await sales(door.straight, run_id) == 1
    assert (await Records.of(door.straight, run_id)).states == ["certified"]


async def _cut() -> bool:
    return False


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("options", [ONCE, EXCLUSIVE], ids=["at_most_once", "exclusive"])
async def test_r12_claim_sent_and_no_answer(door: Door, options: dict[str, Any], when: When) -> None:
    """It is asked for by its nonce: one claim, one call, no doubt, nothing in the journal."""
    await _costs_nothing(door, options, when, CLAIM)


@pytest.mark.parametrize("when", MOMENTS)
@pytest.mark.parametrize("options", [ONCE, EXCLUSIVE, UNCLAIMED], ids=["at_most_once", "exclusive", "at_least_once"])
async def test_r13_certificate_sent_and_no_answer(door: Door, options: dict[str, Any], when: When) -> None:
    """It is sent again: one certificate, no second call, no doubt, nothing in the journal."""
    await _costs_nothing(door, options, when, CERTIFICATE - (options is UNCLAIMED))


async def _costs_nothing(door: Door, options: dict[str, Any], when: When, at: int) -> None:
    async with Boundary(door.dsn, at, when, _cut) as boundary:
        charging = Charging(door.behind(boundary.dsn).cache(), **options)
        assert await charging.run() == CHARGE
        await charging.d.close()
    records = await Records.of(door.straight, "order-1")

    assert boundary.acted
    assert len(charging.runs) == 1
    assert [(row["state"], row["token"], row["attempt"]) for row in records.results] == [("certified", 1, 1)]
    assert records.events == []


@pytest.mark.parametrize("when", MOMENTS)
async def test_r14_commit_of_a_transactional_step_sent_and_no_answer(shop: Door, when: When) -> None:
    """There and at every other boundary the server's outcome is waited for, never guessed: one row, one certificate."""
    at = 0
    while True:
        at += 1
        run_id = f"{when}-{at}"
        async with Boundary(shop.dsn, at, when, _cut) as boundary:
            selling = Selling(shop.behind(boundary.dsn).cache())
            await selling.run(run_id)
            await selling.d.close()
        assert await sales(shop.straight, run_id) == 1, at
        assert (await Records.of(shop.straight, run_id)).states == ["certified"]
        if not boundary.acted:
            break
    assert at > 8  # the read, BEGIN, its settings, the claim, the step's INSERT, the transaction's id, the certificate, COMMIT


@pytest.mark.parametrize("options", [ONCE, UNCLAIMED], ids=["at_most_once", "at_least_once"])
async def test_r15_certificate_cannot_be_written(
    door: Door, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """After the patience the error holds the value, the log all but the value; the charge is in doubt and not made again."""
    proxy = Proxy(door.dsn)
    await proxy.arrive()

    async def go_down() -> ChargeResult:
        await proxy.leave()
        return CHARGE

    charging = Charging(door.behind(proxy.dsn).cache(patience=0.3), go_down, lease=LEASE, **options)
    with pytest.raises(NotCertified, match=r"\.result; pass it to settle") as failure:
        await charging.run()
    (logged,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    await charging.d.close()
    later = Charging(door.cache(), lease=LEASE, **options)

    assert failure.value.result == CHARGE
    assert all(word in logged for word in ("'order-1'", "orders.ChargeResult", "claim", "sha256"))
    assert CHARGE.charge_id not in logged
    assert failure.value.token == (options is ONCE)
    if options is ONCE:
        with pytest.raises(InDoubt, match="holder_lost"):
            await later.run()
    await later.d.settle("order-1", ChargeResult, failure.value.result, token=failure.value.token)
    assert await later.run() == CHARGE
    assert later.runs == []


@dataclass(frozen=True)
class Receipt:
    """A result whose annotation can be wrong."""

    amounts: list[int]


@pytest.mark.parametrize("semantics", ["at_most_once", "at_least_once"])
async def test_r16_result_that_cannot_be_stored(door: Door, semantics: Any) -> None:
    """Too large, or not what it says it is: the error holds it, and running again would repeat the effect for nothing."""
    large = ChargeResult(charge_id="x" * 2_000_000)
    odd: Any = Receipt(["nineteen"])  # type: ignore[list-item]
    d, calls = Docket(cache=door.cache()), list[str]()

    @d.step(cache_result=semantics)
    async def charge(request: OrderRequest) -> ChargeResult:
        calls.append("charge")
        return large

    @d.step(cache_result=semantics)
    async def print_receipt(request: OrderRequest) -> Receipt:
        calls.append("receipt")
        return odd  # type: ignore[no-any-return]

    for target, value in ((ChargeResult, large), (Receipt, odd)):
        with pytest.raises(NotCertified) as failure:
            await d.run("order-1", target, REQUEST)
        assert failure.value.result == value
        for _ in range(2):
            with pytest.raises(InDoubt, match="unstorable"):
                await d.run("order-1", target, REQUEST)

    assert calls == ["charge", "receipt"]
