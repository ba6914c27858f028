"""A payment provider: somebody else's system, with a ledger of its own.

It books whatever it is asked to book, twice if it is asked twice: that no order is charged twice is not its doing.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import asyncpg

from examples.orders.orders_pb2 import ChargeResult, ValidOrder

LEDGER = """
CREATE SCHEMA provider;
CREATE TABLE provider.ledger (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id        text NOT NULL,
    idempotency_key text NOT NULL,
    amount_cents    bigint NOT NULL,
    currency        text NOT NULL,
    booked_at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
"""


class PaymentProvider:
    """The provider's API.

    Args:
        dsn: The provider's own database.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    async def charge(self, order: ValidOrder, idempotency_key: str) -> ChargeResult:
        """Book a charge; it takes as long as such calls take, before the booking and after it."""
        await asyncio.sleep(0.2)
        row = await self._row(
            "INSERT INTO provider.ledger (order_id, idempotency_key, amount_cents, currency) VALUES ($1, $2, $3, $4) "
            "RETURNING *",
            order.order_id,
            idempotency_key,
            order.amount_cents,
            order.currency,
        )
        await asyncio.sleep(0.2)
        assert row is not None
        return receipt(row)

    async def find(self, order_id: str) -> ChargeResult | None:
        """Look up the charge of an order, as a person would on the provider's dashboard."""
        row = await self._row("SELECT * FROM provider.ledger WHERE order_id = $1", order_id)
        return receipt(row) if row is not None else None

    async def _row(self, sql: str, *args: object) -> asyncpg.Record | None:
        connection = await asyncpg.connect(self._dsn)
        try:
            return await connection.fetchrow(sql, *args)
        finally:
            await connection.close()


def receipt(row: asyncpg.Record) -> ChargeResult:
    """Turn a line of the ledger into the provider's answer."""
    charge = ChargeResult(
        charge_id=f"ch_{row['id']}",
        order_id=row["order_id"],
        amount_cents=row["amount_cents"],
        currency=row["currency"],
    )
    booked: datetime = row["booked_at"]
    charge.charged_at.FromDatetime(booked)
    return charge
