"""The asyncpg connector in fair weather: Procrastinate's statements, JSON, pools, loops, synchronous callers."""

import datetime as dt
import decimal
import json
from typing import Any

import asyncpg
import procrastinate
import psycopg
import pytest
from procrastinate import exceptions, sql
from procrastinate.jobs import Status
from procrastinate.types import JobToDefer, JSONDict

from docket_procrastinate import AsyncpgConnector, defer_on_asyncpg
from docket_procrastinate._repeat import fenced, lost_fetch, rule_for
from docket_procrastinate._translate import translate
from tests.procrastinate.apps import app_on
from tests.procrastinate.wire import Proxy

JOB = JobToDefer("orders", "ship", 0, None, None, {"order": "A-1"}, None)


async def with_json_codecs(connection: asyncpg.Connection) -> None:
    """Decode JSON for the application, as many applications have it."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


@pytest.mark.parametrize("name", sorted(set(sql.queries) - {"defer_jobs", "listen_queue"}))
async def test_every_statement_is_understood_by_the_server(name: str, database: asyncpg.Connection) -> None:
    """Each of Procrastinate's queries, rewritten, is one that PostgreSQL can prepare; so are those made from them."""
    query = sql.queries[name]
    made = {"fetch_job": [lost_fetch], "finish_job": [fenced], "retry_job": [fenced]}.get(name, [])

    for text in [query, *(make(query) for make in made)]:
        statement = await database.prepare(translate(text, frozenset({"args"})).text)

        assert len(statement.get_parameters()) == len(translate(text, frozenset[str]()).names)


async def test_every_statement_has_a_rule_for_outages() -> None:
    """No statement of Procrastinate's is left to the rule for unknown ones by an oversight."""
    thought_through = {name for name in sql.queries if rule_for(sql.queries[name]).name != "NEVER"}

    assert set(sql.queries) - thought_through == {"cancel_job", "listen_queue"}


async def test_a_job_runs_from_enqueueing_to_success(connector: AsyncpgConnector, database: asyncpg.Connection) -> None:
    """A worker on the connector runs what was enqueued with it, arguments intact."""
    seen: list[dict[str, Any]] = []
    app = procrastinate.App(connector=connector)

    @app.task(name="remember", queue="orders")
    async def remember(**arguments: Any) -> None:
        seen.append(arguments)

    arguments: JSONDict = {"text": "100 % ☕", "nested": {"list": [1, None, 2.5]}}
    job_id = await remember.configure(priority=3, lock="a").defer_async(**arguments)
    await app.run_worker_async(wait=False, install_signal_handlers=False)

    assert seen == [arguments]
    row = await database.fetchrow("SELECT status, attempts, priority, lock FROM procrastinate_jobs WHERE id = $1", job_id)
    assert tuple(row or ()) == ("succeeded", 1, 3, "a")


async def test_every_call_of_the_manager_works(connector: AsyncpgConnector) -> None:
    """Administration goes through the connector: listing, counting, cancelling, rescuing, cleaning up."""
    app = app_on(connector)
    manager = app.job_manager
    worker = await manager.register_worker()
    ids = await app.configure_task("ship").batch_defer_async({"n": 1}, {"n": 2}, {"n": 3})
    running = await manager.fetch_job(queues=iter(["orders"]), worker_id=worker)
    assert running is not None
    await manager.update_heartbeat(worker)

    assert await manager.check_connection_async()
    assert [job.id for job in await manager.list_jobs_async(queue="orders", status="todo")] == ids[1:]
    (queue,) = await manager.list_queues_async()
    (task,) = await manager.list_tasks_async(task="ship")
    assert (queue["name"], queue["todo"], queue["doing"]) == ("orders", 2, 1)
    assert (task["name"], task["jobs_count"]) == ("ship", 3)
    assert list(await manager.list_locks_async()) == []
    assert await manager.cancel_job_by_id_async(ids[1])
    assert await manager.get_job_status_async(ids[1]) is Status.CANCELLED
    assert await manager.cancel_job_by_id_async(ids[0], abort=True)
    assert list(await manager.list_jobs_to_abort_async()) == ids[:1]
    assert list(await manager.get_stalled_jobs(seconds_since_heartbeat=30.5)) == []
    assert [job.id for job in await manager.get_stalled_jobs(seconds_since_heartbeat=-1)] == ids[:1]
    with pytest.warns(DeprecationWarning, match="nb_seconds"):
        assert list(await manager.get_stalled_jobs(nb_seconds=1000)) == []
    await manager.finish_job(running, Status.SUCCEEDED, delete_job=True)
    await manager.delete_old_jobs(nb_hours=0, include_cancelled=True)
    assert [job.id for job in await manager.list_jobs_async()] == ids[2:]
    assert await manager.prune_stalled_workers(-1.5) == [worker]


