"""A run whose connection is cut at every boundary on the wire still does everything once and gives its answer."""

from __future__ import annotations

import asyncio

import pytest

from docket import InDoubt, NotCertified
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, Shipment
from tests.certify.boundary import MOMENTS, Boundary, When
from tests.certify.records import Records
from tests.orders import Orders, request


async def _cut() -> bool:
    return False


async def _run(dsn: str, run_id: str, at: int, when: When) -> tuple[Orders, Boundary]:
    """Run an order whose connection is cut at one boundary, counted from the first statement about it."""
    async with Boundary(dsn) as boundary:
        orders = Orders(PostgresCache(boundary.dsn))
        await orders.d.fetch("open", ChargeResult)
        boundary.arm(at, when, _cut)
        await orders.d.run(run_id, Shipment, request())
        await orders.d.close()
    return orders, boundary


@pytest.mark.parametrize("when", MOMENTS)
async def test_a_cut_connection_costs_nothing(dsn: str, when: When) -> None:
    """The lost answer is asked for again: one charge, one claim, no doubt, nothing in the journal (R12, R13)."""
    at = 0
    while True:
        at += 1
        run_id = f"{when}-{at}"
        orders, boundary = await _run(dsn, run_id, at, when)
        records = await Records.of(dsn, run_id)
        assert (orders.calls["charge"], orders.calls["reserve"]) == (1, 1), at
        assert records.events == []
        assert [(row["state"], row["token"], row["attempt"]) for row in records.results] == [("certified", 1, 1)] * 2
        if not boundary.acted:
            break
    assert at == 5  # a read, an insert, a claim and its certificate were cut, each once


async def test_an_outage_longer_than_the_patience_hands_over_the_value(dsn: str) -> None:
    """When the certificate cannot be written, the error holds the value, and the charge is not made again (R15)."""
    gone = asyncio.Event()

    async with Boundary(dsn) as boundary:
        orders = Orders(PostgresCache(boundary.dsn, patience=0.3), lease=0.4)

        async def go_down() -> None:
            gone.set()
            await boundary.__aexit__()

        orders.charging = go_down
        with pytest.raises(NotCertified) as failure:
            await orders.d.run("order-1", ChargeResult, request())
        assert failure.value.result == ChargeResult(charge_id="ch-1", order_id="order-1", amount_cents=1999)
        await orders.d.close()
    await asyncio.sleep(0.5)
    later = Orders(PostgresCache(dsn), lease=0.4)
    with pytest.raises(InDoubt, match="holder_lost"):
        await later.d.run("order-1", ChargeResult, request())
    await later.d.close()
    assert gone.is_set()
    assert later.calls["charge"] == 0
