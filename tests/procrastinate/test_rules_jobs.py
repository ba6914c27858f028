"""What becomes of a job through a Procrastinate connector, from enqueueing to its end, held to both connectors."""

import asyncio
import datetime as dt
from typing import Any

import asyncpg
import pytest
from procrastinate import exceptions, utils
from procrastinate.jobs import Job, Status
from procrastinate.manager import QUEUEING_LOCK_CONSTRAINT, JobManager

from tests.procrastinate.drivers import a_job

PAST = dt.datetime(2001, 2, 3, 4, 5, 6, 789, tzinfo=dt.UTC)
FUTURE = dt.datetime(2101, 2, 3, tzinfo=dt.UTC)


@pytest.fixture
async def worker(manager: JobManager) -> int:
    """A worker that is registered."""
    return await manager.register_worker()


async def fetched(manager: JobManager, worker: int, queues: list[str] | None = None) -> Job:
    """Fetch a job, which must be there."""
    job = await manager.fetch_job(queues=queues, worker_id=worker)
    assert job is not None
    return job


async def state(database: asyncpg.Connection) -> list[tuple[Any, ...]]:
    """Return status and attempts of all jobs, oldest first."""
    return [tuple(row) for row in await database.fetch("SELECT status, attempts FROM procrastinate_jobs ORDER BY id")]


class TestEnqueueing:
    """Jobs put into their queues."""

    async def test_every_field_is_kept(self, manager: JobManager, worker: int) -> None:
        """What is listed and fetched is what was enqueued, field by field."""
        arguments: Any = {"a": 1, "b": [None, {"c": "☕ 100 %"}]}
        full = a_job(lock="l", queueing_lock="q", task_kwargs=arguments, priority=-3, scheduled_at=PAST)
        enqueued = [await manager.defer_job_async(job) for job in (full, a_job())]

        assert enqueued == [full.evolve(id=1, status="todo"), a_job(id=2, status="todo")]
        assert await manager.list_jobs_async() == enqueued
        expected = [job.evolve(status="doing", worker_id=worker) for job in reversed(enqueued)]
        assert [await fetched(manager, worker) for _ in range(2)] == expected

    async def test_many_are_enqueued_in_their_order(self, manager: JobManager) -> None:
        """Ids come back in the order of the jobs; for no jobs there are none."""
        jobs = [a_job(task_kwargs={"n": n}, priority=n % 3, scheduled_at=FUTURE if n % 2 else None) for n in range(20)]
        enqueued = await manager.batch_defer_jobs_async(jobs)

        assert enqueued == [job.evolve(id=n, status="todo") for n, job in enumerate(jobs, 1)]
        assert await manager.list_jobs_async() == enqueued
        assert await manager.batch_defer_jobs_async([]) == []

    async def test_a_taken_queueing_lock_keeps_all_of_them_out(self, manager: JobManager, worker: int) -> None:
        """A lock that waits already, or stands twice in one call; once the job has started, it is free."""
        await manager.defer_job_async(a_job(queueing_lock="order 1"))
        for jobs in ([a_job(queueing_lock="order 1")], [a_job(), a_job(queueing_lock="b"), a_job(queueing_lock="b")]):
            with pytest.raises(exceptions.AlreadyEnqueued) as caught:
                await manager.batch_defer_jobs_async(jobs)
            violation = caught.value.__cause__
            assert isinstance(violation, exceptions.UniqueViolation)
            assert violation.constraint_name == QUEUEING_LOCK_CONSTRAINT
            assert violation.queueing_lock == jobs[-1].queueing_lock
        assert len(list(await manager.list_jobs_async())) == 1

        await fetched(manager, worker)
        await manager.defer_job_async(a_job(queueing_lock="order 1"))

    async def test_a_periodic_job_is_unique_by_its_time(self, manager: JobManager) -> None:
        """One job per task, periodic id and time; a wrong time and a taken queueing lock are told apart."""
        at_60 = a_job(queueing_lock="tick", lock="l", priority=2, task_kwargs={"timestamp": 60})
        ids = [await manager.defer_periodic_job(at_60, periodic_id, 60) for periodic_id in ("a", "a")]
        with pytest.raises(exceptions.AlreadyEnqueued, match="tick"):
            await manager.defer_periodic_job(at_60, "b", 60)
        with pytest.raises(exceptions.InvalidTimestamp):
            await manager.defer_periodic_job(at_60, "a", 120)
        other = await manager.defer_periodic_job(a_job(task_kwargs={"timestamp": 120}), "a", 120)

        first, second = await manager.list_jobs_async()
        assert ids == [first.id, None]
        assert first == at_60.evolve(id=first.id, status="todo")
        assert (second.id, second.task_kwargs) == (other, {"timestamp": 120})


