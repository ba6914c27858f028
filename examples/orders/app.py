"""The steps of an order, and the Docket that workers and web processes import."""

from __future__ import annotations

import asyncio
import os

import procrastinate
from procrastinate.connector import BaseConnector

from docket import Docket, Graph, Run
from docket.postgres import PostgresCache
from docket.queue import QueueDriver
from docket_procrastinate import AsyncpgConnector, ProcrastinateQueue
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation, Shipment, ValidOrder
from examples.orders.provider import PaymentProvider

QUEUE = "orders"

orders = Graph(inputs=[OrderRequest])


class OrderRejected(Exception):
    """The order cannot be fulfilled as it stands."""


@orders.step(pure=True)
async def validate_order(request: OrderRequest) -> ValidOrder:
    """Check the order. Cheap and always the same, so it is simply done again whenever it is needed."""
    if request.quantity < 1 or request.amount_cents < 1:
        raise OrderRejected(f"order {request.order_id} asks for nothing")
    return ValidOrder(
        order_id=request.order_id,
        customer=request.customer,
        sku=request.sku,
        quantity=request.quantity,
        amount_cents=request.amount_cents,
        currency="EUR",
    )


@orders.step(cache_result="at_most_once", timeout=30)
async def charge_card(order: ValidOrder, provider: PaymentProvider, run: Run) -> ChargeResult:
    """Take the customer's money: never twice."""
    return await provider.charge(order, run.idempotency_key)


@orders.step(cache_result="at_least_once")
async def reserve_inventory(order: ValidOrder) -> Reservation:
    """Set the goods aside. Doing it twice would be untidy, not costly."""
    await asyncio.sleep(0.1)
    return Reservation(
        reservation_id=f"res-{order.order_id}", sku=order.sku, quantity=order.quantity, warehouse="east-1"
    )


@orders.step(cache_result="at_least_once")
async def CreateShipment(charge: ChargeResult, reservation: Reservation) -> Shipment:
    """Hand the parcel to the carrier."""
    await asyncio.sleep(0.4)
    return Shipment(
        tracking_number=f"trk-{charge.order_id}",
        order_id=charge.order_id,
        charge_id=charge.charge_id,
        reservation_id=reservation.reservation_id,
        carrier="postbus",
    )


def docket_on(dsn: str, queue: QueueDriver) -> Docket:
    """Put the steps on the database at *dsn* and on a queue. Nothing is opened until it is used."""
    d = Docket(cache=PostgresCache(dsn), queue=queue, lease=2.0)
    d.include(orders)
    d.provide(PaymentProvider, PaymentProvider(dsn))
    return d


def build(dsn: str, connector: BaseConnector | None = None) -> tuple[Docket, procrastinate.App]:
    """Put the steps on the database at *dsn* and on Procrastinate's queue there."""
    app = procrastinate.App(
        connector=connector or AsyncpgConnector(dsn),
        # The demo kills workers and has no minute to wait; in production leave the defaults.
        worker_defaults={"update_heartbeat_interval": 0.5, "fetch_job_polling_interval": 0.5},
    )
    queue = ProcrastinateQueue(app, backoff=0.5, rescue_after=1.5, rescue_cron="* * * * * */1", rescues=100)
    return docket_on(dsn, queue), app


DSN = os.environ.get("DATABASE_URL") or "postgresql://postgres@127.0.0.1:5432/postgres"

d, procrastinate_app = build(DSN)
