"""One certified step, as a test wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from docket import Docket, Run, Transaction
from docket.cache import Cache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation
from tests.database import connected

CHARGE = ChargeResult(charge_id="ch-1", amount_cents=1999)
REQUEST = OrderRequest(order_id="order-1", amount_cents=1999)


async def charged() -> ChargeResult:
    """Charge at once."""
    return CHARGE


class Charging:
    """A Docket with one step.

    Args:
        cache: Where its result is kept.
        body: What the step does.
        lease: Seconds of a claim.
        wait: Seconds to wait for another holder.
        grace: Seconds a cancelled step may take to end.
        options: Of the step; at most once if none are given.

    Attributes:
        runs: What the step was told, each time it was called.
    """

    def __init__(
        self,
        cache: Cache,
        body: Callable[[], Awaitable[Any]] = charged,
        *,
        lease: float = 60.0,
        wait: float = 10.0,
        grace: float = 5.0,
        **options: Any,
    ) -> None:
        self.d = Docket(cache=cache, lease=lease, wait=wait, grace=grace)
        self.runs: list[Run] = []
        self.body = body
        chosen: dict[str, Any] = options or {"cache_result": "at_most_once"}
        self.d.step(**chosen)(self.charge)

    async def charge(self, request: OrderRequest, run: Run) -> ChargeResult:
        """Take the money."""
        self.runs.append(run)
        result: ChargeResult = await self.body()
        return result

    async def run(self, run_id: str = "order-1", request: OrderRequest = REQUEST) -> ChargeResult:
        """Ask for the charge."""
        return await self.d.run(run_id, ChargeResult, request)

    def freeze(self) -> None:
        """Renew no lease any more, as a process does that stands still."""
        certifier: Any = self.d._certifier

        def hold(*_: object) -> None:
            """Hold nothing."""

        certifier._heart.hold = hold


class Selling:
    """A Docket whose step writes a row into the application's table.

    Args:
        cache: Where its result is kept, in the same database.
        then: What the step does after that, with the connection it was lent.
        grace: Seconds a cancelled step may take to end.
        options: Of the step, beyond that it is transactional.

    Attributes:
        calls: How often the step was called.
    """

    def __init__(
        self, cache: Cache, then: Callable[[Any], Awaitable[None]] | None = None, *, grace: float = 5.0, **options: Any
    ) -> None:
        self.d = Docket(cache=cache, grace=grace)
        self.calls = 0
        self._then = then
        self.d.step(cache_result="transactional", **options)(self.reserve)

    async def reserve(self, request: OrderRequest, db: Transaction, run: Run) -> Reservation:
        """Write a row."""
        self.calls += 1
        await db.execute("INSERT INTO public.sale VALUES ($1, $2)", run.run_id, run.attempt)
        if self._then is not None:
            await self._then(db)
        return Reservation(reservation_id=request.order_id)

    async def run(self, run_id: str = "order-1") -> Reservation:
        """Ask for it."""
        return await self.d.run(run_id, Reservation, REQUEST)


async def sales(dsn: str, run_id: str = "order-1") -> int:
    """Count the rows that the application sees."""
    async with connected(dsn) as db:
        count: int = await db.fetchval("SELECT count(*) FROM public.sale WHERE run_id = $1", run_id)
    return count


class Gate:
    """A step's body that waits until it is let go.

    Attributes:
        reached: Set when a step has come to it.
        go: Set to let it pass.
    """

    def __init__(self, then: Callable[[], Awaitable[Any]] = charged) -> None:
        self.reached, self.go = asyncio.Event(), asyncio.Event()
        self._then = then

    async def __call__(self) -> Any:
        """Wait."""
        self.reached.set()
        await self.go.wait()
        return await self._then()


def failing(error: BaseException) -> Callable[[], Awaitable[Any]]:
    """Make a body that raises *error*."""

    async def fail() -> Any:
        raise error

    return fail
