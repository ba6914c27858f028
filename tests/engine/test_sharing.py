"""Two callers of one run share one attempt, and none of them owns it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from docket import Docket
from docket.cache import MemoryCache
from docket.errors import ConfigurationError, DeadlineExceeded, WaitsForItself
from tests.engine.orders import Charge, Order, Shipment


class Odd:
    """An input that cannot say whether it equals another, like an array."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]


def under_way(d: Docket) -> object:
    """Return what *d* remembers of runs that are under way."""
    return d._shared._under_way  # pyright: ignore[reportPrivateUsage]


class Shop:
    """A Docket with one step that waits until it is told to go on."""

    def __init__(self, d: Docket, certify: bool) -> None:
        self.d = d
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.calls = 0
        self.cancelled = 0
        d.step(cache_result="at_least_once" if certify else None)(self.charge_card)

    async def charge_card(self, order: Order) -> Charge:
        """Wait, then charge."""
        self.calls += 1
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return Charge(f"ch-{self.calls}")

    async def caller(self, order: Order | None = None, deadline: float | None = None) -> asyncio.Task[Charge]:
        """Return a caller who waits."""
        task = asyncio.create_task(self.d.run("order-1", Charge, order or Order(), deadline=deadline))
        await self.begun.wait()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return task


@pytest.fixture(params=[False, True], ids=["nothing kept", "kept"])
async def shop(request: pytest.FixtureRequest) -> AsyncGenerator[Shop]:
    """A shop whose charge is certified, or not; nothing may be under way when the test is over."""
    shop = Shop(Docket(cache=MemoryCache()), certify=request.param)
    yield shop
    assert under_way(shop.d) == {}


async def test_two_callers(shop: Shop) -> None:
    """Both get what was made once."""
    first, second = await shop.caller(), await shop.caller()
    shop.go.set()

    assert [await first, await second] == [Charge("ch-1"), Charge("ch-1")]
    assert shop.calls == 1


@pytest.mark.parametrize("leaves", [0, 1])
async def test_a_cancelled_caller_does_not_disturb_the_other(shop: Shop, leaves: int) -> None:
    """Whoever of the two is cancelled leaves at once, and the other gets the value."""
    callers = [await shop.caller(), await shop.caller()]

    callers[leaves].cancel()
    with pytest.raises(asyncio.CancelledError):
        await callers[leaves]
    shop.go.set()

    assert await callers[1 - leaves] == Charge("ch-1")
    assert (shop.calls, shop.cancelled) == (1, 0)


async def test_a_caller_past_its_deadline_does_not_disturb_the_other(shop: Shop) -> None:
    """A deadline is its caller's own: the other waits on."""
    patient, hasty = await shop.caller(), await shop.caller(deadline=0.01)

    with pytest.raises(DeadlineExceeded):
        await hasty
    shop.go.set()

    assert await patient == Charge("ch-1")


async def test_the_last_caller_to_leave_stops_the_attempt() -> None:
    """When both are cancelled, so is the attempt; the last one waits for its end."""
    shop = Shop(Docket(), certify=False)
    callers = [await shop.caller(), await shop.caller()]

    for caller in callers:
        caller.cancel()
    for caller in callers:
        with pytest.raises(asyncio.CancelledError):
            await caller

    assert shop.cancelled == 1


async def test_a_caller_who_comes_while_an_attempt_is_being_stopped() -> None:
    """It does not share the attempt that nobody wants: it waits for its end, and makes one of its own."""
    shop = Shop(Docket(), certify=False)
    first = await shop.caller()

    first.cancel()
    await asyncio.sleep(0)
    second = await shop.caller()
    shop.go.set()

    with pytest.raises(asyncio.CancelledError):
        await first
    assert await second == Charge("ch-2")


async def test_callers_with_other_inputs_do_not_share() -> None:
    """They ask for the same run with something else: that is another attempt, which the cache may refuse."""
    shop = Shop(Docket(), certify=False)
    first, second = await shop.caller(Order(1)), await shop.caller(Order(2))
    shop.go.set()

    await asyncio.gather(first, second)
    assert shop.calls == 2


