"""One campaign: faults in rounds, an operator between them, and a quiet end in which everything must be finished."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
import sys
import tempfile
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from benchmarks.crashes.crew import Crew
from benchmarks.crashes.faults import KINDS, Ground, Kind
from benchmarks.crashes.invariants import History, Row, violations
from benchmarks.crashes.watch import Watch
from benchmarks.crashes.worker import Setting
from benchmarks.crashes.world import PARTS, TABLES, Effects, Ledger, build, charged
from docket.postgres.embedded import EmbeddedServer, embedded_server, fresh_database, postgres_server
from docket.postgres.schema import apply
from examples.orders.orders_pb2 import ChargeResult
from tests.certify.pgbouncer import installed, pgbouncer

ROUND = 8.0
"""Seconds of faults between two visits of the operator."""

LONGEST = 5.0
"""How much longer than asked for a campaign may go on until enough has happened: the machine may be busy."""

PATIENCE = 60.0
"""Seconds in which everything must be finished once the faults are over; a hang is a violation."""

SESSIONS = 8
"""Server connections that PgBouncer has for the workers, of which each may have four: a paused one keeps those it is using."""

ROWS = """
SELECT run_id, key, state, token, body, (extract(epoch FROM certified_at) * 1000000000)::bigint AS certified_at
FROM docket.result
"""

DOUBTS = """
SELECT run_id, token, state || ': ' || coalesce(last_error, mode) FROM docket.status
WHERE key = 'orders.ChargeResult' AND mode = 'at_most_once' AND state IN ('in doubt', 'holder lost')
"""


@dataclass(frozen=True, slots=True)
class Options:
    """How a campaign is run.

    Attributes:
        seconds: Of faults.
        seed: Of everything that is decided by chance; the timing is the machine's.
        workers: How many processes.
        lease: Seconds.
        cache: A name in `benchmarks.crashes.wrong.CACHES`.
        door: One of `benchmarks.crashes.world.DOORS`.
    """

    seconds: float
    seed: int
    workers: int
    lease: float
    cache: str
    door: str


@dataclass(slots=True)
class Report:
    """What came of a campaign.

    Attributes:
        name: The campaign's.
        title: Its faults.
        version: The server's.
        faults: How many.
        runs: Orders that were finished.
        effects: Lines in the ledger that say that something happened.
        repeats: Effects of at-least-once steps beyond the first.
        happened: Doubts that the operator settled: there was an effect.
        not_happened: Doubts that the operator released.
        reasons: Why there was a doubt, and how often.
        late: Results that came too late to be certified, and were kept aside.
        violations: The invariant and where, each.
        outages: Errors of the database that ended an attempt, and how often.
        too_little: Why this shows nothing; empty if enough happened.
    """

    name: str
    title: str
    version: str = ""
    faults: int = 0
    runs: int = 0
    effects: int = 0
    repeats: int = 0
    happened: int = 0
    not_happened: int = 0
    reasons: collections.Counter[str] = field(default_factory=collections.Counter[str])
    late: int = 0
    violations: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    outages: collections.Counter[str] = field(default_factory=collections.Counter[str])
    too_little: list[str] = field(default_factory=list[str])


async def campaign(name: str, options: Options) -> Report:
    """Run the campaign called *name* on a database of its own, and report."""
    kind = KINDS[name]
    report = Report(name, kind.title)
    with tempfile.TemporaryDirectory(prefix="docket-ledger-") as folder:
        async with _database(kind, options.door) as (dsn, server), _through(options.door, dsn) as through:
            ledger = Path(folder) / "ledger"
            setting = Setting(through, ledger, options.lease, options.cache, options.door)
            chance = random.Random(options.seed)
            ground = Ground(Crew(setting, options.workers, kind.contention, chance), dsn, server, options.lease, chance)
            operator = Operator(dsn, ledger, report)
            watch = Watch(dsn)
            await _rounds(kind, ground, operator, watch, options.seconds)
            history = await _history(ground, kind, ledger, watch)
    report.faults, report.runs = ground.faults, len(ground.crew.done)
    report.effects = sum(line.what == "effect" for line in history.lines)
    report.repeats, report.outages = history.repeats(), ground.crew.outages
    report.violations = violations(history)
    report.version, report.late = watch.version, watch.late
    report.too_little = _too_little(kind, options.seconds, report.faults, report.runs)
    if report.effects < 4 * report.runs:
        report.too_little.append(f"{report.effects} effects in {report.runs} runs")
    return report


@contextlib.asynccontextmanager
async def _database(kind: Kind, door: str) -> AsyncGenerator[tuple[str, EmbeddedServer | None]]:
    """Lay the tables in a database; on a server that forgets what it is not told to keep, if it is to crash."""
    async with contextlib.AsyncExitStack() as stack:
        server = None
        if kind.crashes:
            settings = {"synchronous_commit": "off", "wal_writer_delay": "10s"}
            if sys.platform == "linux":  # or every start after a crash syncs a thousand files, one by one
                settings["recovery_init_sync_method"] = "syncfs"
            server = await stack.enter_async_context(embedded_server(durable=True, settings=settings))
        address = server.dsn if server else await stack.enter_async_context(postgres_server())
        dsn = await stack.enter_async_context(fresh_database(address, prefix="docket_crashes"))
        connection = await asyncpg.connect(dsn)
        await apply(connection, partitions=PARTS if door == "partitioned" else 0)
        await connection.execute(TABLES)
        await connection.execute("CHECKPOINT")
        await connection.close()
        yield dsn, server


@contextlib.asynccontextmanager
async def _through(door: str, dsn: str) -> AsyncGenerator[str]:
    """Give the workers' way to the database."""
    if door != "pgbouncer":
        yield dsn
        return
    async with pgbouncer(await asyncio.to_thread(installed), dsn, SESSIONS) as through:
        yield through


