"""Certified results through PgBouncer in transaction mode, where no two statements need to meet the same session."""

from __future__ import annotations

import asyncio
import collections
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from docket import Docket, InDoubt, Run, Transaction
from docket.cache import Cache
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation, Shipment
from tests.certify.doors import Door
from tests.database import connected


class Shop:
    """Orders through one process of its own."""

    def __init__(self, cache: Cache) -> None:
        self.done: collections.Counter[tuple[str, str]] = collections.Counter()
        self.failing: set[str] = set()
        self.d = Docket(cache=cache, lease=5)
        self.d.step(cache_result="at_most_once")(self.charge)
        self.d.step(cache_result="at_least_once", exclusive=True)(self.reserve)
        self.d.step(cache_result="transactional")(self.ship)

    async def charge(self, order: OrderRequest, run: Run) -> ChargeResult:
        """Take the money, or lose the answer."""
        self.done[run.run_id, "charge"] += 1
        await asyncio.sleep(0.002)
        if run.run_id in self.failing:
            raise ConnectionResetError("no answer")
        return ChargeResult(charge_id=f"ch-{run.run_id}", order_id=order.order_id, amount_cents=order.amount_cents)

    async def reserve(self, order: OrderRequest, run: Run) -> Reservation:
        """Set the goods aside."""
        self.done[run.run_id, "reserve"] += 1
        return Reservation(reservation_id=f"res-{run.run_id}", sku=order.sku)

    async def ship(self, charge: ChargeResult, reservation: Reservation, run: Run, lent: Transaction) -> Shipment:
        """Write a parcel into the transaction of its certificate."""
        await lent.execute("INSERT INTO parcel VALUES ($1)", run.run_id)
        return Shipment(tracking_number=charge.charge_id, reservation_id=reservation.reservation_id)

    async def order(self, run_id: str) -> Shipment:
        """Run one order."""
        return await self.d.run(run_id, Shipment, OrderRequest(order_id=run_id, sku="s", quantity=1, amount_cents=5))


@pytest.fixture
async def shops(pooled: Door, dsn: str) -> AsyncGenerator[tuple[Shop, Shop]]:
    """Two processes' worth of orders over one database, and the table that steps write."""
    async with connected(dsn) as connection:
        await connection.execute("CREATE TABLE parcel (run_id text)")
    async with AsyncExitStack() as stack:
        one, two = Shop(pooled.cache()), Shop(pooled.cache())
        await stack.enter_async_context(one.d)
        await stack.enter_async_context(two.d)
        yield one, two
    async with connected(dsn) as connection:
        await connection.execute("DROP TABLE parcel")


async def test_many_orders_at_once_share_few_sessions(shops: tuple[Shop, Shop], dsn: str) -> None:
    """Forty orders, each asked for twice, over three server connections: one charge, one parcel and one answer each."""
    names = [f"order-{number}" for number in range(40)]
    told = await asyncio.gather(*(shop.order(name) for name in names for shop in shops))
    charges = sum((shop.done for shop in shops), collections.Counter[tuple[str, str]]())
    assert [shipment.tracking_number for shipment in told] == [f"ch-{name}" for name in names for _ in shops]
    assert [charges[name, "charge"] for name in names] == [1] * 40
    async with connected(dsn) as connection:
        assert await connection.fetchval("SELECT array_agg(n) = array_fill(1, '{40}') FROM "
                                         "(SELECT count(*)::int AS n FROM parcel GROUP BY run_id) counted")  # fmt: skip


async def test_a_doubt_is_kept_and_decided_through_a_transaction_pooler(shops: tuple[Shop, Shop]) -> None:
    """An answer that was lost is a doubt for everybody; settled it is the result, released the step runs again."""
    one, two = shops
    one.failing = {"settled", "released"}
    for name in ("settled", "released"):
        for shop in shops:
            with pytest.raises(InDoubt):
                await shop.order(name)
    assert (one.done["settled", "charge"], two.done["settled", "charge"]) == (1, 0)
    await two.d.settle("settled", ChargeResult, ChargeResult(charge_id="found"))
    await two.d.release("released", ChargeResult)
    assert (await one.order("settled")).tracking_number == "found"
    assert (await two.order("released")).tracking_number == "ch-released"
    assert (one.done["released", "charge"], two.done["released", "charge"]) == (1, 1)


async def test_a_session_that_caches_statements_is_told_what_to_do(pooled: Door) -> None:
    """With asyncpg's statement cache left on, an old PgBouncer's error carries the advice; a new one works."""
    cache = PostgresCache(pooled.dsn, min_size=6, max_size=6)
    found = await asyncio.gather(*(cache.load(f"run-{number}") for number in range(60)), return_exceptions=True)
    await cache.close()
    errors = [one for one in found if isinstance(one, BaseException)]
    assert all(isinstance(error, asyncpg.PostgresError) for error in errors)
    assert all("statement_cache_size=0" in str(error.__notes__) for error in errors)
