"""What counts as a step, how graphs are put together, and how values find their way in."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Annotated

import pytest

from docket import As, ConfigurationError, Docket, Graph, IfCertified, Run, WiringError
from docket.cache import MemoryCache
from docket.errors import UnexpectedInput, UnknownTarget
from tests.wiring.parts import CardCharge, Charge, OrderId, Page, Request, Shipment, Stock


@dataclass
class Answer:
    """Kept by a step."""


class Payments:
    """A service with a step for a method."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def charge(self, request: Request) -> Charge:
        """Give a charge."""
        return Charge()


class Reserve:
    """An object with ``__call__``."""

    async def __call__(self, request: Request) -> Stock:
        """Give stock."""
        return Stock()


async def ship(charge: Charge, /, stock: Stock, *, express: bool = False) -> Shipment:
    """Give the target. Whether it is express is configuration, and left alone."""
    assert express
    return Shipment()


async def test_methods_objects_and_partials_are_steps() -> None:
    """What can be called with the values of its needs can be a step, and a target."""
    d = Docket()
    payments, reserve, shipping = Payments("p"), Reserve(), functools.partial(ship, express=True)
    d.register(payments.charge, reserve, shipping)

    assert isinstance(await d.run("r", shipping, Request()), Shipment)
    assert isinstance(await d.run("r", payments.charge, Request()), Charge)
    assert isinstance(await d.run("r", reserve, Request()), Stock)
    assert [step.name for step in d.check().steps.values()] == ["Payments.charge", "Reserve", "ship"]


async def test_plain_functions_are_steps() -> None:
    """They run in a thread unless told otherwise, and are awaited like any other."""
    d = Docket()

    def charge(request: Request) -> Charge:
        return Charge()

    @d.step(thread=False)
    def reserve(request: Request) -> Stock:
        return Stock()

    d.register(charge, functools.partial(ship, express=True))

    assert isinstance(await d.run("r", Shipment, Request()), Shipment)
    await d.close()
    assert isinstance(reserve(Request()), Stock)


async def test_needs_may_be_passed_by_keyword_only() -> None:
    """A keyword-only parameter without a default is a need like any other."""
    d = Docket()

    async def charge(request: Request, *, run: Run) -> Charge:
        assert run.run_id == "r"
        return Charge()

    d.register(charge)

    assert isinstance(await d.run("r", Charge, Request()), Charge)


async def test_a_decorated_step_stays_a_function() -> None:
    """It can be called in a unit test, with its own arguments."""
    d = Docket()

    @d.step(timeout=1)
    async def charge(request: Request) -> Charge:
        return Charge()

    assert isinstance(await charge(Request()), Charge)


def team() -> Graph:
    """Return what a team publishes."""
    payments = Graph(inputs=[Request])
    payments.register(Payments("team").charge)
    return payments


async def test_graphs_are_included() -> None:
    """An application includes the graphs of its teams; one that is included twice counts once."""
    payments, stock = team(), Graph()
    stock.include(payments).register(Reserve())
    d = Docket()
    d.include(payments, stock)
    d.register(functools.partial(ship, express=True))

    assert isinstance(await d.run("r", Shipment, Request()), Shipment)
    assert payments.check().declared == frozenset([Request])


def test_a_hole_is_found_where_one_graph_names_the_inputs() -> None:
    """What any of the included graphs declares is the declaration of all."""
    d = Docket()
    d.include(team())
    d.register(functools.partial(ship, express=True))

    with pytest.raises(WiringError, match="nothing gives Stock"):
        d.check()


def test_a_graph_checks_itself() -> None:
    """A team checks what it publishes without an application, and without a cache."""
    payments = Graph()
    payments.step(cache_result="at_most_once")(Payments("team").charge)

    assert list(payments.check().steps) == [Charge]


async def test_nothing_is_registered_in_a_wiring_that_is_in_use() -> None:
    """Also not in a graph that was included in it, since it would be ignored."""
    payments = team()
    d = Docket()
    d.include(payments)
    await d.run("r", Charge, Request())

    for late in (d, payments):
        with pytest.raises(ConfigurationError, match=r"ship \(.*\) comes too late: the wiring is in use"):
            late.register(ship)
    with pytest.raises(ConfigurationError, match="an included graph comes too late"):
        d.include(Graph())
    with pytest.raises(ConfigurationError, match=r"the resource at .* comes too late"):
        d.provide(Stock, Stock())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"cach_result": "at_least_once"}, "there is no option 'cach_result'; the options are cache_result, "),
        ({"cache_result": "exactly_once"}, "use one of at_least_once, at_most_once, transactional"),
        ({"on_change": "redo"}, "on_change='redo'; use one of raise, recompute, keep"),
        ({"cache_result": "at_most_once", "on_change": "recompute"}, "contradict each other"),
    ],
)
def test_an_option_that_cannot_be_is_refused_at_its_line(options: dict[str, str], text: str) -> None:
    """The mistake is raised by the decorator, and names the function."""
    register = Graph().step
    with pytest.raises(ConfigurationError) as caught:
        register(**options)(ship)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]

    assert text in str(caught.value)
    assert str(caught.value).startswith("ship (")


