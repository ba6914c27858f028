"""The demo as a stranger runs it, and as a hostile one kills it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncGenerator

import asyncpg
import pytest
from procrastinate.schema import SchemaManager

from docket.postgres.embedded import fresh_database
from examples.orders.app import QUEUE, CreateShipment, build
from examples.orders.orders_pb2 import ChargeResult, OrderRequest
from examples.orders.provider import LEDGER, PaymentProvider
from examples.orders.queues import QUEUES, OnProcrastinate
from examples.orders.workers import Workers
from tests.database import SCHEMA, connected

ORDERS = 12
SHIPPED = "SELECT count(*) FROM docket.result WHERE key = 'orders.Shipment' AND state = 'certified'"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def shop(server: str) -> AsyncGenerator[str]:
    """A database with everything the demo needs in it."""
    async with fresh_database(server, prefix="docket_shop") as dsn:
        async with connected(dsn) as connection:
            await connection.execute(SCHEMA.read_text())
            await connection.execute(SchemaManager.get_schema())
            await connection.execute(LEDGER)
        yield dsn


@pytest.mark.parametrize("queue", QUEUES)
async def test_the_demo_ends_well_by_itself(queue: str, server: str) -> None:
    """``python -m examples.orders`` exits with 0 and says that every order is shipped and none was charged twice."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.orders", "--queue", queue,
        env={**os.environ, "DATABASE_URL": server}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    text = out.decode()

    assert process.returncode == 0, text
    assert "20 of 20 orders shipped, 0 charged twice" in text
    assert "killed" in text
    assert "in doubt" in text
    assert "settle" in text


async def test_killing_workers_at_any_moment_never_charges_twice(shop: str) -> None:
    """Workers die every few tenths of a second; in the end each order is booked once and shipped once."""
    d, _ = build(shop)
    workers = Workers(shop, OnProcrastinate(shop).worker)
    randomly = random.Random(7)
    async with connected(shop) as sql:
        try:
            for number in range(ORDERS):
                order = OrderRequest(order_id=f"order-{number}", quantity=1, amount_cents=100 + number)
                await d.enqueue(QUEUE, CreateShipment, order, run_id=order.order_id)
            for _ in range(3):
                workers.start()
            for _ in range(12):
                await asyncio.sleep(randomly.uniform(0.3, 1.2))
                assert workers.kill(randomly.choice(workers.alive))
                workers.start()
            await _decide_until_shipped(sql, shop)
        finally:
            await workers.stop()
            await d.close()

        booked = await sql.fetch("SELECT order_id, count(*) FROM provider.ledger GROUP BY 1")
        charges = await sql.fetch("SELECT view ->> 'charge_id' FROM docket.result WHERE key = 'orders.ChargeResult'")

    assert {row["order_id"]: row["count"] for row in booked} == {f"order-{number}": 1 for number in range(ORDERS)}
    assert len({charge for (charge,) in charges}) == ORDERS


async def test_killing_the_demo_itself_leaves_no_worker_and_no_second_charge(server: str) -> None:
    """SIGKILL to the process that runs the demo: its workers go with it, and nobody was charged twice."""
    async with connected(server) as sql:
        before = {name for (name,) in await sql.fetch("SELECT datname FROM pg_database")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "examples.orders",
            env={**os.environ, "DATABASE_URL": server}, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        database = await _new_demo_database(sql, before, process)
        await _until_something_is_booked(server, database, process)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        try:
            left = await _connections_left(sql, database)
            async with connected(server.rpartition("/")[0] + "/" + database) as shop:
                most = await shop.fetchval(
                    "SELECT coalesce(max(n), 0) FROM (SELECT count(*) n FROM provider.ledger GROUP BY order_id) o"
                )
        finally:
            await sql.execute(f'DROP DATABASE "{database}" WITH (FORCE)')

    assert left == 0
    assert most == 1


async def _decide_until_shipped(sql: asyncpg.Connection[asyncpg.Record], dsn: str) -> None:
    """Settle or release each doubt by the provider's books, until every order is shipped."""
    d, _ = build(dsn)
    provider = PaymentProvider(dsn)
    try:
        while True:
            doubts = await sql.fetch("SELECT run_id FROM docket.status WHERE state = 'in doubt'")
            for (run_id,) in doubts:
                booked = await provider.find(run_id)
                if booked is not None:
                    await d.settle(run_id, ChargeResult, booked)
                else:
                    await d.release(run_id, ChargeResult)
                await d.enqueue(QUEUE, CreateShipment, run_id=run_id)
            shipped = await sql.fetchval(SHIPPED)
            if shipped == ORDERS:
                return
            await asyncio.sleep(0.2)
    finally:
        await d.close()


async def _new_demo_database(
    sql: asyncpg.Connection[asyncpg.Record], before: set[str], demo: asyncio.subprocess.Process
) -> str:
    while demo.returncode is None:
        rows = await sql.fetch("SELECT datname FROM pg_database WHERE datname LIKE 'docket_orders_%'")
        found: set[str] = {name for (name,) in rows}
        if found - before:
            return (found - before).pop()
        await asyncio.sleep(0.02)
    pytest.fail(f"the demo ended with {demo.returncode} before it had a database")


async def _until_something_is_booked(server: str, database: str, demo: asyncio.subprocess.Process) -> None:
    async with connected(server.rpartition("/")[0] + "/" + database) as sql:
        while demo.returncode is None:
            if await sql.fetchval("SELECT to_regclass('provider.ledger') IS NOT NULL") and await sql.fetchval(
                "SELECT count(*) FROM provider.ledger"
            ):
                return
            await asyncio.sleep(0.02)
    pytest.fail(f"the demo ended with {demo.returncode} before anything was booked")


async def _connections_left(sql: asyncpg.Connection[asyncpg.Record], database: str) -> int:
    left = 0
    for _ in range(100):
        left = await sql.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = $1", database)
        if not left:
            break
        await asyncio.sleep(0.1)
    return left