class TestFetching:
    """Which job a worker gets."""

    @pytest.mark.parametrize(
        ("job", "queues", "found"),
        [
            ({}, None, True),
            ({}, ["orders"], True),
            ({}, ["other", "orders"], True),
            ({}, ["other"], False),
            ({}, [], False),
            ({"scheduled_at": PAST}, None, True),
            ({"scheduled_at": FUTURE}, None, False),
        ],
    )
    async def test_by_queue_and_time(
        self, job: dict[str, Any], queues: list[str] | None, found: bool, manager: JobManager, worker: int
    ) -> None:
        """Of the worker's queues, or any, once its time has come; and it is not there for another."""
        await manager.defer_job_async(a_job(**job))
        answers = [await manager.fetch_job(queues=queues, worker_id=worker) for _ in range(2)]

        expected = a_job(**job, id=1, status="doing", worker_id=worker) if found else None
        assert answers == [expected, None]

    async def test_by_priority_then_age(self, manager: JobManager, worker: int) -> None:
        """The highest priority first, and the oldest of those."""
        await manager.batch_defer_jobs_async([a_job(priority=priority) for priority in (0, -1, 5, 0, 5)])

        assert [(await fetched(manager, worker)).id for _ in range(5)] == [3, 5, 1, 4, 2]

    @pytest.mark.parametrize("abort", [False, True])
    async def test_a_lock_is_held_until_the_job_ends(self, abort: bool, manager: JobManager, worker: int) -> None:
        """Jobs with one lock start one after another, even while the first is asked to abort; others pass."""
        first, second, other, free = await manager.batch_defer_jobs_async(
            [a_job(lock="a"), a_job(lock="a"), a_job(lock="b"), a_job()]
        )
        jobs = [await fetched(manager, worker) for _ in range(3)]
        if abort:
            await manager.cancel_job_by_id_async(jobs[0].id or 0, abort=True)
        waiting = await manager.fetch_job(queues=None, worker_id=worker)
        await manager.finish_job(jobs[0], Status.SUCCEEDED, delete_job=False)

        assert [job.id for job in jobs] == [first.id, other.id, free.id]
        assert waiting is None
        assert (await fetched(manager, worker)).id == second.id

    async def test_each_job_goes_to_one_worker(self, manager: JobManager, worker: int) -> None:
        """However many fetch at once."""
        await manager.batch_defer_jobs_async([a_job() for _ in range(20)])
        workers = [worker, *[await manager.register_worker() for _ in range(3)]]
        jobs = await asyncio.gather(*(fetched(manager, workers[n % 4]) for n in range(20)))

        assert sorted(job.id or 0 for job in jobs) == list(range(1, 21))
        for holder in workers:
            held = {job.id for job in jobs if job.worker_id == holder}
            assert {job.id for job in await manager.list_jobs_async(worker_id=holder)} == held


