"""How a Procrastinate connector opens, closes, lends itself and listens, held to both connectors."""

import asyncio
import contextlib
from typing import Any

import asyncpg
import pytest
from procrastinate import exceptions, utils
from procrastinate.connector import BaseAsyncConnector
from procrastinate.jobs import Notification, Status
from procrastinate.sync_psycopg_connector import SyncPsycopgConnector
from procrastinate.types import JSONDict

from tests.database import NewDatabase
from tests.procrastinate.apps import app_on
from tests.procrastinate.drivers import Driver, background, named, opened, sessions
from tests.procrastinate.queueing import until

# Needs quoting, and is case-sensitive.
AWKWARD = 'Orders "and" more #1'

ONE: dict[str, Any] = {"query": "SELECT 1 AS one"}


async def ignore(*, channel: str, payload: str) -> None:
    """Take a notification and do nothing."""


class TestOpening:
    """From the first opening to the last close."""

    async def test_nothing_can_be_asked_before_and_after(self, driver: Driver, dsn: str) -> None:
        """Each statement, and listening, says that the app is not open; once it is open, it works."""
        connector = driver.make(dsn)

        async def refused() -> None:
            for call in (connector.execute_query_async, connector.execute_query_one_async, connector.execute_query_all_async):
                with pytest.raises(exceptions.AppNotOpen):
                    await call(**ONE)
            with pytest.raises(exceptions.AppNotOpen):
                await connector.listen_notify(ignore, ["a"])

        await refused()
        await connector.open_async()
        assert await connector.execute_query_one_async(**ONE) == {"one": 1}
        await connector.close_async()
        await refused()

    async def test_it_can_be_closed_at_any_time(self, driver: Driver, dsn: str) -> None:
        """Closing what is not open does nothing, and what was closed can be opened again."""
        connector = driver.make(dsn)
        await connector.close_async()
        for _ in range(2):
            await connector.open_async()
            assert await connector.execute_query_one_async(**ONE) == {"one": 1}
            await connector.close_async()
            await connector.close_async()

    async def test_one_close_ends_all_its_sessions(self, driver: Driver, dsn: str, database: asyncpg.Connection) -> None:
        """Opening twice is opening once, so that one close leaves no session behind."""
        here, name = named(dsn)
        connector = driver.make(here)
        await connector.open_async()
        await connector.open_async()
        await asyncio.gather(*(connector.execute_query_async(**ONE) for _ in range(5)))
        before = len(await sessions(database, name))
        await connector.close_async()

        assert before > 0
        await until(lambda: _none(database, name))

    async def test_an_app_opens_and_closes_it(self, driver: Driver, dsn: str) -> None:
        """``async with app.open_async()`` is all that an application says."""
        app = app_on(driver.make(dsn))
        async with app.open_async() as opened:
            assert opened is app
            assert await app.check_connection_async()
        with pytest.raises(exceptions.AppNotOpen):
            await app.check_connection_async()

    async def test_a_pool_of_the_applications_is_used_and_left(self, driver: Driver, dsn: str) -> None:
        """A pool given at the opening serves every statement; it is the application's to close."""
        app = app_on(driver.make("postgresql://nobody@127.0.0.1:1/nowhere"))
        here, name = named(dsn)
        async with driver.pool(here) as pool:
            async with app.open_async(pool):
                job_id = await app.configure_task("ship").defer_async(n=1)
                row = await app.connector.execute_query_one_async("SELECT current_setting('application_name') AS name")
                async with driver.lent(pool) as connection:
                    status = await app.job_manager.get_job_status_async(job_id, connection=connection)
            async with driver.lent(pool) as connection:
                await connection.execute("SELECT 1")

        assert (row, status) == ({"name": name}, Status.TODO)

    async def test_the_schema_is_applied_to_an_empty_database(self, driver: Driver, new_database: NewDatabase) -> None:
        """The connection is checked before and after; then a job can be enqueued."""
        app = app_on(driver.make(await new_database(tables=False)))
        async with app.open_async():
            before = await app.check_connection_async()
            await app.schema_manager.apply_schema_async()
            after = await app.check_connection_async()
            job_id = await app.configure_task("ship").defer_async()

        assert (before, after, job_id) == (False, True, 1)


