"""A typed graph that closes, from another team's open graph, a resource, a NewType and an optional."""

from dataclasses import dataclass
from typing import NewType, assert_type

from docket import Docket, Run
from docket.cache import MemoryCache
from docket.typed import freeze, inputs, provide, step


@dataclass
class Request:
    id: str


@dataclass
class Charge:
    id: str


@dataclass
class Stock:
    count: int


@dataclass
class Shipment:
    id: str


@dataclass
class Fraud:
    score: float


class Clock:
    pass


Tenant = NewType("Tenant", str)


@step(cache_result="at_most_once", timeout=30)
async def charge(request: Request, fraud: Fraud | None, run: Run) -> Charge:
    return Charge(run.idempotency_key)


@step()
async def reserve(request: Request, tenant: Tenant) -> Stock:
    return Stock(1)


@step()
async def ship(charge: Charge, stock: Stock) -> Shipment:
    return Shipment(charge.id)


@step()
def judge(request: Request, clock: Clock) -> Fraud:
    return Fraud(0.1)


payments = charge | judge | provide(Clock, Clock)
orders = inputs(Request, Tenant) | ship | reserve | payments
d = freeze(orders, Docket(cache=MemoryCache()))


async def main() -> None:
    """Steps stay functions, and targets."""
    assert_type(d, Docket)
    assert_type(await ship(Charge("1"), Stock(1)), Shipment)
    assert_type(judge(Request("1"), Clock()), Fraud)
    assert_type(await d.run("r", Shipment, Request("1")), Shipment)
    assert_type(await d.run("r", ship, Request("1")), Shipment)
