"""A Procrastinate worker running real tasks, held to both connectors."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import procrastinate
import pytest
from procrastinate import JobContext, exceptions
from procrastinate.jobs import Status
from procrastinate.types import JSONDict

from tests.procrastinate.drivers import Driver, background, named, opened
from tests.procrastinate.queueing import until

# Longer than any test may take: what happens in spite of it did not come by polling.
NEVER = 3600.0

POLLING = {"listen_notify": False, "fetch_job_polling_interval": 0.05, "abort_job_polling_interval": 0.05}
LISTENING = {"listen_notify": True, "fetch_job_polling_interval": NEVER, "abort_job_polling_interval": NEVER}


@pytest.fixture
async def app(driver: Driver, dsn: str) -> AsyncGenerator[procrastinate.App]:
    """An open app on each connector in turn, whose sessions have a name of their own."""
    here, _ = named(dsn)
    async with opened(driver.make(here)) as connector:
        yield procrastinate.App(connector=connector, worker_defaults={"install_signal_handlers": False})


def numbered(count: int) -> list[JSONDict]:
    """Return the arguments of *count* jobs."""
    return [{"n": n} for n in range(count)]


def endless(app: procrastinate.App, *, synchronous: bool, retry: int = False) -> Any:
    """Return a task that ends only when it is told to."""

    @app.task(name="wait", retry=retry)
    async def wait() -> None:
        await asyncio.sleep(NEVER)

    @app.task(name="watch", retry=retry, pass_context=True)
    def watch(context: JobContext) -> None:
        while not context.should_abort():
            time.sleep(0.01)
        raise exceptions.JobAborted

    return watch if synchronous else wait


def working(app: procrastinate.App, **options: Any) -> "asyncio.Task[None]":
    """Start a worker."""
    return asyncio.create_task(app.run_worker_async(**options))


async def become(app: procrastinate.App, *statuses: str) -> None:
    """Wait until the jobs have these statuses, oldest first."""

    async def there() -> bool:
        return [job.status for job in await app.job_manager.list_jobs_async()] == list(statuses)

    await until(there)


async def listening(app: procrastinate.App) -> None:
    """Wait until a worker of the app listens."""
    find = """
    SELECT 1 FROM pg_stat_activity
    WHERE application_name = current_setting('application_name') AND query LIKE 'LISTEN%%' AND state = 'idle'
    """
    await until(lambda: app.connector.execute_query_all_async(find))


class TestRunning:
    """Jobs that run."""

    async def test_every_way_to_enqueue_leads_to_a_run(self, app: procrastinate.App) -> None:
        """Synchronous and asynchronous tasks, one by one and many at once, in order, with their arguments."""
        sums: list[int] = []
        products: list[int] = []

        @app.task(name="add", queue="orders")
        def add(a: int, b: int) -> None:
            sums.append(a + b)

        @app.task(name="multiply", queue="orders")
        async def multiply(a: int, b: int) -> None:
            products.append(a * b)

        await add.defer_async(a=1, b=2)
        await add.configure().batch_defer_async({"a": 3, "b": 4}, {"a": 5, "b": 6})
        await app.configure_task("add").defer_async(a=7, b=8)
        await multiply.batch_defer_async({"a": 3, "b": 4}, {"a": 5, "b": 6})
        await app.configure_task("add", queue="other").defer_async(a=0, b=0)
        await app.run_worker_async(queues=["orders"], wait=False)

        assert (sums, products) == ([3, 7, 11, 15], [12, 30])
        await become(app, *["succeeded"] * 6, "todo")

    @pytest.mark.parametrize("options", [POLLING, LISTENING], ids=["polling", "listening"])
    async def test_a_job_is_found_by_polling_and_by_listening(self, options: Any, app: procrastinate.App) -> None:
        """Either alone is enough."""
        seen: list[int] = []

        @app.task(name="see")
        async def see(n: int) -> None:
            seen.append(n)

        async with background(working(app, **options)):
            if options is LISTENING:
                await listening(app)
            for n in range(3):
                await see.defer_async(n=n)
                await become(app, *["succeeded"] * (n + 1))

        assert seen == [0, 1, 2]

    async def test_as_many_run_at_once_as_is_allowed(self, app: procrastinate.App) -> None:
        """The concurrency is reached and not exceeded, and every job runs once."""
        running: set[int] = set()
        most = 0
        runs: Counter[int] = Counter()
        full = asyncio.Event()

        @app.task(name="crowd")
        async def crowd(n: int) -> None:
            nonlocal most
            runs[n] += 1
            running.add(n)
            most = max(most, len(running))
            if len(running) == 5:
                full.set()
            await full.wait()
            await asyncio.sleep(0)
            running.discard(n)

        await crowd.batch_defer_async(*numbered(40))
        await app.run_worker_async(concurrency=5, wait=False)

        assert most == 5
        assert runs == Counter(range(40))

    async def test_a_lock_lets_one_run_at_a_time(self, app: procrastinate.App) -> None:
        """Two workers with room for all run the jobs of one lock in order, none beside another."""
        log: list[str] = []

        @app.task(name="step", lock="one")
        async def step(n: int) -> None:
            log.append(f"begin {n}")
            await asyncio.sleep(0.01)
            log.append(f"end {n}")

        await step.batch_defer_async(*numbered(5))
        async with background(working(app, concurrency=5, **POLLING)), background(working(app, concurrency=5, **POLLING)):
            await become(app, *["succeeded"] * 5)

        assert log == [f"{what} {n}" for n in range(5) for what in ("begin", "end")]

    async def test_a_job_that_fails_is_tried_again(self, app: procrastinate.App) -> None:
        """As often as its strategy says; one whose task nobody knows has failed at once."""
        attempts: list[int] = []

        @app.task(name="fail", retry=procrastinate.RetryStrategy(max_attempts=2), pass_context=True)
        async def fail(context: JobContext) -> None:
            attempts.append(context.job.attempts)
            raise LookupError

        await fail.defer_async()
        await app.configure_task("unknown", allow_unknown=True).defer_async()
        await app.run_worker_async(wait=False)
        jobs = list(await app.job_manager.list_jobs_async())

        assert attempts == [0, 1, 2]
        assert [(job.status, job.attempts) for job in jobs] == [("failed", 3), ("failed", 1)]

    @pytest.mark.parametrize(
        ("delete", "left"), [("never", ["succeeded", "failed"]), ("successful", ["failed"]), ("always", [])]
    )
    async def test_jobs_that_ended_are_deleted_if_so_told(self, delete: str, left: list[str], app: procrastinate.App) -> None:
        """All, those that succeeded, or none."""

        @app.task(name="end")
        async def end(*, well: bool) -> None:
            if not well:
                raise LookupError

        await end.batch_defer_async({"well": True}, {"well": False})
        await app.run_worker_async(wait=False, delete_jobs=delete)

        assert [job.status for job in await app.job_manager.list_jobs_async()] == left

    async def test_a_periodic_task_runs_once_per_tick(self, app: procrastinate.App) -> None:
        """However many workers enqueue it."""
        ticks: list[int] = []

        @app.periodic(cron="* * * * * *")
        @app.task(name="tick", pass_context=False)
        async def tick(timestamp: int) -> None:
            ticks.append(timestamp)

        async def enough() -> bool:
            return len(ticks) >= 2

        async with background(working(app, **POLLING)), background(working(app, **POLLING)):
            await until(enough)

        assert sorted(ticks) == sorted(set(ticks))


class TestAborting:
    """Jobs that somebody no longer wants."""

    async def test_a_cancelled_job_never_runs(self, app: procrastinate.App) -> None:
        """Neither one that stays as cancelled nor one that is deleted; the next one does."""
        seen: list[int] = []

        @app.task(name="see")
        async def see(n: int) -> None:
            seen.append(n)

        ids = await see.batch_defer_async({"n": 1}, {"n": 2}, {"n": 3})
        assert await app.job_manager.cancel_job_by_id_async(ids[0])
        assert await app.job_manager.cancel_job_by_id_async(ids[1], delete_job=True)
        await app.run_worker_async(wait=False)

        assert seen == [3]
        await become(app, "cancelled", "succeeded")

    @pytest.mark.parametrize("options", [POLLING, LISTENING], ids=["polling", "listening"])
    @pytest.mark.parametrize("synchronous", [False, True])
    async def test_a_running_job_is_aborted(self, synchronous: bool, options: Any, app: procrastinate.App) -> None:
        """An asynchronous task is cancelled, a synchronous one sees that it should stop."""
        job_id = await endless(app, synchronous=synchronous).defer_async()
        async with background(working(app, **options)):
            if options is LISTENING:
                await listening(app)
            await become(app, "doing")
            assert await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
            await become(app, "aborted")

    async def test_a_job_that_is_to_abort_is_not_tried_again(self, app: procrastinate.App) -> None:
        """Its failure is its end, whatever the strategy says."""
        attempts: list[int] = []

        @app.task(name="fail", retry=True, pass_context=True)
        async def fail(context: JobContext) -> None:
            attempts.append(context.job.attempts)
            await app.job_manager.cancel_job_by_id_async(context.job.id or 0, abort=True)
            raise LookupError

        job_id = await fail.defer_async()
        await app.run_worker_async(wait=False)

        assert attempts == [0]
        assert await app.job_manager.get_job_status_async(job_id) is Status.FAILED


class TestStopping:
    """A worker that is told to stop."""

    async def test_it_ends_the_jobs_it_has(self, app: procrastinate.App) -> None:
        """It takes no more, waits for those under way, and its row is gone."""
        begun, go_on = asyncio.Event(), asyncio.Event()

        @app.task(name="wait")
        async def wait() -> None:
            begun.set()
            await go_on.wait()

        await wait.batch_defer_async({}, {})
        worker = working(app)
        await begun.wait()
        worker.cancel()
        await asyncio.wait((worker,), timeout=0.1)
        assert not worker.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await worker

        await become(app, "succeeded", "todo")
        assert await app.connector.execute_query_all_async("SELECT id FROM procrastinate_workers") == []

    @pytest.mark.parametrize(("retry", "status"), [(False, "aborted"), (1, "todo")])
    @pytest.mark.parametrize("synchronous", [False, True])
    async def test_after_its_grace_it_aborts_them(
        self, synchronous: bool, retry: int, status: str, app: procrastinate.App
    ) -> None:
        """A job that outlasts the grace is told to end: for good, or to be tried again by another worker."""
        await endless(app, synchronous=synchronous, retry=retry).defer_async()
        worker = working(app, shutdown_graceful_timeout=0.05)
        await become(app, "doing")
        worker.cancel()
        with pytest.raises(asyncio.CancelledError):
            await worker

        await become(app, status)
