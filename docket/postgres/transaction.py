"""A claim, a step's own SQL and the certificate in one transaction."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from docket._certify.writing import begin, ended
from docket._core.record import Record
from docket.cache import Claim, Make
from docket.errors import BrokenTransaction, Busy
from docket.postgres.connection import Database, is_definite
from docket.postgres.rows import write_values
from docket.postgres.statements import Statements

RIVAL = 5.0
"""Seconds to wait for the end of another transaction that holds the same row. Our choice: longer than a transaction should
take, shorter than a request should."""


class _Lost(Exception):
    """The transaction's connection is gone; whether it committed is not known."""


async def transact(
    database: Database,
    sql: Statements,
    claim: Claim,
    make: Make,
    standing: Callable[[], Awaitable[Record | None]],
    patience: float,
) -> Record:
    """Claim, *make* and certify in one transaction; return what stands.

    The claim goes first. A retry after a lost COMMIT therefore waits at the row's unique index until the server has ended the
    lost transaction, and then sees how: no guess is made.

    Args:
        database: Where.
        sql: The statements.
        claim: What to claim.
        make: Runs the step on the connection it is lent.
        standing: Reads what stands, on another connection.
        patience: Seconds for which a lost transaction is tried again.

    Raises:
        Busy: Another transaction is at it and did not end in time.
        BrokenTransaction: *make* ended the transaction it was lent.
    """
    end = time.monotonic() + patience
    wait = 0.02
    while True:
        try:
            made = await _once(database, sql, claim, make)
        except _Lost as error:
            found = await standing()
            if found is not None and found.claim == claim.nonce:
                return found
            if time.monotonic() > end:
                raise error.__cause__ or error from None
            await asyncio.sleep(wait * (0.5 + random.random()))  # noqa: S311 - spreads retries
            wait = min(wait * 2, 1.0)
            continue
        found = made or await standing()
        if found is not None:
            return found


async def _once(database: Database, sql: Statements, claim: Claim, make: Make) -> Record | None:
    try:
        async with database.connection() as connection:
            return await _transaction(connection, sql, claim, make)
    except _StepFailed as failed:
        raise failed.error from failed.error.__cause__
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        if is_definite(error):
            raise
        raise _Lost from error


async def _transaction(connection: Any, sql: Statements, claim: Claim, make: Make) -> Record | None:
    transaction = connection.transaction(isolation="read_committed")
    await transaction.start()
    try:
        settings = await connection.fetchrow(sql.begin, str(int(RIVAL * 1000)))
        shape, values = write_values([claim])
        try:
            row = await connection.fetchrow(sql.claim[shape], *values, settings["lock_timeout"])
        except asyncpg.LockNotAvailableError as error:
            raise Busy(claim.run_id, claim.key, claim.key, RIVAL, "another transaction") from error
        if row is None:
            await _rolled_back(connection, transaction)
            return None
        record = Record(claim.key, claim.mode, "running", row["token"], claim.nonce, claim.owner, row["attempt"])
        certificate = await _made(connection, make, record)
        if not connection.is_in_transaction() or await connection.fetchval(sql.transaction) != settings["id"]:
            raise BrokenTransaction(claim.run_id, claim.key)
        shape, values = write_values([certificate])
        if not await connection.fetch(sql.write[shape], *values):
            raise BrokenTransaction(claim.run_id, claim.key)
    except BaseException:
        await _rolled_back(connection, transaction)
        raise
    committing = begin(transaction.commit(), "docket commit")
    try:
        await asyncio.shield(committing)
    except asyncio.CancelledError:
        await ended(committing)
        raise
    return Record(
        claim.key, claim.mode, "certified", row["token"], claim.nonce, claim.owner, row["attempt"],
        made_from=claim.made_from, stored=certificate.stored,
    )  # fmt: skip


async def _made(connection: Any, make: Make, record: Record) -> Any:
    try:
        return await make(connection, record)
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresError) as error:
        # The step's own trouble with a connection that is alive is its own; with one that is gone, the transaction is too.
        if connection.is_closed():
            raise _Lost from error
        raise _StepFailed(error) from error


class _StepFailed(Exception):
    """The step raised, on a connection that is alive."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def _rolled_back(connection: Any, transaction: Any) -> None:
    """End whatever transaction is open, in a way that no cancellation can leave half done."""
    if connection.is_closed():
        return
    rolling = begin(transaction.rollback(), "docket rollback")
    try:
        await asyncio.shield(rolling)
    except asyncio.CancelledError:
        await ended(rolling)
        raise
    except Exception:  # the connection goes, and with it the transaction
        connection.terminate()
