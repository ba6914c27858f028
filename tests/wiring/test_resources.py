"""What the application holds for its steps: opened once when it is needed, closed in reverse order, replaced in tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator

import pytest

from docket import ConfigurationError, Docket, WiringError
from tests.wiring.parts import Charge, Request, Shipment, Stock, at


class Clock:
    """A resource without an end."""


class Pool:
    """A resource that is closed."""


class Client:
    """A resource that is made by its class."""


class Door:
    """A resource that is entered."""


def using(d: Docket) -> Docket:
    """Add a step for each resource."""

    async def charge(request: Request, clock: Clock, client: Client) -> Charge:
        return Charge()

    async def reserve(request: Request, pool: Pool, door: Door) -> Stock:
        return Stock()

    async def ship(charge: Charge, stock: Stock, clock: Clock | None) -> Shipment:
        assert isinstance(clock, Clock)
        return Shipment()

    d.register(charge, reserve, ship)
    return d


def held(said: list[str]) -> Docket:
    """Return a Docket that says what is opened and closed."""
    d = using(Docket())

    async def pool() -> AsyncGenerator[Pool]:
        said.append("open pool")
        await asyncio.sleep(0)
        yield Pool()
        said.append("close pool")

    @contextlib.contextmanager
    def door() -> Generator[Door]:
        said.append("open door")
        yield Door()
        said.append("close door")

    d.provide(Clock, Clock())
    d.provide(Pool, pool)
    d.provide(Client, Client)
    d.provide(Door, door)
    return d


async def test_resources_are_opened_once_and_closed_in_reverse_order() -> None:
    """However many runs ask at the same time; and only those that the plan needs."""
    said: list[str] = []
    d = held(said)
    await d.run("r", Charge, Request())
    assert said == []

    await asyncio.gather(*(d.run(f"r{number}", Shipment, Request()) for number in range(5)))
    assert said == ["open pool", "open door"]
    await d.close()
    assert said == ["open pool", "open door", "close door", "close pool"]

    await d.run("r", Shipment, Request())
    assert said[4:] == ["open pool", "open door"]
    await d.close()


async def test_a_function_may_be_async_and_may_return_a_context_manager() -> None:
    """What it returns is awaited and entered until there is what it was provided for."""
    d = using(Docket())
    closed: list[str] = []

    async def client() -> Client:
        return Client()

    @contextlib.asynccontextmanager
    async def pool() -> AsyncGenerator[Pool]:
        yield Pool()
        closed.append("pool")

    def door() -> Generator[Door]:
        yield Door()
        closed.append("door")

    d.provide(Clock, lambda: Clock())
    d.provide(Client, client)
    d.provide(Pool, pool)
    d.provide(Door, door)

    async with d:
        assert isinstance(await d.run("r", Shipment, Request()), Shipment)

    assert closed == ["door", "pool"]


async def test_a_failure_to_open_is_raised_and_tried_again_by_the_next_run() -> None:
    """The first run sees the exception as it was; nothing is held for it."""
    d = Docket()
    tries: list[int] = []

    async def pool() -> Pool:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError("no database")
        return Pool()

    async def reserve(pool: Pool) -> Stock:
        return Stock()

    d.register(reserve)
    d.provide(Pool, pool)

    with pytest.raises(ConnectionError, match="no database"):
        await d.run("r", Stock)
    assert isinstance(await d.run("r", Stock), Stock)


async def test_a_function_that_makes_something_else_is_named() -> None:
    """With the line that provided it."""
    d = Docket()

    async def reserve(pool: Pool) -> Stock:
        return Stock()

    d.register(reserve)
    d.provide(Pool, Clock)

    with pytest.raises(ConfigurationError, match=r"the resource Pool \(.*test_resources.py:\d+\): its function made a Clock"):
        await d.run("r", Stock)


def test_what_is_provided_twice_or_given_by_a_step_is_refused(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One provider for each type, resources included."""
    monkeypatch.chdir(request.config.rootpath)
    d = Docket(inputs=[Request, Clock])

    async def reserve(request: Request) -> Stock:
        return Stock()

    d.register(reserve)
    d.provide(Stock, Stock())
    d.provide(Clock, Clock())
    d.provide(Clock, Clock())
    d.provide(int, 5)
    line = test_what_is_provided_twice_or_given_by_a_step_is_refused.__code__.co_firstlineno + 11

    with pytest.raises(WiringError) as caught:
        d.check()

    file = "tests/wiring/test_resources.py"
    assert (
        str(caught.value)
        == f"""\
the wiring does not close (4 problems)
  1. Clock is provided twice
     provide  {file}:{line + 1}
     provide  {file}:{line + 2}
     fix: give one of them a type of its own; in tests, replace one: d.override(Clock, ...)
  2. a resource: int says nothing about what the value is
     provide  {file}:{line + 3}
     fix: wrap it in a type of its own: a dataclass, a message, or NewType('OrderId', int)
  3. Clock is declared as an input and held as a resource
     {file}:{line + 1}
     fix: take Clock out of inputs=
  4. Stock is a resource and the result of a step
     provide  {file}:{line}
     {at(reserve)}
     fix: drop one of the two"""
    )


async def test_a_test_replaces_resources_and_steps() -> None:
    """By a value or by a function, nested, and only inside the block; the wiring is checked with it at once."""
    d = held([])
    fake_stock, fake_clock = Stock(), Clock()
    seen: list[object] = []

    async def fake_ship(stock: Stock, clock: Clock) -> Shipment:
        seen.extend([stock, clock])
        return Shipment()

    with d.override(Stock, fake_stock), d.override(Clock, fake_clock), d.override(Shipment, fake_ship):
        await d.run("r", Shipment)
    assert seen == [fake_stock, fake_clock]
    await d.run("r", Shipment, Request())
    assert len(seen) == 2
    await d.close()


def test_a_replacement_that_does_not_fit_is_refused() -> None:
    """It must give the type, and there must be something to replace."""
    d = held([])

    async def other() -> Stock:
        return Stock()

    for type_, fake, text in (
        (Request, Request(), r"override\(Request, ...\) at .*: nothing gives it, so nothing can be replaced"),
        (Charge, other, r"override\(Charge, ...\) at .*: .*other gives Stock; let it return Charge"),
        (Charge, 5, r"override\(Charge, ...\) at .*: a int is neither a Charge nor a function"),
        (int, 5, r"override\(int, ...\) at .*: int says nothing about what the value is"),
    ):
        with pytest.raises(ConfigurationError, match=text), d.override(type_, fake):
            pass
    assert d.check().steps[Charge].name == "charge"
