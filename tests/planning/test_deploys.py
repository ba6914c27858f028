"""A crash, a deploy with a changed graph, a retry: what took effect never takes effect again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from docket import Docket
from docket.cache import MemoryCache


@dataclass
class Request:
    """The input."""

    amount: int = 10


@dataclass
class Order:
    """Checked; not kept."""

    amount: int


@dataclass
class Charge:
    """An effect: at most once."""

    amount: int


@dataclass
class Stock:
    """An effect: at least once."""

    count: int


@dataclass
class Fraud:
    """What a step in between gives, in some of the deploys."""

    score: int = 0


@dataclass
class Shipment:
    """An effect and the target."""

    amount: int


EFFECTS: Counter[str] = Counter()


class Crash(Exception):
    """The process dies."""


def crash_at(name: str, crashes: str) -> None:
    """Count an effect and die after it or before it."""
    if crashes == f"before {name}":
        raise Crash
    EFFECTS[name] += 1


Steps = Sequence[tuple[Callable[..., Any], dict[str, Any]]]
KEPT: dict[str, Any] = {"cache_result": "at_least_once"}
ONCE: dict[str, Any] = {"cache_result": "at_most_once", "retry": None}


def original(crashes: str = "") -> Steps:
    """Return the graph that is deployed first: Request -> Order -> Charge, Stock -> Shipment."""

    async def validate(request: Request) -> Order:
        return Order(request.amount)

    async def charge(order: Order) -> Charge:
        crash_at("charge", crashes)
        return Charge(order.amount)

    async def reserve(order: Order, charge: Charge) -> Stock:
        crash_at("reserve", crashes)
        return Stock(1)

    async def ship(charge: Charge, stock: Stock) -> Shipment:
        crash_at("ship", crashes)
        return Shipment(charge.amount)

    return [(validate, {}), (charge, ONCE), (reserve, KEPT), (ship, KEPT)]


def permuted() -> Steps:
    """Register the same steps in another order."""
    return original()[::-1]


def inserted() -> Steps:
    """Put an uncertified and a certified step between what was there."""

    async def judge(order: Order) -> Fraud:
        EFFECTS["judge"] += 1
        return Fraud()

    async def charge(order: Order, fraud: Fraud) -> Charge:
        EFFECTS["charge"] += 1
        return Charge(order.amount)

    before = original()
    return [before[0], (judge, KEPT), (charge, ONCE), *before[2:]]


def removed() -> Steps:
    """Take the check out: the charge is made from the request itself."""

    async def charge(request: Request) -> Charge:
        EFFECTS["charge"] += 1
        return Charge(request.amount)

    async def reserve(request: Request) -> Stock:
        EFFECTS["reserve"] += 1
        return Stock(1)

    return [(charge, ONCE), (reserve, KEPT), original()[3]]


def renamed() -> Steps:
    """Rename every function and its parameters."""

    async def check_order(r: Request) -> Order:
        return Order(r.amount)

    async def take_money(o: Order) -> Charge:
        EFFECTS["charge"] += 1
        return Charge(o.amount)

    async def set_aside(o: Order, c: Charge) -> Stock:
        EFFECTS["reserve"] += 1
        return Stock(1)

    async def send(c: Charge, s: Stock) -> Shipment:
        EFFECTS["ship"] += 1
        return Shipment(c.amount)

    return [(check_order, {}), (take_money, ONCE), (set_aside, KEPT), (send, KEPT)]


def parallel() -> Steps:
    """Let the charge and the stock no longer wait for each other."""

    async def reserve(order: Order) -> Stock:
        EFFECTS["reserve"] += 1
        return Stock(1)

    before = original()
    return [*before[:2], (reserve, KEPT), before[3]]


def turned() -> Steps:
    """Let the charge wait for the stock, which waited for the charge before."""

    async def charge(order: Order, stock: Stock) -> Charge:
        EFFECTS["charge"] += 1
        return Charge(order.amount)

    async def reserve(order: Order) -> Stock:
        EFFECTS["reserve"] += 1
        return Stock(1)

    before = original()
    return [before[0], (charge, ONCE), (reserve, KEPT), before[3]]


def recoded() -> Steps:
    """Change the code and the version of what was not kept."""

    async def validate(request: Request) -> Order:
        return Order(request.amount * 100)

    return [(validate, {"version": 2}), *original()[1:]]


def docket(cache: MemoryCache, steps: Steps) -> Docket:
    """Deploy a graph."""
    d = Docket(cache=cache)
    for function, options in steps:
        d.step(**options)(function)
    return d


DEPLOYS = [original, permuted, inserted, removed, renamed, parallel, turned, recoded]


@pytest.mark.parametrize("crashes", ["before reserve", "before ship", "never"])
@pytest.mark.parametrize("deploy", DEPLOYS, ids=lambda deploy: deploy.__name__)
async def test_no_effect_happens_twice_whatever_is_deployed_in_between(deploy: Callable[[], Steps], crashes: str) -> None:
    """Steps may be permuted, inserted, removed, renamed, parallelised and turned around between crash and retry."""
    EFFECTS.clear()
    cache = MemoryCache()
    first = docket(cache, original(crashes))
    if crashes == "never":
        await first.run("r", Shipment, Request())
    else:
        with pytest.raises(Crash):
            await first.run("r", Shipment, Request())

    shipment = await docket(cache, deploy()).run("r", Shipment, Request())

    assert shipment == Shipment(10)
    assert {name: EFFECTS[name] for name in ("charge", "reserve", "ship")} == {"charge": 1, "reserve": 1, "ship": 1}
    assert EFFECTS["judge"] == 0  # what is new is only run for what is made after it
