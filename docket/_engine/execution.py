"""The only loop that awaits steps.

A branch is a task. It takes a step that is ready, runs it, counts down the steps that waited for it, and goes on with
what is ready then. Before it has to wait, it has a branch started for each step that is still ready. The pump that does
this never runs inside itself, so neither a chain of steps nor a comb of them grows the stack, whenever tasks start.

What is to be run may first have to be found out: then the first branch begins with a coroutine that says it, and goes on
with the first step in the same task.

On the first failure, and when the last caller is cancelled, no step is started any more. Branches that wait inside an
uncertified step are cancelled, once. Branches inside a certified step are left to finish it, since what it did outside
cannot be undone. Then the run is over, and nothing of it is left.

A failure counts before anything is said about it, and what nobody expects of a branch is a failure too: whatever goes
wrong, the callers are woken.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from typing import Any, TypeAlias

from docket._core.plan import Program
from docket._core.types import Key, label
from docket._engine.bounds import GRACE
from docket._engine.calls import Call, wrong_result
from docket._engine.notes import attach, note, path, report
from docket._engine.sharing import Work
from docket.errors import DeadlineExceeded, WaitsForItself, shown

_NOT_YET = object()
"""Stands in the target's slot until it is there: None is a value."""

_PREPARING = -1
"""Stands in a step's place for the branch that finds out what is to be run."""

_BETWEEN = -2
"""Stands in a step's place for what no step raised: a mistake of ours, or a process at its limits."""

Prepared: TypeAlias = tuple[Program, list[object], Sequence[Call]]
"""What to run; by slot, None, then the known values, and room for the results; for each step, how to call it."""


async def execute(
    program: Program, values: list[object], calls: Sequence[Call], run_id: str = "", grace: float = GRACE
) -> object:
    """Run every step of *program* as soon as what it needs is there, and return the value of the target.

    Args:
        program: What to run.
        values: One entry per slot: None, then the known values; the rest is filled as steps finish.
        calls: For each step, how to call it.
        run_id: The run, for messages.
        grace: Seconds a cancelled step may take to end.

    Raises:
        BaseException: The first failure of a step, as it was raised. A note names the run, the step and its path;
            further notes and the attribute ``later_failures`` (a tuple) hold what failed after it.
        asyncio.CancelledError: The caller was cancelled; everything that could not be cancelled has finished.
        WrongResult: A step returned something other than it declares.
    """
    work = Execution((program, values, calls), run_id, grace)
    work.begin()
    return await work.wait()


