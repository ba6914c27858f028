"""Runs on Procrastinate's queues, worked by Procrastinate's own workers."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, LiteralString, TypeAlias

import procrastinate
from procrastinate import exceptions
from procrastinate.job_context import AbortReason
from procrastinate.jobs import Job as ProcrastinateJob

from docket.errors import BadJob, ConfigurationError
from docket.queue import Capability, Job, Policy, Work, read_job
from docket_procrastinate._caller import rows_on
from docket_procrastinate._enqueue import enqueue_one, enqueue_skipping, enqueue_together
from docket_procrastinate._statements import CANCEL, NOTE, TASK
from docket_procrastinate._translate import UNREADABLE, with_inputs
from docket_procrastinate.rescue import rescue_periodically

_log = logging.getLogger("docket_procrastinate")

LONGEST_QUEUE_NAME = 40
"""Bytes: Procrastinate notifies ``procrastinate_queue_v1#<queue>``, and PostgreSQL's channels have 63 at most."""


class ProcrastinateQueue:
    """Hands runs to Procrastinate.

    Workers are Procrastinate's own: ``procrastinate --app=shop.app.procrastinate_app worker -q orders``. The module that
    holds the app must also construct the `Docket`, since that is what registers the task.

    The queue is not trusted with exclusivity: a killed worker's job is rescued and may run beside a worker that was only
    frozen. Claims decide who may run a step.

    A job's row says in its arguments what it is for (``run_id``, ``target``) and how its last attempt ended (``outcome``):
    Procrastinate itself keeps no reason. ``views.sql`` beside this file turns that into a view.

    Args:
        app: The Procrastinate app, with either async connector to PostgreSQL. For tests without one, pass Docket a
            `docket.inprocess.InProcessQueue` instead.
        attempts: How often a job whose step raised is tried before it fails for good. `RetryLater`, `Busy`, a worker's
            shutdown and a worker's death do not count.
        backoff: Seconds (or timedelta) before the second attempt; doubled for each further one, with jitter, up to *longest*.
        longest: Seconds (or timedelta) between two attempts at most.
        rescue_after: Seconds without a heartbeat after which a worker counts as dead and its jobs are put back. Above the
            worker's ``update_heartbeat_interval`` (10 s by default), with room for a blocked loop.
        rescue_cron: When to look for such jobs: a cron expression, optionally with a sixth column for seconds.
        rescues: How often a job may lose its worker before it fails for good: it may be what kills them.
    """

    capabilities: frozenset[Capability] = frozenset({"schedule", "priority", "once", "transaction", "durable"})

    def __init__(
        self,
        app: procrastinate.App,
        *,
        attempts: int = 10,
        backoff: float | timedelta = 2.0,
        longest: float | timedelta = 600.0,
        rescue_after: float = 30.0,
        rescue_cron: str = "* * * * *",
        rescues: int = 3,
    ) -> None:
        self._app = app
        self._policy = Policy(attempts, backoff, longest)
        self._rescue_after, self._rescue_cron, self._rescues = rescue_after, rescue_cron, rescues
        self._opening = asyncio.Lock()
        self._opened = False

    def serve(self, work: Work, /) -> None:
        """Register the task that works on jobs, and the periodic rescue of those whose worker died.

        Raises:
            ConfigurationError: The app works for another Docket already.
        """

        async def run(context: procrastinate.JobContext, /, **arguments: Any) -> None:
            await _Attempt(context, arguments, self._policy).make(work)

        try:
            self._app.task(name=TASK, pass_context=True, retry=_Retry(self._policy))(run)
        except exceptions.TaskAlreadyRegistered as error:
            raise ConfigurationError(
                "this Procrastinate app works for another Docket already; give each Docket an app and queue names of its own, "
                "or put the steps of both into one: d.include(graph)"
            ) from error
        rescue_periodically(self._app, self._rescue_cron, self._rescue_after, self._rescues)

    async def enqueue(self, jobs: Sequence[Job], connection: object | None, /) -> Sequence[str | None]:
        """Put jobs on their queues in one statement; return Procrastinate's ids, None for a job that was waiting already.

        Opens the app if it is not open. With *connection* (asyncpg's or psycopg's, whichever connector the app has) in the
        caller's transaction: the jobs appear, and workers are woken, at its commit.

        Raises:
            ConfigurationError: A queue's name is empty or longer than 40 bytes.
            OtherInputs: A job waits already, with other inputs. None is enqueued.
            BadJob: What waits in a job's place is none of Docket's. None is enqueued.
            TypeError: *connection* is neither asyncpg's nor psycopg's.
        """
        for name in {job.queue for job in jobs}:
            if not 0 < len(name.encode()) <= LONGEST_QUEUE_NAME:
                raise ConfigurationError(f"the queue name {name!r:.60} must have 1 to {LONGEST_QUEUE_NAME} bytes")
        send = self._rows if connection is None else functools.partial(rows_on, connection)
        if len(jobs) == 1:
            return [await enqueue_one(send, jobs[0])]
        return await (enqueue_together if connection is None else enqueue_skipping)(send, jobs)

    async def cancel(self, run_id: str, target: str, /) -> int:
        """Cancel the waiting jobs of a run and abort those under way; return how many there were.

        A worker hears of it by NOTIFY, or within its ``abort_job_polling_interval``.
        """
        rows = await self._rows(CANCEL, {"task": TASK, "run_id": run_id, "target": target})
        return sum(row["id"] is not None for row in rows)  # None: it ended meanwhile

    async def close(self) -> None:
        """Close the app if it was opened here."""
        if self._opened:
            self._opened = False
            await self._app.close_async()

    async def _rows(self, query: LiteralString, arguments: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        try:
            return await self._app.connector.execute_query_all_async(query, **arguments)
        except exceptions.AppNotOpen:
            async with self._opening:  # opening an open app does nothing; opening one twice at once leaks a pool
                await self._app.open_async()
                self._opened = True
            return await self._app.connector.execute_query_all_async(query, **arguments)


_Outcome: TypeAlias = Literal["again", "later", "wait", "fail", "cancelled"]


class _Attempt:
    """One attempt at a job: how it ends is written beside the job before Procrastinate is told."""

    def __init__(self, context: procrastinate.JobContext, arguments: dict[str, Any], policy: Policy) -> None:
        self._context, self._job, self._arguments, self._policy = context, context.job, arguments, policy

    async def make(self, work: Work) -> None:
        """Work on the job; return or raise what tells Procrastinate what to do with it.

        Raises:
            JobAborted: It was cancelled, or another job for the same run has taken its place.
            asyncio.CancelledError: The worker is being shut down.
            Exception: What the attempt raised, for the retry strategy to judge.
        """
        row = self._job
        try:
            where = f"job {row.id} on queue {row.queue!r}"
            once = row.queueing_lock is not None
            if self._arguments.keys() == {UNREADABLE}:
                raise BadJob(where, f"its arguments cannot be read ({self._arguments[UNREADABLE]})")
            await work(read_job(with_inputs(self._arguments), queue=row.queue, where=where, once=once, priority=row.priority))
        except asyncio.CancelledError:
            await self._cancelled()
        except Exception as error:
            found = self._policy.verdict(error, _counted(row) + 1)
            other = await self._note(found.what, found.why)
            if found.what == "wait":
                return
            if found.what != "fail" and other is not None:
                _log.info("job %s is over: job %s waits for the same run", row.id, other)
                raise exceptions.JobAborted from error
            raise

    async def _cancelled(self) -> None:
        task = asyncio.current_task()
        if self._context.abort_reason() is AbortReason.USER_REQUEST:
            await self._note("cancelled", "cancelled")
            # With a retry strategy Procrastinate would turn it into a failure.
            raise exceptions.JobAborted from None
        if task is not None and task.cancelling():
            if await self._note("later", "its worker was shut down") is not None:
                raise exceptions.JobAborted from None
            raise asyncio.CancelledError
        # Nobody cancelled the job: as a cancellation it would come back at once, for ever.
        error = SelfCancelled("a step raised CancelledError though nobody cancelled its run")
        found = self._policy.verdict(error, _counted(self._job) + 1)
        if await self._note(found.what, found.why) is not None and found.what != "fail":
            raise exceptions.JobAborted from None
        raise error

    async def _note(self, what: _Outcome, why: str) -> int | None:
        """Write down how the attempt ended; return the id of a job that waits in this one's place, None if there is none."""
        attempts, before = self._job.attempts, _outcome(self._job)
        outcome = {"what": what, "why": why, "attempt": attempts + 1, "free": _free(self._job) + (what == "later")}
        if "lost" in before:
            outcome["lost"] = before["lost"]
        arguments = {"job_id": self._job.id, "attempts": attempts, "outcome": outcome}
        try:
            rows = await self._context.app.connector.execute_query_all_async(NOTE, **arguments)
        except Exception:
            _log.exception("the outcome of job %s could not be noted: %s", self._job.id, why)
            return None
        return rows[0]["id"] if rows else None


class SelfCancelled(Exception):
    """A step raised `asyncio.CancelledError` though nobody cancelled its run. The job is tried again like after any error."""


class _Retry(procrastinate.BaseRetryStrategy):
    """Tells Procrastinate what an attempt's error means for its job."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def get_retry_decision(
        self, *, exception: BaseException, job: ProcrastinateJob
    ) -> procrastinate.RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError):  # the worker is being shut down
            return procrastinate.RetryDecision(retry_in={"seconds": 0})
        found = self._policy.verdict(exception, _counted(job) + 1)
        if found.what not in ("again", "later"):
            return None
        return procrastinate.RetryDecision(retry_in={"milliseconds": int(found.delay * 1000)})



def _counted(job: ProcrastinateJob) -> int:
    """Return how many attempts of those that Procrastinate counts are to be counted."""
    return max(job.attempts - _free(job), 0)


def _free(job: ProcrastinateJob) -> int:
    free = _outcome(job).get("free")
    return free if isinstance(free, int) and 0 <= free <= job.attempts else 0


def _outcome(job: ProcrastinateJob) -> Mapping[str, Any]:
    outcome = job.task_kwargs.get("outcome")
    return outcome if isinstance(outcome, dict) else {}
