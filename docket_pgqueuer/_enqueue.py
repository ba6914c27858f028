"""Jobs into PgQueuer's table: all or none, and no second one for what waits with the same inputs.

Whether a job waits with other inputs is asked only when one is found to wait: nothing is added to the usual way.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pgqueuer.errors import DuplicateJobError
from pgqueuer.queries import Queries

from docket.errors import BadJob
from docket.queue import Job, OtherInputs, read_job, refuse_others


async def enqueue_together(queries: Queries, jobs: Sequence[Job]) -> list[str | None]:
    """Enqueue *jobs* in a transaction of their own; return their ids, None for one that waits already.

    Raises:
        OtherInputs: One waits with other inputs. None is enqueued.
        BadJob: Something waits in a job's place that is none of Docket's. None is enqueued.
    """
    left = list(enumerate(jobs))
    while left:
        some = [job for _, job in left]
        try:
            ids = await _enqueued(queries, some, "raise")
        except DuplicateJobError:  # and none of them is there
            waiting = await _waiting(queries, some)
            first = {job.name: n for n, job in reversed(left) if job.once}
            refuse_others(some, {**{name: jobs[n] for name, n in first.items()}, **waiting})
            left = [(n, job) for n, job in left if not job.once or (first[job.name] == n and job.name not in waiting)]
        else:
            by_place = {number: job_id for (number, _), job_id in zip(left, ids, strict=True)}
            return [by_place.get(number) for number in range(len(jobs))]
    return [None] * len(jobs)


async def enqueue_skipping(queries: Queries, jobs: Sequence[Job]) -> list[str | None]:
    """Enqueue one job, or *jobs* in the caller's transaction, where no statement may fail; else as `enqueue_together` does."""
    ids: list[str | None] = [None] * len(jobs)
    left: list[int] = list(range(len(jobs)))
    try:
        while left:
            for number, job_id in zip(left, await _enqueued(queries, [jobs[one] for one in left], "skip"), strict=True):
                ids[number] = job_id
            left = [number for number in left if ids[number] is None]
            waiting = await _waiting(queries, [jobs[number] for number in left]) if left else {}
            refuse_others([jobs[number] for number in left], waiting)
            left = [number for number in left if jobs[number].name not in waiting]  # a worker has taken it since
    except (OtherInputs, BadJob):
        added = [int(job_id) for job_id in ids if job_id is not None]  # in a transaction: nobody else has seen them
        for table, column in ((_queue(queries), "id"), (queries.qbe.settings.queue_table_log, "job_id")):
            await queries.driver.execute(f"DELETE FROM {table} WHERE {column} = ANY($1::bigint[])", added)  # noqa: S608
        raise
    return ids


async def _enqueued(queries: Queries, jobs: Sequence[Job], on_conflict: str) -> list[str | None]:
    enqueue: Any = queries.enqueue  # its overloads take one literal each
    ids: list[int | None] = await enqueue(
        [job.queue for job in jobs],
        [job.document().encode() for job in jobs],
        [job.priority for job in jobs],
        [_delay(job) for job in jobs],
        [job.name if job.once else None for job in jobs],
        [{"run_id": job.run_id, "target": job.target} for job in jobs],
        on_conflict=on_conflict,
    )
    return [None if job_id is None else str(job_id) for job_id in ids]


async def _waiting(queries: Queries, jobs: Iterable[Job]) -> dict[str, Job]:
    """Return what waits in the place of *jobs*, by their names."""
    rows = await queries.driver.fetch(
        f"SELECT id, entrypoint, dedupe_key, payload FROM {_queue(queries)}"  # noqa: S608 - PgQueuer's own setting
        " WHERE status IN ('queued', 'picked') AND dedupe_key = ANY($1::text[])",
        [job.name for job in jobs if job.once],
    )
    return {str(row["dedupe_key"]): _job_in(row) for row in rows}


def _job_in(row: Mapping[str, Any]) -> Job:
    where = f"job {row['id']} on queue {row['entrypoint']!r}"
    return read_job(document_in(row["payload"], where), queue=row["entrypoint"], where=where, once=True)


def document_in(payload: bytes | None, where: str) -> Any:
    """Return what a job's payload says.

    Raises:
        BadJob: It is no JSON, or none that can be read.
    """
    try:
        return json.loads(payload or b"")
    except (ValueError, RecursionError) as error:  # the latter from lists nested thousands deep
        raise BadJob(where, f"its payload is not JSON that can be read ({error})") from error


def _queue(queries: Queries) -> str:
    return queries.qbe.settings.queue_table


def _delay(job: Job) -> timedelta | None:
    return None if job.schedule_at is None else max(job.schedule_at - datetime.now(UTC), timedelta(0))
