"""The text of every mistake in a wiring: what, where with the path, and what to do."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from docket import ConfigurationError, Docket, Graph, Transaction
from tests.wiring.parts import CardCharge, Charge, Other, Page, Request, Shipment, Stock, at, graph, said


@pytest.fixture(autouse=True)
def at_the_root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are written relative to the working directory."""
    monkeypatch.chdir(request.config.rootpath)


async def ship(charge: Charge, stock: Stock) -> Shipment:
    """Give the target."""
    raise NotImplementedError


async def charge(request: Request) -> Charge:
    """Give a charge."""
    raise NotImplementedError


async def reserve(request: Request) -> Stock:
    """Give stock."""
    raise NotImplementedError


def test_a_hole_is_drawn_with_the_path_from_the_target() -> None:
    """With declared inputs, what nobody gives is a hole, and all holes are in one error."""
    made = graph(ship, charge, inputs=[])

    assert (
        said(made)
        == f"""\
the wiring does not close (2 problems)
  1. nothing gives Stock
     Shipment  {at(ship)}  parameter 'stock'
     └─ Stock  ???
     fix: write a step that returns Stock, or name it as an input: inputs=[Stock, ...]
  2. nothing gives Request
     Shipment  {at(ship)}  parameter 'charge'
     Charge  {at(charge)}  parameter 'request'
     └─ Request  ???
     fix: write a step that returns Request, or name it as an input: inputs=[Request, ...]"""
    )


def test_a_hole_names_the_relative_that_is_given() -> None:
    """Types match exactly, so a subclass does not fill the hole, and the error says that it is there."""

    async def charge_card(request: Request) -> CardCharge:
        raise NotImplementedError

    made = graph(ship, charge_card, reserve, inputs=[Request])

    assert f"""\
  1. nothing gives Charge
     Shipment  {at(ship)}  parameter 'charge'
     └─ Charge  ???
     near: CardCharge, a subclass of it, is given by {at(charge_card)}
""" in said(made)


def test_a_hole_names_the_namesake_that_is_given() -> None:
    """A class of the same name from another module is another type; both are written with their modules."""

    async def reserve_elsewhere(request: Request) -> Any:
        raise NotImplementedError

    reserve_elsewhere.__annotations__["return"] = Other.Stock
    made = graph(ship, charge, reserve_elsewhere, inputs=[Request])

    assert f"""\
  1. nothing gives tests.wiring.parts.Stock
     Shipment  {at(ship)}  parameter 'stock'
     └─ tests.wiring.parts.Stock  ???
     near: tests.elsewhere.Stock, another type of the same name, is given by {at(reserve_elsewhere)}
""" in said(made)


def test_a_hole_names_the_other_generic() -> None:
    """``Page[Stock]`` and ``Page[Charge]`` are two types."""

    async def pages(request: Request) -> Page[Stock]:
        raise NotImplementedError

    async def read(page: Page[Charge]) -> Shipment:
        raise NotImplementedError

    text = said(graph(pages, read, inputs=[Request]))

    assert "1. nothing gives Page[Charge]" in text
    assert f"near: Page[Stock], the same generic with other parameters, is given by {at(pages)}" in text


def test_a_hole_behind_a_broken_step_is_not_reported_twice() -> None:
    """What a step gives that could not be read is not called missing as well."""

    async def broken(request: Request, *more: int) -> Stock:
        raise NotImplementedError

    assert (
        said(graph(ship, charge, broken, inputs=[Request]))
        == f"""\
the wiring does not close (1 problem)
  1. broken takes *more, which names no types
     {at(broken)}
     fix: name each value it needs as a parameter with a type"""
    )


def test_a_type_is_given_twice() -> None:
    """Both places are named; there is no last one that wins."""

    async def charge_wallet(request: Request) -> Charge:
        raise NotImplementedError

    assert (
        said(graph(charge, charge_wallet))
        == f"""\
the wiring does not close (1 problem)
  1. Charge is given twice
     {at(charge)}
     {at(charge_wallet)}
     fix: give one of them a type of its own; in tests, replace one: d.override(Charge, ...)"""
    )


def test_a_storage_key_is_given_twice() -> None:
    """Two results may not share a row."""
    made = Graph()
    made.step(key="shop.thing")(charge)
    made.step(key="shop.thing")(reserve)

    assert (
        said(made)
        == f"""\
the wiring does not close (1 problem)
  1. two results would be stored under the key 'shop.thing'
     {at(charge)}
     {at(reserve)}
     fix: give one of them a storage key of its own: @d.step(key=...)"""
    )


