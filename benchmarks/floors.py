"""The order graph written by hand on asyncpg: the least that a run which keeps two results can cost.

Each floor does what somebody without a library would write. None of them survives a crash between the charge and its row,
renews a lease, notices other inputs, keeps a projection or says who did what.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation, Shipment, ValidOrder

TABLES = """
CREATE TABLE floor_result (
    run_id text, step text, type text NOT NULL, payload bytea NOT NULL, created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, step));
CREATE TABLE floor_claim (
    run_id text, step text, state smallint NOT NULL, type text, payload bytea, created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz, PRIMARY KEY (run_id, step));
"""

_SELECT = "SELECT step, payload FROM floor_result WHERE run_id = $1"
_INSERT = "INSERT INTO floor_result (run_id, step, type, payload) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
_SELECT_MANY = "SELECT run_id, step, payload FROM floor_result WHERE run_id = ANY($1::text[])"
_INSERT_MANY = (
    "INSERT INTO floor_result (run_id, step, type, payload) "
    "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[]) ON CONFLICT DO NOTHING"
)
_TYPES: dict[str, Any] = {"charge": ChargeResult, "reserve": Reservation}


async def validate_order(request: OrderRequest) -> ValidOrder:
    """Check the order."""
    return ValidOrder(order_id=request.order_id, amount_cents=request.amount_cents, sku=request.sku)


async def charge_card(order: ValidOrder) -> ChargeResult:
    """Take the money."""
    return ChargeResult(charge_id="ch-1", order_id=order.order_id, amount_cents=order.amount_cents)


async def reserve_inventory(order: ValidOrder) -> Reservation:
    """Set the goods aside."""
    return Reservation(reservation_id="rs-1", sku=order.sku)


async def create_shipment(charge: ChargeResult, stock: Reservation) -> Shipment:
    """Send the goods."""
    return Shipment(tracking_number="trk", charge_id=charge.charge_id, reservation_id=stock.reservation_id)


async def _no_reset(connection: Any) -> None:
    """Send nothing when a connection goes back to the pool."""


class Floor:
    """One SELECT, then one committed INSERT for each result. The pool sends no reset query.

    Args:
        dsn: The database.
        size: Connections.
    """

    def __init__(self, dsn: str, size: int) -> None:
        self._dsn, self._size = dsn, size
        self.pool: Any = None

    async def open(self) -> None:
        """Open all connections."""
        self.pool = await asyncpg.create_pool(self._dsn, min_size=self._size, max_size=self._size, reset=_no_reset)

    async def close(self) -> None:
        """Close them."""
        await self.pool.close()

    async def load(self, run_id: str) -> dict[str, Any]:
        """Return what is kept of a run."""
        return {step: _TYPES[step].FromString(payload) for step, payload in await self.pool.fetch(_SELECT, run_id)}

    async def save(self, run_id: str, step: str, message: Any) -> None:
        """Keep a result."""
        await self.pool.execute(_INSERT, run_id, step, message.DESCRIPTOR.full_name, message.SerializeToString())

    async def kept(self, run_id: str, step: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """Make a result and keep it."""
        made = await make()
        await self.save(run_id, step, made)
        return made

    async def run(self, run_id: str, request: OrderRequest) -> Shipment:
        """Resolve one order."""
        have = await self.load(run_id)
        order = await validate_order(request)

        async def charge() -> Any:
            found = have.get("charge")
            return found if found is not None else await self.kept(run_id, "charge", lambda: charge_card(order))

        async def reserve() -> Any:
            found = have.get("reserve")
            return found if found is not None else await self.kept(run_id, "reserve", lambda: reserve_inventory(order))

        charged, reserved = await asyncio.gather(charge(), reserve())
        return await create_shipment(charged, reserved)


class ClaimFloor(Floor):
    """A claim before and a certificate after, for both results."""

    async def load(self, run_id: str) -> dict[str, Any]:
        """Return what is kept of a run."""
        rows = await self.pool.fetch("SELECT step, state, payload FROM floor_claim WHERE run_id = $1", run_id)
        return {step: _TYPES[step].FromString(payload) for step, state, payload in rows if state}

    async def kept(self, run_id: str, step: str, make: Callable[[], Awaitable[Any]]) -> Any:
        """Claim, make and keep."""
        status = await self.pool.execute(
            "INSERT INTO floor_claim (run_id, step, state) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING", run_id, step
        )
        if status != "INSERT 0 1":
            raise RuntimeError("claimed by somebody else")
        made = await make()
        await self.pool.execute(
            "UPDATE floor_claim SET state = 1, type = $3, payload = $4, updated_at = now() "
            "WHERE run_id = $1 AND step = $2 AND state = 0",
            run_id, step, made.DESCRIPTOR.full_name, made.SerializeToString(),
        )  # fmt: skip
        return made


class CoalescingFloor(Floor):
    """Concurrent runs share statements: what arrives while one is in flight goes out in the next."""

    writers = 2

    async def open(self) -> None:
        """Open all connections."""
        await super().open()
        self._saves: list[tuple[tuple[Any, ...], asyncio.Future[None]]] = []
        self._loads: list[tuple[str, asyncio.Future[dict[str, Any]]]] = []
        self._saving = self._loading = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def save(self, run_id: str, step: str, message: Any) -> None:
        """Keep a result, in the next statement."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._saves.append(((run_id, step, message.DESCRIPTOR.full_name, message.SerializeToString()), future))
        if self._saving < self.writers:
            self._saving += 1
            self._start(self._write())
        await future

    async def load(self, run_id: str) -> dict[str, Any]:
        """Return what is kept of a run, by the next statement."""
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._loads.append((run_id, future))
        if self._loading < self.writers:
            self._loading += 1
            self._start(self._read())
        return await future

    def _start(self, coroutine: Any) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self) -> None:
        while self._saves:
            batch, self._saves = self._saves[:256], self._saves[256:]
            if len(batch) == 1:
                await self.pool.execute(_INSERT, *batch[0][0])
            else:
                await self.pool.execute(_INSERT_MANY, *map(list, zip(*(row for row, _ in batch), strict=True)))
            for _, future in batch:
                future.set_result(None)
        self._saving -= 1

    async def _read(self) -> None:
        while self._loads:
            batch, self._loads = self._loads[:256], self._loads[256:]
            found: dict[str, dict[str, Any]] = {run_id: {} for run_id, _ in batch}
            for run_id, step, payload in await self.pool.fetch(_SELECT_MANY, list(found)):
                found[run_id][step] = _TYPES[step].FromString(payload)
            for run_id, future in batch:
                future.set_result(found[run_id])
        self._loading -= 1
