"""What happens to the others when a step fails or the caller is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Callable
from typing import Any

import pytest

from docket._engine.execution import Execution, Prepared, execute
from tests.engine import programs
from tests.engine.loops import LOOPS, run_in


class Boom(Exception):
    """What a failing step raises."""


class Stage:
    """A root, branches and a last step; notes what becomes of them."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def root(self) -> int:
        """Give the others something to need."""
        return 1

    async def bad(self, value: int) -> int:
        """Fail."""
        await asyncio.sleep(0)
        raise Boom

    async def loose(self, value: int) -> int:
        """Wait for ever, and take a while to be cancelled."""
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.events.append("loose cancelled")
            await asyncio.sleep(0)
            raise
        return 1

    async def kept(self, value: int) -> int:
        """Take a while."""
        for _ in range(10):
            await asyncio.sleep(0)
        self.events.append("kept finished")
        return 1

    async def kept_bad(self, value: int) -> int:
        """Take a while and fail."""
        await self.kept(value)
        raise Boom("kept")

    async def last(self, *values: int) -> int:
        """Need all others."""
        self.events.append("last started")
        return 1


@pytest.mark.parametrize("order", list(itertools.permutations(["bad", "loose", "kept"])))
async def test_first_failure(order: tuple[str, ...]) -> None:
    """The failure surfaces as it was raised, uncertified siblings are cancelled, certified ones finish."""
    stage = Stage()
    fns: programs.Fns = [stage.root, *[getattr(stage, name) for name in order], stage.last]
    made = programs.program([(), (0,), (0,), (0,), (1, 2, 3)], fns, certified=[1 + order.index("kept")])

    with pytest.raises(Boom) as caught:
        await execute(made, programs.slots(made), fns, "order-1")

    place = f"s{1 + order.index('bad')}"
    assert caught.value.__notes__ == [f"docket: run 'order-1', step {place} (shop.py:2), path s4 <- {place}"]
    assert stage.events == ["loose cancelled", "kept finished"]


async def test_later_failure_is_attached(caplog: pytest.LogCaptureFixture) -> None:
    """What fails after the first failure is noted on it, held by it, and logged with its traceback."""
    stage = Stage()
    fns: programs.Fns = [stage.root, stage.bad, stage.kept_bad, stage.last]
    made = programs.program([(), (0,), (0,), (1, 2)], fns, certified=[2])

    with pytest.raises(Boom) as caught:
        await execute(made, programs.slots(made), fns, "order-1")

    (later,) = vars(caught.value)["later_failures"]
    assert repr(later) == "Boom('kept')"
    assert caught.value.__notes__[1:] == ["docket: then Boom('kept'), run 'order-1', step s2 (shop.py:2), path s3 <- s2"]
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [later]


async def test_failing_again_with_the_same_exception() -> None:
    """An exception object that fails one run after another carries each note once."""
    error = Boom()

    async def bad() -> int:
        raise error

    made = programs.program([()], [bad])
    for _ in range(3):
        with pytest.raises(Boom):
            await execute(made, programs.slots(made), [bad], "order-1")

    assert len(error.__notes__) == 1


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("loop", LOOPS)
def test_caller_cancelled(loop: str, times: int) -> None:
    """However often the caller is cancelled, the certified step finishes and the others are cancelled once."""

    async def main() -> None:
        stage = Stage()
        fns: programs.Fns = [stage.root, stage.loose, stage.kept, stage.last]
        made = programs.program([(), (0,), (0,), (1, 2)], fns, certified=[2])
        task = asyncio.create_task(execute(made, programs.slots(made), fns))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

        assert stage.events == ["loose cancelled", "kept finished"]

    run_in(loop, main)


async def test_cancelled_while_a_failure_is_settled() -> None:
    """A cancellation that arrives while a certified step is drained reaches the caller, in place of the failure."""
    stage = Stage()
    fns: programs.Fns = [stage.root, stage.bad, stage.kept, stage.last]
    made = programs.program([(), (0,), (0,), (1, 2)], fns, certified=[2])
    task = asyncio.create_task(execute(made, programs.slots(made), fns))
    for _ in range(5):
        await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert stage.events == ["kept finished"]


async def test_timeout_around_a_run_is_the_callers_own() -> None:
    """``asyncio.timeout`` around a run ends it and becomes a TimeoutError, as it does around anything."""
    stage = Stage()
    fns: programs.Fns = [stage.root, stage.loose]
    made = programs.program([(), (0,)], fns)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await execute(made, programs.slots(made), fns)

    assert stage.events == ["loose cancelled"]


async def test_step_that_swallows_its_cancellation(caplog: pytest.LogCaptureFixture) -> None:
    """A step that goes on after it was cancelled is reported after the grace period and left behind."""
    stage, end, ended = Stage(), asyncio.Event(), asyncio.Event()

    async def stubborn(value: int) -> int:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue
        ended.set()
        return 1

    fns: programs.Fns = [stage.root, stubborn, stage.bad, stage.last]
    made = programs.program([(), (0,), (0,), (1, 2)], fns)

    with pytest.raises(Boom):
        await execute(made, programs.slots(made), fns, "order-1", grace=0.01)

    assert caplog.record_tuples == [
        (
            "docket",
            logging.ERROR,
            "still going on 0.01 s after it was cancelled: run 'order-1', step s1 (shop.py:2), path s3 <- s1",
        )
    ]
    end.set()
    await ended.wait()
    await asyncio.sleep(0)
    assert stage.events == []