def test_a_circle_is_drawn() -> None:
    """Each step that is part of it is named, in the order in which they need each other."""

    async def one(second: Stock) -> Charge:
        raise NotImplementedError

    async def two(first: Charge) -> Stock:
        raise NotImplementedError

    assert (
        said(graph(one, two))
        == f"""\
the wiring does not close (1 problem)
  1. 2 steps need each other in a circle
     ╭─> Charge  {at(one)}
     ╰── Stock  {at(two)}
     fix: split one of them so that the circle opens"""
    )


def test_a_step_that_needs_itself() -> None:
    """The smallest circle."""

    async def grow(before: Charge) -> Charge:
        raise NotImplementedError

    assert (
        said(graph(grow))
        == f"""\
the wiring does not close (1 problem)
  1. Charge needs itself
     ╭─> Charge  {at(grow)}
     fix: split one of them so that the circle opens"""
    )


def test_a_circle_of_fifty_steps_is_shortened() -> None:
    """Every circle is found, and a long one is drawn with its middle left out."""
    kinds = [type(f"K{number}", (), {}) for number in range(50)]
    made = Graph()
    for number in range(50):
        made.register(_step(number, kinds[number - 1], kinds[number]))

    text = said(made)

    assert "50 steps need each other in a circle" in text
    assert "... 38 more ..." in text
    assert len(text.splitlines()) == 16


def test_a_chain_of_ten_thousand_steps_is_wired_and_a_hole_at_its_end_found() -> None:
    """No recursion anywhere: the path is shortened, not the check."""
    kinds = [type(f"K{number}", (), {}) for number in range(10_001)]
    made = Graph(inputs=[])
    for number in range(10_000):
        made.register(_step(number, kinds[number], kinds[number + 1]))

    text = said(made)

    assert "nothing gives K0" in text
    assert "... 9988 more ..." in text


def test_what_may_be_none_is_not_handed_to_who_demands_it() -> None:
    """A step that may give None needs takers that say so."""

    async def maybe(request: Request) -> Charge | None:
        raise NotImplementedError

    assert (
        said(graph(maybe, ship, reserve))
        == f"""\
the wiring does not close (1 problem)
  1. ship demands Charge, which may be None
     {at(maybe)}
     {at(ship)}
     fix: write charge: Charge | None, or let maybe always return one"""
    )


def test_a_transactional_step_without_its_transaction() -> None:
    """It could not commit anything together with its certificate."""
    made = Graph()
    made.step(cache_result="transactional")(charge)

    assert (
        said(made)
        == f"""\
the wiring does not close (1 problem)
  1. charge is transactional and takes no Transaction
     {at(charge)}
     fix: add a parameter of type docket.Transaction and run its SQL through it, or mark it at_least_once"""
    )


def test_a_transactional_step_that_cannot_await() -> None:
    """A plain function is lent a connection and can do nothing with it."""

    def book(request: Request, db: Transaction) -> Charge:
        raise AssertionError

    made = Graph()
    made.step(cache_result="transactional")(book)

    assert (
        said(made)
        == f"""\
the wiring does not close (1 problem)
  1. book is transactional and a plain function, which cannot await what its Transaction does
     {at(book)}
     fix: write it as async def book"""
    )


def test_an_input_that_a_step_gives() -> None:
    """A declaration that contradicts a step is a mistake in one of them."""
    assert (
        said(graph(charge, inputs=[Request, Charge]))
        == f"""\
the wiring does not close (1 problem)
  1. Charge is declared as an input and given by a step
     {at(charge)}
     fix: take Charge out of inputs=, or do not register charge"""
    )


def test_an_input_that_is_no_type() -> None:
    """What is declared as an input is read like an annotation."""
    assert (
        said(graph(charge, inputs=[Request, str]))
        == """\
the wiring does not close (1 problem)
  1. inputs=[...]: str says nothing about what the value is
     fix: wrap it in a type of its own: a dataclass, a message, or NewType('OrderId', str)"""
    )


def test_optional_and_its_older_spelling_are_the_same() -> None:
    """``Optional[X]`` and ``X | None`` read alike, also as text."""

    async def older(request: Optional[Request]) -> Charge:  # noqa: UP045
        raise NotImplementedError

    wiring = graph(older).check()

    assert [(need.key, need.optional) for need in wiring.steps[Charge].needs] == [(Request, True)]


def test_a_graph_that_cannot_keep_its_results() -> None:
    """A mark without a cache is a mistake of the application, named with the step."""
    d = Docket()
    d.step(cache_result="at_least_once")(charge)

    with pytest.raises(
        ConfigurationError, match=r"charge .* is marked cache_result='at_least_once' and there is nowhere to keep it"
    ):
        d.check()


def _step(number: int, needs: type, gives: type) -> Any:
    """Make a step that needs and gives the types passed."""

    async def step(before: Any) -> Any:
        raise NotImplementedError

    step.__annotations__ = {"before": needs, "return": gives}
    step.__qualname__ = f"step_{number}"
    return step