class TestSynchronousCallers:
    """The connector for synchronous calls."""

    async def test_before_the_opening_and_after_the_close_it_is_psycopgs(self, driver: Driver, dsn: str) -> None:
        """One and the same until the app is opened asynchronously, which closes it; then the open one serves."""
        connector = driver.make(dsn)
        app = app_on(connector)
        first = connector.get_sync_connector()
        assert isinstance(first, SyncPsycopgConnector)
        assert connector.get_sync_connector() is first
        await utils.sync_to_async(app.open)
        job_id = await utils.sync_to_async(app.configure_task("ship").defer, n=1)
        async with app.open_async():
            with pytest.raises(exceptions.AppNotOpen):
                first.execute_query("SELECT 1")
            status = await utils.sync_to_async(app.job_manager.get_job_status, job_id)
            assert not isinstance(connector.get_sync_connector(), SyncPsycopgConnector)

        assert status is Status.TODO
        assert isinstance(connector.get_sync_connector(), SyncPsycopgConnector)

    async def test_the_schema_is_applied_by_a_synchronous_program(self, driver: Driver, new_database: NewDatabase) -> None:
        """A program without a loop applies the schema, enqueues and looks."""
        app = app_on(driver.make(await new_database(tables=False)))

        def program() -> list[bool]:
            with app.open():
                found = [app.check_connection()]
                app.schema_manager.apply_schema()
                app.configure_task("ship").defer()
                return [*found, app.check_connection(), len(app.job_manager.list_jobs()) == 1]

        assert await utils.sync_to_async(program) == [False, True, True]


class TestListening:
    """Notifications."""

    async def test_each_arrives_on_its_channel_in_order(self, driver: Driver, dsn: str, database: asyncpg.Connection) -> None:
        """All that is sent on the channels named, whatever their names, and nothing from another."""
        heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

        async def hear(*, channel: str, payload: str) -> None:
            heard.put_nowait((channel, payload))

        expected = [(channel, f"{n} ☕") for n in range(3) for channel in ("plain", AWKWARD)]
        here, name = named(dsn)
        async with (
            opened(driver.make(here)) as connector,
            background(asyncio.create_task(connector.listen_notify(hear, ["plain", AWKWARD]))),
        ):
            await until(lambda: sessions(database, name, "LISTEN%more #1%"))
            for channel, payload in expected:
                await database.execute("SELECT pg_notify('other', 'x'), pg_notify($1, $2)", channel, payload)
            arrived = [await heard.get() for _ in expected]

        assert arrived == expected
        assert heard.empty()

    async def test_it_survives_its_connection(self, driver: Driver, dsn: str, database: asyncpg.Connection) -> None:
        """When the session that listens is killed, the next one hears what is sent from then on, on every channel."""
        heard: set[tuple[str, str]] = set()

        async def hear(*, channel: str, payload: str) -> None:
            heard.add((channel, payload))

        here, name = named(dsn)
        async with (
            opened(driver.make(here)) as connector,
            background(asyncio.create_task(connector.listen_notify(hear, ["a", "b"]))),
        ):
            for n in range(2):
                await until(lambda: sessions(database, name, "LISTEN%b%"))
                (listener,) = await sessions(database, name, "LISTEN%b%")
                await database.execute("SELECT pg_terminate_backend($1, 10000)", listener)

                async def both(payload: str = f"after {n}") -> bool:
                    await database.execute("SELECT pg_notify('a', $1), pg_notify('b', $1)", payload)
                    return {("a", payload), ("b", payload)} <= heard

                await until(both)

    async def test_it_ends_when_cancelled(self, driver: Driver, dsn: str, database: asyncpg.Connection) -> None:
        """The cancellation comes out, and no session goes on listening."""
        here, name = named(dsn)
        async with opened(driver.make(here)) as connector:
            listener = asyncio.create_task(connector.listen_notify(ignore, ["a"]))
            await until(lambda: sessions(database, name, "LISTEN%"))
            listener.cancel()
            with pytest.raises(asyncio.CancelledError):
                await listener

            await until(lambda: _none(database, name, "LISTEN%"))
            assert await connector.execute_query_one_async(**ONE) == {"one": 1}

    async def test_it_ends_with_an_error_of_the_listeners(self, driver: Driver, dsn: str, database: asyncpg.Connection) -> None:
        """What is raised where notifications go comes out of the call."""

        async def hear(*, channel: str, payload: str) -> None:
            raise LookupError(payload)

        here, name = named(dsn)
        async with opened(driver.make(here)) as connector:
            listener = asyncio.create_task(connector.listen_notify(hear, ["a"]))
            await until(lambda: sessions(database, name, "LISTEN%"))
            await database.execute("SELECT pg_notify('a', 'what for')")

            with pytest.raises(LookupError, match="what for"):
                await listener

    @pytest.mark.parametrize(("queues", "channel"), [(None, "any_queue_v1"), (["orders", "other"], "queue_v1#orders")])
    async def test_jobs_and_requests_to_abort_are_announced(
        self, queues: list[str] | None, channel: str, driver: Driver, dsn: str, database: asyncpg.Connection
    ) -> None:
        """A job's insertion and the request to abort it are heard by those who listen to its queue or to all."""
        heard: asyncio.Queue[tuple[str, Notification]] = asyncio.Queue()

        async def hear(*, channel: str, notification: Notification) -> None:
            heard.put_nowait((channel, notification))

        here, name = named(dsn)
        app = app_on(driver.make(here))
        async with (
            app.open_async(),
            background(asyncio.create_task(app.job_manager.listen_for_jobs(on_notification=hear, queues=queues))),
        ):
            await until(lambda: sessions(database, name, "LISTEN%other%" if queues else "LISTEN%any%"))
            job_id = await app.configure_task("ship").defer_async()
            worker = await app.job_manager.register_worker()
            await app.job_manager.fetch_job(queues=None, worker_id=worker)
            await app.job_manager.cancel_job_by_id_async(job_id, abort=True)
            arrived = [await heard.get() for _ in range(2)]

        assert arrived == [
            (f"procrastinate_{channel}", {"type": "job_inserted", "job_id": job_id}),
            (f"procrastinate_{channel}", {"type": "abort_job_requested", "job_id": job_id}),
        ]


