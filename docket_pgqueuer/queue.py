"""Runs on PgQueuer's queues, worked by PgQueuer's own workers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import asyncpg
import asyncpg.pool
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.errors import RetryRequested
from pgqueuer.models import Context, TracebackRecord
from pgqueuer.models import Job as PgQueuerJob
from pgqueuer.queries import Queries

from docket.errors import ConfigurationError
from docket.postgres.connection import Database, Pool
from docket.queue import Capability, Job, Policy, Verdict, Work, read_job
from docket_pgqueuer._enqueue import document_in, enqueue_skipping, enqueue_together

_log = logging.getLogger("docket_pgqueuer")


class JobFailed(Exception):
    """A job is over for good. PgQueuer holds it with the status ``failed`` and keeps this error's text in its log."""


class PgQueuerQueue:
    """Hands runs to PgQueuer. A queue's name is the name of an entrypoint.

    Workers are PgQueuer's own; the function that builds one says which queues it works on::

        @asynccontextmanager
        async def worker() -> AsyncGenerator[PgQueuer]:  # pgq run shop.app:worker
            async with asyncpg.create_pool(DSN) as pool:
                pgq = PgQueuer.from_asyncpg_pool(pool)
                queue.work_on(pgq, "orders")
                yield pgq

    A job's headers hold its run id and target. One that failed for good is held by PgQueuer (``pgq failed``, ``pgq requeue``);
    its log says why, in ``traceback``. ``views.sql`` beside this file joins the two.

    A job's deduplication key is given up when its first attempt begins: PgQueuer would otherwise drop what is enqueued while
    the job is being worked on, such as a run that goes on because what it waited for was supplied at that moment.

    Args:
        source: A DSN, whose pool is opened on first use; or an asyncpg pool, which is used and never closed. It must be
            without a codec for jsonb, as PgQueuer demands of its connections.
        policy: How often a job is tried, and when.
        rescues: How often a job may lose its worker before it fails for good: it may be what kills them. PgQueuer gives a job
            whose worker is silent to the next one that asks.
    """

    capabilities: frozenset[Capability] = frozenset({"schedule", "priority", "once", "transaction", "durable"})

    def __init__(self, source: str | Pool, *, policy: Policy | None = None, rescues: int = 3) -> None:
        self._database = Database(source, {"min_size": 0, "max_size": 4} if isinstance(source, str) else {})
        self._policy, self._rescues = policy or Policy(), rescues
        self._work: Work | None = None

    def serve(self, work: Work, /) -> None:
        """Remember what is done with a job."""
        self._work = work

    def work_on(self, pgq: PgQueuer, *queues: str, concurrency_limit: int = 0) -> None:
        """Have a worker of PgQueuer's work on *queues*.

        Args:
            pgq: The worker.
            queues: The names of the queues.
            concurrency_limit: How many jobs of each queue are worked on at once, in all workers together; 0 for no limit.
        """
        for name in queues:
            pgq.entrypoint(name, concurrency_limit=concurrency_limit, accepts_context=True, on_failure="hold")(self._attempt)

    async def enqueue(self, jobs: Sequence[Job], connection: object | None, /) -> Sequence[str | None]:
        """Put jobs on their queues in one statement; return PgQueuer's ids, None for a job that was waiting already.

        Raises:
            OtherInputs: A job waits already, with other inputs. None is enqueued.
            BadJob: What waits in a job's place is none of Docket's. None is enqueued.
            TypeError: *connection* is not asyncpg's.
        """
        async with self._queries(connection) as queries:
            alone = connection is None and len(jobs) > 1
            return await (enqueue_together if alone else enqueue_skipping)(queries, jobs)

    async def cancel(self, run_id: str, target: str, /) -> int:
        """Cancel the jobs of a run that wait or are being worked on; return how many there were."""
        async with self._queries(None) as queries:
            table = queries.qbe.settings.queue_table
            rows = await queries.driver.fetch(
                f"SELECT * FROM {table} WHERE status IN ('queued', 'picked')"  # noqa: S608 - PgQueuer's own setting
                " AND headers ->> 'run_id' = $1 AND headers ->> 'target' = $2",
                run_id,
                target,
            )
            jobs = [PgQueuerJob.model_validate(row) for row in rows]
            if jobs:
                await queries.log_jobs([(job, "canceled", _record(job, JobFailed("cancelled"))) for job in jobs])
                await queries.notify_job_cancellation([job.id for job in jobs])
        return len(jobs)

    async def close(self) -> None:
        """Close the pool if it was opened here."""
        await self._database.close()

    async def _attempt(self, job: PgQueuerJob, context: Context) -> None:
        """Work on one job: what a worker of PgQueuer's calls."""
        known = await self._begin(job)
        lost = known["starts"] - 1 - job.attempts
        if lost > self._rescues:
            raise JobFailed(f"lost its worker {lost} times: it may be what kills them")
        working = asyncio.create_task(self._made(job), name=f"docket job {job.id}")
        try:
            # Its scope would cancel again and again whatever is inside until it is left; a certified step must be left alone.
            with context.cancellation:
                await asyncio.wait((working,))
        except asyncio.CancelledError:
            await _ended(working)
            if isinstance(_failure(working), asyncio.CancelledError):
                await self._hand_back(job, known, Verdict("later", 0.0, "its worker was shut down"))
        if context.cancellation.cancel_called:
            await _ended(working)
            return
        error = _failure(working)
        if error is not None:
            await self._judge(job, known, error)

    async def _made(self, job: PgQueuerJob) -> None:
        where = f"job {job.id} on queue {job.entrypoint!r}"
        document = document_in(job.payload, where)
        if self._work is None:
            raise ConfigurationError("this queue belongs to no Docket; pass it to Docket(queue=...)")
        await self._work(read_job(document, queue=job.entrypoint, where=where, priority=job.priority))

    async def _judge(self, job: PgQueuerJob, known: Mapping[str, int], error: BaseException) -> None:
        found = self._policy.verdict(error, max(job.attempts - known["free"], 0) + 1)
        if found.what == "wait":
            async with self._queries(None) as queries:
                # What PgQueuer would log by itself, with the reason.
                await queries.log_jobs([(job, "successful", _record(job, JobFailed(found.why)))])
            return
        if found.what == "fail":
            _log.error("job %s failed for good: %s", job.id, found.why, exc_info=error)
            raise JobFailed(found.why) from None  # the text of the original may hold what jsonb refuses
        await self._hand_back(job, known, found)

    async def _hand_back(self, job: PgQueuerJob, known: Mapping[str, int], found: Verdict) -> None:
        if found.what == "later":
            await self._change(job, {"free": known["free"] + 1})
        raise RetryRequested(timedelta(seconds=found.delay), found.why) from None

    async def _begin(self, job: PgQueuerJob) -> Mapping[str, int]:
        """Count the start and give up the deduplication key; return what is counted."""
        headers = job.headers or {}
        known = {name: value if isinstance(value := headers.get(name), int) else 0 for name in ("starts", "free")}
        known["starts"] += 1
        await self._change(job, {"starts": known["starts"]})
        return known

    async def _change(self, job: PgQueuerJob, headers: Mapping[str, int]) -> None:
        async with self._queries(None) as queries:
            await queries.driver.execute(
                f"UPDATE {queries.qbe.settings.queue_table} SET dedupe_key = NULL,"  # noqa: S608 - PgQueuer's own setting
                " headers = coalesce(headers, '{}') || $2::text::jsonb WHERE id = $1",
                job.id,
                json.dumps(headers),
            )

    @asynccontextmanager
    async def _queries(self, connection: object | None) -> AsyncGenerator[Queries]:
        if isinstance(connection, asyncpg.Connection | asyncpg.pool.PoolConnectionProxy):
            yield Queries(AsyncpgDriver(cast("Any", connection)))
        elif connection is None:
            async with (await self._database.pool()).acquire() as own:
                yield Queries(AsyncpgDriver(cast("Any", own)))
        else:
            found = f"{type(connection).__module__}.{type(connection).__qualname__}"
            raise TypeError(f"connection= must be asyncpg's, since the queue is; not {found}")


def _record(job: PgQueuerJob, error: Exception) -> TracebackRecord:
    return TracebackRecord.from_exception(error, job.id, job.headers)


async def _ended(working: asyncio.Task[None]) -> None:
    """Cancel an attempt once and wait for its certified steps, however often the waiting itself is cancelled."""
    working.cancel()
    while not working.done():
        try:
            await asyncio.wait((working,))
        except asyncio.CancelledError:
            continue


def _failure(working: asyncio.Task[None]) -> BaseException | None:
    return asyncio.CancelledError() if working.cancelled() else working.exception()
