"""What `run`, `fetch` and `enqueue` infer, and that a step stays a function."""

from dataclasses import dataclass
from typing import Generic, NewType, TypeVar, assert_type

from docket import As, Docket

X = TypeVar("X")
OrderId = NewType("OrderId", str)


@dataclass
class Request:
    id: str


@dataclass
class Shipment:
    id: str


@dataclass
class Page(Generic[X]):
    items: list[X]


d = Docket()


@d.step(cache_result="at_least_once", timeout=30)
async def create_shipment(request: Request) -> Shipment:
    return Shipment(request.id)


@d.step
def price(request: Request) -> Page[Shipment]:
    return Page([])


@d.step
async def maybe(request: Request) -> OrderId | None:
    return None


class Service:
    async def stock(self, request: Request) -> Page[int]:
        return Page([])


service = Service()
d.register(service.stock)


async def main() -> None:
    """Exact types for a step, a type, a NewType, a generic and an optional."""
    request = Request("1")
    assert_type(await d.run("r", create_shipment, request), Shipment)
    assert_type(await d.run("r", Shipment, request), Shipment)
    assert_type(await d.run("r", price, request), Page[Shipment])
    assert_type(await d.run("r", Page[Shipment], request), Page[Shipment])
    assert_type(await d.run("r", maybe, request), OrderId | None)
    assert_type(await d.run("r", OrderId, request), OrderId)
    assert_type(await d.run("r", OrderId | None, request), OrderId | None)
    assert_type(await d.run("r", service.stock, request, given=[Shipment("1")]), Page[int])
    assert_type(await d.fetch("r", Shipment), Shipment | None)
    assert_type(await d.fetch("r", create_shipment), Shipment | None)
    assert_type(await d.enqueue("orders", create_shipment, request, As(OrderId, OrderId("1"))), str)
    assert_type(await create_shipment(request), Shipment)
    assert_type(price(request), Page[Shipment])