class Execution(Work[object]):
    """One walk through a program.

    Args:
        what: What is to be run; or a coroutine that finds it out, whose failure is the run's.
        run_id: The run, for messages.
        grace: Seconds a cancelled step may take to end.
        target: What was asked for, for messages.

    Attributes:
        preparation: Finds out what is to be run; None if that is known.
        program: What is run.
        values: By slot.
        tables: What every step needs at hand: of the program, ``expects``, ``frees`` and ``args``; how to call each step;
            ``values``; the slot of the first step; for each step, how many it still waits for; ``ready``.
        ready: Positions of steps that wait for nothing and were not started yet.
        waiting: The branches that wait inside a step, with its position.
        stopped: Whether no step is started any more.
        pumping: Whether the pump is at work.
    """

    __slots__ = (
        "_branches", "_error", "_grace", "_run_id", "_target", "_timer",
        "preparation", "program", "pumping", "ready", "stopped", "tables", "values", "waiting",
    )  # fmt: skip

    program: Program
    values: list[object]
    tables: tuple[Any, ...]

    def __init__(
        self, what: Prepared | Coroutine[Any, Any, Prepared], run_id: str, grace: float = GRACE, target: Key = None
    ) -> None:
        super().__init__()
        self.waiting: dict[asyncio.Task[Any] | None, int] = {}
        self.stopped = self.pumping = False
        self._run_id, self._grace, self._target = run_id, grace, target
        self._branches = 0
        self._error: BaseException | None = None
        self._timer: asyncio.TimerHandle | None = None
        if isinstance(what, tuple):
            self.preparation = None
            self.follow(*what)
        else:
            self.preparation = what
            self.ready = [_PREPARING]

    def follow(self, program: Program, values: list[object], calls: Sequence[Call]) -> None:
        """Take note of what is to be run."""
        self.program, self.values = program, values
        self.ready = [*program.starts[::-1]]  # it is taken from the end
        first = len(program.known) + 1
        self.tables = (
            program.expects, program.frees, program.args, calls, values, first, [*program.waits], self.ready,
        )  # fmt: skip
        if program.target >= first:
            values[program.target] = _NOT_YET

    def begin(self) -> None:
        """Start what waits for nothing."""
        self.pump()
        if not self._branches:  # a program without steps, or one whose steps never had to wait
            self.settle()

    def pump(self) -> None:
        """Start a branch for every step that is ready, and for those that become ready meanwhile."""
        self.pumping = True
        while self.ready:
            position = self.ready.pop()
            self._branches += 1
            try:
                _start(self.loop, _Branch(self, position))
            except BaseException as error:  # no task could be had
                self._branches -= 1
                self.failed(position, error)
        self.pumping = False

    def refused(self, position: int, value: object) -> bool:
        """Say whether *value* is nothing that the step may return; then the step has failed."""
        wrong: BaseException | None
        try:
            wrong = wrong_result(self._run_id, self.program.steps[position], value)
        except BaseException as error:  # its type has a say in what is an instance
            wrong = error
        if wrong is not None:
            self.failed(position, wrong)
        return wrong is not None

    def failed(self, position: int, error: BaseException) -> None:
        """Take note of a step's failure. The first one stops the run."""
        if not self.stopped:
            self._error = error
            self.stop()
            if position != _PREPARING:
                note(error, f"docket: {self._describe(position)}")
        elif not isinstance(error, asyncio.CancelledError):
            if self._error is not None and self._error is not error:
                attach(self._error, error, f"docket: then {shown(error)}, {self._describe(position)}")
            report("failed after the run was stopped: %s", self._describe(position), error=error)

    def ended(self) -> None:
        """Take note that a branch is over."""
        self._branches -= 1
        if not self._branches and not self.pumping:
            self.settle()

    def stop(self) -> None:
        """Start no step any more, and cancel the branches that wait inside an uncertified one. Only once."""
        if self.stopped:
            return
        self.stopped = True
        self.ready.clear()
        cancelled = self._uncertified()
        for task in cancelled:
            task.cancel()
        if cancelled:
            self._timer = self.loop.call_later(self._grace, self._leave_behind)

    def settle(self) -> None:
        """Wake every caller: no branch is left."""
        if self._timer is not None:
            self._timer.cancel()
        if self.preparation is not None:
            self.preparation.close()  # it may have been stopped before its first line
        super().settle()

    def answer(self) -> object:
        """Return the target's value or raise the first failure; CancelledError if it was stopped before either."""
        if self._error is not None:
            raise self._error
        value = _NOT_YET if self.preparation is not None else self.values[self.program.target]
        if value is _NOT_YET:
            raise asyncio.CancelledError
        return value

    def is_stopping(self) -> bool:
        """Say whether no step is started any more."""
        return self.stopped

    def late(self, seconds: float) -> DeadlineExceeded:
        """Return the error of a run whose time was up."""
        return DeadlineExceeded(self._run_id, seconds)

    def stuck(self) -> WaitsForItself:
        """Return the error of a run that is asked for by a step it waits for."""
        return WaitsForItself(self._run_id, label(self._target))

    def _uncertified(self) -> list[asyncio.Task[Any]]:
        certifies = () if self.preparation is not None else self.program.certifies
        return [
            task
            for task, position in self.waiting.items()
            if task is not None and (position == _PREPARING or not certifies[position])
        ]

    def _leave_behind(self) -> None:
        for task in self._uncertified():
            if self.waiting[task] == _PREPARING:  # it may have to let a certified step finish, and has limits of its own
                continue
            position = self.waiting.pop(task)
            report("still going on %g s after it was cancelled: %s", self._grace, self._describe(position))
            self.ended()

    def _describe(self, position: int) -> str:
        if position == _PREPARING:
            return f"run {self._run_id!r}, before its first step"
        if position == _BETWEEN:
            return f"run {self._run_id!r}, between two steps"
        step = self.program.steps[position]
        return f"run {self._run_id!r}, step {step.name} ({step.where}), path {path(self.program, position)}"


