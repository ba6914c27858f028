"""Looking at jobs and workers, and cleaning up, through a Procrastinate connector: held to both connectors."""

from collections.abc import Iterable
from typing import Any

import asyncpg
import pytest
from procrastinate import utils
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager

from tests.procrastinate.drivers import a_job

ROW = {"jobs_count": 0, "todo": 0, "doing": 0, "succeeded": 0, "failed": 0, "cancelled": 0, "aborted": 0}


@pytest.fixture
async def five(manager: JobManager) -> list[Job]:
    """Jobs in three queues, of two tasks, in five states; the last is under way."""
    jobs = [
        a_job(queue="a", task_name="ship", lock="l1", queueing_lock="q1", task_kwargs={"n": 1}),
        a_job(queue="a", task_name="pack", lock="l2", queueing_lock="q2"),
        a_job(queue="b", task_name="ship", lock="l2", queueing_lock="q3"),
        a_job(queue="c", task_name="pack", lock=None, queueing_lock=None),
        a_job(queue="c", task_name="pack", lock="l3", queueing_lock="q5"),
    ]
    jobs = await manager.batch_defer_jobs_async(jobs)
    await manager.finish_job(jobs[1], Status.FAILED, delete_job=False)
    await manager.finish_job(jobs[2], Status.SUCCEEDED, delete_job=False)
    await manager.cancel_job_by_id_async(4)
    await manager.fetch_job(queues=["c"], worker_id=await manager.register_worker())
    return jobs


async def under_way(manager: JobManager, **options: Any) -> Job:
    """Enqueue a job, and fetch it for a worker of its own."""
    await manager.defer_job_async(a_job(**options))
    job = await manager.fetch_job(queues=None, worker_id=await manager.register_worker())
    assert job is not None
    return job


