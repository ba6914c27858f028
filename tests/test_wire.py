"""What a run costs, counted on the wire: the answers of the server between the client and it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from docket import Docket
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation, Shipment, ValidOrder
from tests.orders import Orders, request
from tests.procrastinate.wire import Proxy


@pytest.fixture
async def proxy(dsn: str) -> AsyncGenerator[Proxy]:
    """A proxy before the server."""
    proxy = Proxy(dsn)
    await proxy.arrive()
    yield proxy
    await proxy.leave()


@pytest.fixture
async def orders(proxy: Proxy) -> AsyncGenerator[Orders]:
    """The order graph on a pool that is warm: every connection has prepared every statement."""
    orders = Orders(PostgresCache(proxy.dsn, max_size=1))
    await orders.d.run("warm", Shipment, request())
    yield orders
    await orders.d.close()


async def test_a_cold_order_is_one_read_and_two_writes(orders: Orders, proxy: Proxy) -> None:
    """1 read; 2 writes for the at-most-once step, the first of which brings what the at-least-once step beside it made."""
    before = proxy.round_trips

    await orders.d.run("order-1", Shipment, request())

    assert proxy.round_trips - before == 3


async def test_a_resumed_order_is_one_read(orders: Orders, proxy: Proxy) -> None:
    """With everything certified, one read brings it all."""
    await orders.d.run("order-1", Shipment, request())
    before = proxy.round_trips

    await orders.d.run("order-1", Shipment, request())

    assert proxy.round_trips - before == 1


async def test_a_run_with_nothing_certified_asks_nothing(proxy: Proxy) -> None:
    """Without a certified step in reach of the target, the database is not even connected to."""
    orders = Orders(PostgresCache(proxy.dsn))

    await orders.d.run("order-1", ValidOrder, request())

    assert proxy.round_trips == 0


async def test_runs_at_the_same_time_share_statements(orders: Orders, proxy: Proxy) -> None:
    """Thirty orders at once send far fewer statements than thirty orders one by one."""
    before = proxy.round_trips

    await asyncio.gather(*(orders.d.run(f"order-{n}", Shipment, request()) for n in range(30)))

    assert proxy.round_trips - before <= 30


async def test_steps_that_are_ready_together_share_a_statement(proxy: Proxy) -> None:
    """Two at-least-once steps of one run that are ready in the same turn of the loop: one read and one write."""
    d = Docket(cache=PostgresCache(proxy.dsn, max_size=4))

    async def charge(order: ValidOrder) -> ChargeResult:
        return ChargeResult(charge_id="ch")

    async def reserve(order: ValidOrder) -> Reservation:
        return Reservation(reservation_id="res")

    async def validate(request: OrderRequest) -> ValidOrder:
        return ValidOrder()

    async def ship(charge: ChargeResult, reservation: Reservation) -> Shipment:
        return Shipment()

    d.register(validate, ship)
    d.step(cache_result="at_least_once")(charge)
    d.step(cache_result="at_least_once")(reserve)
    for name in ("warm", "warmer"):
        await d.run(name, Shipment, request())
    before = proxy.round_trips

    await d.run("order-1", Shipment, request())

    assert proxy.round_trips - before == 2
    await d.close()


async def test_an_idle_process_sends_nothing(orders: Orders, proxy: Proxy) -> None:
    """After a run, nothing is renewed, polled or kept alive."""
    await orders.d.run("order-1", Shipment, request())
    before = proxy.round_trips

    await asyncio.sleep(1.0)

    assert proxy.round_trips == before
