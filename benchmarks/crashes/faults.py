"""What is done to the workers and to their database."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg

from benchmarks.crashes.crew import Crew
from benchmarks.crashes.world import APPLICATION
from docket.postgres.embedded import EmbeddedServer


@dataclass(slots=True)
class Ground:
    """Where a campaign takes place.

    Attributes:
        crew: The workers.
        dsn: Their database.
        server: Their server, if it is ours to crash.
        lease: Seconds.
        chance: Decides what is hit and when.
        faults: How many there were.
    """

    crew: Crew
    dsn: str
    server: EmbeddedServer | None
    lease: float
    chance: random.Random
    faults: int = 0


async def kill(ground: Ground) -> None:
    """SIGKILL a worker that has orders, some three times a second."""
    while True:
        await asyncio.sleep(ground.chance.expovariate(1 / 0.3))
        busy = ground.crew.busy()
        if busy:
            ground.chance.choice(busy).signal(signal.SIGKILL)
            ground.faults += 1


async def pause(ground: Ground) -> None:
    """Stop a worker that has orders for longer than its lease, some twice a second, several at a time."""
    asleep: set[asyncio.Task[None]] = set()

    async def sleep(worker: Any) -> None:
        worker.paused = True
        worker.signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(ground.chance.uniform(1.2, 3.0) * ground.lease)
        finally:
            worker.signal(signal.SIGCONT)
            worker.paused = False

    try:
        while True:
            await asyncio.sleep(ground.chance.expovariate(1 / 0.4))
            busy = ground.crew.busy()
            if len(busy) > 1:  # somebody must be left to notice
                ground.faults += 1
                asleep.add(asyncio.create_task(sleep(ground.chance.choice(busy))))
    finally:
        for task in asleep:
            task.cancel()
        await asyncio.gather(*asleep, return_exceptions=True)


TERMINATE = """
SELECT pg_terminate_backend(pid) FROM (
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1
    ORDER BY state = 'idle', random() LIMIT 1) one
"""


async def terminate(ground: Ground) -> None:
    """Terminate a worker's connection, one that is at work if there is any, some twenty times a second."""
    connection = await asyncpg.connect(ground.dsn)
    try:
        while True:
            await asyncio.sleep(ground.chance.expovariate(1 / 0.05))
            ground.faults += len(await connection.fetch(TERMINATE, APPLICATION))
    finally:
        connection.terminate()


async def restart(ground: Ground) -> None:
    """Stop the server as a crash does, and start it again on its data, every two seconds or so."""
    assert ground.server is not None
    while True:
        await asyncio.sleep(ground.chance.uniform(0.5, 2.0))
        ground.server.stop()
        ground.faults += 1
        await asyncio.sleep(ground.chance.uniform(0.0, 0.3))
        await ground.server.start()


async def contend(ground: Ground) -> None:
    """Do nothing but hand the same orders to several workers."""
    before = ground.crew.contended
    while True:
        await asyncio.sleep(0.05)
        ground.faults, before = ground.faults + ground.crew.contended - before, ground.crew.contended


async def storm(ground: Ground) -> None:
    """Kill, pause and terminate, all at once."""
    tasks = [asyncio.create_task(fault(ground)) for fault in (kill, pause, terminate)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of campaign.

    Attributes:
        title: What its faults are called in the table.
        fault: Makes them until it is cancelled.
        least: The faults a second below which it shows too little.
        contention: The share of the orders that several workers have at once.
        outages: Whether callers may get errors of the database.
        crashes: Whether the server is to be one of its own that can be crashed.
    """

    title: str
    fault: Callable[[Ground], Awaitable[None]]
    least: float
    contention: float = 0.25
    outages: bool = False
    crashes: bool = False


KINDS: dict[str, Kind] = {
    "kill": Kind("SIGKILL of a worker", kill, 0.5),
    "terminate": Kind("pg_terminate_backend", terminate, 2.0, outages=True),
    "pause": Kind("SIGSTOP for 1.2 to 3 leases", pause, 0.5, contention=0.5),
    "restart": Kind("crash and restart of PostgreSQL", restart, 0.1, outages=True, crashes=True),
    "contend": Kind("an order handed to another worker too", contend, 5.0, contention=0.8),
    "storm": Kind("kills, pauses and terminations", storm, 2.0, outages=True),
}
"""By name, for the command line."""
