"""Certified results in PostgreSQL."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from docket._core.record import Record, Records
from docket._given import span
from docket.cache import Certificate, Claim, Held, Make, Move, Place, State
from docket.errors import ConfigurationError, SchemaMissing
from docket.postgres.connection import Pool, PoolLender, is_bad_value, until_known
from docket.postgres.line import Line
from docket.postgres.rows import columns, move_values
from docket.postgres.statements import statements
from docket.postgres.transaction import transact

A = TypeVar("A")

READ_PATIENCE = 5.0
"""Seconds for which a read is repeated when its answer is lost. Nothing has happened yet, so the caller is told soon."""

WRITE_PATIENCE = 60.0
"""Seconds for which a write is repeated when its answer is lost: an effect may already have happened, so this must outlast a
failover of the database (typically under a minute on managed PostgreSQL)."""

_OUTDATED = asyncpg.UndefinedColumnError
_NO_TABLES = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, _OUTDATED)


class PostgresCache:
    """Certified results in the user's PostgreSQL.

    Args:
        source: A DSN (``postgresql://...``), whose pool is opened on first use in the loop that is running then, so that one
            module serves a web process and a worker; or an asyncpg pool, or an async function that returns one and is called
            on first use. A pool that is given is never closed.
        schema: The schema that holds the tables of ``schema.sql``.
        patience: Seconds for which a write is repeated while its outcome is unknown.
        pool_options: Passed to `asyncpg.create_pool` when *source* is a DSN. Behind a transaction pooler older than
            PgBouncer 1.21, pass ``statement_cache_size=0``.

    Each method is one statement; those that concurrent runs send at the same time share one. Errors of the database pass
    through as asyncpg raises them once it is certain that repeating the statement cannot help.

    Raises:
        ConfigurationError: The schema's name is no plain identifier, or options were passed together with a pool.
    """

    def __init__(
        self, source: str | Pool | PoolLender, *, schema: str = "docket", patience: float = WRITE_PATIENCE, **pool_options: Any
    ) -> None:
        self._sql = statements(schema)
        self.schema, self._patience = schema, patience
        self._source, self._options = source, pool_options
        self._line = Line(source, pool_options, self._sql)
        self._loop: asyncio.AbstractEventLoop | None = None

    async def load(self, run_id: str, /) -> Records:
        """Return everything known about a run, in one read.

        Raises:
            SchemaMissing: The tables are not there.
        """
        line = self._here()
        try:
            return await line.loads(run_id)
        except (Exception, asyncio.CancelledError) as error:
            return await self._repeated(line, functools.partial(line.loads, run_id), READ_PATIENCE, error)

    async def states(self, places: Sequence[Place], /) -> Mapping[Place, State]:
        """Return the states of the results at *places*, by primary key, in one statement."""
        line = self._here()
        run_ids, keys = [place[0] for place in places], [place[1] for place in places]
        rows = await self._known(line, lambda: line.database.fetch(self._sql.states, run_ids, keys), READ_PATIENCE)
        return {(row["run_id"], row["key"]): row["state"] for row in rows}

    async def claim(self, claim: Claim, /) -> Record:
        """Claim a result if it may be claimed; return what stands. One statement, one more if it was not granted."""
        return await self._written(claim)

    async def certify(self, certificate: Certificate, /) -> Record:
        """Store a result unless one stands; return what stands. One statement, one more if it was not written."""
        return await self._written(certificate)

    async def move(self, move: Move, /) -> Record | None:
        """Change a row's state and write the journal, in one statement; then read what stands."""
        line = self._here()
        values = move_values(move)
        try:
            await self._known(line, lambda: line.database.fetch(self._sql.move, *values), self._patience)
        except asyncpg.PostgresError as error:
            if move.stored is None or move.stored.view is None or not is_bad_value(error):
                raise
            return await self.move(dataclasses.replace(move, stored=dataclasses.replace(move.stored, view=None)))
        found = await self._known(line, lambda: line.loads(move.run_id), self._patience)
        return found.results.get(move.key)

    async def renew(self, held: Sequence[Held], lease: float, /) -> frozenset[UUID]:
        """Extend leases, all in one statement, sent once; return the nonces still held."""
        if not held:
            return frozenset()
        values = columns([(one.run_id, one.key, one.token, str(one.nonce)) for one in held])
        rows = await self._here().database.fetch(self._sql.renew, *values, float(lease))
        return frozenset(UUID(row["claim"]) for row in rows)

    async def transact(self, claim: Claim, make: Make, /) -> Record:
        """Claim, *make* and certify in one transaction; return what stands.

        Raises:
            Busy: Another transaction is at it and did not end in time; or this is inside a transactional step, and no
                connection became free.
            BrokenTransaction: *make* ended the transaction it was lent.
        """
        line = self._here()

        async def standing() -> Record | None:
            found = await self._known(line, lambda: line.loads(claim.run_id), self._patience)
            return found.results.get(claim.key)

        async with line.transaction(claim):
            return await transact(line.database, self._sql, claim, make, standing, self._patience)

    async def purge(self, older_than: float | timedelta, most: int = 1000, /) -> int:
        """Delete the values of finished runs that nothing has changed for *older_than*, in one transaction.

        Results that may be made again are deleted, and so are inputs and journal. Results of at-most-once and transactional
        steps, refusals and values that were supplied leave a row without a value, so that an old job cannot repeat an effect: a
        run that needs one raises `Purged`, and nothing of it runs. A run with anything open or younger is left alone, and so is
        one that somebody is changing now. Large results in an object store are not deleted from it.

        Args:
            older_than: Seconds, or a timedelta.
            most: How many runs; each batch is a transaction, and short ones disturb nobody.

        Returns:
            How many runs were purged; call again until it is 0.

        Raises:
            ConfigurationError: *most* is less than 1, or *older_than* no span of time.
            SchemaMissing: The tables are not there.
        """
        if most < 1:
            raise ConfigurationError(f"a batch of {most} runs purges nothing; use 1 or more")
        age = span("purge", "older_than", older_than, 0)
        try:
            rows = await self._here().database.fetch(self._sql.purge, age, most)
        except _NO_TABLES as error:
            raise SchemaMissing(self.schema, str(error), outdated=isinstance(error, _OUTDATED)) from error
        return int(rows[0][0])

    async def close(self) -> None:
        """Close the pool if it was opened here, in this loop."""
        if self._loop is asyncio.get_running_loop():
            await self._line.database.close()

    def _here(self) -> Line:
        """Return the connections of the running loop.

        Raises:
            ConfigurationError: Those there are belong to another loop that is still running.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                if not self._loop.is_closed():
                    raise ConfigurationError(
                        "this cache's pool belongs to another event loop that is still open; give each loop a cache of its own"
                    )
                self._line = Line(self._source, self._options, self._sql)
            self._loop = loop
        return self._line

    async def _written(self, item: Claim | Certificate) -> Record:
        line = self._here()
        while True:
            try:
                written = await line.writes(item)
            except (Exception, asyncio.CancelledError) as error:
                written = await self._fitted(line, item, error)
            if written is not None:
                return written
            found = await self._known(line, functools.partial(line.loads, item.run_id), self._patience)
            if item.key in found.results:
                return found.results[item.key]
            # The row that stood in the way was purged in between: now there is room.

    async def _fitted(self, line: Line, item: Claim | Certificate, error: BaseException) -> Record | None:
        """Send *item* again; without its projections if they are what the database refuses, since those are expendable."""
        try:
            return await self._repeated(line, lambda: line.writes(item), self._patience, error)
        except asyncpg.PostgresError as refused:
            plain = _without_views(item)
            if plain == item or not is_bad_value(refused):
                raise
            return await self._known(line, lambda: line.writes(plain), self._patience)

    async def _known(self, line: Line, attempt: Callable[[], Awaitable[A]], patience: float) -> A:
        try:
            return await attempt()
        except (Exception, asyncio.CancelledError) as error:
            return await self._repeated(line, attempt, patience, error)

    async def _repeated(
        self, line: Line, attempt: Callable[[], Awaitable[A]], patience: float, error: BaseException
    ) -> A:
        try:
            return await until_known(attempt, patience if line.database.reached else 0.0, error)
        except _NO_TABLES as error:
            raise SchemaMissing(self.schema, str(error), outdated=isinstance(error, _OUTDATED)) from error


def _without_views(item: Claim | Certificate) -> Claim | Certificate:
    inputs = tuple(dataclasses.replace(one, stored=dataclasses.replace(one.stored, view=None)) for one in item.inputs)
    if isinstance(item, Claim):
        return dataclasses.replace(item, inputs=inputs)
    return dataclasses.replace(item, inputs=inputs, stored=dataclasses.replace(item.stored, view=None))
