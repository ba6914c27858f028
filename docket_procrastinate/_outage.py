"""Sends a statement through a pool, and again while the server is away."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg
from procrastinate import exceptions

from docket_procrastinate._backoff import Backoff
from docket_procrastinate._defer import AsyncpgConnection
from docket_procrastinate._failures import DATABASE_ERRORS, LOST, REFUSED, UNREACHABLE, Interrupted
from docket_procrastinate._source import AsyncpgPool

_T = TypeVar("_T")
_Run = Callable[[AsyncpgConnection], Awaitable[_T]]

_log = logging.getLogger("docket_procrastinate")

# Seconds. Short, since a statement that waits is a job that waits. Our choice.
_LONGEST_PAUSE = 2.0


class Outages:
    """A pool, the event loop it belongs to, and the patience to ride out its server's outages.

    Args:
        pool: Where connections come from; not closed here.
        budget: Seconds for which one statement keeps trying.
    """

    def __init__(self, pool: AsyncpgPool, budget: float) -> None:
        self.pool = pool
        self.loop = asyncio.get_running_loop()
        self._budget = budget

    async def ride_out(self, name: str, run: _Run[_T], repeated: _Run[_T] | None, *, patient: bool) -> _T:
        """Call *run* with a connection until the server answers, and return what it returns.

        Args:
            name: What is being sent, for people.
            run: Sends the statement, once.
            repeated: Sends it when an earlier try may have taken effect. None if that must not happen.
            patient: False to try once only.

        Raises:
            procrastinate.exceptions.ConnectorException: The server was away for the whole budget, or an answer was lost
                and there is no *repeated*. The database's error is the ``__cause__``.
        """
        give_up = self.loop.time() + (self._budget if patient else 0.0)
        backoff = Backoff(_LONGEST_PAUSE)
        may_have_happened = False
        while True:
            try:
                return await self._once(repeated if may_have_happened and repeated else run)
            except Interrupted as interrupted:
                failure = interrupted.__cause__
                may_have_happened = may_have_happened or interrupted.may_have_happened
            if may_have_happened and repeated is None:
                raise exceptions.ConnectorException(
                    f"The answer to {name} was lost ({failure!r}). It may or may not have taken effect, and sending it "
                    "again could do it twice. Look at procrastinate_jobs before repeating it."
                ) from failure
            pause = backoff.pause()
            if self.loop.time() + pause > give_up:
                waited = f"for {self._budget:g} s" if patient else "just now"
                raise exceptions.ConnectorException(
                    f"The database could not be reached {waited}, sending {name}: {failure!r}"
                ) from failure
            _log.warning("Sending %s again in %.2f s: %r", name, pause, failure)
            await asyncio.sleep(pause)

    async def _once(self, run: _Run[_T]) -> _T:
        try:
            connection = await self.pool.acquire()
        except UNREACHABLE as error:
            raise Interrupted(may_have_happened=False) from error
        try:
            return await run(connection)
        except REFUSED as error:
            # A demoted primary goes on refusing; the next connection may find the new one.
            _drop(connection)
            raise Interrupted(may_have_happened=False) from error
        except LOST as error:
            _drop(connection)
            raise Interrupted(may_have_happened=True) from error
        except asyncpg.InterfaceError as error:
            # Also asyncpg's error for wrong arguments; a lost connection is told by its being closed.
            if not _is_gone(connection):
                raise
            raise Interrupted(may_have_happened=True) from error
        finally:
            # A pool that resets its connections may fail to; asyncpg drops the connection, and the answer is here.
            with contextlib.suppress(*DATABASE_ERRORS):
                await self.pool.release(connection)


def _drop(connection: AsyncpgConnection) -> None:
    """Close *connection* at once, so that the pool lends it to nobody else; it may have been taken back already."""
    with contextlib.suppress(asyncpg.InterfaceError):
        connection.terminate()


def _is_gone(connection: AsyncpgConnection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # A pool takes a connection back the moment it closes; from then on asyncpg refuses to be asked.
        return True
