"""One asyncpg pool, opened on first use, and statements whose outcome is always known in the end.

An answer can be lost on its way: the server restarts, a connection breaks after COMMIT was sent, a pool fails while it takes a
connection back. Every statement sent through here may be sent twice, so a lost answer is answered by asking again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import asyncpg

from docket._certify.writing import begin
from docket.errors import ConfigurationError

T = TypeVar("T")

_log = logging.getLogger("docket")

Record: TypeAlias = "asyncpg.Record"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
PoolLender: TypeAlias = Callable[[], Awaitable[Pool]]

COMMAND_TIMEOUT = 30.0
"""Seconds for one of our statements. They are all by primary key; without a limit a black hole on the network would hang a run
for ever (asyncpg sets none)."""

CONNECTIONS = 10
"""Most connections of a pool that is opened here, as asyncpg has it by default."""

LINGER = 0.05
"""Seconds that a connection stays at hand after a statement before it goes back to its pool. The way into the pool and out
again costs asyncpg a task and two turns of the loop, 80 us or a tenth of a run, and the next statement mostly comes sooner.
Short enough that the pool's own rules for idle connections hold."""

# What the server says no to for good; anything else, including errors of the client library, leaves the outcome open.
# asyncpg's InternalClientError can be raised by the release of a connection, after the answer had come.
_PASSING = ("08", "25006", "40", "53", "55P03", "57", "58")

# A value that cannot be stored: data exceptions, constraints, and JSON that is too deep or too large for jsonb.
_BAD_VALUE = ("22", "23", "54")

_POOLED = ("26000", "42P05")


# What DISCARD ALL does (PostgreSQL manual), without the prepared statements, which the client remembers.
_CLEAN = """SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; CLOSE ALL; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES;
SELECT pg_advisory_unlock_all()"""


def is_definite(error: BaseException) -> bool:
    """Whether *error* says for certain that the statement had no effect and never will have if it is repeated."""
    if isinstance(error, ConfigurationError):
        return True
    if not isinstance(error, asyncpg.PostgresError):
        return False
    state = getattr(error, "sqlstate", None) or ""
    return bool(state) and not state.startswith(_PASSING)


def is_bad_value(error: Exception) -> bool:
    """Whether *error* is about one row's values, so that the rows it travelled with may be sent without it."""
    state = getattr(error, "sqlstate", None) or ""
    return isinstance(error, asyncpg.PostgresError) and state.startswith(_BAD_VALUE)


async def _no_reset(connection: Any) -> None:
    """Send nothing when a connection goes back to the pool.

    asyncpg's own reset is a round trip for each release and halves the throughput; our statements leave no session state, and
    what a step's leave is undone before.
    """


