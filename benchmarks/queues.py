"""What a queued run costs: no-op runs beside bare no-op jobs, enqueueing beside Procrastinate's function, many at once.

Run it as ``python -m benchmarks.queues``. It makes a database of its own, on the server that DATABASE_URL names or on one
that it starts, and drops it afterwards. The contestants take turns, so that what else the machine does falls on all alike;
every ratio is the median of the rounds' own ratios.

Targets: no-op runs at 0.9 of bare jobs on the same connector, and on ours at 1.3 of bare jobs on the stock one; enqueueing in
the caller's transaction at 1.1 times a bare call of Procrastinate's function; 10,000 at once in 3 s or at 0.9 of
Procrastinate's own batch.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import procrastinate
from procrastinate.schema import SchemaManager

from docket import Docket
from docket.postgres.embedded import fresh_database, postgres_server
from docket_procrastinate import AsyncpgConnector, ProcrastinateQueue

QUEUE = "bench"
SCHEMA = Path(__file__).parents[1] / "schema.sql"
POOL = 8

BARE = (
    "SELECT (procrastinate_defer_jobs_v1(ARRAY[ROW($1::varchar, $2::varchar, $3::int, $4::text, $5::text, $6::text::jsonb,"
    " $7::timestamptz)::procrastinate_job_to_defer_v1]))[1]"
)

LIKE = """
CREATE TEMP TABLE asked AS SELECT queue_name, priority, queueing_lock, args FROM procrastinate_jobs;
TRUNCATE procrastinate_jobs, procrastinate_events CASCADE;
INSERT INTO procrastinate_jobs (queue_name, task_name, priority, queueing_lock, args)
SELECT queue_name, 'like', priority, queueing_lock, args FROM asked;
DROP TABLE asked
"""
"""The same rows for another task."""


@dataclass(frozen=True)
class Ask:
    """The input of a run that does nothing."""

    number: int


@dataclass(frozen=True)
class Done:
    """Its result."""

    number: int


class App:
    """A Procrastinate app with a bare task that does nothing, and a Docket with a step that does nothing.

    Args:
        dsn: The database.
        stock: Whether the connector is Procrastinate's own.
    """

    def __init__(self, dsn: str, *, stock: bool) -> None:
        self.app = procrastinate.App(
            connector=procrastinate.PsycopgConnector(conninfo=dsn, min_size=POOL, max_size=POOL)
            if stock
            else AsyncpgConnector(dsn, min_size=POOL, max_size=POOL)
        )
        self.left = 0
        self.over = asyncio.Event()
        self.d = Docket(queue=ProcrastinateQueue(self.app))
        self.d.register(self.nothing)
        self.bare = self.app.task(name="bare")(self.bare_nothing)
        self.app.task(name="like")(self.like_nothing)

    async def nothing(self, ask: Ask) -> Done:
        """Do nothing, as a step."""
        self._count()
        return Done(ask.number)

    async def bare_nothing(self, number: int) -> None:  # noqa: ARG002 - a job has an argument
        """Do nothing, as a task."""
        self._count()

    async def like_nothing(self, **_: Any) -> None:
        """Do nothing, as a task that carries what a run's job carries."""
        self._count()

    async def fill(self, connection: asyncpg.Connection[asyncpg.Record], kind: str, count: int) -> None:
        """Enqueue *count* of a kind: ``bare`` jobs, ``runs``, or bare jobs whose rows are ``like`` those of runs."""
        if kind == "bare":
            arguments: list[dict[str, Any]] = [{"number": number} for number in range(count)]
            await self.bare.configure(queue=QUEUE).batch_defer_async(*arguments)
        else:
            await self.d.enqueue_many(QUEUE, Done, {f"run-{number}": [Ask(number)] for number in range(count)})
        if kind == "like":
            await connection.execute(LIKE)
        # As the server does for itself before long: knowing nothing of a table that was just filled, it takes plans whose cost
        # grows with the size of the rows, and that would be measured instead.
        await connection.execute("ANALYZE procrastinate_jobs")

    async def work(self, count: int, concurrency: int) -> float:
        """Work on what is there, and return how many a second."""
        self.left, self.over = count, asyncio.Event()
        began = time.perf_counter()
        worker = asyncio.create_task(
            self.app.run_worker_async(
                queues=[QUEUE], concurrency=concurrency, wait=False, install_signal_handlers=False, listen_notify=False
            )
        )
        await self.over.wait()
        rate = count / (time.perf_counter() - began)
        await worker
        return rate

    def _count(self) -> None:
        self.left -= 1
        if not self.left:
            self.over.set()


class Ratios:
    """Collects ratios over the rounds and prints their medians beside their targets."""

    def __init__(self) -> None:
        self._found: defaultdict[tuple[str, str], list[float]] = defaultdict(list)

    def add(self, name: str, target: str, ratio: float) -> None:
        """Take one round's ratio."""
        self._found[name, target].append(ratio)

    def show(self) -> None:
        """Print what was found."""
        for (name, target), found in self._found.items():
            spread = f"{min(found):.2f} to {max(found):.2f}"
            print(f"{name:<66} {statistics.median(found):6.2f}   ({spread}; target {target})")


