"""Work that several callers wait for and none of them owns.

Two callers who ask for the same run in one process share one attempt at it. The attempt belongs to the run: a caller
who is cancelled leaves, and only the last one who leaves stops it.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Hashable
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Late(Exception):
    """A caller's time was up, waiting for work that has no better word for it."""


class Stuck(Exception):
    """A caller would wait for what waits for it, and the work has no better word for it."""


class Work(Generic[T]):
    """Something under way that callers wait for.

    A subclass says how to `begin` and `stop`, calls `settle` once, when nothing of it runs any more, and then says what
    came of it in `answer`.

    Attributes:
        abandoned: Whether its last caller has gone.
        loop: The loop it runs in.
        taken_off: Called once when it is settled, by whoever remembers it.
        waits_for: What is being waited for inside of it.
    """

    __slots__ = ("_callers", "_gone", "_settled", "_waiting", "abandoned", "loop", "taken_off", "waits_for")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()  # once: until Python 3.12 each call of it asks the system for the process
        self.taken_off: Callable[[], object] | None = None
        self._settled = self.abandoned = False
        self._callers = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._gone: asyncio.Future[None] | None = None
        self.waits_for: list[Work[Any]] = []

    def begin(self) -> None:
        """Begin. Called once, inside a running loop."""
        raise NotImplementedError

    def stop(self) -> None:
        """Begin to stop, because the last caller has gone. Called once."""
        raise NotImplementedError

    def answer(self) -> T:
        """Return the result or raise what went wrong. Called when settled, by each caller."""
        raise NotImplementedError

    def late(self, seconds: float) -> BaseException:  # noqa: ARG002 - for those who have a word for it
        """Return what a caller is told who has waited for *seconds*."""
        return Late()

    def stuck(self) -> BaseException:
        """Return what a caller is told whom this work waits for."""
        return Stuck()

    def is_stopping(self) -> bool:
        """Say whether nothing more is to be begun inside of it."""
        return self.abandoned

    def is_settled(self) -> bool:
        """Say whether it is over: nothing of it runs any more."""
        return self._settled

    def settle(self) -> None:
        """Wake every caller: it is over."""
        self._settled = True
        if self.taken_off is not None:
            self.taken_off()
            self.taken_off = None
        for waiting in self._waiting:
            _wake(waiting)

    async def wait(self, seconds: float | None = None) -> T:
        """Wait as one of the callers until it is settled, and return its answer.

        A caller who is cancelled, or has waited for *seconds*, leaves at once if others wait. The last one stops the
        work and stays until it is settled, however often it is cancelled meanwhile: nothing outlives its callers.

        Raises:
            asyncio.CancelledError: This caller was cancelled. It goes before any failure of the work.
            BaseException: What `late` returns: the time was up before there was an answer.
        """
        cancelled: asyncio.CancelledError | None = None
        end = None if seconds is None else self.loop.time() + seconds
        self._callers += 1
        try:
            while not self.is_settled():
                waiting = self._waiter(end)
                end = None
                try:
                    await waiting
                except asyncio.CancelledError as error:
                    cancelled = error
                finally:
                    self._waiting.remove(waiting)
                if self.is_settled() or self._callers > 1:
                    break
                if not self.abandoned:
                    self.abandoned = True
                    if self._gone is not None:
                        _wake(self._gone)
                    self.stop()
        finally:
            self._callers -= 1
        if cancelled is not None:
            raise cancelled
        if not self.is_settled():
            raise self.late(seconds or 0.0)
        try:
            return self.answer()
        except asyncio.CancelledError:
            if self.abandoned:
                raise self.late(seconds or 0.0) from None
            raise

    async def over(self) -> None:
        """Look on until it is settled, without being one of its callers."""
        while not self.is_settled():
            waiting = self._waiter(None)
            try:
                await waiting
            finally:
                self._waiting.remove(waiting)

    def gone(self) -> asyncio.Future[None]:
        """Return a future that is done when the last caller has gone. It is one for all who ask: not to be cancelled."""
        if self._gone is None:
            self._gone = self.loop.create_future()
        if self.abandoned:
            _wake(self._gone)
        return self._gone

    def _waiter(self, end: float | None) -> asyncio.Future[None]:
        """Return a future that is done when this is settled, or when the loop's time is *end*."""
        # One for each caller: cancelling a task cancels the future it waits for.
        waiting: asyncio.Future[None] = self.loop.create_future()
        self._waiting.append(waiting)
        if end is not None:
            timer = self.loop.call_at(end, _wake, waiting)
            waiting.add_done_callback(lambda _: timer.cancel())
        return waiting


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class CoroutineWork(Work[T]):
    """A coroutine as work, in a task of its own."""

    __slots__ = ("_coroutine", "_task")

    _task: asyncio.Task[T]

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        super().__init__()
        self._coroutine = coroutine

    def begin(self) -> None:
        """Start the task."""
        self._task = self.loop.create_task(self._carried_out())
        self._task.add_done_callback(self._ended)

    async def _carried_out(self) -> T:
        try:
            return await self._coroutine
        finally:
            self.settle()  # a turn of the loop before the callback; until a caller wakes, the task is over

    def _ended(self, _: asyncio.Task[T]) -> None:
        self._coroutine.close()  # a task that is cancelled before it starts runs no line of its coroutine
        self.settle()

    def stop(self) -> None:
        """Cancel the task."""
        self._task.cancel()

    def answer(self) -> T:
        """Return the coroutine's result or raise its exception."""
        return self._task.result()


