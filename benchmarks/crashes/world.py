"""The steps of an order, and the outside world: a ledger that no database crash can touch."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.crashes.wrong import CACHES
from docket import Docket, Run, Transaction
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation, Shipment, ValidOrder

TABLES = """
CREATE SCHEMA shop;
CREATE TABLE shop.booking (booking_id text PRIMARY KEY, run_id text NOT NULL);
"""

APPLICATION = "docket crashes"
"""What the workers' connections are called, for whoever terminates them."""

LONG = 0.02
"""The share of the calls that take longer than a lease, so that leases are renewed while steps run."""


@dataclass(frozen=True)
class Booking:
    """A line in the shop's own books, written in the transaction of its certificate."""

    booking_id: str
    charge_id: str


KEYS: dict[str, str] = {
    "orders.ChargeResult": "at_most_once",
    "orders.Reservation": "at_least_once",
    "crashes.Booking": "transactional",
    "orders.Shipment": "exclusive",
}
"""The results of an order and their semantics; exclusive is at-least-once under a claim."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the ledger.

    Attributes:
        what: ``start`` of a step, or its ``effect``.
        run_id: The order.
        key: What the step gives.
        token: The step's fencing token.
        effect: The effect's id, new for each call.
        at: When, in nanoseconds since 1970 by this machine's clock, which is the database's clock too.
        needs: The effects that it was given, by key.
    """

    what: str
    run_id: str
    key: str
    token: int
    effect: str
    at: int
    needs: dict[str, str]


class Ledger:
    """A file that is only appended to, one write for each line, so that no kill leaves half of one.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, what: str, run: Run, effect: str, needs: dict[str, str]) -> None:
        """Append a line."""
        line = [what, run.run_id, run.key, run.token, effect, time.time_ns(), needs]
        os.write(self._file, f"{json.dumps(line)}\n".encode())

    def read(self) -> list[Line]:
        """Return all lines."""
        return [Line(*json.loads(line)) for line in self._path.read_text().splitlines()]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


class Effects:
    """The outside world as steps reach it: slow, and sometimes slower than a lease.

    Args:
        ledger: Where it is written down.
        lease: Seconds of a lease.
    """

    def __init__(self, ledger: Ledger, lease: float) -> None:
        self._ledger, self._lease = ledger, lease

    async def happen(self, run: Run, **needs: str) -> str:
        """Take effect once more; return the effect's id."""
        effect = uuid.uuid4().hex
        given = {_KEY_OF[name]: value for name, value in needs.items()}
        self._ledger.write("start", run, effect, given)
        await self.pass_time()
        self._ledger.write("effect", run, effect, given)
        await self.pass_time()
        return effect

    async def pass_time(self) -> None:
        """Take a moment, or longer than a lease."""
        long = random.random() < LONG
        await asyncio.sleep(random.uniform(1.0, 1.5) * self._lease if long else random.expovariate(1 / 0.01))


_KEY_OF = {"charge": "orders.ChargeResult", "reservation": "orders.Reservation", "booking": "crashes.Booking"}


async def validate_order(request: OrderRequest) -> ValidOrder:
    """Check the order; run again whenever it is needed."""
    return ValidOrder(order_id=request.order_id, amount_cents=request.amount_cents, currency="EUR")


DOORS = ("direct", "pgbouncer", "partitioned")
"""How workers come to their tables: directly, through PgBouncer in transaction mode, or directly to tables split by run."""

PARTS = 4
"""Parts of each table that is split."""


def build(dsn: str, effects: Effects, lease: float, cache: str = "right", door: str = "direct") -> Docket:
    """Wire the steps of an order.

    Args:
        dsn: The database.
        effects: The outside world.
        lease: Seconds.
        cache: A name in `CACHES`.
        door: One of `DOORS`.
    """
    options: dict[str, Any] = {"statement_cache_size": 0} if door == "pgbouncer" else {}
    kept = CACHES[cache](dsn, max_size=4, server_settings={"application_name": APPLICATION}, **options)
    d = Docket(cache=kept, lease=lease, wait=lease / 2)
    d.register(validate_order)

    @d.step(cache_result="at_most_once")
    async def charge_card(order: ValidOrder, run: Run) -> ChargeResult:  # pyright: ignore[reportUnusedFunction]
        return charged(await effects.happen(run), run.run_id, order.amount_cents)

    @d.step(cache_result="at_least_once")
    async def reserve_inventory(order: ValidOrder, run: Run) -> Reservation:  # pyright: ignore[reportUnusedFunction]
        return Reservation(reservation_id=await effects.happen(run), sku=order.sku)

    @d.step(cache_result="transactional", key="crashes.Booking")
    async def book(charge: ChargeResult, run: Run, lent: Transaction) -> Booking:  # pyright: ignore[reportUnusedFunction]
        effect = await effects.happen(run, charge=charge.charge_id)
        await lent.execute("INSERT INTO shop.booking (booking_id, run_id) VALUES ($1, $2)", effect, run.run_id)
        await effects.pass_time()
        return Booking(effect, charge.charge_id)

    @d.step(cache_result="at_least_once", exclusive=True, max_attempts=1_000_000)
    async def create_shipment(  # pyright: ignore[reportUnusedFunction]
        charge: ChargeResult, reservation: Reservation, booking: Booking, run: Run
    ) -> Shipment:
        given = {"charge": charge.charge_id, "reservation": reservation.reservation_id, "booking": booking.booking_id}
        return Shipment(tracking_number=await effects.happen(run, **given), order_id=run.run_id)

    return d


def charged(effect: str, run_id: str, amount: int) -> ChargeResult:
    """Make the provider's receipt."""
    return ChargeResult(charge_id=effect, order_id=run_id, amount_cents=amount, currency="EUR")


def request_of(run_id: str) -> OrderRequest:
    """Make an order."""
    return OrderRequest(order_id=run_id, customer="c-1", sku="sku-1", quantity=1, amount_cents=1999)


def effect_of(value: Any) -> str:
    """Return the id of the effect that a result is about."""
    names = {ChargeResult: "charge_id", Reservation: "reservation_id", Booking: "booking_id", Shipment: "tracking_number"}
    return str(getattr(value, names[type(value)]))


def stored_effect(key: str, body: bytes) -> str:
    """Return the id of the effect that a certified row is about."""
    if key == "crashes.Booking":
        return effect_of(Booking(**json.loads(body)))
    type_: Any = {"orders.ChargeResult": ChargeResult, "orders.Reservation": Reservation, "orders.Shipment": Shipment}[key]
    return effect_of(type_.FromString(body))
