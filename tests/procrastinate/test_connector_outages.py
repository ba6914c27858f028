"""The asyncpg connector when the server goes away: what is sent again, what is not, and LISTEN."""

import asyncio
import datetime as dt
from collections.abc import AsyncGenerator, Callable
from typing import Any

import asyncpg
import procrastinate
import pytest
from procrastinate import exceptions
from procrastinate.jobs import Job, Status
from procrastinate.types import JSONDict

from docket_procrastinate import AsyncpgConnector
from docket_procrastinate._repeat import HandedOut
from tests.procrastinate.wire import Proxy

KILL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE $1
"""


@pytest.fixture
async def app(proxy: Proxy) -> AsyncGenerator[procrastinate.App]:
    """An app with one task, ``ship``, whose connector has one connection through the proxy, warm."""
    connector = AsyncpgConnector(proxy.dsn, max_size=1)
    app = procrastinate.App(connector=connector)

    @app.task(name="ship", queue="orders")
    async def ship(**_arguments: Any) -> None: ...

    async with app.open_async():
        # Types are looked up by a statement of asyncpg's own the first time; no answer to that one is to be lost.
        worker = await app.job_manager.register_worker()
        for end in (_succeed, _retry):
            await app.configure_task("ship").defer_async()
            await end(app, await _fetch(app, worker))
        await app.job_manager.cancel_job_by_id_async(2)
        await app.configure_task("ship", queueing_lock="warm").defer_async()
        await connector.execute_query_async("TRUNCATE procrastinate_jobs, procrastinate_events RESTART IDENTITY CASCADE")
        yield app


async def _fetch(app: procrastinate.App, worker: int) -> Job:
    job = await app.job_manager.fetch_job(queues=None, worker_id=worker)
    assert job is not None
    return job


async def _succeed(app: procrastinate.App, job: Job) -> None:
    await app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=False)


async def _delete(app: procrastinate.App, job: Job) -> None:
    await app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=True)


async def _retry(app: procrastinate.App, job: Job) -> None:
    await app.job_manager.retry_job(job)


async def _states(database: asyncpg.Connection) -> list[tuple[str, int]]:
    rows = await database.fetch("SELECT status, attempts FROM procrastinate_jobs ORDER BY id")
    return [(row["status"], row["attempts"]) for row in rows]


class TestLostAnswers:
    """The statement took effect, and the connection broke before the answer came."""

    async def test_a_fetched_job_is_found_again(
        self, app: procrastinate.App, proxy: Proxy, database: asyncpg.Connection
    ) -> None:
        """The job of the lost answer is the one returned: it is not left in ``doing`` with nobody to run it."""
        worker = await app.job_manager.register_worker()
        first, second = await app.configure_task("ship").batch_defer_async({"n": 1}, {"n": 2})
        proxy.lose_answers(1)
        job = await _fetch(app, worker)
        other = await _fetch(app, worker)

        assert (job.id, job.task_kwargs, job.status) == (first, {"n": 1}, "doing")
        assert other.id == second
        assert await app.job_manager.fetch_job(queues=None, worker_id=worker) is None
        assert await _states(database) == [("doing", 0), ("doing", 0)]

    async def test_a_job_that_runs_is_not_taken_for_a_lost_one(self, app: procrastinate.App, proxy: Proxy) -> None:
        """Looking for the lost job passes over those the worker holds."""
        worker = await app.job_manager.register_worker()
        await app.configure_task("ship").defer_async()
        running = await _fetch(app, worker)
        await app.configure_task("ship").defer_async()
        proxy.lose_answers(2)

        assert (await _fetch(app, worker)).id != running.id
        assert await app.job_manager.fetch_job(queues=None, worker_id=worker) is None

    @pytest.mark.parametrize(
        ("end", "expected"),
        [(_succeed, [("succeeded", 1)]), (_delete, []), (_retry, [("todo", 1)])],
    )
    async def test_a_job_is_ended_once(
        self, end: Callable[..., Any], expected: Any, app: procrastinate.App, proxy: Proxy, database: asyncpg.Connection
    ) -> None:
        """Finishing and retrying are repeated without error, and count one attempt."""
        worker = await app.job_manager.register_worker()
        await app.configure_task("ship").defer_async()
        job = await _fetch(app, worker)
        proxy.lose_answers(2)
        await end(app, job)

        assert await _states(database) == expected

    @pytest.mark.parametrize("end", [_succeed, _retry])
    async def test_a_later_execution_is_left_alone(
        self, end: Callable[..., Any], app: procrastinate.App, proxy: Proxy, database: asyncpg.Connection
    ) -> None:
        """A repeat that comes when the job already runs again, even in the same worker, ends nothing."""
        worker = await app.job_manager.register_worker()
        await app.configure_task("ship").defer_async()
        job = await _fetch(app, worker)
        proxy.lose_answers(1, and_leave=True)
        ending = asyncio.create_task(end(app, job))
        await proxy.lost.wait()
        await database.execute(
            "UPDATE procrastinate_jobs SET status = 'doing', attempts = 1, worker_id = $1, scheduled_at = NULL", worker
        )
        await proxy.arrive()
        await ending

        assert await _states(database) == [("doing", 1)]

    async def test_a_job_of_another_process_is_not_ended_twice(
        self, app: procrastinate.App, proxy: Proxy, database: asyncpg.Connection
    ) -> None:
        """A rescue whose answer is lost is reported: there is no telling which execution a repeat would hit."""
        await app.configure_task("ship").defer_async()
        await database.execute("SELECT procrastinate_fetch_job_v2(NULL, procrastinate_register_worker_v1())")
        proxy.lose_answers(1)
        with pytest.raises(exceptions.ConnectorException, match="answer to retry_job was lost"):
            await app.job_manager.retry_job_by_id_async(1, dt.datetime.now(dt.UTC))

        assert await _states(database) == [("todo", 1)]

    async def test_enqueueing_is_not_repeated(self, app: procrastinate.App, proxy: Proxy, database: asyncpg.Connection) -> None:
        """A job without a queueing lock might be there twice, so the caller is told that it may be there."""
        proxy.lose_answers(1)
        with pytest.raises(exceptions.ConnectorException, match="may or may not have taken effect"):
            await app.configure_task("ship").defer_async()

        assert await _states(database) == [("todo", 0)]

    async def test_enqueueing_with_a_queueing_lock_is_repeated(
        self, app: procrastinate.App, proxy: Proxy, database: asyncpg.Connection
    ) -> None:
        """The repeat finds the job of the first try waiting, and says so as of any duplicate."""
        proxy.lose_answers(1)
        with pytest.raises(exceptions.AlreadyEnqueued):
            await app.configure_task("ship", queueing_lock="run 1").defer_async()

        assert await _states(database) == [("todo", 0)]

    async def test_cancelling_is_not_repeated(self, app: procrastinate.App, proxy: Proxy, database: asyncpg.Connection) -> None:
        """A repeat would answer that there was nothing to cancel."""
        job_id = await app.configure_task("ship").defer_async()
        proxy.lose_answers(1)
        with pytest.raises(exceptions.ConnectorException, match="answer to cancel_job was lost"):
            await app.job_manager.cancel_job_by_id_async(job_id)

        assert await _states(database) == [("cancelled", 0)]

    async def test_reading_and_heartbeats_are_repeated(self, app: procrastinate.App, proxy: Proxy) -> None:
        """What is the same twice is sent until it is answered."""
        worker = await app.job_manager.register_worker()
        job_id = await app.configure_task("ship").defer_async()
        proxy.lose_answers(1)
        await app.job_manager.update_heartbeat(worker)
        proxy.lose_answers(1)
        status = await app.job_manager.get_job_status_async(job_id)
        proxy.lose_answers(1)
        await app.job_manager.unregister_worker(worker)

        assert status is Status.TODO

    async def test_on_the_callers_connection_nothing_is_repeated(self, app: procrastinate.App, proxy: Proxy) -> None:
        """A transaction that is lost is the caller's to repeat."""
        connection = await asyncpg.connect(proxy.dsn)
        await connection.transaction().start()
        await proxy.leave()

        with pytest.raises(exceptions.ConnectorException):
            await app.configure_task("ship", connection=connection).defer_async()
        connection.terminate()


