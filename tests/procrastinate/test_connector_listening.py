"""LISTEN on the asyncpg connector, whatever happens to its connection."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import asyncpg
import procrastinate
import pytest
from procrastinate.types import JobToDefer

from docket_procrastinate import AsyncpgConnector, _listen, defer_on_asyncpg
from tests.procrastinate.wire import Proxy

# Longer than any test may take: a job that is found in spite of it was not found by polling.
NEVER = 3600.0

KILL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE $1
"""


@pytest.mark.parametrize("shared", [False, True])
async def test_a_killed_listener_comes_back(shared: bool, dsn: str, pool: asyncpg.Pool, database: asyncpg.Connection) -> None:
    """Jobs enqueued right after the kill, and later, are taken at once: this worker never polls."""
    connector = AsyncpgConnector(pool=pool) if shared else AsyncpgConnector(dsn)
    done: asyncio.Queue[int] = asyncio.Queue()
    app = procrastinate.App(connector=connector)

    @app.task(name="tell", queue="orders")
    async def tell(n: int) -> None:
        done.put_nowait(n)

    async with app.open_async(), _worker(app, database):
        for n in range(3):
            await database.execute(KILL, "LISTEN%")
            await tell.defer_async(n=n)
            assert await done.get() == n
            await _listening(database)
            await tell.defer_async(n=10 + n)
            assert await done.get() == 10 + n


async def test_a_job_announced_during_a_fetch_is_fetched(dsn: str, proxy: Proxy, database: asyncpg.Connection) -> None:
    """A fetch that found nothing, and is answered only after a job was announced, is made again."""
    heard = asyncio.Event()

    async def hear(*, channel: str, payload: str) -> None:
        heard.set()

    async with asyncpg.create_pool(proxy.dsn, min_size=0) as pool:
        connector = AsyncpgConnector(dsn, pool=pool)
        async with procrastinate.App(connector=connector).open_async() as app:
            listener = asyncio.create_task(connector.listen_notify(hear, ["procrastinate_any_queue_v1"]))
            await _listening(database)
            worker = await app.job_manager.register_worker()
            assert await app.job_manager.fetch_job(queues=None, worker_id=worker) is None
            before = proxy.round_trips
            proxy.hold()
            fetching = asyncio.create_task(app.job_manager.fetch_job(queues=None, worker_id=worker))
            while proxy.round_trips == before:  # noqa: ASYNC110 - the proxy tells nobody
                await asyncio.sleep(0.01)
            (job_id,) = await defer_on_asyncpg(database, [JobToDefer("orders", "ship", 0, None, None, {}, None)])
            await heard.wait()
            proxy.resume()
            job = await fetching
            listener.cancel()

    assert job is not None
    assert job.id == job_id


async def test_a_silent_connection_is_tried(
    proxy: Proxy, database: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that was cut without a goodbye is noticed after a silence, and made again."""
    monkeypatch.setattr(_listen, "_SILENCE", 0.05)
    monkeypatch.setattr(_listen, "_ANSWER", 0.1)
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def hear(*, channel: str, payload: str) -> None:
        heard.put_nowait(payload)

    connector = AsyncpgConnector(proxy.dsn)
    await connector.open_async()
    listener = asyncio.create_task(connector.listen_notify(hear, ["a b"]))
    while heard.empty():
        await database.execute("SELECT pg_notify('a b', 'before')")
        await asyncio.sleep(0.01)
    proxy.freeze()
    while await heard.get() == "before":
        pass
    await database.execute("SELECT pg_notify('a b', 'after')")

    assert await heard.get() == "after"
    listener.cancel()
    await connector.close_async()


async def test_a_session_that_listened_is_not_given_back(pool: asyncpg.Pool, database: asyncpg.Connection) -> None:
    """When listening on a shared pool ends, no session of that pool goes on listening."""
    connector = AsyncpgConnector(pool=pool)
    await connector.open_async()
    listener = asyncio.create_task(connector.listen_notify(_ignore, ["a"]))
    await _listening(database)
    listener.cancel()
    await asyncio.gather(listener, return_exceptions=True)

    assert await pool.fetch("SELECT pg_listening_channels()") == []
    assert pool.get_idle_size() == pool.get_size()


async def test_a_pool_of_one_is_left_to_work(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """Listening on the only connection would leave none to work with, so jobs are polled for, with a warning."""
    async with asyncpg.create_pool(dsn, min_size=0, max_size=1) as pool:
        connector = AsyncpgConnector(pool=pool)
        await connector.open_async()
        await connector.listen_notify(_ignore, ["a"])

    assert "not listening, jobs are only polled for" in caplog.text


@contextlib.asynccontextmanager
async def _worker(app: procrastinate.App, database: asyncpg.Connection) -> AsyncGenerator[None]:
    worker = asyncio.create_task(app.run_worker_async(fetch_job_polling_interval=NEVER, install_signal_handlers=False))
    await _listening(database)
    yield
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def _listening(database: asyncpg.Connection) -> None:
    """Wait until a session listens in the database."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
    while not await database.fetchval(query + " AND state = 'idle'"):  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.01)


async def _ignore(*, channel: str, payload: str) -> None: ...