def names(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the names in *rows*, in order."""
    return [row["name"] for row in rows]


class TestLists:
    """Lists and counts."""

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            ({}, [1, 2, 3, 4, 5]),
            ({"id": 3}, [3]),
            ({"id": 9}, []),
            ({"queue": "a"}, [1, 2]),
            ({"task": "pack"}, [2, 4, 5]),
            ({"queue": "a", "task": "ship"}, [1]),
            ({"status": "failed"}, [2]),
            ({"lock": "l2"}, [2, 3]),
            ({"queueing_lock": "q3"}, [3]),
            ({"worker_id": 1}, [5]),
        ],
    )
    async def test_jobs_are_listed_by_what_is_asked_for(
        self, filters: dict[str, Any], expected: list[int], manager: JobManager, five: list[Job]
    ) -> None:
        """Every filter narrows the list; all that are given must hold. A synchronous program sees the same."""
        listed = await manager.list_jobs_async(**filters)

        assert [job.id for job in listed] == expected
        assert await utils.sync_to_async(manager.list_jobs, **filters) == listed

    async def test_a_job_is_listed_as_it_is(self, manager: JobManager, five: list[Job]) -> None:
        """One that waits is what was enqueued; one under way names its worker and whether it is to abort."""
        await manager.cancel_job_by_id_async(5, abort=True)
        listed = list(await manager.list_jobs_async())

        assert listed[0] == five[0]
        assert listed[4] == five[4].evolve(status="doing", worker_id=1, abort_requested=True)

    @pytest.mark.parametrize(
        ("filters", "queues", "tasks", "locks"),
        [
            ({}, ["a", "b", "c"], ["pack", "ship"], ["l1", "l2", "l3"]),
            ({"queue": "b"}, ["b"], ["ship"], ["l2"]),
            ({"task": "pack"}, ["a", "c"], ["pack"], ["l2", "l3"]),
            ({"status": "todo"}, ["a"], ["ship"], ["l1"]),
            ({"lock": "l2"}, ["a", "b"], ["pack", "ship"], ["l2"]),
            ({"queue": "x"}, [], [], []),
        ],
    )
    async def test_queues_tasks_and_locks_are_listed(
        self, filters: Any, queues: list[str], tasks: list[str], locks: list[str], manager: JobManager, five: list[Job]
    ) -> None:
        """Those of the jobs that the filters leave, by name. A synchronous program sees the same."""
        listed = [
            await manager.list_queues_async(**filters),
            await manager.list_tasks_async(**filters),
            await manager.list_locks_async(**filters),
        ]

        def program() -> list[Iterable[dict[str, Any]]]:
            return [manager.list_queues(**filters), manager.list_tasks(**filters), manager.list_locks(**filters)]

        assert [names(rows) for rows in listed] == [queues, tasks, locks]
        assert await utils.sync_to_async(program) == listed

    async def test_jobs_are_counted_by_status(self, manager: JobManager, five: list[Job]) -> None:
        """A row has the count of all and of each status."""
        a, _, c = await manager.list_queues_async()
        pack, _ = await manager.list_tasks_async()
        _, l2, _ = await manager.list_locks_async()

        assert a == ROW | {"name": "a", "jobs_count": 2, "todo": 1, "failed": 1}
        assert c == ROW | {"name": "c", "jobs_count": 2, "doing": 1, "cancelled": 1}
        assert pack == ROW | {"name": "pack", "jobs_count": 3, "doing": 1, "failed": 1, "cancelled": 1}
        assert l2 == ROW | {"name": "l2", "jobs_count": 2, "failed": 1, "succeeded": 1}


class TestWorkers:
    """Heartbeats, and the jobs of workers without one."""

    async def test_a_worker_comes_and_goes(self, manager: JobManager, database: asyncpg.Connection) -> None:
        """Its row stands from its registration to its end, with the time of its last heartbeat."""
        worker, other = await manager.register_worker(), await manager.register_worker()
        await database.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
        await manager.update_heartbeat(worker)
        rows = await database.fetch(
            "SELECT id, now() - last_heartbeat < interval '1 minute' AS fresh FROM procrastinate_workers ORDER BY id"
        )
        await manager.unregister_worker(worker)

        assert [tuple(row) for row in rows] == [(worker, True), (other, False)]
        assert await database.fetchval("SELECT array_agg(id) FROM procrastinate_workers") == [other]

    async def test_a_silent_worker_is_pruned(self, manager: JobManager, database: asyncpg.Connection) -> None:
        """Only one that has been silent for longer than is said, which may be a fraction of a second."""
        silent, _ = await manager.register_worker(), await manager.register_worker()
        await database.execute(
            "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '35 minutes' WHERE id = $1", silent
        )

        assert await manager.prune_stalled_workers(3600) == []
        assert await manager.prune_stalled_workers(1800.5) == [silent]
        assert await manager.prune_stalled_workers(1800.5) == []

    @pytest.mark.parametrize(
        ("filters", "found"),
        [
            ({}, True),
            ({"queue": "a"}, True),
            ({"task_name": "ship"}, True),
            ({"seconds_since_heartbeat": 1800.5}, True),
            ({"queue": "b"}, False),
            ({"task_name": "pack"}, False),
            ({"seconds_since_heartbeat": 3600}, False),
        ],
    )
    async def test_jobs_of_a_silent_worker_have_stalled(
        self, filters: dict[str, Any], found: bool, manager: JobManager, database: asyncpg.Connection
    ) -> None:
        """They are found by the time of its last heartbeat, its queue and their task; those of a live worker are not."""
        job = await under_way(manager, queue="a")
        await database.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '35 minutes'")
        await under_way(manager, queue="a")

        assert await manager.get_stalled_jobs(**filters) == [job] * found

    async def test_jobs_of_a_worker_that_is_gone_have_stalled(self, manager: JobManager) -> None:
        """When the worker has been pruned, its job names none and is found."""
        job = await under_way(manager)
        await manager.prune_stalled_workers(-1)

        assert await manager.get_stalled_jobs() == [job.evolve(worker_id=None)]

    @pytest.mark.parametrize(
        ("filters", "found"),
        [
            ({"nb_seconds": 1800}, True),
            ({"nb_seconds": 1800, "queue": "a", "task_name": "ship"}, True),
            ({"nb_seconds": 3600}, False),
            ({"nb_seconds": 1800, "queue": "b"}, False),
            ({"nb_seconds": 1800, "task_name": "pack"}, False),
        ],
    )
    async def test_jobs_that_started_long_ago_have_stalled(
        self, filters: dict[str, Any], found: bool, manager: JobManager, database: asyncpg.Connection
    ) -> None:
        """The older way to ask goes by the last start, not by an earlier one that ended in a retry."""
        job = await under_way(manager, queue="a")
        other = await under_way(manager, queue="a")
        await database.execute("UPDATE procrastinate_events SET at = now() - interval '35 minutes'")
        await manager.retry_job(other)
        await manager.fetch_job(queues=None, worker_id=other.worker_id or 0)
        with pytest.warns(DeprecationWarning, match="nb_seconds"):
            stalled = await manager.get_stalled_jobs(**filters)

        assert stalled == [job] * found


class TestCleaningUp:
    """Old jobs are deleted."""

    @pytest.mark.parametrize(
        ("options", "left"),
        [
            ({"nb_hours": 3}, ["todo", "doing", "succeeded", "failed", "cancelled", "aborted"]),
            ({"nb_hours": 1}, ["todo", "doing", "failed", "cancelled", "aborted"]),
            ({"nb_hours": 1, "queue": "orders"}, ["todo", "doing", "failed", "cancelled", "aborted"]),
            ({"nb_hours": 1, "queue": "b"}, ["todo", "doing", "succeeded", "failed", "cancelled", "aborted"]),
            ({"nb_hours": 1, "include_failed": True}, ["todo", "doing", "cancelled", "aborted"]),
            ({"nb_hours": 1, "include_cancelled": True}, ["todo", "doing", "failed", "aborted"]),
            ({"nb_hours": 1, "include_aborted": True}, ["todo", "doing", "failed", "cancelled"]),
        ],
    )
    async def test_those_that_ended_long_ago(
        self, options: Any, left: list[str], manager: JobManager, database: asyncpg.Connection
    ) -> None:
        """In the states and the queue that are asked for, longer ago than is said; never one that waits or is under way."""
        await manager.batch_defer_jobs_async([a_job() for _ in range(6)])
        await manager.finish_job_by_id_async(3, Status.SUCCEEDED, delete_job=False)
        await manager.finish_job_by_id_async(4, Status.FAILED, delete_job=False)
        await manager.cancel_job_by_id_async(5)
        await manager.finish_job_by_id_async(6, Status.ABORTED, delete_job=False)
        await database.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE id = 2")
        await database.execute("UPDATE procrastinate_events SET at = now() - interval '2 hours'")
        await manager.delete_old_jobs(**options)

        assert [job.status for job in await manager.list_jobs_async()] == left