class Database:
    """A pool, in the loop that it is first used in.

    Args:
        source: A DSN; or a pool of the caller's, or an async function that returns one, which is never closed here.
        options: For `asyncpg.create_pool`, when *source* is a DSN.
    """

    def __init__(self, source: str | Pool | PoolLender, options: dict[str, Any]) -> None:
        self._process = 0
        self._dsn = ""
        self._given: Pool | None = None
        self._lender: PoolLender | None = None
        if isinstance(source, str):
            self._dsn = source
        else:
            if callable(source):
                self._lender = source
            else:
                self._given, self._process = source, os.getpid()
            if options:
                raise ConfigurationError(
                    f"pool options ({', '.join(options)}) were passed together with a pool; set them where the pool is made"
                )
        self._options: dict[str, Any] = {
            "min_size": 0, "max_size": CONNECTIONS, "command_timeout": COMMAND_TIMEOUT, "reset": _no_reset, **options,
        }  # fmt: skip
        self._opened: Pool | None = None
        self._opening: asyncio.Lock | None = None
        # Only in a pool of our own, and not past what its user wants done at each return.
        self._lingers = bool(self._dsn) and not {"setup", "reset"} & options.keys()
        # A pool that is given, or has a reset of its own, is cleaned as its owner wants it.
        self._cleans = bool(self._dsn) and "reset" not in options
        self._at_hand: list[Any] = []
        self._wanting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Task[None]] = set()

    async def pool(self) -> Pool:
        """Return the pool, opened in the running loop.

        Raises:
            ConfigurationError: It belongs to another process, or was given and has been closed.
            OSError | asyncpg.PostgresError: The server cannot be reached or refuses, with a note on what to check.
        """
        pool = self._given or self._opened
        if pool is not None:
            if self._process != os.getpid():
                raise ConfigurationError(
                    f"this pool was opened by process {self._process} and is used by process {os.getpid()}: a forked child "
                    "must not use its parent's connections; construct the cache after the fork"
                )
            return pool
        if self._opening is None:
            self._opening = asyncio.Lock()
        async with self._opening:
            pool = self._given or self._opened
            if pool is None:
                self._process = os.getpid()
                if self._lender is not None:
                    pool = self._given = await self._lender()
                else:
                    pool = self._opened = await self._open()
        return pool

    @property
    def reached(self) -> bool:
        """Whether the server has answered before: an outage is ridden out, a wrong address is told at once."""
        return self._given is not None or self._opened is not None

    async def fetch(self, sql: str, *args: object) -> list[Record]:
        """Run one statement once and return its rows."""
        pool = await self.pool()
        connection = await self._acquired(pool)
        try:
            rows: list[Record] = await connection.fetch(sql, *args)
        except BaseException as error:
            if isinstance(error, asyncpg.PostgresError) and error.sqlstate in _POOLED:
                error.add_note("docket: behind a transaction pooler older than PgBouncer 1.21, pass statement_cache_size=0")
            await self._returned(pool, connection)
            raise
        if self._lingers and not self._wanting and pool is self._opened:
            self._at_hand.append(connection)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(LINGER, self._give_back, pool)
        else:
            await self._returned(pool, connection)
        return rows

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Any]:
        """Lend one connection to a step, outside any transaction.

        What the step has changed of its session is undone before the connection goes back to a pool of ours; nobody waits.
        """
        pool = await self.pool()
        connection = await self._acquired(pool)
        try:
            yield connection
        finally:
            if self._cleans:
                self._later(self._cleaned(pool, connection))
            else:
                await self._returned(pool, connection)

    async def close(self) -> None:
        """Close the pool if it is ours, as `close_pool` does; it opens again on the next use."""
        pool, self._opened = self._opened, None  # first: from here on no connection is kept at hand
        if self._lender is not None:
            self._given = None
        if pool is not None:
            self._give_back(pool)
        if self._returning:
            await asyncio.wait(self._returning)
        if pool is not None and self._process == os.getpid():
            await close_pool(pool)

    async def _acquired(self, pool: Pool) -> Any:
        while self._at_hand:
            connection = self._at_hand.pop()
            if not connection.is_closed():
                return connection
            await self._returned(pool, connection)
        self._wanting += 1
        try:
            # Ours never runs out: no more statements are under way than it has connections. A given one is shared.
            connection = await (pool.acquire() if self._given is None else pool.acquire(timeout=COMMAND_TIMEOUT))
        except asyncpg.InterfaceError as error:
            if self._given is not None and pool.is_closing():
                raise ConfigurationError(
                    "the pool given to PostgresCache has been closed; close it after the last run, or pass a DSN"
                ) from error
            raise
        finally:
            self._wanting -= 1
        if self._given is not None and connection.is_in_transaction():
            await self._returned(pool, connection)
            raise ConfigurationError(
                "the pool given to PostgresCache hands out connections inside a transaction; what must outlive the caller's "
                "rollback cannot be written there"
            )
        return connection

    def _give_back(self, pool: Pool) -> None:
        """Return what is at hand to its *pool*, without waiting for it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._at_hand:
            self._later(self._returned(pool, self._at_hand.pop()))

    def _later(self, returns: Coroutine[Any, Any, None]) -> None:
        returning = begin(returns, "docket connection")
        self._returning.add(returning)
        returning.add_done_callback(self._returning.discard)

    async def _cleaned(self, pool: Pool, connection: Any) -> None:
        """Undo what a step has changed of its session, and return the connection to its *pool*; end it if that fails."""
        try:
            if not connection.is_closed():
                await connection.execute(_CLEAN)
                if (init := self._options.get("init")) is not None:
                    await init(connection)
        except Exception:
            connection.terminate()
        await self._returned(pool, connection)

    @staticmethod
    async def _returned(pool: Pool, connection: Any) -> None:
        # An answer that has come must not be taken away by the connection's return, nor by its being cancelled.
        try:
            await pool.release(connection)
        except Exception:
            connection.terminate()
        except asyncio.CancelledError:
            connection.terminate()
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise

    async def _open(self) -> Pool:
        pool: Pool = asyncpg.create_pool(self._dsn, **self._options)
        try:
            await pool
            async with pool.acquire():
                pass
        except (OSError, asyncpg.PostgresError) as error:
            pool.terminate()
            error.add_note(
                f"docket: the database at {_public(self._dsn)} cannot be used; start it, or mend the DSN given to "
                "PostgresCache (nothing has run)"
            )
            raise
        return pool


async def close_pool(pool: Pool, within: float = COMMAND_TIMEOUT) -> None:
    """Close a pool when its statements have ended; cut off what has not come back *within* seconds.

    asyncpg waits without limit: for a connection that nobody returns, and for a server that does not answer the goodbye.
    """
    try:
        async with asyncio.timeout(within):
            await pool.close()
    except TimeoutError:
        # asyncpg has terminated the pool when its close() was cancelled.
        _log.warning("connections were not given back within %g s of closing their pool and have been cut off", within)


async def until_known(attempt: Callable[[], Awaitable[T]], patience: float, error: BaseException) -> T:
    """Repeat *attempt*, which failed and may be repeated, until its outcome is known.

    Args:
        attempt: Sends a statement that changes nothing when it is sent again.
        patience: Seconds after which the last error is raised, whatever it left open.
        error: What it raised the first time.
    """
    end = time.monotonic() + patience
    wait = 0.02
    while True:
        if _is_final(error) or time.monotonic() + wait > end:
            raise error
        await asyncio.sleep(wait * (0.5 + random.random()))  # noqa: S311 - spreads retries, hides nothing
        wait = min(wait * 2, 1.0)
        try:
            return await attempt()
        except (Exception, asyncio.CancelledError) as again:
            error = again


def _is_final(error: BaseException) -> bool:
    if isinstance(error, asyncio.CancelledError):
        # Unless it is not for this task: the end of the loop cancels what is inside the driver.
        task = asyncio.current_task()
        return task is None or task.cancelling() > 0
    return is_definite(error)


def _public(dsn: str) -> str:
    """Return a DSN without its password."""
    head, at, tail = dsn.rpartition("@")
    if not at:
        return dsn
    scheme, colon, user = head.rpartition("//")
    return f"{scheme}{colon}{user.partition(':')[0]}@{tail}"
