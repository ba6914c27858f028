"""Jobs put into Procrastinate's queue over asyncpg, in the caller's transaction."""

import json
from collections.abc import Sequence
from typing import Any, TypeAlias, TypeGuard

import asyncpg
import asyncpg.pool
from procrastinate import exceptions
from procrastinate.manager import QUEUEING_LOCK_CONSTRAINT
from procrastinate.types import JobToDefer

from docket_procrastinate._failures import procrastinate_errors
from docket_procrastinate._translate import JsonDumps, json_text

AsyncpgConnection: TypeAlias = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy
"""A connection of the caller's: one of its own, or one lent by a pool."""

# One array per column, since asyncpg cannot send composites over a connection that has a text codec for jsonb.
# Procrastinate's function returns the ids in the order of the array it is given.
_DEFER = """
SELECT unnest(procrastinate_defer_jobs_v1(ARRAY(
    SELECT ROW(queue, task, priority, lock, queueing_lock, args::jsonb, scheduled_at)::procrastinate_job_to_defer_v1
    FROM unnest($1::text[], $2::text[], $3::int[], $4::text[], $5::text[], $6::text[], $7::timestamptz[])
        WITH ORDINALITY AS job(queue, task, priority, lock, queueing_lock, args, scheduled_at, place)
    ORDER BY place
))) AS id
"""


async def defer_on_asyncpg(
    connection: AsyncpgConnection, jobs: Sequence[JobToDefer], *, json_dumps: JsonDumps = json.dumps
) -> list[int]:
    """Enqueue *jobs* on the caller's *connection*: all of them or none, and with its transaction if one is open.

    Works whichever connector the Procrastinate app has, and whatever codecs the connection has. Inside a
    transaction the jobs appear, and workers are woken, at its commit. If a job has a queueing lock the call
    stands in a savepoint (two more round trips), so that a duplicate leaves the transaction usable.

    Returns:
        The ids of the jobs, in the order of *jobs*; empty for no jobs, without a statement.

    Raises:
        procrastinate.exceptions.AlreadyEnqueued: A job with the queueing lock of one of *jobs* is waiting. Nothing
            is enqueued; the transaction goes on.
        procrastinate.exceptions.ConnectorException: As the database raised it; see its ``__cause__``.
        TypeError: *connection* is not asyncpg's.
    """
    require_asyncpg(connection)
    try:
        with procrastinate_errors():
            return await insert_jobs(connection, jobs, json_dumps)
    except exceptions.UniqueViolation as error:
        if error.constraint_name != QUEUEING_LOCK_CONSTRAINT:
            raise
        raise exceptions.AlreadyEnqueued(
            f"No job was enqueued: one with the queueing lock {error.queueing_lock!r} is already waiting."
        ) from error


async def insert_jobs(
    connection: AsyncpgConnection, jobs: Sequence[JobToDefer], dumps: JsonDumps, timeout: float | None = None
) -> list[int]:
    """Enqueue *jobs* as `defer_on_asyncpg` does, within *timeout* seconds, leaving errors as asyncpg raises them."""
    if not jobs:
        return []
    columns = _columns(jobs, dumps)
    # Only a taken lock is worth a savepoint; anything else that fails here is a mistake in the call.
    if connection.is_in_transaction() and any(job.queueing_lock is not None for job in jobs):
        async with connection.transaction():
            records = await connection.fetch(_DEFER, *columns, timeout=timeout)
    else:
        records = await connection.fetch(_DEFER, *columns, timeout=timeout)
    return [record["id"] for record in records]


def require_asyncpg(connection: object) -> None:
    """Refuse a *connection* that is not asyncpg's.

    Raises:
        TypeError: It is another driver's. Nothing is sent.
    """
    if not _is_asyncpg(connection):
        found = f"{type(connection).__module__}.{type(connection).__qualname__}"
        raise TypeError(
            f"connection= must be an asyncpg connection (asyncpg.connect() or pool.acquire()), not {found}. "
            "For a psycopg connection use Procrastinate's PsycopgConnector."
        )


def _is_asyncpg(connection: object) -> TypeGuard[AsyncpgConnection]:
    return isinstance(connection, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy)


def _columns(jobs: Sequence[JobToDefer], dumps: JsonDumps) -> list[list[Any]]:
    return [
        [job.queue_name for job in jobs],
        [job.task_name for job in jobs],
        [job.priority for job in jobs],
        [job.lock for job in jobs],
        [job.queueing_lock for job in jobs],
        [json_text(job.args, dumps) for job in jobs],
        [job.scheduled_at for job in jobs],
    ]
