"""A Procrastinate connector over asyncpg: one round trip a statement, one pool for everything, outages ridden out."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import asyncpg
from procrastinate import exceptions, sql, sync_psycopg_connector, utils
from procrastinate.connector import BaseAsyncConnector, BaseConnector, Notify
from procrastinate.types import JobToDefer

from docket.postgres.connection import close_pool
from docket_procrastinate._defer import AsyncpgConnection, insert_jobs, require_asyncpg
from docket_procrastinate._failures import procrastinate_errors
from docket_procrastinate._foreign import foreign_rows
from docket_procrastinate._listen import listen_for_ever
from docket_procrastinate._outage import Outages
from docket_procrastinate._repeat import HandedOut, Repeat, fenced, is_known, is_long, lost_fetch, name_of, rule_for
from docket_procrastinate._source import AsyncpgPool, PoolLender, Source
from docket_procrastinate._sync import ThreadBridge
from docket_procrastinate._translate import JsonDumps, JsonLoads, as_row, bind, inputs_unlogged

_T = TypeVar("_T")
_Rows = list[dict[str, Any]]

_log = logging.getLogger("docket_procrastinate")

# Seconds. No statement may take so long but clean-ups over whole tables; still bounded, so that nothing hangs for ever.
_LONG_STATEMENT = 3600.0


class AsyncpgConnector(BaseAsyncConnector):
    """Connects a Procrastinate app to PostgreSQL through asyncpg.

    A job costs three round trips (enqueue, fetch, finish), a connection is never held between statements, and an
    outage shorter than *outage_budget* goes unnoticed but for a warning in the log. What is sent again after an
    answer was lost, and why that is safe, is told in ``docs/howto/asyncpg_connector.md``.

    Bound to the event loop it was opened in until it is closed; it may then be opened again, in another loop.

    Args:
        dsn: Where to connect, for the pool unless one is given, for LISTEN, and for synchronous calls before the app is
            open. Without it LISTEN holds one connection of the pool.
        pool: A pool to share, or an async callable that returns one, called at each opening. Never closed here.
        json_dumps: Job arguments to JSON text; ``json.dumps`` by default.
        json_loads: JSON text to job arguments; ``json.loads`` by default.
        outage_budget: Seconds for which a statement keeps trying while the server is away. 0 to fail at once.
        command_timeout: Seconds a statement may take, on a shared pool too; clean-ups and the schema may take an hour.
        pool_options: For ``asyncpg.create_pool``, for a pool of the connector's own.

    Raises:
        TypeError: Neither *dsn* nor *pool* is given, or both *pool* and *pool_options*.
    """

    def __init__(
        self,
        dsn: str | None = None,
        *,
        pool: AsyncpgPool | PoolLender | None = None,
        json_dumps: JsonDumps | None = None,
        json_loads: JsonLoads | None = None,
        outage_budget: float = 60.0,
        command_timeout: float = 30.0,
        **pool_options: Any,
    ) -> None:
        self.json_dumps = json_dumps
        self.json_loads = json_loads
        self._dumps: JsonDumps = json_dumps or json.dumps
        self._loads: JsonLoads = json_loads or json.loads
        self._source = Source(dsn, pool, pool_options, command_timeout)
        self._outage_budget = outage_budget
        self._command_timeout = command_timeout
        self._outages: Outages | None = None
        self._owns_pool = False
        self._handed_out = HandedOut()
        self._heard = 0
        self._sync_connector: BaseConnector | None = None

    @property
    def pool(self) -> AsyncpgPool:
        """The pool in use.

        Raises:
            procrastinate.exceptions.AppNotOpen: The connector is not open.
        """
        return self._opened().pool

    async def open_async(self, pool: AsyncpgPool | None = None) -> None:
        """Open the connector in the running event loop: make the pool, borrow it, or take *pool* instead.

        A pool of its own connects with the first statement, so that a worker may start before its database. Does
        nothing if the connector is open in this loop already.

        Raises:
            procrastinate.exceptions.ConnectorException: It is open in another loop, which still runs; or a *min_size*
                was asked for and the database refused.
        """
        if self._outages is not None and not self._outages.loop.is_closed():
            self._opened()
            return
        if self._sync_connector is not None:
            await utils.sync_to_async(self._sync_connector.close)
            self._sync_connector = None
        with procrastinate_errors():
            lent = pool if pool is not None else await self._source.borrow()
            self._owns_pool = lent is None
            self._outages = Outages(await self._source.create() if lent is None else lent, self._outage_budget)

    async def close_async(self) -> None:
        """Close the pool if it is the connector's own, once its statements have ended. May be called twice.

        What has not ended after *command_timeout* seconds is cut off.
        """
        outages, self._outages = self._outages, None
        if outages is not None and self._owns_pool and not outages.loop.is_closed():
            with procrastinate_errors():
                await close_pool(outages.pool, self._command_timeout)

    def get_sync_connector(self) -> BaseConnector:
        """Return what serves synchronous calls: this connector's loop if it is open, else psycopg on the *dsn*.

        Raises:
            procrastinate.exceptions.SyncConnectorConfigurationError: Not open, and no *dsn* was given.
        """
        if self._outages is not None:
            return ThreadBridge(self, self._outages.loop)
        if self._source.dsn is None:
            raise exceptions.SyncConnectorConfigurationError(
                "A synchronous call was made before the app was opened (app.open_async), and the connector has only a "
                "pool to share. Open the app first, or give the connector a dsn= as well."
            )
        if self._sync_connector is None:
            self._sync_connector = sync_psycopg_connector.SyncPsycopgConnector(
                conninfo=self._source.dsn, json_dumps=self._dumps, json_loads=self._loads
            )
        return self._sync_connector

    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        """Run a statement for its effect. Without arguments *query* may hold several statements, such as the schema.

        Raises:
            procrastinate.exceptions.ConnectorException: As the database raised it, or it was away for too long.
        """
        if arguments:
            await self.execute_query_all_async(query, **arguments)
            return

        async def run(connection: AsyncpgConnection) -> None:
            await connection.execute(bind(query, {}, self._dumps)[0], timeout=self._timeout(query))

        await self._send(query, run)

    async def execute_query_one_async(self, query: str, **arguments: Any) -> dict[str, Any]:
        """Run a statement and return its first row by column name.

        Raises:
            procrastinate.exceptions.NoResult: It returned no row.
            procrastinate.exceptions.ConnectorException: As the database raised it, or it was away for too long.
        """
        return _first(await self.execute_query_all_async(query, **arguments))

    async def execute_query_all_async(self, query: str, **arguments: Any) -> _Rows:
        """Run a statement and return its rows by column name, in order.

        Raises:
            procrastinate.exceptions.ConnectorException: As the database raised it, or it was away for too long.
        """
        match rule_for(query):
            case Repeat.LOCKED:
                return await self._defer(query, arguments["jobs"])
            case Repeat.LOOK_FIRST:
                return await self._fetch_job(query, arguments)
            case Repeat.FENCED:
                return await self._end_job(query, arguments)
            case _:
                rows = await self._send(query, lambda connection: self._any_rows(connection, query, arguments))
        if query == sql.queries["unregister_worker"]:
            self._handed_out.left(arguments["worker_id"])
        return rows

    async def execute_query_one_async_with_connection(
        self, connection: AsyncpgConnection, query: str, **arguments: Any
    ) -> dict[str, Any]:
        """Run a statement on the caller's *connection* and return its first row.

        Raises:
            procrastinate.exceptions.NoResult: It returned no row.
            procrastinate.exceptions.ConnectorException: As the database raised it. Nothing is sent again.
            TypeError: *connection* is not asyncpg's.
        """
        return _first(await self.execute_query_all_async_with_connection(connection, query, **arguments))

    async def execute_query_all_async_with_connection(
        self, connection: AsyncpgConnection, query: str, **arguments: Any
    ) -> _Rows:
        """Run a statement on the caller's *connection*, in its transaction if one is open, and return the rows.

        Enqueueing stands in a savepoint as `defer_on_asyncpg` describes. Nothing is sent again: the transaction is
        the caller's to repeat.

        Raises:
            procrastinate.exceptions.ConnectorException: As the database raised it.
            TypeError: *connection* is not asyncpg's.
        """
        require_asyncpg(connection)
        with procrastinate_errors():
            if rule_for(query) is Repeat.LOCKED:
                return _ids(await insert_jobs(connection, arguments["jobs"], self._dumps, self._timeout(query)))
            return await self._any_rows(connection, query, arguments)

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Pass notifications to *on_notification* until cancelled, reconnecting for as long as it takes.

        On a connection of its own, or held from a pool that is shared without a *dsn*. Returns at once, with a warning,
        if that pool has no connection to spare; jobs are then found by polling.
        """
        pool = self.pool
        if not self._source.can_listen(pool):
            _log.warning("The pool has one connection and no dsn= was given: not listening, jobs are only polled for.")
            return

        async def hear(*, channel: str, payload: str) -> None:
            self._heard += 1
            await on_notification(channel=channel, payload=payload)

        await listen_for_ever(lambda: self._source.listening(pool), channels, hear)

    async def _defer(self, query: str, jobs: list[JobToDefer]) -> _Rows:
        locked = all(job.queueing_lock is not None for job in jobs)

        async def run(connection: AsyncpgConnection) -> _Rows:
            return _ids(await insert_jobs(connection, jobs, self._dumps, self._timeout(query)))

        return await self._send(query, run, repeated=run if locked else None)

    async def _fetch_job(self, query: str, arguments: dict[str, Any]) -> _Rows:
        worker_id: int = arguments["worker_id"]

        async def look_first(connection: AsyncpgConnection) -> _Rows:
            self._handed_out.doubt(worker_id)
            return await run(connection)

        async def run(connection: AsyncpgConnection) -> _Rows:
            if self._handed_out.in_doubt(worker_id):
                known = self._handed_out.known(worker_id)
                lost = await self._rows(connection, lost_fetch(query), {"worker_id": worker_id, "known": known})
                if lost:
                    return lost
            return await self._rows(connection, query, arguments)

        while True:
            heard = self._heard
            rows = await self._send(query, run, repeated=look_first)
            # Procrastinate's worker forgets a notification that comes while it fetches, since it takes the answer to be
            # the newer of the two. It may be the older: a job announced meanwhile would wait for the next poll.
            if heard == self._heard or any(row["id"] is not None for row in rows):
                break
        for row in rows:
            self._handed_out.note(row, worker_id)
            inputs_unlogged(row)
        return rows

    async def _end_job(self, query: str, arguments: dict[str, Any]) -> _Rows:
        job_id: int = arguments["job_id"]
        attempts = self._handed_out.attempts(job_id)

        async def run(connection: AsyncpgConnection) -> _Rows:
            return await self._rows(connection, query, arguments)

        async def again(connection: AsyncpgConnection) -> _Rows:
            # Procrastinate's function raises if the job left ``doing`` under it: the first try took effect after all.
            with contextlib.suppress(asyncpg.RaiseError):
                await self._rows(connection, fenced(query), {**arguments, "attempts": attempts})
            return []

        rows = await self._send(query, run, repeated=None if attempts is None else again)
        self._handed_out.ended(job_id)
        return rows

    async def _send(
        self,
        query: str,
        run: Callable[[AsyncpgConnection], Awaitable[_T]],
        *,
        repeated: Callable[[AsyncpgConnection], Awaitable[_T]] | None = None,
    ) -> _T:
        rule = rule_for(query)
        if rule in (Repeat.ALWAYS, Repeat.AT_ONCE):
            repeated = run
        outages = self._opened()
        with procrastinate_errors():
            return await outages.ride_out(name_of(query), run, repeated, patient=rule is not Repeat.AT_ONCE)

    async def _any_rows(self, connection: AsyncpgConnection, query: str, arguments: dict[str, Any]) -> _Rows:
        if is_known(query):
            return await self._rows(connection, query, arguments)
        return await foreign_rows(connection, query, arguments, self._dumps, self._loads, self._timeout(query))

    async def _rows(self, connection: AsyncpgConnection, query: str, arguments: dict[str, Any]) -> _Rows:
        text, values = bind(query, arguments, self._dumps)
        records = await connection.fetch(text, *values, timeout=self._timeout(query))
        return [as_row(record.items(), self._loads) for record in records]

    def _timeout(self, query: str) -> float:
        return _LONG_STATEMENT if is_long(query) else self._command_timeout

    def _opened(self) -> Outages:
        if self._outages is None:
            raise exceptions.AppNotOpen
        if self._outages.loop is not asyncio.get_running_loop():
            raise exceptions.ConnectorException(
                "The connector was opened in another event loop (or before a fork), and its pool belongs to that one. "
                "Close it there, or give this loop an app and connector of its own."
            )
        return self._outages


def _ids(ids: list[int]) -> _Rows:
    return [{"id": job_id} for job_id in ids]


def _first(rows: _Rows) -> dict[str, Any]:
    if not rows:
        raise exceptions.NoResult
    return rows[0]
