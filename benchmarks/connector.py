"""Procrastinate's stock connector beside the asyncpg one: no-op jobs a second, and jobs enqueued a second.

Run it as ``python -m benchmarks.connector``. It makes a database of its own, on the server that DATABASE_URL names or
on one that it starts, and drops it afterwards. The connectors take turns, so that what else the machine does falls on
both alike.
"""

import argparse
import asyncio
import contextlib
import logging
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import asyncpg
import procrastinate
from procrastinate.connector import BaseConnector
from procrastinate.schema import SchemaManager
from procrastinate.types import JSONDict

from docket.postgres.embedded import fresh_database, postgres_server
from docket_procrastinate import AsyncpgConnector

CONNECTIONS = 10

Measure = Callable[[procrastinate.App, int], Awaitable[float]]


@contextlib.asynccontextmanager
async def queue_database() -> AsyncGenerator[str]:
    """Give the DSN of a new database with Procrastinate's schema, and drop it afterwards."""
    async with postgres_server() as server, fresh_database(server, prefix="docket_benchmark") as dsn:
        database = await asyncpg.connect(dsn)
        await database.execute(SchemaManager.get_schema())
        await database.close()
        yield dsn


def app_on(connector: BaseConnector) -> procrastinate.App:
    """Make an app with one task that does nothing."""
    app = procrastinate.App(connector=connector)

    @app.task(name="nothing", queue="nothing")
    async def nothing(n: int) -> None: ...  # pyright: ignore[reportUnusedFunction] - known by its name

    return app


def arguments(jobs: int) -> list[JSONDict]:
    """Make the arguments of *jobs* jobs."""
    return [{"n": n} for n in range(jobs)]


async def empty(app: procrastinate.App) -> None:
    """Remove every job, so that each measurement begins alike."""
    await app.connector.execute_query_async("TRUNCATE procrastinate_jobs, procrastinate_events CASCADE")


def working(concurrency: int) -> Measure:
    """Measure no-op jobs a second of one worker with *concurrency*."""

    async def measure(app: procrastinate.App, jobs: int) -> float:
        await app.configure_task("nothing").batch_defer_async(*arguments(jobs))
        began = time.perf_counter()
        await app.run_worker_async(concurrency=concurrency, wait=False, install_signal_handlers=False)
        return jobs / (time.perf_counter() - began)

    return measure


async def one_by_one(app: procrastinate.App, jobs: int) -> float:
    """Measure jobs a second, each enqueued when the one before is."""
    task = app.configure_task("nothing")
    began = time.perf_counter()
    for n in range(jobs):
        await task.defer_async(n=n)
    return jobs / (time.perf_counter() - began)


async def sixteen_at_once(app: procrastinate.App, jobs: int) -> float:
    """Measure jobs a second of sixteen callers who enqueue one by one."""
    task = app.configure_task("nothing")

    async def caller() -> None:
        for n in range(jobs // 16):
            await task.defer_async(n=n)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(16)))
    return jobs // 16 * 16 / (time.perf_counter() - began)


async def in_one_batch(app: procrastinate.App, jobs: int) -> float:
    """Measure jobs a second, enqueued by one call."""
    began = time.perf_counter()
    await app.configure_task("nothing").batch_defer_async(*arguments(jobs))
    return jobs / (time.perf_counter() - began)


MEASURES: dict[str, Measure] = {
    "worker, concurrency 1": working(1),
    "worker, concurrency 10": working(10),
    "worker, concurrency 50": working(50),
    "enqueue, one by one": one_by_one,
    "enqueue, 16 callers": sixteen_at_once,
    "enqueue, one batch": in_one_batch,
}


async def compare(dsn: str, jobs: int, rounds: int) -> None:
    """Print the medians of *rounds* measurements of *jobs* jobs each, and their ratio."""
    stock = app_on(procrastinate.PsycopgConnector(conninfo=dsn, min_size=CONNECTIONS, max_size=CONNECTIONS))
    ours = app_on(AsyncpgConnector(dsn, min_size=CONNECTIONS, max_size=CONNECTIONS))
    print(f"{jobs} jobs, median of {rounds} rounds (least and most in brackets), jobs a second")
    print(f"{'':24}{'stock psycopg':>24}{'asyncpg':>24}{'ratio':>8}")
    async with stock.open_async(), ours.open_async():
        for name, measure in MEASURES.items():
            seen: dict[str, list[float]] = {"stock": [], "ours": []}
            for round_ in range(rounds + 1):
                for which, app in (("stock", stock), ("ours", ours)):
                    await empty(app)
                    rate = await measure(app, jobs)
                    if round_:  # the first round warms up
                        seen[which].append(rate)
            ratio = statistics.median(seen["ours"]) / statistics.median(seen["stock"])
            print(f"{name:24}{_cell(seen['stock']):>24}{_cell(seen['ours']):>24}{ratio:>8.2f}", flush=True)


def _cell(rates: list[float]) -> str:
    return f"{statistics.median(rates):,.0f} ({min(rates):,.0f}-{max(rates):,.0f})"


async def main() -> None:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description="Compare Procrastinate's stock connector with the asyncpg one.")
    parser.add_argument("--jobs", type=int, default=500, help="jobs in each measurement (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each (default: %(default)s)")
    options = parser.parse_args()
    logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
    async with queue_database() as dsn:
        await compare(dsn, options.jobs, options.rounds)


if __name__ == "__main__":
    asyncio.run(main())
