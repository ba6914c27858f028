"""LISTEN for as long as the worker lives, whatever happens to the connection."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg
from procrastinate.connector import LISTEN_TIMEOUT, Notify

from docket_procrastinate._backoff import Backoff
from docket_procrastinate._defer import AsyncpgConnection
from docket_procrastinate._failures import DATABASE_ERRORS

_log = logging.getLogger("docket_procrastinate")

# Procrastinate's own format for "a job was inserted". No job has id 0; the worker only wakes and looks.
_WAKE = '{"type": "job_inserted", "job_id": 0}'

# Seconds. The silence after which the connection is tried, as in Procrastinate's psycopg connector, and how long the
# answer may take: a connection cut without a goodbye (a firewall, a failed host) is noticed after their sum.
_SILENCE = LISTEN_TIMEOUT
_ANSWER = 5.0

# Seconds; polling covers the gap meanwhile. Our choice.
_LONGEST_PAUSE = 10.0

_Inbox = asyncio.Queue[tuple[str, str] | None]
Connect = Callable[[], AbstractAsyncContextManager[AsyncpgConnection]]


async def listen_for_ever(connect: Connect, channels: Iterable[str], on_notification: Notify) -> None:
    """Pass each notification on *channels* to *on_notification*, until cancelled.

    A lost connection is made again for as long as it takes. What was sent in between is lost by its nature, so after
    every reconnection *on_notification* is told once that a job arrived: the worker looks at once, not when it polls.

    Args:
        connect: Gives a connection that nobody else uses, and takes it back.
        channels: The names to LISTEN on; at least one.
        on_notification: As Procrastinate defines it. What it raises ends the listening, unless it is a database error.
    """
    names = list(channels)
    backoff = Backoff(_LONGEST_PAUSE)
    missed_some = False
    while True:
        try:
            async with connect() as connection, _listening(connection, names) as inbox:
                backoff.reset()
                if missed_some:
                    await on_notification(channel=names[0], payload=_WAKE)
                while (notification := await _next(connection, inbox)) is not None:
                    channel, payload = notification
                    await on_notification(channel=channel, payload=payload)
            failure: BaseException | str = "the connection was closed"
        except DATABASE_ERRORS as error:
            failure = error
        missed_some = True
        pause = backoff.pause()
        _log.warning("LISTEN was lost (%r); connecting again in %.2f s. Jobs are polled for meanwhile.", failure, pause)
        await asyncio.sleep(pause)


@contextlib.asynccontextmanager
async def _listening(connection: AsyncpgConnection, channels: list[str]) -> AsyncGenerator[_Inbox]:
    inbox = _Inbox()

    def received(_connection: Any, _pid: int, channel: str, payload: Any) -> None:
        inbox.put_nowait((channel, payload))

    def closed(_connection: Any) -> None:
        inbox.put_nowait(None)

    connection.add_termination_listener(closed)
    try:
        for channel in channels:
            await connection.add_listener(channel, received)
        yield inbox
    finally:
        # Never handed back to a pool: the session would go on listening for somebody else. asyncpg refuses to end one
        # that closed by itself.
        with contextlib.suppress(asyncpg.InterfaceError):
            connection.terminate()


async def _next(connection: AsyncpgConnection, inbox: _Inbox) -> tuple[str, str] | None:
    """Return the next notification, or None once the connection is closed."""
    while True:
        try:
            async with asyncio.timeout(_SILENCE):
                return await inbox.get()
        except TimeoutError:
            await connection.execute("SELECT 1", timeout=_ANSWER)