class TestTransactions:
    """Procrastinate's own calls on a connection of the caller's."""

    @pytest.mark.parametrize("committed", [True, False])
    async def test_they_stand_and_fall_with_it(
        self, committed: bool, either: BaseAsyncConnector, driver: Driver, dsn: str
    ) -> None:
        """Jobs enqueued one by one or together, and one that is cancelled, are so at the commit, or not at all."""
        app = app_on(either)
        waiting = await app.configure_task("ship").defer_async()

        async def use(connection: Any) -> None:
            task = app.configure_task("ship", connection=connection)
            await task.defer_async(n=1)
            await task.batch_defer_async({"n": 2}, {"n": 3})
            assert await app.job_manager.cancel_job_by_id_async(waiting, connection=connection)
            assert await app.job_manager.get_job_status_async(waiting, connection=connection) is Status.CANCELLED
            assert len(list(await app.job_manager.list_jobs_async(status="todo"))) == 1
            if not committed:
                raise InterruptedError

        async with driver.connection(dsn) as connection:
            with contextlib.suppress(InterruptedError):
                async with connection.transaction():
                    await use(connection)
        jobs = await app.job_manager.list_jobs_async()

        expected: list[tuple[str, JSONDict]] = [("cancelled", {}), ("todo", {"n": 1}), ("todo", {"n": 2}), ("todo", {"n": 3})]
        assert [(job.status, job.task_kwargs) for job in jobs] == (expected if committed else [("todo", {})])

    async def test_a_synchronous_task_uses_one_too(self, either: BaseAsyncConnector, driver: Driver, dsn: str) -> None:
        """A synchronous call in a thread of Procrastinate's enqueues and cancels on a connection of the loop's."""
        app = app_on(either)

        def task(connection: Any) -> int:
            job_id = app.configure_task("ship", connection=connection).defer(n=1)
            assert app.job_manager.cancel_job_by_id(job_id, connection=connection)
            assert app.job_manager.get_job_status(job_id, connection=connection) is Status.CANCELLED
            return job_id

        async with driver.connection(dsn) as connection, connection.transaction():
            job_id = await utils.sync_to_async(task, connection)
        (job,) = await app.job_manager.list_jobs_async()

        assert (job.id, job.status) == (job_id, "cancelled")


async def _none(database: asyncpg.Connection, name: str, query: str = "%") -> bool:
    return not await sessions(database, name, query)
