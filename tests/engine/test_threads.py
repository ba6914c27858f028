"""Plain functions as steps: in threads, or inline."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from docket import Docket, Retry
from docket.cache import MemoryCache
from docket.errors import StepTimeout, WrongResult
from tests.engine.orders import Charge, Order, Shipment

tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="")


@pytest.mark.parametrize("thread", [True, False])
async def test_where_a_plain_function_runs(thread: bool) -> None:
    """In a thread of its own, or with ``thread=False`` in the loop's; with the caller's context variables in both."""
    d = Docket()
    seen: list[object] = []

    @d.step(thread=thread)
    def charge_card(order: Order) -> Charge:
        seen.extend([threading.current_thread() is threading.main_thread(), tenant.get()])
        tenant.set("the step's")
        return Charge()

    token = tenant.set("acme")
    assert await d.run("order-1", Charge, Order()) == Charge()

    assert seen == [not thread, "acme"]
    assert tenant.get() == "acme"
    tenant.reset(token)
    await d.close()


async def test_no_more_threads_than_allowed() -> None:
    """More runs than threads wait for their turn."""
    d = Docket(threads=2)
    lock = threading.Lock()
    now = most = 0

    @d.step
    def charge_card(order: Order) -> Charge:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        pause.wait(0.005)
        with lock:
            now -= 1
        return Charge()

    pause = threading.Event()
    await asyncio.gather(*[d.run(f"order-{number}", Charge, Order()) for number in range(10)])

    assert most == 2
    await d.close()


async def test_cancelled_before_its_turn() -> None:
    """A step that waits for a thread and is cancelled never begins; one that has begun is waited for."""
    d = Docket(threads=1)
    begun, end = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    finished: list[int] = []

    @d.step
    def charge_card(order: Order) -> Charge:
        loop.call_soon_threadsafe(begun.set)
        end.wait()
        finished.append(order.id)
        return Charge()

    first = asyncio.create_task(d.run("order-1", Charge, Order(1)))
    await begun.wait()
    second = asyncio.create_task(d.run("order-2", Charge, Order(2)))
    await asyncio.sleep(0.01)

    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    first.cancel()
    await asyncio.sleep(0.01)
    assert not first.done()
    end.set()
    with pytest.raises(asyncio.CancelledError):
        await first

    assert finished == [1]
    await d.close()


async def test_the_time_of_a_step_counts_from_when_it_begins() -> None:
    """One that waits for a free thread is not late, and so is never in doubt without having begun."""
    d = Docket(threads=1, cache=MemoryCache())
    begun, end = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    @d.step(cache_result="at_most_once", timeout=0.1)
    def charge_card(order: Order) -> Charge:
        return Charge()

    @d.step
    def ship(order: Order) -> Shipment:
        loop.call_soon_threadsafe(begun.set)
        end.wait()
        return Shipment()

    first = asyncio.create_task(d.run("order-1", Shipment, Order(1)))
    await begun.wait()
    second = asyncio.create_task(d.run("order-2", Charge, Order(2)))
    await asyncio.sleep(0.3)
    end.set()

    assert (await first, await second) == (Shipment(), Charge())
    await d.close()


async def test_stop_iteration() -> None:
    """StopIteration, which no coroutine may raise, becomes a RuntimeError instead of a run that never ends."""
    d = Docket()

    @d.step
    def charge_card(order: Order) -> Charge:
        raise StopIteration

    with pytest.raises(RuntimeError, match="a step raised StopIteration"):
        await d.run("order-1", Charge, Order())
    await d.close()


async def test_usable_after_close() -> None:
    """Closing lets the threads end; the next run has new ones."""
    d = Docket()

    @d.step
    def charge_card(order: Order) -> Charge:
        return Charge()

    await d.run("order-1", Charge, Order())
    await d.close()

    assert await d.run("order-1", Charge, Order()) == Charge()
    await d.close()


async def test_a_thread_past_its_timeout_goes_on_beside_the_next_try() -> None:
    """It cannot be stopped: each try has a thread of its own, and all of them run to their end."""
    d, before = Docket(grace=0.001), asyncio.all_tasks()
    together = threading.Barrier(4)

    @d.step(timeout=0.01, retry=Retry(attempts=3, wait=0))
    def charge_card(order: Order) -> Charge:
        together.wait(10)
        return Charge()

    with pytest.raises(StepTimeout):
        await d.run("order-1", Charge, Order())

    await asyncio.to_thread(together.wait, 10)  # for three of them
    await asyncio.wait(asyncio.all_tasks() - before)
    await d.close()


@pytest.mark.parametrize("thread", [True, False])
async def test_coroutine_that_was_not_awaited(thread: bool) -> None:
    """A plain function that returns a coroutine is told to await it."""
    d = Docket()

    async def ask() -> Charge:
        return Charge()

    @d.step(thread=thread)
    def charge_card(order: Order) -> Charge:
        return ask()  # type: ignore[return-value]

    with pytest.raises(WrongResult, match=r"charge_card \(.*\) declares Charge and returned <coroutine .*>; await it"):
        await d.run("order-1", Charge, Order())
    await d.close()


async def test_coroutine_from_a_coroutine_function() -> None:
    """The same in an async step that forgot its await."""
    d = Docket()

    async def ask() -> Charge:
        return Charge()

    @d.step
    async def charge_card(order: Order) -> Charge:
        return ask()  # type: ignore[return-value]

    with pytest.raises(WrongResult, match="await it"):
        await d.run("order-1", Charge, Order())


async def test_none_where_it_is_allowed() -> None:
    """A step that declares ``X | None`` may return None."""
    d = Docket()

    @d.step
    async def charge_card(order: Order) -> Charge | None:
        return None

    @d.step
    async def ship(charge: Charge | None) -> Shipment:
        return Shipment(str(charge))

    assert await d.run("order-1", Shipment, Order()) == Shipment("None")


async def test_objects_that_can_be_called() -> None:
    """An object with an async ``__call__``, and one with a plain one, are steps like any other."""

    class Charger:
        async def __call__(self, order: Order) -> Charge:
            return Charge()

    class Shipper:
        def __call__(self, charge: Charge) -> Shipment:
            return Shipment()

    d = Docket()
    d.register(Charger(), Shipper())

    assert await d.run("order-1", Shipment, Order()) == Shipment()
    await d.close()