class Shared:
    """What is under way in this process, by name."""

    __slots__ = ("_beside", "_under_way")

    def __init__(self) -> None:
        self._under_way: dict[Hashable, tuple[Work[Any], object]] = {}
        self._beside: set[Work[Any]] = set()

    async def over(self) -> None:
        """Wait until nothing is under way any more, what is begun meanwhile included."""
        while works := [*(work for work, _ in self._under_way.values()), *self._beside]:
            for work in works:
                await work.over()
            await asyncio.sleep(0)  # whoever waited for it takes it off

    def join(
        self, name: Hashable, given: object, make: Callable[[], Work[T]], seconds: float | None = None
    ) -> Coroutine[Any, Any, T]:
        """Wait for the work called *name*, when awaited; begin it now if it is not under way.

        Args:
            name: What makes two callers want the same.
            given: What the work is made from. A caller who brings something else does not share.
            make: Makes the work. Not called by those who share.
            seconds: How long this caller waits; None for no limit.

        Raises:
            asyncio.CancelledError: The caller was cancelled. If it was the last, the work was stopped and is over.
            BaseException: Whatever the work raises, to each of its callers. What its `late` returns: the caller's time is up,
                and the same holds. What its `stuck` returns: the caller stands inside the work, or inside what the work
                waits for; a task that was begun there counts.
        """
        inside = _inside.get()
        if inside is None and name not in self._under_way:
            work = self._remembered(name, given, make())
            _begin(work)
            return work.wait(seconds)
        return self._joined(name, given, make, seconds, inside)

    async def _joined(
        self, name: Hashable, given: object, make: Callable[[], Work[T]], seconds: float | None, inside: Work[Any] | None
    ) -> T:
        while True:
            work: Work[T]
            entry = self._under_way.get(name)
            shared = entry is not None and _equal(entry[1], given)
            if entry is None:
                work = self._remembered(name, given, make())
            elif not shared:
                work = make()
                work.taken_off = functools.partial(self._beside.discard, work)
                self._beside.add(work)
            elif inside is not None and _leads_to(entry[0], inside):
                raise entry[0].stuck()
            else:
                work = entry[0]
            if inside is not None:
                inside.waits_for.append(work)
            try:
                if not shared:  # only now: it may at once ask for what is being waited for
                    _begin(work)
                if not work.abandoned:
                    return await work.wait(seconds)
                await work.over()
            finally:
                if inside is not None:
                    inside.waits_for.remove(work)

    def _remembered(self, name: Hashable, given: object, work: Work[T]) -> Work[T]:
        work.taken_off = functools.partial(self._under_way.pop, name)
        self._under_way[name] = (work, given)
        return work


_inside: ContextVar[Work[Any] | None] = ContextVar("docket work", default=None)
"""The work that the running code is part of."""


def gone() -> asyncio.Future[None] | None:
    """Return a future that is done when nobody waits any more for the work that the running code is part of; None outside."""
    inside = _inside.get()
    return None if inside is None else inside.gone()


def is_stopping() -> bool:
    """Say whether nothing more is to be begun in the work that the running code is part of."""
    inside = _inside.get()
    return inside is not None and inside.is_stopping()


async def pause(seconds: float) -> bool:
    """Sleep, at most until nobody waits any more for the work that the running code is part of; return `is_stopping`."""
    inside = _inside.get()
    if inside is None:
        await asyncio.sleep(seconds)
    elif not inside.is_stopping():
        await asyncio.wait((inside.gone(),), timeout=seconds)
    return is_stopping()


def _begin(work: Work[Any]) -> None:
    token = _inside.set(work)  # the tasks that it begins take it along
    try:
        work.begin()
    finally:
        _inside.reset(token)


def _leads_to(work: Work[Any], other: Work[Any]) -> bool:
    """Whether *work* is *other* or waits for it, be it through others."""
    seen: set[Work[Any]] = set()
    found = [work]
    while found:
        one = found.pop()
        if one is other:
            return True
        if one not in seen:
            seen.add(one)
            found.extend(one.waits_for)
    return False


def _equal(one: object, other: object) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arrays do not say whether they are equal; then nothing is shared, which is always right
        return False
