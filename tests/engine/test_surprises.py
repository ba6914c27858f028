"""Whatever goes wrong about a failure, the run ends with that failure and its callers are woken."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from docket import Docket, InDoubt, Retry
from docket._engine import execution
from docket.cache import MemoryCache
from docket.errors import WrongResult
from docket.telemetry import LoggingObserver
from tests.engine import programs
from tests.engine.orders import Charge, Order, Shipment

Kept = Literal["at_least_once", "at_most_once"] | None


@dataclass(frozen=True)
class Declined(Exception):
    """An exception that takes no attribute, and so no note from `add_note`."""

    code: str


class Mute(Exception):
    """An exception that cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError("repr")


class Silent:
    """A value that cannot be shown."""

    def __repr__(self) -> str:
        raise ValueError("repr")


class Opinionated(type):
    """A class of classes that raise when they are asked for their instances."""

    def __instancecheck__(cls, instance: object) -> bool:
        raise RuntimeError("ask somebody else")


class Guarded(metaclass=Opinionated):
    """A type that no value can be compared with."""


async def ended(run: Coroutine[Any, Any, object]) -> BaseException:
    """Return how *run* fails; it must not hang."""
    task = asyncio.ensure_future(run)
    done, _ = await asyncio.wait((task,), timeout=5)

    assert done, "it hangs"
    error = task.exception()
    assert error is not None
    return error


def shop(charge: Callable[[], object], kept: Kept = None) -> Docket:
    """Return a Docket whose card charge does what *charge* does, after it had to wait."""
    d = Docket(cache=MemoryCache())

    @d.step(cache_result=kept)
    async def charge_card(order: Order) -> Charge:
        await asyncio.sleep(0)
        return charge()  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    @d.step
    async def ship(charge: Charge) -> Shipment:
        return Shipment()

    return d


def declined() -> object:
    """Fail with what takes no note."""
    raise Declined("stolen")


@pytest.mark.parametrize("kept", [None, "at_least_once"])
async def test_exception_that_takes_no_attribute(kept: Kept) -> None:
    """A frozen dataclass is raised as it is, and carries its note all the same."""
    error = await ended(shop(declined, kept).run("order-1", Shipment, Order()))

    assert error == Declined("stolen")
    (note,) = error.__notes__
    assert note.startswith("docket: run 'order-1', step ")


async def test_doubt_after_an_exception_that_takes_no_attribute() -> None:
    """For an at-most-once step it means what any other exception means."""
    error = await ended(shop(declined, "at_most_once").run("order-1", Shipment, Order()))

    assert isinstance(error, InDoubt)
    assert error.__cause__ == Declined("stolen")


@pytest.mark.parametrize("kept", [None, "at_least_once", "at_most_once"])
async def test_result_that_cannot_be_shown(kept: Kept) -> None:
    """A wrong result whose repr raises is a wrong result."""
    error = await ended(shop(Silent, kept).run("order-1", Shipment, Order()))

    wrong = error.__cause__ if kept == "at_most_once" else error
    assert isinstance(wrong, WrongResult)
    assert "returned <Silent whose repr raises>; return a Charge" in str(wrong)


async def test_type_that_will_not_say_what_its_instances_are() -> None:
    """What its ``__instancecheck__`` raises is the step's failure, whether or not the step had to wait."""
    d = Docket()

    @d.step
    async def charge_card(order: Order) -> Guarded:
        if order == Order(2):
            await asyncio.sleep(0)
        return Charge()  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    for number in (1, 2):
        error = await ended(d.run(f"order-{number}", charge_card, Order(number)))

        assert repr(error) == "RuntimeError('ask somebody else')"
        assert ", step charge_card (" in error.__notes__[0]


