"""A queue in this process, for tests and the first five minutes: its jobs are gone with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from docket._given import count
from docket.queue import Capability, Job, Policy, Work, refuse_others

_log = logging.getLogger("docket")


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that is over without having succeeded.

    Attributes:
        job: The job.
        why: The reason.
    """

    job: Job
    why: str


@dataclass(slots=True, eq=False)
class _Entry:
    job: Job
    number: int
    due: float
    attempts: int = 0
    task: asyncio.Task[None] | None = None
    cancelled: bool = False


class InProcessQueue:
    """Hands runs to tasks of this process.

    Jobs wait until somebody works: ``async with queue.working():`` around a server's life, ``await queue.drain()`` in a test.
    All queue names are worked together. Values pass through their serializers, as with a real queue.

    Args:
        policy: How often a job is tried, and when.
        concurrency: How many jobs are worked on at once.

    Attributes:
        ended: The jobs that failed for good, were cancelled, or wait for something from outside, in the order of their end.
    """

    capabilities: frozenset[Capability] = frozenset({"schedule", "priority", "once"})

    def __init__(self, *, policy: Policy | None = None, concurrency: int = 10) -> None:
        self._policy = policy or Policy(attempts=3, backoff=0.1, longest=1.0)
        self._concurrency = count("InProcessQueue", "concurrency", concurrency, why="without one no job is ever worked on")
        self._work: Work | None = None
        self._waiting: list[_Entry] = []
        self._running: list[_Entry] = []
        self._changed = asyncio.Event()
        self._number = 0
        self.ended: list[Ended] = []

    def serve(self, work: Work, /) -> None:
        """Remember what is done with a job."""
        self._work = work

    async def enqueue(self, jobs: Sequence[Job], _connection: object | None, /) -> Sequence[str | None]:
        """Put jobs in line; return their numbers, None for one that is waiting already.

        Raises:
            OtherInputs: One is waiting already, with other inputs. None is put in line.
        """
        refuse_others(jobs, {entry.job.name: entry.job for entry in self._waiting if entry.job.once})
        return [self._put(job) for job in jobs]

    async def cancel(self, run_id: str, target: str, /) -> int:
        """Take back the jobs of a run that wait, and cancel those that are being worked on; return how many there were."""
        name = Job("", run_id, target).name
        waiting = [entry for entry in self._waiting if entry.job.name == name]
        running = [entry for entry in self._running if entry.job.name == name]
        for entry in waiting:
            self._waiting.remove(entry)
            self.ended.append(Ended(entry.job, "cancelled"))
        for entry in running:
            entry.cancelled = True
            if entry.task is not None:
                entry.task.cancel()
        self._changed.set()
        return len(waiting) + len(running)

    async def close(self) -> None:
        """Do nothing: what waits goes on waiting, and whoever works stops by itself."""

    async def drain(self) -> None:
        """Work until no job is left, waiting for those that are scheduled or come again."""
        async with self.working():
            while self._waiting or self._running:
                await self._change(None)

    @asynccontextmanager
    async def working(self, grace: float = 10.0) -> AsyncGenerator[None]:
        """Work on jobs until left. Then those under way have *grace* seconds to end before they are cancelled and put back."""
        self._changed = asyncio.Event()  # an event belongs to the loop it was waited for in
        dispatcher = asyncio.create_task(self._dispatch(), name="docket in-process queue")
        try:
            yield
        finally:
            dispatcher.cancel()
            await asyncio.wait((dispatcher,))
            await self._stop(grace)

    def _put(self, job: Job) -> str | None:
        if job.once and any(entry.job.once and entry.job.name == job.name for entry in self._waiting):
            return None
        delay = (job.schedule_at - datetime.now(UTC)).total_seconds() if job.schedule_at else 0.0
        self._number += 1
        self._waiting.append(_Entry(job, self._number, asyncio.get_running_loop().time() + delay))
        self._changed.set()
        return str(self._number)

    async def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            ready = sorted(
                (entry for entry in self._waiting if entry.due <= now), key=lambda entry: (-entry.job.priority, entry.number)
            )
            for entry in ready[: max(self._concurrency - len(self._running), 0)]:
                self._waiting.remove(entry)
                self._running.append(entry)
                entry.task = asyncio.create_task(self._attempt(entry), name=f"docket job {entry.number}")
            due = min((entry.due for entry in self._waiting if entry.due > now), default=None)
            await self._change(None if due is None else due - now)

    async def _change(self, timeout: float | None) -> None:
        """Wait until something was put, taken or ended, or for *timeout* seconds."""
        # Every waiter waits on the event of its time; a change wakes them all and begins another.
        event = self._changed
        if event.is_set():
            event = self._changed = asyncio.Event()
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(timeout):
                await event.wait()
        except TimeoutError:
            return

    async def _attempt(self, entry: _Entry) -> None:
        assert self._work is not None  # noqa: S101 - nothing is enqueued before serve()
        try:
            await self._work(entry.job)
        except asyncio.CancelledError:
            self._cancelled(entry)
        except Exception as error:
            self._failed(entry, error)
        finally:
            self._running.remove(entry)
            self._changed.set()

    def _cancelled(self, entry: _Entry) -> None:
        if entry.cancelled:
            self.ended.append(Ended(entry.job, "cancelled"))
        else:
            self._waiting.append(entry)

    def _failed(self, entry: _Entry, error: Exception) -> None:
        found = self._policy.verdict(error, entry.attempts + 1)
        if found.what in ("again", "later"):
            entry.attempts += found.what == "again"
            entry.due = asyncio.get_running_loop().time() + found.delay
            self._waiting.append(entry)
            _log.info("job %d comes again in %.1f s: %s", entry.number, found.delay, found.why)
            return
        self.ended.append(Ended(entry.job, found.why))
        if found.what == "fail":
            _log.error("job %d failed for good: %s", entry.number, found.why, exc_info=error)

    async def _stop(self, grace: float) -> None:
        tasks = [entry.task for entry in self._running if entry.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=grace)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
