"""Calls with arguments of the wrong type."""

from dataclasses import dataclass

from docket import Docket
from docket.typed import step


@dataclass
class Request:
    id: str


@dataclass
class Shipment:
    id: str


d = Docket()


@d.step
async def create_shipment(request: Request) -> Shipment:
    return Shipment(request.id)


@step()
async def ship(request: Request) -> Shipment:
    return Shipment(request.id)


# says mypy: No overload variant of "step" of "Graph" matches argument type "str"
# says pyright: "Literal['exactly_once']" is not assignable to type "Literal['at_most_once']"
@d.step(cache_result="exactly_once")
async def wrong(request: Request) -> Shipment:
    return Shipment(request.id)


async def main() -> None:
    """Each line is wrong in one way."""
    # says mypy: has incompatible type "Shipment"; expected "Request"
    # says pyright: "Shipment" is not assignable to "Request"
    await create_shipment(Shipment("1"))
    # says mypy: has incompatible type "Shipment"; expected "Request"
    # says pyright: "Shipment" is not assignable to "Request"
    await ship(Shipment("1"))
    # says mypy: expected "Callable[..., Awaitable[int]]"
    # says pyright: "Shipment" is not assignable to "int"
    number: int = await d.run("r", create_shipment)
    print(number)