async def empty(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Leave no job."""
    await connection.execute("TRUNCATE procrastinate_jobs, procrastinate_events, procrastinate_periodic_defers CASCADE")


async def throughput(
    connection: asyncpg.Connection[asyncpg.Record], apps: dict[str, App], jobs: int, rounds: int, ratios: Ratios
) -> None:
    """Measure workers."""
    for concurrency in (1, 10, 50):
        for _ in range(rounds):
            rates: dict[tuple[str, str], float] = {}
            for name, app in apps.items():
                for kind in ("bare", "like", "runs"):
                    await empty(connection)
                    await app.fill(connection, kind, jobs)
                    rates[name, kind] = await app.work(jobs, concurrency)
            at = f"worker, concurrency {concurrency}:"
            ratios.add(f"{at} runs / bare jobs, stock connector", ">= 0.9", rates["stock", "runs"] / rates["stock", "bare"])
            ratios.add(f"{at} runs / bare jobs, our connector", ">= 0.9", rates["ours", "runs"] / rates["ours", "bare"])
            for name in apps:
                share = rates[name, "runs"] / rates[name, "like"]
                ratios.add(f"{at} runs / bare jobs that carry the same, {name}", "none", share)
            ratios.add(f"{at} our runs / stock bare jobs", ">= 1.3", rates["ours", "runs"] / rates["stock", "bare"])


async def timed(repeat: int, act: Callable[[int], Awaitable[Any]]) -> float:
    """Return the median seconds of one *act*."""
    found: list[float] = []
    for number in range(repeat):
        began = time.perf_counter()
        await act(number)
        found.append(time.perf_counter() - began)
    return statistics.median(found)


async def enqueueing(
    connection: asyncpg.Connection[asyncpg.Record], app: App, repeat: int, rounds: int, ratios: Ratios
) -> None:
    """Measure enqueueing in the caller's transaction, beside a bare call with arguments of the same size."""
    arguments = json.dumps({"run_id": "x" * 36, "target": "benchmarks.queues.Done", "inputs": ["x" * 100]})

    async def bare(_: int) -> None:
        await connection.fetchval(BARE, QUEUE, "docket.run", 0, None, None, arguments, None)

    async def locked(number: int) -> None:
        async with connection.transaction():
            await connection.fetchval(BARE, QUEUE, "docket.run", 0, None, f"lock-{number}", arguments, None)

    async def random(number: int) -> None:
        await app.d.enqueue(QUEUE, Done, Ask(number), connection=connection)

    async def named(number: int) -> None:
        await app.d.enqueue(QUEUE, Done, Ask(number), run_id=f"run-{number}", connection=connection)

    async def whole(act: Callable[[int], Awaitable[Any]], number: int) -> None:
        async with connection.transaction():
            await act(number)

    for _ in range(rounds):
        await empty(connection)
        seconds: dict[str, float] = {}
        for name, act in (("whole bare", bare), ("whole random", random)):
            seconds[name] = await timed(repeat, functools.partial(whole, act))
        await empty(connection)
        for name, act in (("bare", bare), ("locked", locked), ("random", random), ("named", named)):
            async with connection.transaction():
                seconds[name] = await timed(repeat, act)
        ratios.add("enqueue in the caller's transaction / bare call", "<= 1.1", seconds["random"] / seconds["bare"])
        ratios.add("the whole transaction, BEGIN to COMMIT", "<= 1.1", seconds["whole random"] / seconds["whole bare"])
        ratios.add("the same with a run id / bare call without a lock", "<= 1.1", seconds["named"] / seconds["bare"])
        ratios.add(
            "the same with a run id / bare call with a lock, in a savepoint", "<= 1.1", seconds["named"] / seconds["locked"]
        )


async def many(
    connection: asyncpg.Connection[asyncpg.Record], app: App, count: int, rounds: int, ratios: Ratios
) -> None:
    """Measure many at once, beside Procrastinate's own batch with arguments of the same size."""
    arguments: list[dict[str, Any]] = [
        {"run_id": f"run-{number}", "target": "x" * 22, "inputs": ["x" * 100]} for number in range(count)
    ]
    bare = app.app.configure_task("docket.run", queue=QUEUE)
    runs = {f"run-{number}": [Ask(number)] for number in range(count)}
    for _ in range(rounds):
        await empty(connection)
        began = time.perf_counter()
        await bare.batch_defer_async(*arguments)
        batch = time.perf_counter() - began
        await empty(connection)
        began = time.perf_counter()
        await app.d.enqueue_many(QUEUE, Done, runs)
        ours = time.perf_counter() - began
        ratios.add(f"enqueue_many of {count}: seconds", "< 3", ours)
        ratios.add(f"enqueue_many of {count} / batch_defer, in jobs a second", ">= 0.9", batch / ours)


async def main(jobs: int, rounds: int) -> None:
    """Measure everything on a database of its own."""
    ratios = Ratios()
    async with postgres_server() as server, fresh_database(server, prefix="docket_bench") as dsn:
        connection = await asyncpg.connect(dsn)
        await connection.execute(SCHEMA.read_text())
        await connection.execute(SchemaManager.get_schema())
        apps = {"stock": App(dsn, stock=True), "ours": App(dsn, stock=False)}
        async with apps["stock"].app.open_async(), apps["ours"].app.open_async():
            await enqueueing(connection, apps["ours"], 400, rounds, ratios)
            await many(connection, apps["ours"], 10_000, rounds, ratios)
            await throughput(connection, apps, jobs, rounds, ratios)
        await connection.close()
    ratios.show()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000, help="jobs for a worker, in each round")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    asyncio.run(main(chosen.jobs, chosen.rounds))