@pytest.mark.parametrize(
    ("second", "said"), [(Mute(), "<Mute whose repr raises>"), (Declined("stolen"), "Declined(code='stolen')")]
)
@pytest.mark.parametrize("first", [ValueError, Declined, Mute])
async def test_second_failure(first: type[Exception], second: Exception, said: str, caplog: pytest.LogCaptureFixture) -> None:
    """What fails after the first failure is noted on it and held by it, whatever either of them is."""

    async def bad() -> int:
        await asyncio.sleep(0)
        raise first("first")

    async def bad_when_cancelled() -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise second from None
        return 1

    async def last(*values: int) -> int:
        return 1

    fns: programs.Fns = [bad, bad_when_cancelled, last]
    made = programs.program([(), (), (0, 1)], fns)
    error = await ended(execution.execute(made, programs.slots(made), fns, "order-1"))

    assert type(error) is first
    assert vars(error)["later_failures"] == (second,)
    assert error.__notes__[1] == f"docket: then {said}, run 'order-1', step s1 (shop.py:2), path s2 <- s1"
    assert len(caplog.records) == 1


class Broken(logging.Handler):
    """A handler that fails instead of logging."""

    def emit(self, record: logging.LogRecord) -> None:
        """Fail."""
        raise OSError("disk full")


@pytest.fixture
def broken_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be logged."""
    monkeypatch.setattr(logging.getLogger("docket"), "handlers", [Broken()])


async def test_log_that_fails(broken_log: None) -> None:
    """A run ends though its later failures and the steps it leaves behind cannot be logged."""
    released = asyncio.Event()

    async def bad() -> int:
        await asyncio.sleep(0)
        raise ValueError("first")

    async def stubborn() -> int:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return 1

    async def bad_when_cancelled() -> int:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("second")

    async def last(*values: int) -> int:
        return 1

    fns: programs.Fns = [bad, stubborn, stubborn, bad_when_cancelled, last]
    made = programs.program([(), (), (), (), (0, 1, 2, 3)], fns)
    error = await ended(execution.execute(made, programs.slots(made), fns, "order-1", grace=0.01))

    assert repr(error) == "ValueError('first')"
    released.set()
    await asyncio.sleep(0)


@pytest.mark.parametrize("pause", [False, True])
async def test_surprise_between_two_steps(pause: bool) -> None:
    """What goes wrong in a branch itself fails the run, and the steps that wait are cancelled."""
    cancelled: list[int] = []

    async def one() -> int:
        if pause:
            await asyncio.sleep(0)
        return 1

    async def waits() -> int:
        try:
            return await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def last(*values: int) -> int:
        return 1

    fns: programs.Fns = [one, waits, last]
    made = programs.program([(), (), (0, 1)], fns)
    values = programs.slots(made)
    object.__setattr__(made, "frees", ())  # no such program is ever made
    error = await ended(execution.execute(made, values, fns, "order-1"))

    assert isinstance(error, IndexError)
    assert error.__notes__ == ["docket: run 'order-1', between two steps"]
    assert cancelled == [1] * pause


@pytest.mark.parametrize("allowed", [0, 1])
async def test_no_task_to_be_had(allowed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A branch that cannot be started fails the run; those that were started end."""
    started, begin = list[object](), execution._start

    def start(loop: Any, branch: Any) -> None:
        started.append(branch)
        if len(started) > allowed:
            raise MemoryError
        begin(loop, branch)

    monkeypatch.setattr(execution, "_start", start)

    async def one() -> int:
        await asyncio.sleep(0)
        return 1

    async def last(*values: int) -> int:
        return 1

    fns: programs.Fns = [one, one, last]
    made = programs.program([(), (), (0, 1)], fns)

    assert isinstance(await ended(execution.execute(made, programs.slots(made), fns)), MemoryError)


async def test_tried_again_after_a_failure_that_cannot_be_shown(caplog: pytest.LogCaptureFixture) -> None:
    """A step whose failures cannot be shown is tried again like any other, and its failure is told and logged."""
    caplog.set_level(logging.INFO)
    d, left = Docket(observer=LoggingObserver()), [Mute()]

    @d.step(retry=Retry(attempts=2, wait=0))
    async def charge_card(order: Order) -> Charge:
        if left:
            raise left.pop()
        return Charge()

    assert await d.run("order-1", charge_card, Order()) == Charge()
    said = [record.getMessage() for record in caplog.records if record.getMessage().endswith("<Mute whose repr raises>")]
    assert len(said) == 2
