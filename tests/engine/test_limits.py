"""How long a step and a run may take, and which answers that come late still count."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import UTC, datetime, timedelta

import pytest

from docket import Docket, InDoubt, Run
from docket._core.record import Record
from docket.cache import Certificate, MemoryCache
from docket.errors import DeadlineExceeded, StepTimeout
from tests.engine.orders import Charge, Order, Shipment


async def test_step_past_its_timeout() -> None:
    """It is cancelled and the run fails with Docket's own error, which is a TimeoutError and names step and limit."""
    d, cancelled = Docket(), asyncio.Event()

    @d.step(timeout=timedelta(milliseconds=10))
    async def charge_card(order: Order) -> Charge:
        try:
            return await never()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    with pytest.raises(StepTimeout, match=r"run 'order-1': .*charge_card gave no answer within 0.01 s") as caught:
        await d.run("order-1", Charge, Order())

    assert isinstance(caught.value, TimeoutError)
    assert cancelled.is_set()


async def test_a_steps_own_timeout_error_is_its_own() -> None:
    """A TimeoutError that the step raises passes through as it is, however long the step may take."""
    d, own = Docket(), TimeoutError("the gateway's")

    @d.step(timeout=60)
    async def charge_card(order: Order) -> Charge:
        raise own

    with pytest.raises(TimeoutError) as caught:
        await d.run("order-1", Charge, Order())

    assert caught.value is own


async def test_answer_in_the_deadlines_own_tick() -> None:
    """An answer that is ready in the tick in which the timeout ends is kept."""
    loop = asyncio.get_running_loop()
    d = Docket()

    @d.step(timeout=0.5)  # long enough for a busy machine to have begun the step by then
    async def charge_card(order: Order) -> Charge:
        answer: asyncio.Future[Charge] = loop.create_future()
        loop.call_at(begun + 0.5, answer.set_result, Charge())
        return await answer

    begun = loop.time()
    # Hold the loop past both moments, so that they come in one tick.
    loop.call_at(begun + 0.4, spin, begun + 0.6)

    assert await d.run("order-1", Charge, Order()) == Charge()


async def never() -> Charge:
    """Wait for what does not come."""
    await asyncio.Event().wait()
    return Charge()


def spin(until: float) -> None:
    """Keep the loop busy."""
    loop = asyncio.get_running_loop()
    while loop.time() < until:
        pass


async def test_answer_given_while_being_stopped() -> None:
    """A step that answers its cancellation with a result is not late: the result is used."""
    d = Docket()

    @d.step(timeout=0.01)
    async def charge_card(order: Order) -> Charge:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Charge("late")
        return Charge()

    assert await d.run("order-1", Charge, Order()) == Charge("late")


async def test_step_that_does_not_stop(caplog: pytest.LogCaptureFixture) -> None:
    """A step that swallows its cancellation is left behind after the grace period, and that is logged."""
    d, end, before = Docket(grace=0.01), asyncio.Event(), asyncio.all_tasks()

    @d.step(timeout=0.01)
    async def charge_card(order: Order) -> Charge:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue
        return Charge()

    with pytest.raises(StepTimeout):
        await d.run("order-1", Charge, Order())

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().endswith("still runs 0.01 s after its timeout of 0.01 s, and was left behind")
    end.set()
    await asyncio.gather(*asyncio.all_tasks() - before)


async def test_thread_past_its_timeout() -> None:
    """A thread cannot be stopped: what it returns within the grace period counts, after that the step has failed."""
    d, end, before = Docket(grace=0.05), threading.Event(), asyncio.all_tasks()

    @d.step(timeout=0.01)
    def charge_card(order: Order) -> Charge:
        end.wait(0.02 if order.id == 1 else 60)
        return Charge()

    assert await d.run("order-1", Charge, Order(1)) == Charge()
    with pytest.raises(StepTimeout):
        await d.run("order-2", Charge, Order(2))
    end.set()
    await asyncio.gather(*asyncio.all_tasks() - before)


async def test_timed_step_is_cancelled_with_the_run() -> None:
    """Cancelling the caller reaches a step that has a timeout, and waits for its end."""
    d, begun, ended = Docket(), asyncio.Event(), asyncio.Event()

    @d.step(timeout=60)
    async def charge_card(order: Order) -> Charge:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.set()
        return Charge()

    task = asyncio.create_task(d.run("order-1", Charge, Order()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended.is_set()


class Slow(MemoryCache):
    """A cache whose writes take longer than the step's timeout."""

    async def certify(self, certificate: Certificate, /) -> Record:
        """Store it after a while."""
        await asyncio.sleep(0.05)
        return await super().certify(certificate)


async def test_the_write_is_not_inside_the_timeout() -> None:
    """A certificate that takes longer to write than the step may take is written all the same."""
    d = Docket(cache=Slow())

    @d.step(cache_result="at_most_once", timeout=0.02)
    async def charge_card(order: Order) -> Charge:
        return Charge()

    assert await d.run("order-1", Charge, Order()) == Charge()
    assert await d.fetch("order-1", Charge) == Charge()


@pytest.mark.parametrize("own", [False, True])
async def test_at_most_once_step_past_its_timeout_is_in_doubt(own: bool) -> None:
    """Nobody knows whether it took effect; the doubt says whose timeout it was."""
    d = Docket(cache=MemoryCache())

    @d.step(cache_result="at_most_once", timeout=0.01)
    async def charge_card(order: Order) -> Charge:
        if own:
            raise TimeoutError
        return await never()

    with pytest.raises(InDoubt) as caught:
        await d.run("order-1", Charge, Order())

    assert caught.value.reason == ("error" if own else "timeout")


@pytest.mark.parametrize("where", ["call", "instance"])
async def test_run_past_its_deadline(where: str) -> None:
    """Uncertified steps are cancelled, certified ones finish and are kept, and the caller is told."""
    limit = timedelta(milliseconds=20)
    d = Docket(cache=MemoryCache(), deadline=limit if where == "instance" else None)
    seen: list[datetime | None] = []

    @d.step(cache_result="at_least_once")
    async def charge_card(order: Order, run: Run) -> Charge:
        seen.append(run.deadline)
        ((work, _),) = d._shared._under_way.values()  # pyright: ignore[reportPrivateUsage]
        while not work.abandoned:  # noqa: ASYNC110 - that is what is to be felt
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)  # in the turn in which it is abandoned, the run has not heard of it yet
        return Charge()

    @d.step
    async def ship(charge: Charge) -> Shipment:
        seen.append(None)
        return Shipment()

    with pytest.raises(DeadlineExceeded, match=r"run 'order-1': no answer within its deadline of 0.02 s") as caught:
        await d.run("order-1", Shipment, Order(), deadline=limit if where == "call" else None)

    assert caught.value.seconds == 0.02
    assert len(seen) == 1
    assert seen[0] is not None
    assert seen[0] <= datetime.now(UTC)
    assert await d.fetch("order-1", Charge) == Charge()


async def test_run_in_memory_past_its_deadline() -> None:
    """The same without a cache: the step is cancelled."""
    d, cancelled = Docket(), asyncio.Event()

    @d.step
    async def charge_card(order: Order) -> Charge:
        try:
            return await never()
        finally:
            cancelled.set()

    with pytest.raises(DeadlineExceeded):
        await d.run("order-1", Charge, Order(), deadline=0.01)

    assert cancelled.is_set()
