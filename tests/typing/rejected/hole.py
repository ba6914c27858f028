"""A typed graph with a hole: nobody makes Stock."""

from dataclasses import dataclass

from docket.typed import freeze, inputs, step


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


@step()
async def charge(request: Request) -> Charge:
    return Charge(request.id)


@step()
async def ship(charge: Charge, stock: Stock) -> Shipment:
    return Shipment(charge.id)


orders = inputs(Request) | ship | charge
# says mypy: Cannot infer value of type parameter "X" of "freeze"
# says pyright: Type "Stock" is not assignable to type "Request | Run | Transaction | Shipment | Charge | None"
d = freeze(orders)
