"""Where a connector's connections come from: a pool of its own, or one it borrows; and one for LISTEN."""

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeAlias

import asyncpg

from docket_procrastinate._defer import AsyncpgConnection

AsyncpgPool: TypeAlias = asyncpg.Pool
PoolLender: TypeAlias = Callable[[], Awaitable[AsyncpgPool]]

_log = logging.getLogger("docket_procrastinate")

# Seconds to reach the server for one connection. asyncpg's own default is a minute; a server that is there answers.
_CONNECT_TIMEOUT = 10.0

# What asyncpg.create_pool takes and asyncpg.connect does not (its reference, "Connection Pools").
_POOL_ONLY = frozenset(
    {
        "connect",
        "init",
        "init_size",
        "max_inactive_connection_lifetime",
        "max_queries",
        "max_size",
        "min_size",
        "reset",
        "setup",
    }
)


class Source:
    """Gives a connector its pool and its LISTEN connection.

    Args:
        dsn: Where to connect. None to take everything from the lent pool.
        lender: A pool, or an async callable that returns one. None for a pool of the connector's own.
        options: For ``asyncpg.create_pool``; those that are about connections hold for the LISTEN connection too.
        command_timeout: Seconds, for an own pool.

    Raises:
        TypeError: Neither *dsn* nor *lender* is given, or *options* for a pool that is lent.
    """

    def __init__(
        self, dsn: str | None, lender: AsyncpgPool | PoolLender | None, options: dict[str, Any], command_timeout: float
    ) -> None:
        if dsn is None and lender is None:
            raise TypeError("AsyncpgConnector needs a dsn= to connect to or a pool= to share.")
        if lender is not None and options:
            raise TypeError(
                f"pool= is given, so {', '.join(sorted(options))} would have no effect: set it where that pool is made."
            )
        self.dsn = dsn
        self._lender = lender
        self._options: dict[str, Any] = {
            "min_size": 0,
            "command_timeout": command_timeout,
            "timeout": _CONNECT_TIMEOUT,
            "reset": _keep_session,
            **options,
        }

    async def borrow(self) -> AsyncpgPool | None:
        """Return the pool that is lent, None if the connector is to make its own."""
        lender = self._lender
        return await lender() if callable(lender) else lender

    async def create(self) -> AsyncpgPool:
        """Make a pool that sends its user's statements only. It connects with the first, unless *min_size* is set."""
        return await asyncpg.create_pool(self.dsn, **self._options)

    def can_listen(self, pool: AsyncpgPool) -> bool:
        """Tell whether LISTEN would leave a connection to work with."""
        return self.dsn is not None or pool.get_max_size() > 1

    @contextlib.asynccontextmanager
    async def listening(self, pool: AsyncpgPool) -> AsyncGenerator[AsyncpgConnection]:
        """Give a connection to LISTEN on: one of its own if there is a *dsn*, else one held from *pool*.

        The caller ends it by ``terminate()``, so that no session goes back to a pool listening.
        """
        if self.dsn is None:
            async with pool.acquire() as lent:
                yield lent
            return
        connect = self._options.get("connect") or asyncpg.connect
        options = {name: value for name, value in self._options.items() if name not in _POOL_ONLY}
        yield await connect(self.dsn, **options)


async def _keep_session(_connection: AsyncpgConnection) -> None:
    """Send nothing: no statement here leaves a trace in its session, and a reset is a round trip."""
