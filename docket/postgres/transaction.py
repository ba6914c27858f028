"""A claim, a step's own SQL and the certificate in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from docket._certify.writing import begin, ended
from docket._core.record import Record
from docket.cache import Certificate, Claim, Make, Move
from docket.errors import BrokenTransaction, Busy
from docket.postgres.connection import Database, is_definite
from docket.postgres.rows import move_values, write_values
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
        BrokenTransaction: *make* ended the transaction it was lent; its cause is what *make* raised then, if it did.
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
        try:
            made = await _made(connection, make, record)
        except Exception as error:
            await _believe(connection, sql, claim, settings["id"], error)
            raise
        if not connection.is_in_transaction() or await connection.fetchval(sql.transaction) != settings["id"]:
            raise BrokenTransaction(claim.run_id, claim.key)
        if isinstance(made, Move):
            written = await connection.fetch(sql.move, *move_values(made))
        else:
            shape, values = write_values([made])
            written = await connection.fetch(sql.write[shape], *values)
        if not written:
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
    if isinstance(made, Move):
        return dataclasses.replace(
            record, state=made.to, reason=made.reason, error_type=made.error_type, error_text=made.error_text
        )
    return dataclasses.replace(record, state="certified", made_from=claim.made_from, stored=made.stored)


async def _believe(connection: Any, sql: Statements, claim: Claim, id_: str, error: Exception) -> None:
    """Look whether the transaction that a step failed in can still be rolled back, as its error would have it.

    Raises:
        BrokenTransaction: The step had ended it; what it wrote may stand.
    """
    failure = error.error if isinstance(error, _StepFailed) else error
    if isinstance(failure, BrokenTransaction) or connection.is_closed():
        return
    with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
        # What cannot be asked is lost, or still in the hands of a call that was left behind: it is ended with its connection.
        if connection.is_in_transaction() and await _is_in(connection, sql, id_):
            return
        if not connection.is_closed():
            raise BrokenTransaction(claim.run_id, claim.key) from failure


async def _is_in(connection: Any, sql: Statements, id_: str) -> bool:
    try:
        now: str | None = await connection.fetchval(sql.transaction)
    except asyncpg.InFailedSQLTransactionError:
        # One that has failed answers nothing: which one it was shows in how ours ended.
        await connection.execute("ROLLBACK AND CHAIN")
        return bool(await connection.fetchval(sql.outcome, id_) == "aborted")
    return now == id_


async def _made(connection: Any, make: Make, record: Record) -> Certificate | Move:
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
