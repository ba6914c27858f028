"""Who waits for a result hears of what stops its run on the way to it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from docket import Docket, InDoubt, Refused
from docket.cache import Cache
from docket.errors import NotYet


@dataclass(frozen=True)
class Request:
    """What a customer sends."""

    amount: int


@dataclass(frozen=True)
class Payment:
    """What must not be made twice."""

    number: int


@dataclass(frozen=True)
class Parcel:
    """What is made of it, and not kept."""

    number: int


@dataclass(frozen=True)
class Sent:
    """What somebody waits for."""

    number: int


async def test_waiting_ends_with_what_stops_the_run_on_its_way(cache: Cache) -> None:
    """A refusal, or a doubt, of what the result is made from: no waiting changes that, and nobody waits for ever."""
    d = Docket(cache=cache)
    answer: list[Exception] = [Refused("the card's limit is 1000")]

    async def charge(request: Request) -> Payment:
        raise answer[0]

    async def pack(payment: Payment) -> Parcel:
        return Parcel(payment.number)

    async def send(parcel: Parcel) -> Sent:
        return Sent(parcel.number)

    d.step(cache_result="at_most_once")(charge)
    d.register(pack)
    d.step(cache_result="at_least_once")(send)
    waiting = asyncio.create_task(d.wait("r-1", Sent, timeout=30))
    with pytest.raises(Refused):
        await d.run("r-1", Sent, Request(1))
    with pytest.raises(Refused, match="limit"):
        await waiting

    answer[0] = OSError("gone")
    with pytest.raises(InDoubt):
        await d.run("r-2", Sent, Request(1))
    with pytest.raises(InDoubt) as doubt:
        await d.wait("r-2", Sent, timeout=30)
    await d.settle("r-2", Payment, Payment(7))

    assert doubt.value.type == "Payment"
    with pytest.raises(NotYet, match="nothing"):
        await d.wait("r-2", Sent, timeout=0)
    assert await d.run("r-2", Sent) == await d.wait("r-2", Sent, timeout=30) == Sent(7)
