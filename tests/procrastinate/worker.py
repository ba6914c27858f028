"""A worker in a process of its own: ``python -m tests.procrastinate.worker DSN``, for tests that kill and stop it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from docket import Docket
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Shipment
from tests.database import connected
from tests.procrastinate.queueing import QUEUE, Shop

ROOT = Path(__file__).parents[2]
MARKS = "CREATE TABLE mark (id bigint GENERATED ALWAYS AS IDENTITY, what text, pid int DEFAULT pg_backend_pid())"


def build(dsn: str) -> tuple[Docket, Shop]:
    """Wire two steps that leave marks in the database at *dsn*: a charge that takes a while, and a shipment."""
    shop = Shop(dsn, rescue_after=3.0)
    d = Docket(cache=PostgresCache(dsn), queue=shop.queue, lease=2.0)

    @d.step(cache_result="at_most_once")
    async def charge(order: OrderRequest) -> ChargeResult:  # pyright: ignore[reportUnusedFunction]
        await mark(dsn, f"charging {order.order_id}")
        await asyncio.sleep(order.quantity / 10)
        await mark(dsn, f"charged {order.order_id}")
        return ChargeResult(order_id=order.order_id)

    @d.step(cache_result="at_least_once")
    async def ship(charge: ChargeResult) -> Shipment:  # pyright: ignore[reportUnusedFunction]
        await mark(dsn, f"shipping {charge.order_id}")
        return Shipment(order_id=charge.order_id)

    return d, shop


async def mark(dsn: str, what: str) -> None:
    """Leave a mark."""
    connection = await asyncpg.connect(dsn)
    await connection.execute("INSERT INTO mark (what) VALUES ($1)", what)
    await connection.close()


async def marks(dsn: str, what: str) -> int:
    """Count the marks that say *what*."""
    async with connected(dsn) as connection:
        found: int = await connection.fetchval("SELECT count(*) FROM mark WHERE what = $1", what)
    return found


@asynccontextmanager
async def process(dsn: str, grace: float = 5.0) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run this module until left; then kill it if it is still there."""
    command = (sys.executable, "-m", __spec__.name, dsn, str(grace))
    started = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def main(dsn: str, grace: float) -> None:
    """Work until stopped."""
    d, shop = build(dsn)
    async with shop.app.open_async(), d:
        await shop.app.run_worker_async(
            queues=[QUEUE], concurrency=4, shutdown_graceful_timeout=grace, fetch_job_polling_interval=0.1,
            update_heartbeat_interval=0.2,
        )  # fmt: skip


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
