"""The shop's steps. Nothing here knows of HTTP."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass

import asyncpg
import procrastinate

from docket import Docket, Refused, Run
from docket.postgres import PostgresCache
from docket_procrastinate import AsyncpgConnector, ProcrastinateQueue

DSN = os.environ.get("DATABASE_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
QUEUE = "orders"

TABLES = """
CREATE TABLE IF NOT EXISTS shop_order (id text PRIMARY KEY, sku text NOT NULL, amount_cents bigint NOT NULL);
CREATE TABLE IF NOT EXISTS shop_ledger (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, idempotency_key text, amount_cents bigint);
"""


@dataclass(frozen=True)
class OrderRequest:
    """What a customer asks for."""

    sku: str
    amount_cents: int
    patience: float = 0.0
    """Seconds that the payment provider takes, for playing with."""


@dataclass(frozen=True)
class Price:
    """What it costs in the end."""

    amount_cents: int


@dataclass(frozen=True)
class Charge:
    """The customer's money, taken."""

    charge_id: str
    amount_cents: int


@dataclass(frozen=True)
class Shipment:
    """The parcel, on its way."""

    tracking_number: str
    charge_id: str


class OutOfStock(Exception):
    """There is none left. The shop's own error: nothing of Docket's."""


procrastinate_app = procrastinate.App(connector=AsyncpgConnector(DSN))
d = Docket(cache=PostgresCache(DSN), queue=ProcrastinateQueue(procrastinate_app))


@d.step
async def price(request: OrderRequest) -> Price:
    """Look the price up. Cheap: simply done again when it is needed."""
    if request.sku == "sold-out":
        raise OutOfStock(request.sku)
    return Price(request.amount_cents)


@d.step(cache_result="at_most_once", timeout=30)
async def charge(request: OrderRequest, price: Price, run: Run) -> Charge:
    """Take the money: never twice."""
    if price.amount_cents > 100_000:
        raise Refused("the card's limit is 1000.00")
    connection = await asyncpg.connect(DSN)
    try:
        booked = await connection.fetchval(
            "INSERT INTO shop_ledger (idempotency_key, amount_cents) VALUES ($1, $2) RETURNING id",
            run.idempotency_key,
            price.amount_cents,
        )
    finally:
        await connection.close()
    await asyncio.sleep(request.patience)
    if request.sku == "dead-line":
        raise ConnectionError("the provider hung up")
    return Charge(f"ch_{booked}", price.amount_cents)


@d.step(cache_result="at_least_once")
async def ship(charge: Charge) -> Shipment:
    """Hand the parcel over."""
    return Shipment(f"trk_{charge.charge_id}", charge.charge_id)