class TestServerAway:
    """The server cannot be reached."""

    async def test_any_statement_waits_for_it(self, app: procrastinate.App, proxy: Proxy, database: asyncpg.Connection) -> None:
        """What was certainly not sent is sent when the server is back, enqueueing without a lock too."""
        await proxy.leave()
        await _noticed(app)
        enqueueing = asyncio.create_task(app.configure_task("ship").defer_async())
        await asyncio.sleep(0.2)
        await proxy.arrive()
        await enqueueing

        assert await _states(database) == [("todo", 0)]

    async def test_the_budget_ends(self, proxy: Proxy) -> None:
        """After outage_budget seconds the error names the statement, with the database's own as its cause."""
        app = procrastinate.App(connector=AsyncpgConnector(proxy.dsn, outage_budget=0.2))
        await proxy.leave()
        async with app.open_async():
            with pytest.raises(exceptions.ConnectorException, match=r"for 0\.2 s, sending register_worker") as caught:
                await app.job_manager.register_worker()

        assert isinstance(caught.value.__cause__, OSError)

    async def test_a_health_check_answers_at_once(self, app: procrastinate.App, proxy: Proxy) -> None:
        """Whoever asks whether the database is there is not kept waiting for it."""
        await proxy.leave()
        with pytest.raises(exceptions.ConnectorException, match="just now, sending check_connection"):
            await app.check_connection_async()

    async def test_a_frozen_connection_is_given_up(self, proxy: Proxy) -> None:
        """A server that does not answer within command_timeout counts as lost; the statement goes on elsewhere."""
        app = procrastinate.App(connector=AsyncpgConnector(proxy.dsn, command_timeout=0.5))
        async with app.open_async():
            await app.job_manager.register_worker()
            proxy.freeze()
            worker = await app.job_manager.register_worker()

        assert worker > 1

    async def test_a_read_only_server_is_waited_out(self, dsn: str, database: asyncpg.Connection) -> None:
        """A server that was demoted refuses writes; they go to the one that takes them, once."""
        setting = {"default_transaction_read_only": "on"}
        tried: list[asyncpg.Connection] = []

        async def first_a_replica(*args: Any, **options: Any) -> asyncpg.Connection:
            tried.append(await asyncpg.connect(*args, **options, server_settings={} if tried else setting))
            return tried[-1]

        app = procrastinate.App(connector=AsyncpgConnector(dsn, connect=first_a_replica))
        async with app.open_async():
            await app.configure_task("ship").defer_async()

        assert len(tried) == 2
        assert await _states(database) == [("todo", 0)]

    async def test_every_job_runs_once_while_backends_are_killed(self, dsn: str, database: asyncpg.Connection) -> None:
        """A worker whose connections are terminated over and over ends all its jobs, each in one execution."""
        runs: list[int] = []
        app = procrastinate.App(connector=AsyncpgConnector(dsn, max_size=4))

        @app.task(name="count", queue="orders")
        async def count(n: int) -> None:
            await asyncio.sleep(0.01)
            runs.append(n)

        async with app.open_async():
            arguments: list[JSONDict] = [{"n": n} for n in range(60)]
            await count.batch_defer_async(*arguments)
            worker = asyncio.create_task(app.run_worker_async(concurrency=4, wait=False, install_signal_handlers=False))
            for _ in range(20):
                await database.execute(KILL, "%procrastinate%")
                await asyncio.sleep(0.03)
            await worker  # not killed any more: on a busy machine no connection would live long enough to be of any use

        assert sorted(runs) == list(range(60))
        assert await _states(database) == [("succeeded", 1)] * 60


def test_what_a_stopped_worker_held_is_forgotten() -> None:
    """The memory of jobs handed out does not grow with the workers that come and go."""
    held = HandedOut()
    held.note({"id": 1, "attempts": 0}, worker_id=7)
    held.note({"id": 2, "attempts": 3}, worker_id=8)
    held.doubt(7)
    held.left(7)

    assert (held.known(7), held.in_doubt(7), held.attempts(2)) == ([], False, 3)


async def _noticed(app: procrastinate.App) -> None:
    """Wait until the pool knows that its connections are closed, as it does when the loop has been round."""
    assert isinstance(app.connector, AsyncpgConnector)
    while app.connector.pool.get_idle_size():  # noqa: ASYNC110 - the pool tells nobody
        await asyncio.sleep(0)
