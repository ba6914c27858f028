"""An order graph for tests, with an account of what its steps did."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

from docket import Docket, Run
from docket.cache import Cache
from docket.queue import QueueDriver
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation, Shipment, ValidOrder


async def nothing() -> None:
    """Happen at a point where nothing is to happen."""


class Orders:
    """A Docket with four steps: two kept, two not.

    Args:
        cache: Where the two results are kept.
        queue: What runs are handed to.
        lease: Seconds of a claim.
        wait: Seconds to wait for another holder.

    Attributes:
        calls: How often each step was called.
        runs: What `charge_card` was told about its runs.
        charging: Awaited inside of the charge, after it is counted.
        shipping: Awaited inside of the shipment, before it is made.
    """

    def __init__(
        self, cache: Cache, queue: QueueDriver | None = None, *, lease: float = 60.0, wait: float = 10.0
    ) -> None:
        self.d = Docket(cache=cache, queue=queue, lease=lease, wait=wait)
        self.calls: Counter[str] = Counter()
        self.runs: list[Run] = []
        self.charging: Callable[[], Awaitable[object]] = nothing
        self.shipping: Callable[[], Awaitable[object]] = nothing
        self.d.register(self.validate_order, self.create_shipment)
        self.d.step(cache_result="at_most_once")(self.charge_card)
        self.d.step(cache_result="at_least_once")(self.reserve_inventory)

    async def validate_order(self, request: OrderRequest) -> ValidOrder:
        """Check the order."""
        self.calls["validate"] += 1
        return ValidOrder(order_id=request.order_id, amount_cents=request.amount_cents, sku=request.sku)

    async def charge_card(self, order: ValidOrder, run: Run) -> ChargeResult:
        """Take the money."""
        self.calls["charge"] += 1
        self.runs.append(run)
        await self.charging()
        return ChargeResult(charge_id=f"ch-{self.calls['charge']}", order_id=order.order_id, amount_cents=order.amount_cents)

    async def reserve_inventory(self, order: ValidOrder) -> Reservation:
        """Set the goods aside."""
        self.calls["reserve"] += 1
        await asyncio.sleep(0)
        return Reservation(reservation_id=f"res-{self.calls['reserve']}", sku=order.sku)

    async def create_shipment(self, charge: ChargeResult, reservation: Reservation) -> Shipment:
        """Send the parcel."""
        self.calls["ship"] += 1
        await self.shipping()
        return Shipment(
            tracking_number="trk", charge_id=charge.charge_id, reservation_id=reservation.reservation_id
        )


def request(order_id: str = "order-1", amount_cents: int = 1999) -> OrderRequest:
    """Make what a customer sends."""
    return OrderRequest(order_id=order_id, customer="ada", sku="sku-1", quantity=1, amount_cents=amount_cents)