async def test_inputs_that_cannot_be_compared_are_not_shared() -> None:
    """An input whose ``==`` raises makes an attempt of its own for each caller."""
    d, go, calls = Docket(), asyncio.Event(), list[int]()

    @d.step
    async def charge_card(odd: Odd) -> Charge:
        calls.append(1)
        await go.wait()
        return Charge()

    callers = [asyncio.create_task(d.run("order-1", Charge, Odd())) for _ in range(2)]
    await asyncio.sleep(0.01)
    go.set()

    assert await asyncio.gather(*callers) == [Charge(), Charge()]
    assert len(calls) == 2


async def test_a_failure_reaches_every_caller() -> None:
    """Both callers get the step's own exception."""
    d, begun, go = Docket(), asyncio.Event(), asyncio.Event()

    @d.step
    async def charge_card(order: Order) -> Charge:
        begun.set()
        await go.wait()
        raise ZeroDivisionError

    callers = [asyncio.create_task(d.run("order-1", Charge, Order())) for _ in range(2)]
    await begun.wait()
    go.set()

    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError, ZeroDivisionError]


@pytest.mark.parametrize("when", range(6))
async def test_cancelled_at_any_tick(when: int) -> None:
    """Cancelled at any tick of a run that reads the cache, the caller leaves nothing behind."""
    shop = Shop(Docket(cache=MemoryCache()), certify=True)
    shop.go.set()
    task = asyncio.create_task(shop.d.run("order-1", Charge, Order()))
    for _ in range(when):
        await asyncio.sleep(0)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert under_way(shop.d) == {}
    assert await shop.d.run("order-1", Charge, Order()) is not None


@pytest.mark.parametrize("cache", [None, MemoryCache()], ids=["nothing kept", "kept"])
async def test_a_run_that_joins_itself_is_told(cache: MemoryCache | None) -> None:
    """A step that asks for the very run it serves gets an error that says so, and does not wait for ever."""
    d = Docket(cache=cache)

    @d.step(cache_result=None if cache is None else "at_least_once")
    async def charge_card(order: Order) -> Charge:
        return await d.run("order-1", Charge, order)

    with pytest.raises(WaitsForItself, match="run 'order-1': Charge was asked for inside a step that it waits for"):
        await d.run("order-1", Charge, Order())
    assert under_way(d) == {}


async def test_two_runs_that_wait_for_each_other_are_told() -> None:
    """Begun by two callers, each asks for the other in its step: the second to ask gets the error, and both callers."""
    d, both = Docket(), asyncio.Barrier(2)

    @d.step
    async def charge_card(order: Order) -> Charge:
        await both.wait()
        await d.run("order-1", Shipment, order)
        return Charge()

    @d.step
    async def ship(order: Order) -> Shipment:
        await both.wait()
        await asyncio.create_task(d.run("order-1", Charge, order))
        return Shipment()

    callers = [asyncio.create_task(d.run("order-1", target, Order())) for target in (Charge, Shipment)]
    outcomes = await asyncio.gather(*callers, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [WaitsForItself, WaitsForItself]
    assert under_way(d) == {}


async def test_a_step_may_wait_for_other_runs() -> None:
    """For one that it begins, and, twice at once, for one that was under way before."""
    d, begun, go = Docket(), asyncio.Event(), asyncio.Event()

    @d.step
    async def charge_card(order: Order) -> Charge:
        begun.set()
        await go.wait()
        return Charge(f"ch-{order.id}")

    @d.step
    async def ship(order: Order) -> Shipment:
        inside = [asyncio.create_task(d.run(f"order-{number}", Charge, Order(number))) for number in (1, 1, 2)]
        await asyncio.sleep(0)
        go.set()
        return Shipment(" ".join([charge.id for charge in await asyncio.gather(*inside)]))

    first = asyncio.create_task(d.run("order-1", Charge, Order(1)))
    await begun.wait()

    assert await d.run("order-9", Shipment, Order()) == Shipment("ch-1 ch-1 ch-2")
    assert await first == Charge("ch-1")


async def test_a_resource_that_needs_itself_is_told() -> None:
    """Its function runs a step that takes the resource: an error that says so, and does not wait for ever."""
    d = Docket()

    @d.step
    async def charge_card(order: Order, shipment: Shipment) -> Charge:
        return Charge(shipment.id)

    async def made() -> Shipment:
        charge = await d.run("order-1", Charge, Order())
        return Shipment(charge.id)

    d.provide(Shipment, made)
    with pytest.raises(ConfigurationError, match="its function runs a step that needs a Shipment; let it do without"):
        await d.run("order-2", Charge, Order())