async def test_a_periodic_job_is_enqueued_once_per_time(connector: AsyncpgConnector) -> None:
    """Two workers that defer the same tick make one job."""
    app = app_on(connector)
    job = app.configure_task("ship", task_kwargs={"timestamp": 60}).job
    made = [await app.job_manager.defer_periodic_job(job, "", 60) for _ in range(2)]

    assert made == [1, None]


@pytest.mark.parametrize("init", [None, with_json_codecs])
async def test_json_is_the_same_whatever_codecs_the_pool_has(init: Any, dsn: str, database: asyncpg.Connection) -> None:
    """On a pool that decodes JSON for its application, arguments are stored as objects and read as they were."""
    async with asyncpg.create_pool(dsn, min_size=0, init=init) as pool:
        connector = AsyncpgConnector(pool=pool)
        async with app_on(connector).open_async() as app:
            arguments: JSONDict = {"list": [1], "text": '"'}
            await app.configure_task("ship").defer_async(**arguments)
            async with pool.acquire() as connection, connection.transaction():
                await app.configure_task("ship", connection=connection).defer_async(**arguments)
            worker = await app.job_manager.register_worker()
            fetched = await app.job_manager.fetch_job(queues=None, worker_id=worker)
            (queue,) = await app.job_manager.list_queues_async()

    assert fetched is not None
    assert fetched.task_kwargs == arguments
    assert (queue["todo"], queue["doing"]) == (1, 1)
    assert await database.fetchval("SELECT array_agg(jsonb_typeof(args)) FROM procrastinate_jobs") == ["object"] * 2


async def test_the_callers_json_functions_are_used(dsn: str) -> None:
    """Arguments go through json_dumps and come back through json_loads, also when bytes come out of the first."""

    def dumps(value: Any) -> bytes:
        return json.dumps(value, default=str).encode()

    def loads(text: str | bytes) -> Any:
        return json.loads(text, parse_float=decimal.Decimal)

    async with app_on(AsyncpgConnector(dsn, json_dumps=dumps, json_loads=loads)).open_async() as app:
        day: Any = dt.date(2026, 1, 2)
        await app.configure_task("ship").defer_async(day=day, price=1.5)
        (job,) = await app.job_manager.list_jobs_async()

    assert job.task_kwargs == {"day": "2026-01-02", "price": decimal.Decimal("1.5")}


async def test_a_job_costs_three_round_trips(dsn: str) -> None:
    """Enqueue, fetch and finish are one round trip each once a connection is warm; nothing is sent in between."""
    proxy = Proxy(dsn)
    await proxy.arrive()
    connector = AsyncpgConnector(proxy.dsn, max_size=1)
    async with app_on(connector).open_async() as app:
        worker = await app.job_manager.register_worker()
        counts: list[int] = []
        for _ in range(3):
            before = proxy.round_trips
            await app.configure_task("ship").defer_async(n=1)
            deferred = proxy.round_trips
            job = await app.job_manager.fetch_job(queues=None, worker_id=worker)
            fetched = proxy.round_trips
            assert job is not None
            await app.job_manager.finish_job(job, Status.SUCCEEDED, delete_job=False)
            counts = [deferred - before, fetched - deferred, proxy.round_trips - fetched]
    await proxy.leave()

    assert counts == [1, 1, 1]


async def test_a_taken_queueing_lock_is_named(connector: AsyncpgConnector) -> None:
    """A duplicate raises Procrastinate's own error with the lock, whatever characters are in it."""
    task = app_on(connector).configure_task("ship", queueing_lock="a=(b) c%s")
    await task.defer_async()

    with pytest.raises(exceptions.AlreadyEnqueued, match=r"a=\(b\) c%s") as caught:
        await task.defer_async()

    violation = caught.value.__cause__
    assert isinstance(violation, exceptions.UniqueViolation)
    assert violation.queueing_lock == "a=(b) c%s"


async def test_another_unique_constraint_is_named(connector: AsyncpgConnector) -> None:
    """A violation of any other constraint carries its name and no queueing lock."""
    insert = "INSERT INTO procrastinate_periodic_defers (task_name, defer_timestamp) VALUES (%(task)s, 1)"
    await connector.execute_query_async(insert, task="t")

    with pytest.raises(exceptions.UniqueViolation) as caught:
        await connector.execute_query_async(insert, task="t")

    assert caught.value.constraint_name == "procrastinate_periodic_defers_unique"
    assert caught.value.queueing_lock is None


