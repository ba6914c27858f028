"""What the rules of queue drivers stand on: the rig a driver brings, and a Docket that keeps account of what happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from docket._core.step import Run
from docket.cache import MemoryCache
from docket.docket import Docket
from docket.errors import InputsChanged
from docket.queue import QueueDriver
from docket.serializers import Serializers

QUEUE = "exercise"
"""The one queue that the rules use."""

ATTEMPTS = 3
"""How often the driver under test is to try a job."""

PATIENCE = 30.0
"""Seconds after which something that is to happen counts as not happening."""

QUIET = 0.3
"""Seconds for which something that is not to happen is looked for. Too short can only overlook a fault, never invent one."""


class QueueRig(Protocol):
    """A driver on an empty queue, and what a rule must be able to do to that queue."""

    @property
    def queue(self) -> QueueDriver:
        """The driver, new, with `ATTEMPTS` attempts and pauses of at most 0.1 s between them."""
        ...

    def working(self) -> AbstractAsyncContextManager[None]:
        """Work on `QUEUE` in this process, one job at a time, until left; then stop as on SIGTERM, with 0.1 s of grace."""
        ...

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Open a transaction of the caller's and give its connection. Only called if the driver declares ``"transaction"``."""
        ...

    async def strand(self) -> None:
        """Leave the waiting job as a worker does that took it and was killed. Only called if it declares ``"durable"``."""
        ...

    async def reason(self, run_id: str) -> str:
        """Return what can be read about the end of a run's job where the queue keeps its jobs; empty if nothing."""
        ...


@dataclass(frozen=True)
class Order:
    """What a run is given."""

    number: int


@dataclass(frozen=True)
class Parcel:
    """What a run is asked for."""

    number: int


@dataclass(frozen=True)
class Label:
    """What goes on a parcel."""

    number: int


@dataclass(frozen=True)
class Sent:
    """A parcel with its label."""

    number: int


async def send(parcel: Parcel, _label: Label) -> Sent:
    """Send a parcel."""
    return Sent(parcel.number)


class Bench:
    """A Docket with one certified step on the rig's queue, and an account of what happened.

    Attributes:
        d: The Docket.
        calls: The run ids for which the step was called, in order.
        act: Awaited inside the step.
    """

    def __init__(self, rig: QueueRig, serializers: Serializers | None = None) -> None:
        self.d = Docket(cache=MemoryCache(), queue=rig.queue, serializers=serializers or ())
        self.calls: list[str] = []
        self.act: Callable[[], Awaitable[object]] = _nothing
        self.d.step(cache_result="at_least_once")(self.pack)

    async def pack(self, order: Order, run: Run) -> Parcel:
        """Make the parcel."""
        self.calls.append(run.run_id)
        await self.act()
        return Parcel(order.number)

    async def put(self, *run_ids: str, connection: object | None = None) -> list[str]:
        """Enqueue runs, each with the same order; return those for which a job was added."""
        runs = {run_id: [Order(0)] for run_id in run_ids}
        return await self.d.enqueue_many(QUEUE, Parcel, runs, connection=connection)

    async def refused(self, run_id: str, runs: Mapping[str, Sequence[object]], connection: object | None = None) -> None:
        """Enqueue runs of which *run_id* waits with other inputs: it is refused by the name of the field."""
        found = ""
        try:
            await self.d.enqueue_many(QUEUE, Parcel, runs, connection=connection)
        except InputsChanged as error:
            found = f"{error.run_id} {error.waiting} {'; '.join(map(str, error.changes))}"
        assert found == f"{run_id} True Order.number: 0 -> 9", found or "nothing was refused"

    async def packed(self, run_id: str) -> Parcel:
        """Wait for a run's parcel."""
        found: Parcel = await self.d.wait(run_id, Parcel, timeout=PATIENCE)
        return found


async def _nothing() -> None:
    return None


async def until(happened: Callable[[], Awaitable[object]]) -> None:
    """Wait until *happened* gives something true."""
    end = time.monotonic() + PATIENCE
    while not await happened():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.01)
