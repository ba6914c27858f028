"""How one step is called: with which arguments, where, for how long, how often, and what it may return."""

from __future__ import annotations

import asyncio
import inspect
import logging
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from docket._core.plan import Program
from docket._core.recent import Recent
from docket._core.step import SPECIAL, Run, Step, Transaction
from docket._core.types import is_instance, label
from docket._engine.bounds import GRACE, THREADS, Threads, bounded
from docket._engine.sharing import pause
from docket.errors import BrokenTransaction, StepTimeout, WrongResult, shown
from docket.retry import Retry
from docket.telemetry import Event, Observer, tell

Call: TypeAlias = Callable[..., Coroutine[Any, Any, object]]
"""Takes the values of a step's needs by position. A coroutine function: all of its code then runs inside the step."""

Body: TypeAlias = Callable[..., Coroutine[Any, Any, object]]
"""A step with everything its options ask for. Takes the `Run`, then the values of its needs."""

_NO_SAVEPOINT = ("25P01", "3B001")
"""What the server says when the transaction that a savepoint stood in is over: no_active_sql_transaction,
invalid_savepoint_specification."""

_log = logging.getLogger("docket")


class Calls:
    """How the steps of one application are called.

    Args:
        threads: How many plain functions run at once.
        grace: Seconds a step may take to end when it is told to.
        observer: Is told what happens to each step; None for nobody.
    """

    __slots__ = ("_bodies", "_programs", "_threads", "grace", "observer")

    def __init__(self, threads: int = THREADS, grace: float = GRACE, observer: Observer | None = None) -> None:
        self.grace, self.observer = grace, observer
        self._threads = Threads(threads)
        self._bodies: dict[Step, Body] = {}
        self._programs: Recent[Program, tuple[list[Call], tuple[int, ...]]] = Recent()

    def of(self, program: Program, bind: Callable[[Step], Call]) -> list[Call]:
        """Return how to call each step of *program*.

        Args:
            program: The program.
            bind: Makes the call of a step that has to know its run; asked only for those.
        """
        known = self._programs.get(program)
        if known is None:
            known = self._programs[program] = self._sort(program)
        plain, bound = known
        if not bound:
            return plain
        calls = plain.copy()
        for position in bound:
            calls[position] = bind(program.steps[position])
        return calls

    def body(self, step: Step) -> Body:
        """Return *step* with everything its options ask for."""
        body = self._bodies.get(step)
        if body is None:
            body = self._bodies[step] = self._compile(step)
        return body

    async def aside(
        self,
        fn: Callable[..., object],
        values: Sequence[object],
        run_id: str,
        name: str,
        seconds: float,
        gone: asyncio.Future[None] | None,
    ) -> object:
        """Call a function that is no step the way steps are called: a plain one in a thread, for at most *seconds*.

        It is stopped, too, when *gone* is done. A certified step is not, since it has an effect to finish.

        Raises:
            StepTimeout: It gave no answer in time.
            asyncio.CancelledError: It was stopped by *gone*.
        """

        async def call() -> object:
            is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(type(fn).__call__)
            answer: object = fn(*values) if is_async else await self._threads.call(fn, values)
            return await answer if inspect.isawaitable(answer) else answer

        def late() -> BaseException:
            stopped = gone is not None and gone.done()
            return asyncio.CancelledError() if stopped else StepTimeout(run_id, name, seconds)

        return await bounded(call(), seconds, self.grace, late, f"{name} of run {run_id!r}", gone)

    def close(self) -> None:
        """Let idle threads end."""
        self._threads.close()

    def _sort(self, program: Program) -> tuple[list[Call], tuple[int, ...]]:
        bound = tuple(
            number
            for number, step in enumerate(program.steps)
            if self.observer is not None or step.certifies or not _is_plain(step)
        )
        return [step.call for step in program.steps], bound

    def _compile(self, step: Step) -> Body:
        options = step.options
        body = _checked(step, self._threads if options.thread else None)
        if options.timeout is not None:
            body = _timed(step, body, options.timeout, self.grace)
        if options.retry is not None and options.retry.attempts > 1:
            if options.cache_result == "transactional":
                body = _undone(step, body)
            body = _retried(step, body, options.retry, self.observer)
        if self.observer is not None:
            body = _observed(step, body, self.observer)
        return body


def wrong_result(run_id: str, step: Step, value: object) -> WrongResult | None:
    """Say what is wrong with a step's result: another type, None where a value is due, a coroutine not awaited."""
    if step.gives_none if value is None else is_instance(value, step.gives):
        return None
    if inspect.iscoroutine(value):
        value.close()  # reported here; Python would warn about it again
    return WrongResult(run_id, step.name, declared(step), value, step.where)


def declared(step: Step) -> str:
    """Return what a step says that it returns, for people."""
    return f"{label(step.gives)}{' | None' if step.gives_none else ''}"


