"""Writes that are finished, whatever is cancelled meanwhile.

A write that is cancelled usually commits all the same, so its author must not walk away from it. Two things cancel here and
neither stops the other: a native ``Task.cancel()``, which anyio's shield lets through, and an anyio scope, which cancels
again at every await. `asyncio.shield` would leave an orphan that the end of the loop kills.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class WriteTask(asyncio.Task[T]):
    """A task that cannot be cancelled, only waited for.

    `asyncio.run` cancels every task that is left and then waits for them all; this one goes on, and is waited for.
    """

    def cancel(self, msg: Any | None = None) -> bool:  # noqa: ARG002 - the signature is asyncio's
        """Do nothing, and say so."""
        return False


def begin(write: Coroutine[Any, Any, T], name: str) -> WriteTask[T]:
    """Start *write* in a task of its own. Whoever starts it holds it: a loop does not."""
    return WriteTask(write, loop=asyncio.get_running_loop(), name=name)


async def finished(write: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await a write; if this task is cancelled meanwhile, make it again to its end and let the cancellation go on then.

    That costs nothing as long as nobody cancels. It rests on the promise of `docket.cache.Cache` that a repeated write finds
    its own nonce.

    Raises:
        asyncio.CancelledError: This task was cancelled. The write is made; a failure of it is in a note.
    """
    try:
        return await write()
    except asyncio.CancelledError as error:
        await made_again(error, write())
        raise


async def made_again(cancelled: asyncio.CancelledError, write: Coroutine[Any, Any, object]) -> None:
    """Make a write again to its end, because the first time it was *cancelled*. A failure of it is in a note."""
    again = begin(write, "docket write")
    await ended(again)
    if (failure := again.exception()) is not None:
        cancelled.add_note(f"docket: while this was being cancelled, a write failed: {failure!r}")


async def ended(task: asyncio.Task[Any]) -> None:
    """Wait until *task* has ended, however often and by whomever this is cancelled."""
    import anyio

    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait((task,))
            except asyncio.CancelledError:
                continue
