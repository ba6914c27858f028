"""Bounds on a step's call: a limit on its time, and threads, which have limits of their own.

A limit can ask code to stop but cannot make it stop. A coroutine that swallows the request, and a thread, which cannot
even hear it, are given a grace period; what they return within it counts. After that the step has failed and the run
goes on without it: a thread left behind runs to its end, keeps its place among the threads, and its answer is dropped,
unless the step is kept at most once: then it ends the doubt.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from docket.errors import StepTimeout

T = TypeVar("T")

GRACE = 5.0
"""Seconds a cancelled step may take to end before it is reported and left behind. Our choice: half of the ten seconds
that ``docker stop`` gives a process by default, so that the other half is left to finish and certify."""

THREADS = 40
"""Threads that the steps of one Docket may take at once, as many as anyio and Starlette allow by default. They are its
own, so that steps do not starve what else runs in the loop's executor (name resolution does)."""

_begun: contextvars.ContextVar[asyncio.Future[None] | None] = contextvars.ContextVar("docket_begun", default=None)
"""What is to be told when the call that is made here has its thread."""

_log = logging.getLogger("docket")


async def bounded(
    call: Coroutine[Any, Any, T],
    seconds: float,
    grace: float,
    late: Callable[[], BaseException],
    name: str,
    gone: asyncio.Future[None] | None = None,
    begun: asyncio.Future[None] | None = None,
) -> T:
    """Await *call*, in a task of its own, for at most *seconds*.

    An answer that is there in the deadline's own tick is kept, and so is one that comes while the call is being
    stopped. Not `asyncio.timeout`, which would take the call's own TimeoutError for its own and lose such answers.

    Args:
        call: What to await.
        seconds: Its limit.
        grace: Seconds it may take to stop.
        late: Makes what is raised when the limit is passed.
        name: What it is, for the log.
        gone: Is the limit as well, as soon as it is done.
        begun: Is done when the call has its thread, and the time counts from then; at once if None.

    Raises:
        BaseException: What *call* raised, within its limit or when it was stopped; or what *late* made.
        asyncio.CancelledError: The caller was cancelled. The call was too, and has ended.
    """
    task = _started(call, begun)
    stopped = False
    try:
        if begun is not None:
            await asyncio.wait((task, begun), return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait((task, gone) if gone else (task,), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.sleep(0)
        if not task.done():
            stopped = task.cancel()
            await asyncio.wait((task,), timeout=grace)
    except asyncio.CancelledError:
        if not stopped:
            task.cancel()
        await _ended(task)
        raise
    if not task.done():
        limit = f"its timeout of {seconds:g} s" if gone is None or not gone.done() else "the end of its run"
        _log.error("%s still runs %g s after %s, and was left behind", name, grace, limit)
        raise _left_behind(task, late())
    if stopped and task.cancelled():
        raise late()
    return task.result()


def _started(call: Coroutine[Any, Any, T], begun: asyncio.Future[None] | None) -> asyncio.Future[T]:
    waited = _begun.set(begun)
    try:
        return asyncio.ensure_future(call)
    finally:
        _begun.reset(waited)


def _left_behind(task: asyncio.Future[Any], error: BaseException) -> BaseException:
    task.add_done_callback(_drop)
    if isinstance(error, StepTimeout):
        error.unfinished = task
    return error


async def _ended(task: asyncio.Future[Any]) -> None:
    """Wait until *task* is done, however often that is cancelled. Whoever waits for this has a limit."""
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:
            continue
    _drop(task)


def _drop(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()  # or Python would report it as never retrieved


class Threads:
    """The threads that the plain functions among the steps run in. Made when the first one is called.

    Args:
        most: How many at once; further calls wait for their turn.
    """

    __slots__ = ("_most", "_pool")

    def __init__(self, most: int = THREADS) -> None:
        self._most = most
        self._pool: ThreadPoolExecutor | None = None

    async def call(self, fn: Callable[..., T], values: Sequence[object]) -> T:
        """Call *fn* in a thread, with the context variables of the caller.

        Cancelled while it waits for its turn, it does not begin. Once begun it cannot be stopped: this waits for it all
        the same and returns what it returns, so a cancelled caller who should not wait needs a limit (see `bounded`).
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._most, "docket step")
        # Not anyio.to_thread: under a native Task.cancel() it gives the place away while the thread still runs.
        begins = functools.partial(_tell, asyncio.get_running_loop(), begun) if (begun := _begun.get()) is not None else None
        call = self._pool.submit(contextvars.copy_context().run, _sheltered, fn, values, begins)
        answer = asyncio.wrap_future(call)
        while not answer.done():
            try:
                await asyncio.wait((answer,))
            except asyncio.CancelledError:
                if call.cancel():
                    raise
        return answer.result()

    def close(self) -> None:
        """Let idle threads end. Those at work end with it; the next call makes new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


def _sheltered(fn: Callable[..., T], values: Sequence[object], begins: Callable[[], object] | None) -> T:
    if begins is not None:
        begins()
    try:
        return fn(*values)
    except StopIteration as error:  # no future can hold one; PEP 479 turns it into the same in a coroutine
        raise RuntimeError("a step raised StopIteration") from error


def _tell(loop: asyncio.AbstractEventLoop, begun: asyncio.Future[None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits any more
        loop.call_soon_threadsafe(_set, begun)


def _set(begun: asyncio.Future[None]) -> None:
    if not begun.done():
        begun.set_result(None)
