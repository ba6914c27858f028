"""One process that runs orders, until it is killed or its orders end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.crashes.world import Booking, Effects, Ledger, build, effect_of, request_of
from docket import Busy, Docket, InDoubt, NotCertified
from examples.orders.orders_pb2 import ChargeResult, Reservation, Shipment

DATABASE: tuple[type[Exception], ...] = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What a database that goes away may make of a call."""

OTHERS: dict[str, Any] = {
    "orders.ChargeResult": ChargeResult, "orders.Reservation": Reservation, "crashes.Booking": Booking,
}  # fmt: skip
"""What is fetched when an order is done."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a worker is told when it starts.

    Attributes:
        dsn: The database, as a worker comes to it.
        ledger: The ledger's file.
        lease: Seconds.
        cache: A name in `benchmarks.crashes.wrong.CACHES`.
        door: One of `benchmarks.crashes.world.DOORS`.
    """

    dsn: str
    ledger: Path
    lease: float
    cache: str
    door: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one attempt at an order.

    Attributes:
        run_id: The order.
        how: ``ok``, ``busy``, ``doubt``, ``database`` (an error of it) or ``error`` (any other).
        effects: The effects that the results are about, by key, if ok.
        error: The error, if there was one.
        retry_after: Seconds, if busy.
    """

    run_id: str
    how: str
    effects: dict[str, str]
    error: str = ""
    retry_after: float = 0.0


def main(orders: Connection, setting: Setting) -> None:
    """Run every order that comes, several at once, until no more can come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides when it ends
    logging.disable(logging.CRITICAL)
    asyncio.run(_serve(orders, setting))
    os._exit(0)


async def _serve(orders: Connection, setting: Setting) -> None:
    loop = asyncio.get_running_loop()
    ledger = Ledger(setting.ledger)
    d = build(setting.dsn, Effects(ledger, setting.lease), setting.lease, setting.cache, setting.door)
    over = asyncio.Event()
    working: set[asyncio.Task[None]] = set()

    async def work(run_id: str) -> None:
        orders.send(await _attempt(d, run_id))

    def receive() -> None:
        try:
            task = loop.create_task(work(orders.recv()))
        except EOFError:
            loop.remove_reader(orders.fileno())
            over.set()
        else:
            working.add(task)
            task.add_done_callback(working.discard)

    loop.add_reader(orders.fileno(), receive)
    await over.wait()


async def _attempt(d: Docket, run_id: str) -> Answer:
    try:
        shipment = await d.run(run_id, Shipment, request_of(run_id))
        effects = {"orders.Shipment": effect_of(shipment)}
        for key, type_ in OTHERS.items():
            found = await d.fetch(run_id, type_)
            if found is not None:
                effects[key] = effect_of(found)
        return Answer(run_id, "ok", effects)
    except Busy as busy:
        return Answer(run_id, "busy", {}, str(busy), busy.retry_after)
    except InDoubt as error:
        return Answer(run_id, "doubt", {}, str(error))
    except NotCertified as error:
        return Answer(run_id, "error", {}, repr(error))
    except DATABASE as error:
        return Answer(run_id, "database", {}, repr(error))
    except Exception as error:
        return Answer(run_id, "error", {}, repr(error))
