"""What an observer is told."""

from __future__ import annotations

import asyncio
import contextvars
import logging

import pytest

from docket import Docket, InDoubt
from docket.cache import MemoryCache
from docket.retry import Retry
from docket.telemetry import Event, LoggingObserver
from tests.engine.orders import Charge, Order, Shipment


class Book:
    """An observer that writes everything down."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        """Write it down."""
        self.events.append(event)

    def kinds(self) -> list[tuple[str, str]]:
        """Return what happened, and to which step."""
        return [(event.kind, event.step.rpartition(".")[2]) for event in self.events]


def shop(book: Book | LoggingObserver, *, fail: int = 0) -> Docket:
    """Return a Docket with a certified charge, which fails *fail* times at first, and a shipment."""
    d, failures = Docket(cache=MemoryCache(), observer=book), [OSError("down")] * fail

    @d.step(cache_result="at_least_once", retry=Retry(attempts=2, wait=0))
    async def charge_card(order: Order) -> Charge:
        if failures:
            raise failures.pop()
        return Charge()

    @d.step
    async def ship(charge: Charge) -> Shipment:
        return Shipment()

    return d


async def test_events_of_a_run() -> None:
    """A cold run tells of each step's start and result, and how long it took; a resumed run, what it fetched."""
    book = Book()
    d = shop(book)

    await d.run("order-1", Shipment, Order())
    assert book.kinds() == [
        ("run_started", "Shipment"),
        ("step_started", "charge_card"),
        ("computed", "charge_card"),
        ("certified", "charge_card"),
        ("step_started", "ship"),
        ("computed", "ship"),
        ("run_finished", "Shipment"),
    ]
    assert {event.run_id for event in book.events} == {"order-1"}
    assert all(event.seconds is not None for event in book.events if event.kind in ("computed", "certified"))

    book.events.clear()
    await d.run("order-1", Shipment, Order())
    assert book.kinds()[:3] == [("run_started", "Shipment"), ("fetched", "charge_card"), ("step_started", "ship")]


async def test_events_of_a_failing_run() -> None:
    """Each failed try that another follows is told with its error; the last one fails the step and the run."""
    book = Book()
    with pytest.raises(OSError, match="down"):
        await shop(book, fail=2).run("order-1", Shipment, Order())

    assert book.kinds() == [
        ("run_started", "Shipment"),
        ("step_started", "charge_card"),
        ("retried", "charge_card"),
        ("failed", "charge_card"),
        ("run_failed", "Shipment"),
    ]
    assert [(event.attempt, repr(event.error)) for event in book.events[2:4]] == [
        (1, "OSError('down')"),
        (0, "OSError('down')"),
    ]


async def test_doubt() -> None:
    """A doubt is told as such: when it arises, and by every run that meets it."""
    book = Book()
    d = Docket(cache=MemoryCache(), observer=book)

    @d.step(cache_result="at_most_once")
    async def charge_card(order: Order) -> Charge:
        raise OSError("line cut")

    with pytest.raises(InDoubt):
        await d.run("order-1", Charge, Order())
    assert ("in_doubt", "charge_card") in book.kinds()
    assert [(event.kind, event.attempt) for event in book.events if event.attempt] == [("step_started", 1)]

    book.events.clear()
    with pytest.raises(InDoubt) as caught:
        await d.run("order-1", Charge, Order())
    assert book.kinds() == [("run_started", "Charge"), ("in_doubt", "charge_card"), ("run_failed", "Charge")]
    assert (book.events[1].error, book.events[1].seconds) == (caught.value, None)


async def test_what_an_observer_sets_is_seen_by_the_step() -> None:
    """An observer is called in the step's own context, so a span it opens there is the step's current one."""
    span: contextvars.ContextVar[str] = contextvars.ContextVar("span", default="none")

    def observer(event: Event) -> None:
        if event.kind == "step_started":
            span.set(event.step)

    d, seen = Docket(observer=observer), list[str]()

    @d.step
    async def charge_card(order: Order) -> Charge:
        await asyncio.sleep(0)
        seen.append(span.get())
        return Charge()

    await d.run("order-1", Charge, Order())

    assert [name.rpartition(".")[2] for name in seen] == ["charge_card"]
    assert span.get() == "none"


async def test_observer_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """What an observer raises is logged and changes nothing."""

    def observer(event: Event) -> None:
        raise ValueError(event.kind)

    d = Docket(observer=observer)

    @d.step
    async def charge_card(order: Order) -> Charge:
        return Charge()

    assert await d.run("order-1", Charge, Order()) == Charge()
    assert [record.getMessage().split(" of ")[0] for record in caplog.records] == [
        "the observer failed at run_started",
        "the observer failed at step_started",
        "the observer failed at computed",
        "the observer failed at run_finished",
    ]


async def test_logging_observer(caplog: pytest.LogCaptureFixture) -> None:
    """It writes a record for each event, with run id and step as attributes; failures are warnings."""
    caplog.set_level(logging.INFO, "docket.runs")

    await shop(LoggingObserver(), fail=1).run("order-1", Charge, Order())

    records = [record for record in caplog.records if record.name == "docket.runs"]
    assert [(vars(record)["event"], record.levelname) for record in records] == [
        ("run_started", "INFO"),
        ("step_started", "INFO"),
        ("retried", "WARNING"),
        ("computed", "INFO"),
        ("certified", "INFO"),
        ("run_finished", "INFO"),
    ]
    assert {vars(record)["run_id"] for record in records} == {"order-1"}
    assert vars(records[1])["step"].endswith("charge_card")
    assert records[2].getMessage().endswith("charge_card retried in run 'order-1' (0.000 s): OSError('down')")
