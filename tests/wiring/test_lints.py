"""What `check` asks to look at: allowed, and probably not meant."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from docket import Graph, IfCertified
from docket._core.lints import lints
from tests.wiring.parts import Charge, Other, Request, Shipment, Stock, at


@pytest.fixture(autouse=True)
def at_the_root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are written relative to the working directory."""
    monkeypatch.chdir(request.config.rootpath)


async def reserve(request: Request) -> Stock:
    """Give what two steps need."""
    raise NotImplementedError


async def charge(stock: Stock) -> Charge:
    """Give a charge."""
    raise NotImplementedError


async def ship(stock: Stock, charge: Charge) -> Shipment:
    """Give the target."""
    raise NotImplementedError


def found(made: Graph, *targets: type) -> list[str]:
    """Return what is to be looked at."""
    wiring = made.check()
    return [str(problem) for problem in lints(wiring, [wiring.steps[target] for target in targets])]


def kept(**options: Any) -> Graph:
    """Return Request -> Stock -> Charge, Shipment, of which the last two are kept."""
    made = Graph(inputs=[Request])
    made.step(**options)(reserve)
    made.step(cache_result="at_least_once")(charge)
    made.step(cache_result="at_least_once")(ship)
    return made


def test_an_uncertified_step_that_feeds_two_certified_ones() -> None:
    """After a crash between the two, the second may be made from another value: keep it, or say that it is pure."""
    assert found(kept()) == [
        f"""\
reserve is not kept and feeds Charge and Shipment: after a crash in between they may be made from different values
  {at(reserve)}
  {at(charge)}
  {at(ship)}
  fix: keep it: cache_result="at_least_once"; or, if it gives the same for the same Request: pure=True"""
    ]
    assert found(kept(pure=True)) == []
    assert found(kept(cache_result="at_least_once")) == []


def test_an_at_most_once_step_without_a_timeout() -> None:
    """When it hangs, so does its run."""
    made = Graph(inputs=[Stock])
    made.step(cache_result="at_most_once")(charge)

    assert found(made) == [
        f"""\
charge is at_most_once and has no timeout: when it hangs, so does its run
  {at(charge)}
  fix: say how long it may take: timeout=30"""
    ]


def test_an_optional_that_can_never_be_there() -> None:
    """Nothing gives it and it is not named as an input; or it is only taken if certified, and nothing keeps it."""

    async def wish(request: Request | None, charge: Annotated[Charge | None, IfCertified]) -> Shipment:
        raise NotImplementedError

    made = Graph(inputs=[Stock])
    made.register(charge, wish)

    assert found(made) == [
        f"""\
the parameter 'request' of wish is always None: it wants a Request, which nothing gives
  {at(wish)}
  fix: name it as an input: inputs=[Request, ...]; or drop the parameter""",
        f"""\
the parameter 'charge' of wish is always None: it wants a Charge, which nothing keeps
  {at(wish)}
  fix: keep it: cache_result=...; or drop the parameter""",
    ]


def test_an_input_that_nobody_takes() -> None:
    """Declared for nothing."""
    made = Graph(inputs=[Request, Shipment])
    made.register(reserve)

    assert found(made) == ["Shipment is declared as an input and no step takes one\n  fix: take it out of inputs="]


def test_an_input_that_is_called_like_what_a_step_gives() -> None:
    """Where nobody said what the inputs are, a class imported from the wrong module would count as one."""

    async def elsewhere(request: Request) -> Any:
        raise NotImplementedError

    elsewhere.__annotations__["return"] = Other.Stock
    made = Graph()
    made.register(elsewhere, charge)

    assert found(made) == [
        f"""\
Stock counts as an input, although one is given
  {at(charge)}
  near: tests.elsewhere.Stock, another type of the same name, is given by {at(elsewhere)}
  fix: import the same class in both places, or name the inputs: inputs=[...]"""
    ]


def test_a_step_that_no_target_needs() -> None:
    """Only asked with the targets named."""
    assert found(kept(pure=True), Charge) == [
        f"""\
ship is never run for Charge
  {at(ship)}
  fix: drop it, or name it as a target as well"""
    ]
    assert found(kept(pure=True), Charge, Shipment) == []