async def test_a_database_error_is_procrastinates_with_the_cause(connector: AsyncpgConnector) -> None:
    """What asyncpg raises is the cause of a ConnectorException; a missing row is NoResult."""
    with pytest.raises(exceptions.ConnectorException) as caught:
        await connector.execute_query_async("SELECT nonsense")
    assert isinstance(caught.value.__cause__, asyncpg.UndefinedColumnError)

    with pytest.raises(exceptions.ConnectorException) as caught:
        await connector.execute_query_all_async("SELECT %(n)s::int AS n", n="seven")
    assert isinstance(caught.value.__cause__, asyncpg.DataError)

    with pytest.raises(exceptions.NoResult):
        await connector.execute_query_one_async("SELECT 1 WHERE %(yes)s", yes=False)


async def test_percent_signs_and_repeated_names_are_kept(connector: AsyncpgConnector) -> None:
    """A doubled percent sign is one; a name that stands twice is one parameter."""
    row = await connector.execute_query_one_async("SELECT %(a)s::text || '%%' || %(b)s || %(a)s AS x", a="1", b=2)

    assert row == {"x": "1%21"}


class TestTransactions:
    """Enqueueing on the caller's asyncpg connection."""

    async def test_a_job_is_there_after_the_commit_only(self, connector: AsyncpgConnector, pool: asyncpg.Pool) -> None:
        """Until the caller commits nobody else sees the job; after a rollback there is none."""
        app = app_on(connector)
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            await app.configure_task("ship", connection=connection).defer_async()
            before = list(await app.job_manager.list_jobs_async())
            await transaction.commit()
            after = list(await app.job_manager.list_jobs_async())
            transaction = connection.transaction()
            await transaction.start()
            await app.configure_task("ship", connection=connection).defer_async()
            await transaction.rollback()

        assert (len(before), len(after)) == (0, 1)
        assert len(list(await app.job_manager.list_jobs_async())) == 1

    async def test_a_duplicate_leaves_the_transaction_usable(
        self, connector: AsyncpgConnector, pool: asyncpg.Pool, database: asyncpg.Connection
    ) -> None:
        """The caller may go on after AlreadyEnqueued, and commit."""
        app = app_on(connector)
        await app.configure_task("ship", queueing_lock="run 1").defer_async()

        async with pool.acquire() as connection, connection.transaction():
            with pytest.raises(exceptions.AlreadyEnqueued):
                await app.configure_task("ship", queueing_lock="run 1", connection=connection).defer_async()
            await app.configure_task("ship", queueing_lock="run 2", connection=connection).defer_async()

        assert await database.fetchval("SELECT array_agg(queueing_lock ORDER BY id) FROM procrastinate_jobs") == [
            "run 1",
            "run 2",
        ]

    async def test_cancelling_and_asking_take_part_in_it(self, connector: AsyncpgConnector, pool: asyncpg.Pool) -> None:
        """A job enqueued in the transaction can be asked for and cancelled in it."""
        app = app_on(connector)
        async with pool.acquire() as connection, connection.transaction():
            job_id = await app.configure_task("ship", connection=connection).defer_async()
            assert await app.job_manager.get_job_status_async(job_id, connection=connection) is Status.TODO
            assert await app.job_manager.cancel_job_by_id_async(job_id, connection=connection)

        assert await app.job_manager.get_job_status_async(job_id) is Status.CANCELLED

    async def test_another_drivers_connection_is_refused(self, connector: AsyncpgConnector, dsn: str) -> None:
        """A psycopg connection is named, with what to do; nothing is sent."""
        async with await psycopg.AsyncConnection.connect(dsn) as connection:
            with pytest.raises(TypeError, match=r"must be an asyncpg connection .* not psycopg"):
                await app_on(connector).configure_task("ship", connection=connection).defer_async()

    async def test_it_works_beside_the_stock_connector(self, dsn: str, pool: asyncpg.Pool) -> None:
        """An app on psycopg runs jobs that were enqueued in an asyncpg transaction: all of a call's, or none."""
        locked = JOB._replace(queueing_lock="run 1")
        app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=dsn))
        async with app.open_async(), pool.acquire() as connection:
            async with connection.transaction():
                first = await defer_on_asyncpg(connection, [JOB, locked])
                with pytest.raises(exceptions.AlreadyEnqueued, match="'run 1'"):
                    await defer_on_asyncpg(connection, [JOB, locked])
                assert await defer_on_asyncpg(connection, []) == []
            with pytest.raises(exceptions.AlreadyEnqueued, match="'run 1'"):
                await defer_on_asyncpg(connection, [locked])
            jobs = list(await app.job_manager.list_jobs_async())

        assert [(job.id, job.queueing_lock, job.task_kwargs) for job in jobs] == [
            (first[0], None, JOB.args),
            (first[1], "run 1", JOB.args),
        ]