async def test_step_that_gives_a_value_when_it_is_cancelled() -> None:
    """A step that answers its cancellation with a value ends the run no differently: nothing starts after it."""
    stage = Stage()

    async def calm(value: int) -> int:
        try:
            return await asyncio.Event().wait()
        except asyncio.CancelledError:
            return 1

    fns: programs.Fns = [stage.root, calm, stage.bad, stage.last]
    made = programs.program([(), (0,), (0,), (1,)], fns)

    with pytest.raises(Boom):
        await execute(made, programs.slots(made), fns)

    assert stage.events == []


async def test_step_that_is_cancelled_from_inside() -> None:
    """A CancelledError that nobody asked the run for is that step's failure: it surfaces and stops the others."""
    stage = Stage()

    async def waits_for_a_cancelled_task(value: int) -> int:
        task = asyncio.create_task(asyncio.sleep(60))
        task.cancel()
        await task
        return 1

    fns: programs.Fns = [stage.root, waits_for_a_cancelled_task, stage.loose, stage.last]
    made = programs.program([(), (0,), (0,), (1, 2)], fns)

    with pytest.raises(asyncio.CancelledError) as caught:
        await execute(made, programs.slots(made), fns, "order-1")

    assert caught.value.__notes__ == ["docket: run 'order-1', step s1 (shop.py:2), path s3 <- s1"]
    assert stage.events == ["loose cancelled"]


class Chaos:
    """A random graph with one failing step, some certified ones, and a caller who may be cancelled at any tick."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.graph = programs.random_graph(seed)
        count = len(self.graph)
        self.bad = chance.choice([None, *range(count)])
        self.certified = {number for number in range(count) if chance.random() < 0.3}
        self.pauses = [chance.choice([0, 1, 2, 3, 8]) for _ in self.graph]
        self.cancel_at = chance.choice([None, *range(12)])
        self.times = chance.choice([1, 2, 3])
        self.started: list[int] = []
        self.finished: set[int] = set()
        self.cancelled: list[int] = []
        self.stopped = False

    def fn(self, number: int) -> Callable[..., Any]:
        """Return step *number*."""

        async def call(*values: int) -> int:
            assert not self.stopped
            self.started.append(number)
            try:
                for _ in range(self.pauses[number]):
                    await asyncio.sleep(0)
                if number == self.bad:
                    self.stopped = True
                    raise Boom(number)
            except asyncio.CancelledError:
                self.cancelled.append(number)
                self.stopped = True
                raise
            self.finished.add(number)
            return 1

        return call

    async def drive(self) -> None:
        """Run it, and check what must hold whatever happens."""
        fns: programs.Fns = [self.fn(number) for number in range(len(self.graph))]
        made = programs.program(self.graph, fns, self.certified)
        task = asyncio.create_task(execute(made, programs.slots(made), fns))
        if self.cancel_at is not None:
            for _ in range(self.cancel_at):
                await asyncio.sleep(0)
            for _ in range(self.times):
                task.cancel()
                await asyncio.sleep(0)
        (outcome,) = await asyncio.gather(task, return_exceptions=True)

        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert len(self.started) == len(set(self.started))
        assert len(self.cancelled) == len(set(self.cancelled))
        assert not self.certified.intersection(self.cancelled)
        assert self.finished.union(self.cancelled, {self.bad}).issuperset(self.started)
        if self.cancel_at is None and self.bad is None:
            assert outcome == 1
        elif self.cancel_at is None:
            assert repr(outcome) == f"Boom({self.bad})"


@pytest.mark.parametrize("loop", LOOPS)
def test_every_position(loop: str) -> None:
    """Whichever step fails, is certified or waits, and whenever the caller is cancelled, the rules hold.

    No step starts after the stop, certified ones are never cancelled, the others at most once, and no task is left.
    """

    async def main() -> None:
        for seed in range(500):
            await Chaos(seed).drive()

    run_in(loop, main)


async def test_what_was_found_out_too_late_is_not_begun() -> None:
    """A run that is cancelled while it finds out what to do is cancelled, even if that comes to its end all the same."""
    calls: list[str] = []
    asked = asyncio.Event()

    async def first() -> int:
        calls.append("first")
        return 1

    made = programs.program([()], [first])

    async def find_out() -> Prepared:
        asked.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Future[None]()
        return made, programs.slots(made), [first]

    work = Execution(find_out(), "order-1")
    work.begin()
    caller = asyncio.create_task(work.wait())
    await asked.wait()
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert (calls, work.is_settled()) == ([], True)


@pytest.mark.parametrize("begins", [False, True])
async def test_a_run_that_cannot_find_out_what_to_do_fails_with_that(begins: bool) -> None:
    """Whether its preparation raises or gives what is no program."""

    async def find_out() -> Prepared:
        if not begins:
            raise ConnectionError("the cache is away")
        return (None, [None], [])  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    work = Execution(find_out(), "order-1")
    work.begin()
    with pytest.raises(AttributeError if begins else ConnectionError):
        await work.wait()

    assert work.is_settled()
