"""Workers of PgQueuer's, each a process, killed while they have a job in hand."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass

import asyncpg
import pytest

from docket.errors import InDoubt
from docket.postgres.embedded import fresh_database
from examples.orders.app import QUEUE, CreateShipment
from examples.orders.on_pgqueuer import OnPgQueuer
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Shipment
from examples.orders.provider import LEDGER, PaymentProvider
from examples.orders.workers import Workers
from tests.database import SCHEMA, connected
from tests.procrastinate.queueing import until

CHARGE = "SELECT 1 FROM docket.result WHERE key = 'orders.ChargeResult' AND state = $1"
OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> ALL($1)"
JOB = "SELECT status::text, queue_manager_id FROM pgqueuer"
ORDER = OrderRequest(order_id="order-1", quantity=1, amount_cents=100)

pytestmark = pytest.mark.timeout(120)


@dataclass
class Shop:
    """The order demo on PgQueuer, with one order in it, and its worker processes."""

    dsn: str
    demo: OnPgQueuer
    workers: Workers
    sql: asyncpg.Connection[asyncpg.Record]
    provider: PaymentProvider

    async def kill_in_the_middle_of_the_charge(self) -> None:
        """Start a worker and kill it when the provider has booked and the worker can't certify: its claim is locked."""
        async with connected(self.dsn) as ledger, connected(self.dsn) as claim:
            holding = ledger.transaction()
            await holding.start()
            await ledger.execute("LOCK TABLE provider.ledger IN EXCLUSIVE MODE")
            pid = self.workers.start()
            await until(lambda: self.sql.fetchrow(CHARGE, "running"), patience=60)
            async with claim.transaction():
                await claim.execute(f"{CHARGE} FOR UPDATE", "running")
                await holding.rollback()
                await until(self.booked, patience=60)
                assert self.workers.kill(pid)
                # What it had sent would be carried out, since the server has not noticed that nobody waits for it.
                await self.sql.execute(OTHERS, [one.get_server_pid() for one in (self.sql, ledger, claim)])

    async def booked(self) -> int:
        """Count what the payment provider has booked."""
        found: int = await self.sql.fetchval("SELECT count(*) FROM provider.ledger")
        return found


@pytest.fixture
async def shop(server: str) -> AsyncGenerator[Shop]:
    """The demo on a database of its own."""
    async with fresh_database(server, prefix="docket_shop") as dsn, connected(dsn) as sql:
        demo = OnPgQueuer(dsn)
        workers = Workers(dsn, demo.worker)
        for table in (SCHEMA.read_text(), LEDGER):
            await sql.execute(table)
        await demo.lay_tables(sql)
        await demo.enqueue(sql, ORDER.order_id, ORDER)
        try:
            yield Shop(dsn, demo, workers, sql, PaymentProvider(dsn))
        finally:
            await workers.stop()
            await demo.d.close()


async def test_a_worker_killed_in_the_middle_of_a_charge_leaves_a_doubt_and_one_booking(shop: Shop) -> None:
    """The next worker gets the job, does not charge, and fails it with the reason; settled by a person, the order goes on."""
    d = shop.demo.d
    await shop.kill_in_the_middle_of_the_charge()
    died = await shop.sql.fetchrow(JOB)
    shop.workers.start()
    with pytest.raises(InDoubt):
        await d.wait(ORDER.order_id, ChargeResult, timeout=60)

    async def is_failed() -> bool:
        job = await shop.sql.fetchrow(JOB)
        return job is not None and job["status"] == "failed"

    await until(is_failed, patience=60)
    booked = await shop.provider.find(ORDER.order_id)
    assert booked is not None
    await d.settle(ORDER.order_id, ChargeResult, booked)
    await d.enqueue(QUEUE, CreateShipment, run_id=ORDER.order_id)
    shipment = await d.wait(ORDER.order_id, Shipment, timeout=60)

    assert died is not None
    assert died["status"] == "picked"
    assert shipment.charge_id == booked.charge_id
    assert await shop.booked() == 1


async def test_a_worker_killed_after_the_charge_is_rescued_without_another(shop: Shop) -> None:
    """The next worker gets the job, fetches the charge and makes the shipment."""
    pid = shop.workers.start()
    await until(lambda: shop.sql.fetchrow(CHARGE, "certified"), patience=60)
    assert shop.workers.kill(pid)
    shop.workers.start()
    shipment = await shop.demo.d.wait(ORDER.order_id, Shipment, timeout=60)

    assert shipment.order_id == ORDER.order_id
    assert await shop.booked() == 1
