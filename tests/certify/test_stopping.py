"""What a run that is over begins no more: a step it waited for, one that was being claimed, another try."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from docket import Docket, NotApplied, Retry
from docket.cache import Claim, MemoryCache
from docket.errors import DeadlineExceeded


@dataclass(frozen=True)
class Order:
    """What is asked."""

    amount: int


@dataclass(frozen=True)
class Charge:
    """What must not happen by itself."""

    by: str


@dataclass(frozen=True)
class Stock:
    """What fails beside it."""

    left: int


@dataclass(frozen=True)
class Shipment:
    """What needs both."""

    by: str


class SlowClaims(MemoryCache):
    """Takes its time to grant a claim."""

    async def claim(self, claim: Claim, /) -> Any:
        """Claim, and say so later."""
        record = await super().claim(claim)
        await asyncio.sleep(0.2)
        return record


def charging(cache: MemoryCache, by: str, charged: list[str], **options: Any) -> Docket:
    """Return a Docket whose charge takes note of itself."""
    d = Docket(cache=cache, wait=8)

    async def charge(order: Order) -> Charge:
        charged.append(by)
        return Charge(by)

    d.step(cache_result="at_most_once", key="shop.Charge", **options)(charge)
    return d


async def held(cache: MemoryCache) -> asyncio.Task[Charge]:
    """Begin the run elsewhere, where its charge takes 0.5 s and then turns out not to have happened."""
    d = Docket(cache=cache)

    async def charge(order: Order) -> Charge:
        await asyncio.sleep(0.5)
        raise NotApplied("the provider is down")

    d.step(cache_result="at_most_once", key="shop.Charge")(charge)
    holder = asyncio.create_task(d.run("order-1", Charge, Order(1)))
    await asyncio.sleep(0.05)
    return holder


async def test_a_step_is_not_started_after_its_deadline() -> None:
    """Who waits for another holder stops waiting when the time is up, and never takes over."""
    cache, charged = MemoryCache(), list[str]()
    holder = await held(cache)
    d = charging(cache, "late", charged)

    with pytest.raises(DeadlineExceeded):
        async with asyncio.timeout(0.4):
            await d.run("order-1", Charge, Order(1), deadline=0.1)
    with pytest.raises(NotApplied):
        await holder
    await asyncio.sleep(0.1)
    assert charged == []


async def test_a_step_is_not_started_for_a_caller_who_has_gone() -> None:
    """The same where the last caller is cancelled while it waits."""
    cache, charged = MemoryCache(), list[str]()
    holder = await held(cache)
    caller = asyncio.create_task(charging(cache, "gone", charged).run("order-1", Charge, Order(1)))
    await asyncio.sleep(0.05)
    caller.cancel()

    await asyncio.wait((caller, holder))
    assert caller.cancelled()
    assert isinstance(holder.exception(), NotApplied)
    assert charged == []


@pytest.mark.parametrize("fails", [True, False], ids=["a sibling fails", "the caller goes"])
async def test_a_step_is_not_started_when_its_run_ended_during_the_claim(*, fails: bool) -> None:
    """The claim is given back, since the step was certainly never called."""
    cache, charged = SlowClaims(), list[str]()
    d = charging(cache, "claimed", charged)

    @d.step
    async def look(order: Order) -> Stock:
        await asyncio.sleep(0.05)
        if fails:
            raise ValueError("out of stock")
        await asyncio.sleep(5)
        return Stock(1)

    @d.step
    async def ship(charge: Charge, stock: Stock) -> Shipment:
        return Shipment(charge.by)

    run = asyncio.create_task(d.run("order-1", Shipment, Order(1)))
    await asyncio.sleep(0.1)
    if not fails:
        run.cancel()
    await asyncio.wait((run,))

    assert charged == []
    assert (await cache.load("order-1")).results["shop.Charge"].state == "ready"


async def test_no_further_try_is_begun_after_the_deadline() -> None:
    """A pause between two tries ends with the run, and the last try's error is what is written down."""
    cache, tries = MemoryCache(), list[int]()
    d = Docket(cache=cache)

    @d.step(cache_result="at_most_once", key="shop.Charge", retry=Retry(attempts=3, wait=5.0))
    async def charge(order: Order) -> Charge:
        tries.append(order.amount)
        raise NotApplied("the provider is down")

    with pytest.raises(DeadlineExceeded):
        async with asyncio.timeout(2):
            await d.run("order-1", Charge, Order(1), deadline=0.1)
    assert tries == [1]
    record = (await cache.load("order-1")).results["shop.Charge"]
    assert (record.state, record.error_type) == ("ready", "NotApplied")