class _Branch(Coroutine[Any, Any, None]):
    """A branch, as a coroutine written by hand.

    Each step runs in a copy of the caller's context, so what it writes to context variables is its own; that takes a
    ``Context.run`` around every resumption. Written as ``async def``, a branch would need one more awaitable between
    itself and the step for this, and could not notice that it is cancelled before its first line.
    """

    __slots__ = ("_context", "_position", "_step", "_work")

    _context: Context
    _step: Coroutine[Any, Any, object] | None

    def __init__(self, work: Execution, position: int) -> None:
        self._work, self._position, self._step = work, position, None

    def send(self, value: Any) -> Any:
        """Go on until a step has to wait."""
        if self._step is None:
            return self._prepare() if self._position == _PREPARING else self._run(self._position, _NOT_YET)
        try:
            return self._context.run(self._step.send, value)
        except StopIteration as stop:
            value = stop.value
        except BaseException as error:
            return self._fail(error)
        return self._resume(value)

    def throw(self, error: Any, value: Any = None, traceback: Any = None, /) -> Any:  # noqa: ARG002 - the old signature
        """Go on with an exception, which is how a task is cancelled."""
        if self._step is None:
            return self._fail(error)
        try:
            return self._context.run(self._step.throw, error)
        except StopIteration as stop:
            value = stop.value
        except BaseException as error:
            return self._fail(error)
        return self._resume(value)

    def close(self) -> None:
        """Give the step up at once, as a loop does that goes away."""
        if self._step is not None:
            self._step.close()

    def __await__(self) -> Generator[Any, Any, None]:
        """Refuse: a branch is driven by its task alone."""
        raise NotImplementedError

    def _prepare(self) -> Any:
        """Find out what is to be run, and go on with its first step."""
        work = self._work
        step, context = work.preparation, copy_context()
        assert step is not None  # noqa: S101 - or no branch were in this place
        try:
            waits_for = context.run(step.send, None)
        except StopIteration as stop:
            return self._follow(stop.value)
        except BaseException as error:
            return self._fail(error)
        self._step, self._context = step, context
        work.waiting[asyncio.current_task(work.loop)] = _PREPARING
        return waits_for

    def _follow(self, prepared: Prepared) -> Any:
        work = self._work
        self._step = None
        if not work.stopped:
            try:
                work.follow(*prepared)
                work.preparation = None
            except BaseException as error:
                work.failed(_BETWEEN, error)
            if work.ready:
                return self._run(work.ready.pop(), _NOT_YET)
        work.ended()
        raise StopIteration

    def _run(self, position: int, value: object) -> Any:
        """Run the step at *position*, or take its *value*, and then what is ready, until a step has to wait.

        This is what every step costs, so it is written for speed: one loop, no calls but those of the step itself.
        """
        work = self._work
        expects, frees, args, calls, values, first, waits, ready = work.tables
        try:
            while True:
                if value is not _NOT_YET:
                    if type(value) is not expects[position] and work.refused(position, value):
                        break
                    values[first + position] = value
                    for freed in frees[position]:
                        waits[freed] = left = waits[freed] - 1
                        if not left:
                            ready.append(freed)
                    if not ready:
                        break
                    position = ready.pop()
                if work.stopped:
                    break
                slots = args[position]
                count = len(slots)
                context = copy_context()
                try:
                    if count == 1:  # one or two, as most steps have: spreading a list costs as much as the call
                        step = calls[position](values[slots[0]])
                    elif count == 2:
                        step = calls[position](values[slots[0]], values[slots[1]])
                    else:
                        step = calls[position](*[values[slot] for slot in slots])
                    waits_for = context.run(step.send, None)
                except StopIteration as stop:
                    value = stop.value
                except BaseException as error:
                    work.failed(position, error)
                    break
                else:
                    self._position, self._step, self._context = position, step, context
                    work.waiting[asyncio.current_task(work.loop)] = position
                    if ready and not work.pumping:
                        work.pump()
                    return waits_for
        except BaseException as error:
            work.failed(_BETWEEN, error)
        work.ended()
        raise StopIteration

    def _resume(self, value: Any) -> Any:
        work = self._work
        if work.waiting.pop(asyncio.current_task(work.loop), None) is None:  # the run is over, and this step was left behind
            raise StopIteration
        if self._position == _PREPARING:
            return self._follow(value)
        self._step = None
        return self._run(self._position, value)

    def _fail(self, error: BaseException) -> Any:
        work = self._work
        if self._step is not None and work.waiting.pop(asyncio.current_task(work.loop), None) is None:
            raise StopIteration
        self._step = None
        try:
            work.failed(self._position, error)
        finally:
            work.ended()
        raise StopIteration


# Not loop.create_task: when a branch starts is not for the user's task factory to say.
if sys.version_info >= (3, 12):

    def _start(loop: asyncio.AbstractEventLoop, branch: _Branch) -> None:
        asyncio.Task(branch, loop=loop, eager_start=True)

else:

    def _start(loop: asyncio.AbstractEventLoop, branch: _Branch) -> None:
        asyncio.Task(branch, loop=loop)
