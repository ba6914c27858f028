"""One pool for the whole application: the cache and the queue's connector are lent it when they first need it."""

from __future__ import annotations

import asyncio

import asyncpg
import procrastinate
import pytest

from docket import Docket, Transaction
from docket.errors import ConfigurationError
from docket.postgres import PostgresCache
from docket_procrastinate import AsyncpgConnector, ProcrastinateQueue
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation


class Lender:
    """Makes a pool when it is first asked, as an application does that has no loop while it is imported."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self.asked = 0
        self.pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def __call__(self) -> asyncpg.Pool[asyncpg.Record]:
        """Return the pool."""
        self.asked += 1
        if self.pool is None:
            self.pool = await asyncpg.create_pool(self._dsn, min_size=0, max_size=3)
        return self.pool


async def reserve(order: OrderRequest) -> Reservation:
    """Reserve."""
    return Reservation(reservation_id=order.order_id)


async def test_cache_and_queue_share_a_pool_that_is_made_on_first_use(dsn: str) -> None:
    """Nothing is asked for before; closing leaves the pool open, and another use asks for it again."""
    lend = Lender(dsn)
    app = procrastinate.App(connector=AsyncpgConnector(pool=lend))
    d = Docket(cache=PostgresCache(lend), queue=ProcrastinateQueue(app))
    d.step(cache_result="at_least_once")(reserve)
    assert lend.asked == 0

    runs = (d.run(f"run-{number}", Reservation, OrderRequest(order_id=f"{number}")) for number in range(8))
    await asyncio.gather(*runs)
    assert lend.asked == 1
    await d.enqueue("orders", Reservation, OrderRequest(order_id="9"), run_id="run-9")
    await d.close()

    assert lend.asked == 2
    assert lend.pool is not None
    assert await d.fetch("run-3", Reservation) == Reservation(reservation_id="3")
    assert lend.asked == 3
    await d.close()
    await lend.pool.close()


async def test_options_of_a_pool_that_is_lent_are_refused() -> None:
    """They would have no effect."""
    with pytest.raises(ConfigurationError, match="set them where the pool is made"):
        PostgresCache(Lender("nowhere"), max_size=3)


async def test_steps_do_not_take_every_connection_of_a_pool_that_is_lent(dsn: str) -> None:
    """Transactional steps that wait for another run leave it a connection, however small the pool is."""
    reserved = asyncio.Event()
    lend = Lender(dsn)
    d = Docket(cache=PostgresCache(lend))
    d.step(cache_result="at_least_once")(reserve)

    @d.step(cache_result="transactional")
    async def charge(order: OrderRequest, transaction: Transaction) -> ChargeResult:
        await transaction.execute("SELECT 1")
        await reserved.wait()
        return ChargeResult(order_id=order.order_id)

    async def other() -> None:
        await d.run("other", Reservation, OrderRequest(order_id="other"))
        reserved.set()

    charges = (d.run(f"run-{number}", charge, OrderRequest(order_id=f"{number}")) for number in range(4))
    async with asyncio.timeout(20):
        *made, _ = await asyncio.gather(*charges, other())

    assert [one.order_id for one in made if one] == ["0", "1", "2", "3"]
    assert lend.pool is not None
    await d.close()
    await lend.pool.close()
