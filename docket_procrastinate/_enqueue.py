"""Jobs into Procrastinate's table: all or none, and no second one for what waits with the same inputs.

Whether a job waits with other inputs is asked only when one is found to wait: nothing is added to the usual way.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, LiteralString, TypeAlias

from procrastinate import exceptions
from procrastinate.manager import QUEUEING_LOCK_CONSTRAINT

from docket.errors import BadJob
from docket.queue import Job, OtherInputs, read_job, refuse_others
from docket_procrastinate._statements import TAKE_BACK, WAITING, enqueueing, enqueueing_one

Rows: TypeAlias = Sequence[Mapping[str, Any]]
Send: TypeAlias = Callable[[LiteralString, Mapping[str, Any]], Awaitable[Rows]]
"""Runs one statement with its arguments and returns its rows."""


async def enqueue_one(send: Send, job: Job) -> str | None:
    """Enqueue *job*; return its id, None if it waits already.

    Raises:
        OtherInputs: It waits with other inputs.
        BadJob: Something waits in its place that is no job of Docket's.
    """
    query, arguments = enqueueing_one(job)
    while not (rows := await send(query, arguments)):
        if waiting := await _waiting(send, [job]):
            refuse_others([job], waiting)
            return None
        # Otherwise a worker has taken it since.
    return str(rows[0]["id"])


async def enqueue_together(send: Send, jobs: Sequence[Job]) -> list[str | None]:
    """Enqueue *jobs* in a transaction of their own, as `enqueue_one` does each; raise as it does, with none enqueued."""
    left = jobs
    while True:
        try:
            return _ids(jobs, await send(*enqueueing(left)) if left else ())
        except exceptions.UniqueViolation as error:  # and none of them is there
            if error.constraint_name != QUEUEING_LOCK_CONSTRAINT:
                raise
        waiting = await _waiting(send, left)
        first = {job.name: n for n, job in reversed([*enumerate(left)]) if job.once}
        refuse_others(left, {**{name: left[n] for name, n in first.items()}, **waiting})
        left = [job for n, job in enumerate(left) if not job.once or (first[job.name] == n and job.name not in waiting)]


async def enqueue_skipping(send: Send, jobs: Sequence[Job]) -> list[str | None]:
    """Enqueue *jobs* in the caller's transaction, where no statement may fail; else as `enqueue_together` does."""
    rows: list[Mapping[str, Any]] = []
    left = jobs
    try:
        while left:
            rows += await send(*enqueueing(left, skip=True))
            if len(rows) == len(jobs):
                break
            there = {(row["run_id"], row["target"]) for row in rows}
            left = [job for job in left if job.once and (job.run_id, job.target) not in there]
            waiting = await _waiting(send, left)
            refuse_others(left, waiting)
            left = [job for job in left if job.name not in waiting]
    except (OtherInputs, BadJob):
        await send(TAKE_BACK, {"ids": [row["id"] for row in rows]})  # nobody else has seen them
        raise
    return _ids(jobs, rows)


async def _waiting(send: Send, jobs: Iterable[Job]) -> dict[str, Job]:
    """Return what waits in the place of *jobs*, by their names."""
    rows = await send(WAITING, {"locks": [job.name for job in jobs if job.once]})
    return {row["lock"]: _job_in(row) for row in rows}


def _job_in(row: Mapping[str, Any]) -> Job:
    where = f"job {row['id']} on queue {row['queue_name']!r}"
    try:
        document = json.loads(row["document"])
    except (ValueError, RecursionError) as error:
        raise BadJob(where, f"its arguments cannot be read ({error})") from error
    return read_job(document, queue=row["queue_name"], where=where, once=True)


def _ids(jobs: Iterable[Job], rows: Rows) -> list[str | None]:
    added: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        added[row["run_id"], row["target"]].append(str(row["id"]))
    return [ids.pop(0) if (ids := added[job.run_id, job.target]) else None for job in jobs]