async def take(order_id: OrderId, page: Page[Stock], charge: Charge) -> Shipment:
    """Take what cannot be matched by the class of the value."""
    assert (order_id, isinstance(page, Page)) == ("o-1", True)
    return Shipment()


async def test_a_value_says_as_what_it_is_supplied() -> None:
    """A NewType, a generic and a base class are not to be seen on a value."""
    d = Docket()
    d.register(take)

    made = await d.run("r", Shipment, As(OrderId, OrderId("o-1")), As(Page[Stock], Page[Stock]()), As(Charge, CardCharge()))

    assert isinstance(made, Shipment)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("o-1", "str was passed, but the steps take OrderId; if it is one, say so: As(OrderId, value)"),
        (Page[Stock](), "Page was passed, but the steps take Page[Stock]; if it is one, say so: As(Page[Stock], value)"),
        (CardCharge(), "CardCharge was passed, but the steps take Charge; if it is one, say so: As(Charge, value)"),
        (Stock(), "Stock was passed, but no step takes one; the steps take Charge, OrderId, Page[Stock]"),
        (As(OrderId, 5), "OrderId was passed, but it is a int: 5"),
        (As(str, "x"), "str was passed, but str says nothing about what the value is; wrap it in a type of its own"),
        (Shipment(), "Shipment was passed, but take ("),
    ],
)
async def test_a_value_that_is_not_wanted_is_refused_with_the_way_to_say_it(value: object, text: str) -> None:
    """Types match exactly; the error knows what was probably meant."""
    d = Docket()
    d.register(take)

    with pytest.raises(UnexpectedInput) as caught:
        await d.run("r", Shipment, value)

    assert text in str(caught.value)


async def test_a_value_of_a_type_that_a_step_gives_must_be_said_to_replace_it() -> None:
    """A stray argument cannot skip a charge."""
    d = Docket()
    d.register(Payments("p").charge)

    with pytest.raises(UnexpectedInput, match=r"gives it; leave it out, or say given=\[...\] to replace the step"):
        await d.run("r", Charge, Charge())
    with pytest.raises(UnexpectedInput, match="replaces a step, and no step gives it; pass it as an input"):
        await d.run("r", Charge, given=[Request()])
    with pytest.raises(UnexpectedInput, match="another value of that type was passed too"):
        await d.run("r", Charge, Request(), Request())
    mine = Charge()
    assert await d.run("r", Charge, given=[mine]) is mine


async def test_an_optional_target() -> None:
    """What may be None is asked for as such, so that the type of the answer is true."""
    d = Docket()

    async def maybe(request: Request) -> Charge | None:
        return None

    d.register(maybe)

    assert await d.run("r", Charge | None, Request()) is None
    assert await d.run("r", maybe, Request()) is None
    with pytest.raises(UnknownTarget, match=r"nothing gives a Charge for sure; maybe may give None: ask for Charge \| None"):
        await d.run("r", Charge, Request())


async def test_optional_needs_are_decided_by_wiring_and_inputs() -> None:
    """A step that gives it is run; an input may be left out; neither depends on what is in a cache."""
    seen: list[tuple[object, object]] = []
    d = Docket()

    async def take_all(charge: Charge | None, page: Page[Stock] | None) -> Shipment:
        seen.append((charge, page))
        return Shipment()

    d.register(Payments("p").charge, take_all)
    await d.run("r", Shipment, Request())

    ((charge, page),) = seen
    assert isinstance(charge, Charge)
    assert page is None


async def test_if_certified_uses_what_is_there_and_computes_nothing() -> None:
    """The step gets the value once somebody has made it, and None before."""
    seen: list[object] = []
    d = Docket(cache=MemoryCache())

    @d.step(cache_result="at_least_once")
    async def request_again(request: Request) -> Answer:
        return Answer()

    @d.step
    async def ship_it(request: Request, answer: Annotated[Answer | None, IfCertified]) -> Shipment:
        seen.append(answer)
        return Shipment()

    await d.run("r", Shipment, Request())
    await d.run("r", request_again, Request())
    await d.run("r", ship_it, Request())

    assert [type(answer) for answer in seen] == [type(None), Answer]