class TestEnding:
    """Jobs that are finished, retried or cancelled."""

    @pytest.mark.parametrize("status", [Status.SUCCEEDED, Status.FAILED, Status.ABORTED])
    @pytest.mark.parametrize("delete", [False, True])
    async def test_a_job_is_finished(
        self, status: Status, delete: bool, manager: JobManager, worker: int, database: asyncpg.Connection
    ) -> None:
        """Its attempt is counted, or its row deleted; one that never started has no attempt."""
        await manager.batch_defer_jobs_async([a_job(), a_job()])
        await manager.finish_job(await fetched(manager, worker), status, delete_job=delete)
        await manager.finish_job_by_id_async(2, status, delete_job=delete)

        assert await state(database) == ([] if delete else [(status.value, 1), (status.value, 0)])

    @pytest.mark.parametrize("delete", [False, True])
    async def test_what_cannot_be_finished_is_refused(self, delete: bool, manager: JobManager, worker: int) -> None:
        """A job that has ended, one that never was, and an end that is none."""
        await manager.defer_job_async(a_job())
        job = await fetched(manager, worker)
        with pytest.raises(exceptions.ConnectorException) as caught:
            await manager.finish_job(job, Status.TODO, delete_job=delete)
        assert "End status should be" in str(caught.value.__cause__)
        await manager.finish_job(job, Status.FAILED, delete_job=False)
        for ended in (job, job.evolve(id=1000)):
            with pytest.raises(exceptions.ConnectorException) as caught:
                await manager.finish_job(ended, Status.FAILED, delete_job=delete)
            assert "Job was not found" in str(caught.value.__cause__)

    @pytest.mark.parametrize("failed", [False, True])
    async def test_a_job_is_retried(self, failed: bool, manager: JobManager, worker: int) -> None:
        """It is there again at once as it was, or later and elsewhere as told; also one that has failed."""
        await manager.defer_job_async(a_job(lock="l", priority=2, task_kwargs={"n": 1}))
        job = await fetched(manager, worker)
        if failed:
            await manager.finish_job(job, Status.FAILED, delete_job=False)
        await manager.retry_job(job)
        again = await fetched(manager, worker)
        await manager.retry_job(again, retry_at=PAST, priority=7, queue="other", lock="m")
        moved = await fetched(manager, worker, ["other"])
        await manager.retry_job(moved, retry_at=FUTURE)
        later = await manager.fetch_job(queues=None, worker_id=worker)

        assert again == job.evolve(attempts=1 + failed, scheduled_at=again.scheduled_at)
        changes = {"attempts": 2 + failed, "scheduled_at": PAST, "priority": 7, "queue": "other", "lock": "m"}
        assert moved == job.evolve(**changes)
        assert later is None

    async def test_what_cannot_be_retried_is_refused(
        self, manager: JobManager, worker: int, database: asyncpg.Connection
    ) -> None:
        """A job that waits is left as it is; one that is to be aborted has failed."""
        job = await manager.defer_job_async(a_job())
        with pytest.raises(exceptions.ConnectorException) as caught:
            await manager.retry_job(job)
        await manager.cancel_job_by_id_async((await fetched(manager, worker)).id or 0, abort=True)
        await manager.retry_job(job)

        assert "invalid status to retry" in str(caught.value.__cause__)
        assert [status for status, _ in await state(database)] == ["failed"]

    @pytest.mark.parametrize(
        ("doing", "options", "cancelled", "left"),
        [
            (False, {}, True, ["cancelled"]),
            (False, {"abort": True}, True, ["cancelled"]),
            (False, {"delete_job": True}, True, []),
            (True, {}, False, ["doing"]),
            (True, {"delete_job": True}, False, ["doing"]),
            (True, {"abort": True}, True, ["doing"]),
        ],
    )
    async def test_a_job_is_cancelled(
        self, doing: bool, options: Any, cancelled: bool, left: list[str], manager: JobManager, worker: int
    ) -> None:
        """One that waits ends, or goes; one under way is asked to abort, if at all. The answer says if anything was done."""
        await manager.defer_job_async(a_job())
        if doing:
            await fetched(manager, worker)
        answer = await manager.cancel_job_by_id_async(1, **options)
        to_abort = [await manager.list_jobs_to_abort_async(queue) for queue in (None, "orders", "other")]

        assert answer is cancelled
        assert [job.status for job in await manager.list_jobs_async()] == left
        assert to_abort == ([[1], [1], []] if doing and cancelled else [[], [], []])
        assert await manager.fetch_job(queues=None, worker_id=worker) is None
        assert await manager.cancel_job_by_id_async(1000, **options) is False

    async def test_a_status_is_asked_for(self, manager: JobManager, worker: int) -> None:
        """By id, at every stage; for a job that is not there there is no result."""
        await manager.defer_job_async(a_job())
        seen = [await manager.get_job_status_async(1)]
        job = await fetched(manager, worker)
        seen.append(await manager.get_job_status_async(1))
        await manager.finish_job(job, Status.ABORTED, delete_job=False)
        seen.append(await manager.get_job_status_async(1))

        assert seen == [Status.TODO, Status.DOING, Status.ABORTED]
        with pytest.raises(exceptions.NoResult):
            await manager.get_job_status_async(2)

    async def test_a_synchronous_program_does_the_same(self, manager: JobManager, worker: int) -> None:
        """Procrastinate's synchronous calls enqueue, cancel, retry and ask, in a thread of its own."""
        job = await manager.defer_job_async(a_job())
        await manager.finish_job(await fetched(manager, worker), Status.FAILED, delete_job=False)

        def program() -> list[Any]:
            manager.batch_defer_jobs([a_job(queueing_lock="a"), a_job()])
            with pytest.raises(exceptions.AlreadyEnqueued):
                manager.defer_job(a_job(queueing_lock="a"))
            manager.retry_job_by_id(job.id or 0, retry_at=PAST, priority=4)
            return [manager.cancel_job_by_id(2), manager.cancel_job_by_id(9), manager.get_job_status(2)]

        answers = await utils.sync_to_async(program)
        jobs = await manager.list_jobs_async()

        assert answers == [True, False, Status.CANCELLED]
        assert [(job.status, job.priority) for job in jobs] == [("todo", 4), ("cancelled", 0), ("todo", 0)]