def _is_plain(step: Step) -> bool:
    """Say whether the engine may call the function as it is."""
    options = step.options
    return (
        (inspect.iscoroutinefunction(step.fn) or inspect.iscoroutinefunction(type(step.fn).__call__))
        and options.timeout is None
        and options.retry is None
        and all(need.key not in SPECIAL for need in step.needs)
    )


def _checked(step: Step, threads: Threads | None) -> Body:
    places = tuple(number for number, need in enumerate(step.needs) if need.key is Run)
    lent = tuple(number for number, need in enumerate(step.needs) if need.key is Transaction)
    if step.is_async and not places and not lent:
        return _called(step)

    async def body(run: Run, *values: object) -> object:
        filled = list(values)
        for place in places:
            filled[place] = run
        for place in lent:
            filled[place] = run.transaction
        if step.is_async:
            value = await step.call(*filled)
        elif threads is not None:
            value = await threads.call(step.call, filled)
        else:
            value = step.call(*filled)
        wrong = wrong_result(run.run_id, step, value)
        if wrong is not None:
            raise wrong
        return value

    return body


def _called(step: Step) -> Body:
    """What `_checked` comes to for most steps: an async function that does not ask for its run."""
    call, expected = step.call, step.expects

    async def body(run: Run, *values: object) -> object:
        value = await call(*values)
        if type(value) is not expected and (wrong := wrong_result(run.run_id, step, value)) is not None:
            raise wrong
        return value

    return body


def _timed(step: Step, body: Body, timeout: float, grace: float) -> Body:
    threaded = step.options.thread and not step.is_async

    async def timed(run: Run, *values: object) -> object:
        def late() -> StepTimeout:
            return StepTimeout(run.run_id, step.name, timeout)

        # A call that waits for a free thread is not late: it has not begun, and nothing of it could be in doubt.
        begun = asyncio.get_running_loop().create_future() if threaded else None
        return await bounded(body(run, *values), timeout, grace, late, f"{step.name} of run {run.run_id!r}", begun=begun)

    return timed


def _undone(step: Step, body: Body) -> Body:
    """Let a try that fails leave nothing in the transaction that the step is lent, so that the next one begins as it did."""

    async def undone(run: Run, *values: object) -> object:
        lent = run.transaction
        assert lent is not None  # noqa: S101 - only the transaction that is lent runs such a step
        await lent.execute("SAVEPOINT docket_try")
        try:
            return await body(run, *values)
        except Exception as error:
            try:
                await lent.execute("ROLLBACK TO SAVEPOINT docket_try; RELEASE SAVEPOINT docket_try")
            except Exception as failure:
                if getattr(failure, "sqlstate", None) in _NO_SAVEPOINT:  # it would be tried again outside the transaction
                    raise BrokenTransaction(run.run_id, step.name) from error
                raise
            raise

    return undone


def _retried(step: Step, body: Body, retry: Retry, observer: Observer | None) -> Body:
    at_most_once = step.options.cache_result == "at_most_once"
    transactional = step.options.cache_result == "transactional"

    async def retried(run: Run, *values: object) -> object:
        import tenacity  # loaded by the first step that asks for it

        def again(error: BaseException) -> bool:
            if transactional and isinstance(error, StepTimeout) and error.unfinished is not None:
                return False  # the call that was left behind still has the connection
            return retry.again(error, at_most_once=at_most_once)

        def pause_after(state: tenacity.RetryCallState) -> float:
            longest = retry.pause(state.attempt_number)
            return longest if callable(retry.wait) else longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load

        failed: list[BaseException] = []

        async def sleep(seconds: float) -> None:
            if await pause(seconds):  # no try is begun any more: what the last one raised is how it ended
                raise failed[-1]

        def before_pause(state: tenacity.RetryCallState) -> None:
            wait = state.next_action.sleep if state.next_action is not None else 0.0
            error = state.outcome.exception() if state.outcome is not None else None
            failed[:] = [error] if error is not None else []
            _log.info("run %r: %s failed (try %d): %s", run.run_id, step.name, state.attempt_number, shown(error))
            if observer is not None:
                event = Event("retried", run.run_id, step.name, step.key, wait, state.attempt_number, error)
                tell(observer, event)

        trying = tenacity.AsyncRetrying(
            sleep=sleep,
            stop=tenacity.stop_after_attempt(retry.attempts),
            wait=pause_after,
            retry=tenacity.retry_if_exception(again),
            before_sleep=before_pause,
            reraise=True,
        )
        return await trying(body, run, *values)

    return retried


def _observed(step: Step, body: Body, observer: Observer) -> Body:
    async def observed(run: Run, *values: object) -> object:
        tell(observer, Event("step_started", run.run_id, step.name, step.key, attempt=run.attempt))
        begun = time.perf_counter()
        try:
            value = await body(run, *values)
        except BaseException as error:
            took = time.perf_counter() - begun
            tell(observer, Event("failed", run.run_id, step.name, step.key, took, error=error))
            raise
        tell(observer, Event("computed", run.run_id, step.name, step.key, time.perf_counter() - begun))
        return value

    return observed
