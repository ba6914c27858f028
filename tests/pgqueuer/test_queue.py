"""The driver for PgQueuer, with its own workers in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

import docket_pgqueuer
from docket import Docket
from docket.cache import MemoryCache
from docket.postgres.embedded import fresh_database
from docket.queue import Job, Policy
from docket.serializers import Serializers
from docket.testing import ATTEMPTS, QUEUE, QUEUE_RULES, QueueRig, exercise_queue
from docket_pgqueuer import PgQueuerQueue
from examples.orders.orders_pb2 import OrderRequest, Shipment
from tests.database import connected, lay_tables
from tests.orders import Orders, request
from tests.procrastinate.queueing import until

VIEWS = Path(docket_pgqueuer.__file__).with_name("views.sql")


@pytest.fixture(scope="module")
async def pgqueuer_dsn(server: str) -> AsyncGenerator[str]:
    """A database with the tables of Docket and of PgQueuer."""
    async with fresh_database(server, prefix="docket_pgqueuer") as dsn:
        await lay_tables(dsn)
        async with connected(dsn) as connection:
            await Queries(AsyncpgDriver(connection)).install()
            await connection.execute(VIEWS.read_text())
        yield dsn


class Rig:
    """The driver on a pool of its own, and the tables where its jobs are."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.queue = PgQueuerQueue(dsn, policy=Policy(ATTEMPTS, 0.05, 0.1))

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Run a worker of PgQueuer's."""
        async with connected(self._dsn) as connection:
            pgq = PgQueuer(AsyncpgDriver(connection))
            self.queue.work_on(pgq, QUEUE, concurrency_limit=1)
            worker = asyncio.create_task(
                pgq.qm.run(
                    dequeue_timeout=timedelta(seconds=0.05),
                    batch_size=1,
                    heartbeat_timeout=timedelta(seconds=30),
                    log_aggregation_interval=timedelta(0),
                )
            )
            try:
                yield
            finally:
                pgq.shutdown.set()
                await asyncio.wait((worker,), timeout=10)
                worker.cancel()
                await asyncio.wait((worker,))

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[object]:
        """Open a transaction on a connection."""
        async with connected(self._dsn) as connection, connection.transaction():
            yield connection

    async def strand(self) -> None:
        """Leave the job as its worker does that was killed an hour ago."""
        async with connected(self._dsn) as connection:
            await connection.execute(
                "UPDATE pgqueuer SET status = 'picked', queue_manager_id = gen_random_uuid(),"
                " heartbeat = now() - interval '1 hour', updated = now() - interval '1 hour'"
            )

    async def reason(self, run_id: str) -> str:
        """Ask the view."""
        async with connected(self._dsn) as connection:
            rows = await connection.fetch(
                "SELECT last_error FROM docket.pgqueuer_job WHERE run_id = $1"
                " AND state NOT IN ('enqueued', 'to be tried again', 'running', 'worker lost')",
                run_id,
            )
        return " ".join(row["last_error"] or "" for row in rows)

    async def says(self, run_id: str, words: str) -> bool:
        """Tell whether the reason has *words* in it."""
        return words in await self.reason(run_id)


@pytest.mark.parametrize("rule", QUEUE_RULES)
async def test_it_keeps_to_the_rules_of_drivers(rule: str, pgqueuer_dsn: str) -> None:
    """Every rule holds, although PgQueuer was made by others and for other ends."""

    @asynccontextmanager
    async def rig() -> AsyncGenerator[QueueRig]:
        async with connected(pgqueuer_dsn) as connection:
            await connection.execute("TRUNCATE pgqueuer, pgqueuer_log, pgqueuer_statistics")
        made = Rig(pgqueuer_dsn)
        yield made
        await made.queue.close()

    await exercise_queue(rig, rule)


async def test_a_job_that_kills_its_workers_ends(pgqueuer_dsn: str) -> None:
    """Its starts are counted before each attempt; past the limit it fails for good and no step is called."""
    rig = Rig(pgqueuer_dsn)
    orders = Orders(MemoryCache(), rig.queue)
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="poison-1")
    async with connected(pgqueuer_dsn) as connection:
        await connection.execute("UPDATE pgqueuer SET headers = headers || '{\"starts\": 4}'")
    async with rig.working():
        await until(lambda: rig.says("poison-1", "lost its worker 4 times"))
    await rig.queue.close()

    assert orders.calls == {}


async def test_a_job_of_others_fails_for_good_with_its_reason(pgqueuer_dsn: str) -> None:
    """Whatever the payload holds, nothing is run and the log says why."""
    rig = Rig(pgqueuer_dsn)
    orders = Orders(MemoryCache(), rig.queue)
    async with connected(pgqueuer_dsn) as connection:
        queries = Queries(AsyncpgDriver(connection))
        await queries.enqueue(QUEUE, b"\xff", headers={"run_id": "forged-1"})
        await queries.enqueue(QUEUE, b"[]", headers={"run_id": "forged-2"})
        await queries.enqueue(QUEUE, b"[" * 3000 + b"]" * 3000, headers={"run_id": "forged-3"})
    async with rig.working():
        await until(lambda: rig.says("forged-1", "is not JSON"))
        await until(lambda: rig.says("forged-2", "BadJob"))
        await until(lambda: rig.says("forged-3", "BadJob"))
    await rig.queue.close()

    assert orders.calls == {}


async def test_the_log_says_of_an_error_what_may_be_seen(pgqueuer_dsn: str) -> None:
    """Neither its message nor the traceback that PgQueuer keeps holds what ``redact=`` takes out."""
    rig = Rig(pgqueuer_dsn)
    d = Docket(queue=rig.queue, serializers=Serializers(redact=lambda _, text: text.replace("ada", "somebody")))

    @d.step
    async def ship(order: OrderRequest) -> Shipment:
        raise OSError("no route to postgresql://svc:hunter2@db/x for ada")

    await d.enqueue(QUEUE, ship, request(), run_id="secret-1")
    async with rig.working():
        await until(lambda: rig.says("secret-1", "OSError: no route to postgresql://svc:***@db/x for somebody"))
    await rig.queue.close()

    async with connected(pgqueuer_dsn) as connection:
        logged = await connection.fetchval("SELECT string_agg(traceback::text, '') FROM pgqueuer_log")
    assert "hunter2" not in logged
    assert "for ada" not in logged


async def test_a_run_twice_in_one_call_is_one_job(pgqueuer_dsn: str) -> None:
    """And jobs that may wait beside one another are as many as were asked for."""
    rig = Rig(pgqueuer_dsn)
    named = {run_id: Job(QUEUE, run_id, "shop.Parcel", once=True) for run_id in "abd"}
    random = Job(QUEUE, "c", "shop.Parcel")
    ids = await rig.queue.enqueue([named["a"], named["b"], named["a"], random, random], None)
    again = await rig.queue.enqueue([named["b"], named["d"], named["d"], random], None)
    for run_id in "abcd":
        await rig.queue.cancel(run_id, "shop.Parcel")
    await rig.queue.close()

    assert [found is None for found in ids] == [False, False, True, False, False]
    assert [found is None for found in again] == [True, False, True, False]


async def test_a_connection_of_another_kind_is_refused(pgqueuer_dsn: str) -> None:
    """Before anything is sent."""
    rig = Rig(pgqueuer_dsn)
    orders = Orders(MemoryCache(), rig.queue)
    with pytest.raises(TypeError, match="must be asyncpg's"):
        await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1", connection=object())