async def _rounds(kind: Kind, ground: Ground, operator: Operator, watch: Watch, seconds: float) -> None:
    crew = ground.crew
    watching = asyncio.create_task(watch.go_on())
    passed = 0.0
    try:
        while passed < seconds or (passed < LONGEST * seconds and _too_little(kind, seconds, ground.faults, len(crew.done))):
            async with _tended(crew):
                await crew.started(PATIENCE)
                began = time.monotonic()
                await _faults(kind, ground, min(max(seconds - passed, 1.0), ROUND))
                passed += time.monotonic() - began
                crew.filling = False
            await crew.drained(2 * ground.lease + 2.0)
            await operator.decide(ground.lease)
            crew.reopen()
            crew.filling = True
        crew.filling = False
        async with _tended(crew):
            end = time.monotonic() + PATIENCE
            while crew.open and time.monotonic() < end:
                await asyncio.sleep(0.05)
                if crew.doubtful:
                    await operator.decide(ground.lease)
                    crew.reopen()
        await crew.drained(2.0)
    finally:
        crew.end()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


@contextlib.asynccontextmanager
async def _tended(crew: Crew) -> AsyncGenerator[None]:
    tending = asyncio.create_task(crew.tend())
    try:
        yield
    finally:
        tending.cancel()
        await asyncio.gather(tending, return_exceptions=True)


async def _faults(kind: Kind, ground: Ground, seconds: float) -> None:
    """Let the faults happen for that long; what fails in making them is raised."""
    making = asyncio.ensure_future(kind.fault(ground))
    done, _ = await asyncio.wait((making,), timeout=seconds)
    if done:
        making.result()
    making.cancel()
    await asyncio.gather(making, return_exceptions=True)
    if ground.server is not None:  # which may be starting
        ground.server.stop()
        await ground.server.start()


class Operator:
    """Decides doubts as a person would: by what the ledger, which is the provider's dashboard, says.

    Args:
        dsn: The database, with nothing before it.
        ledger: The ledger's file.
        report: Where the decisions are counted.
    """

    def __init__(self, dsn: str, ledger: Path, report: Report) -> None:
        self._dsn, self._ledger, self._report = dsn, ledger, report

    async def decide(self, lease: float) -> None:
        """Settle or release every doubt, once the leases of the dead have ended."""
        await asyncio.sleep(lease)
        ledger = Ledger(self._ledger)
        charges = [line for line in ledger.read() if line.what == "effect" and line.key == "orders.ChargeResult"]
        booked = {line.run_id: line.effect for line in reversed(charges)}  # the first, if a wrong cache made several
        d = build(self._dsn, Effects(ledger, lease), lease)
        connection = await asyncpg.connect(self._dsn)
        try:
            for run_id, token, why in await connection.fetch(DOUBTS):
                self._report.reasons[(why or "holder lost").partition("; ")[0]] += 1
                if run_id in booked:
                    value = charged(booked[run_id], run_id, 1999)
                    await d.settle(run_id, ChargeResult, value, note=f"in the ledger; token {token}")
                    self._report.happened += 1
                else:
                    await d.release(run_id, ChargeResult, note=f"not in the ledger; token {token}")
                    self._report.not_happened += 1
        finally:
            await connection.close()
            await d.close()
            ledger.close()


async def _history(ground: Ground, kind: Kind, path: Path, watch: Watch) -> History:
    connection = await asyncpg.connect(ground.dsn)
    rows = {
        (row["run_id"], row["key"]): Row(row["state"], row["token"], row["body"], row["certified_at"])
        for row in await connection.fetch(ROWS)
    }
    bookings: dict[str, list[str]] = collections.defaultdict(list)
    for run_id, booking in await connection.fetch("SELECT run_id, booking_id FROM shop.booking"):
        bookings[run_id].append(booking)
    released = await connection.fetch("SELECT run_id, key, count(*) FROM docket.journal WHERE event = 'released' GROUP BY 1, 2")
    await watch.finish(connection)
    await connection.close()
    ledger, crew = Ledger(path), ground.crew
    lines = ledger.read()
    ledger.close()
    errors = [f"{count} times: {text}" for text, count in crew.errors.items()]
    if not kind.outages:
        errors += [f"{count} times: {text}" for text, count in crew.outages.items()]
    return History(
        lines, rows, bookings, {(run_id, key): count for run_id, key, count in released}, crew.answers,
        frozenset(crew.done), crew.open, watch.found, errors,
    )  # fmt: skip


def _too_little(kind: Kind, seconds: float, faults: int, runs: int) -> list[str]:
    found: list[str] = []
    if faults < max(1.0, kind.least * seconds):
        found.append(f"{faults} faults in {seconds:g} s")
    if runs < max(1.0, seconds):
        found.append(f"{runs} runs in {seconds:g} s")
    return found
