"""The asyncpg connector's pools, event loops and synchronous callers."""

import asyncio

import asyncpg
import pytest
from procrastinate import exceptions
from procrastinate.jobs import Status

from docket_procrastinate import AsyncpgConnector
from tests.procrastinate.apps import app_on


class TestPools:
    """Whose pool it is, and which loop it belongs to."""

    async def test_a_pool_of_its_own_is_closed(self, dsn: str) -> None:
        """Closing the connector closes the pool it made; closing twice is nothing more."""
        connector = AsyncpgConnector(dsn)
        await connector.open_async()
        pool = connector.pool
        await connector.close_async()
        await connector.close_async()

        assert pool.is_closing()
        with pytest.raises(exceptions.AppNotOpen):
            await connector.execute_query_async("SELECT 1")

    async def test_a_shared_pool_is_left_open(self, pool: asyncpg.Pool, dsn: str) -> None:
        """A pool given to the constructor, to open_async or by a callable serves the connector and outlives it."""

        async def lend() -> asyncpg.Pool:
            return pool

        for connector, given in [
            (AsyncpgConnector(pool=pool), None),
            (AsyncpgConnector(pool=lend), None),
            (AsyncpgConnector(dsn), pool),
        ]:
            await connector.open_async(given)
            assert connector.pool is pool
            assert await app_on(connector).check_connection_async()
            await connector.close_async()

        assert await pool.fetchval("SELECT 1") == 1

    async def test_closing_does_not_wait_for_ever(self, dsn: str) -> None:
        """A connection that is not given back is cut off after the time a statement may take."""
        connector = AsyncpgConnector(dsn, command_timeout=0.2)
        await connector.open_async()
        kept = await connector.pool.acquire()
        await kept.execute("SELECT 1")
        async with asyncio.timeout(30):
            await connector.close_async()

        with pytest.raises(asyncpg.InterfaceError):
            await kept.execute("SELECT 1")

    async def test_opening_twice_keeps_the_pool(self, connector: AsyncpgConnector) -> None:
        """A second open_async in the same loop changes nothing."""
        pool = connector.pool
        await connector.open_async()

        assert connector.pool is pool

    async def test_pool_options_reach_the_pool_and_the_listener(self, dsn: str) -> None:
        """What is said about connections holds for all of them."""
        connector = AsyncpgConnector(dsn, max_size=3, server_settings={"application_name": "shop"})
        await connector.open_async()
        listener = asyncio.create_task(connector.listen_notify(_ignore, ["a"]))
        names: list[str] = []
        while len(names) < 2:
            rows = await connector.execute_query_all_async(
                "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
                " AND (query LIKE 'LISTEN%%' OR pid = %(none)s + pg_backend_pid())",
                none=0,
            )
            names = [row["application_name"] for row in rows]
        listener.cancel()
        assert connector.pool.get_max_size() == 3
        await connector.close_async()

        assert names == ["shop", "shop"]

    def test_contradictions_are_refused(self) -> None:
        """No place to connect to, or options for a pool that is made elsewhere."""
        with pytest.raises(TypeError, match=r"needs a dsn= .* or a pool="):
            AsyncpgConnector()
        with pytest.raises(TypeError, match="max_size, min_size would have no effect"):
            AsyncpgConnector(pool=_no_pool, min_size=1, max_size=2)

    async def test_another_loop_is_refused(self, connector: AsyncpgConnector) -> None:
        """A statement from another event loop is told which loop the pool belongs to; so is opening it there."""

        def elsewhere() -> None:
            asyncio.run(connector.execute_query_async("SELECT 1"))

        def open_elsewhere() -> None:
            asyncio.run(connector.open_async())

        for call in (elsewhere, open_elsewhere):
            with pytest.raises(exceptions.ConnectorException, match="another event loop"):
                await asyncio.to_thread(call)

    async def test_it_opens_again_in_another_loop(self, dsn: str) -> None:
        """Closed, or left open by a loop that has ended, the same connector serves the next loop."""
        connector = AsyncpgConnector(dsn)

        async def use(*, close: bool) -> bool:
            await connector.open_async()
            found = await app_on(connector).check_connection_async()
            if close:
                await connector.close_async()
            else:
                connector.pool.terminate()
            return found

        def in_a_loop_that_closes_it() -> bool:
            return asyncio.run(use(close=True))

        def in_a_loop_that_does_not() -> bool:
            return asyncio.run(use(close=False))

        for run in (in_a_loop_that_closes_it, in_a_loop_that_does_not, in_a_loop_that_closes_it):
            assert await asyncio.to_thread(run)


class TestSynchronousCallers:
    """Procrastinate's synchronous calls."""

    async def test_before_it_is_open_psycopg_serves_them(self, dsn: str) -> None:
        """A synchronous program opens the app and enqueues; opening it asynchronously afterwards works too."""
        connector = AsyncpgConnector(dsn)
        app = app_on(connector)

        def enqueue() -> int:
            with app.open():
                return app.configure_task("ship").defer(n=1)

        job_id = await asyncio.to_thread(enqueue)
        app.open()
        async with app.open_async():
            assert await app.job_manager.get_job_status_async(job_id) is Status.TODO

    async def test_when_it_is_open_threads_are_served_by_its_loop(self, connector: AsyncpgConnector) -> None:
        """Any thread may enqueue, be it a synchronous task's or the caller's own."""
        app = app_on(connector)
        seen: list[int] = []

        @app.task(name="sync", queue="orders")
        def sync() -> None:
            seen.append(app.configure_task("ship").defer(n=2))

        await asyncio.to_thread(sync.defer)
        await app.run_worker_async(wait=False, install_signal_handlers=False)
        jobs = await asyncio.to_thread(app.job_manager.list_jobs, task="ship")

        assert [job.id for job in jobs] == seen

    async def test_in_the_loops_own_thread_they_are_refused(self, connector: AsyncpgConnector) -> None:
        """A synchronous call that would wait for itself says what to do instead."""
        with pytest.raises(exceptions.SyncConnectorConfigurationError, match="Await the asynchronous call"):
            app_on(connector).configure_task("ship").defer()

    async def test_a_shared_pool_serves_none_before_it_is_open(self, pool: asyncpg.Pool) -> None:
        """Without a dsn there is nowhere to connect to synchronously, which is said."""
        with pytest.raises(exceptions.SyncConnectorConfigurationError, match="dsn= as well"):
            app_on(AsyncpgConnector(pool=pool)).open()


async def _ignore(*, channel: str, payload: str) -> None: ...


async def _no_pool() -> asyncpg.Pool:
    raise AssertionError
