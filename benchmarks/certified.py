"""What certified results cost: the order graph beside floors written by hand, in one run on one server.

Run it as ``python -m benchmarks.certified``. It makes a database of its own, on the server that DATABASE_URL names or on one
that it starts, and drops it afterwards. The contestants take turns, so that what else the machine does falls on all alike;
every figure is the median of the rounds, and only ratios are worth quoting.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks.floors import (
    TABLES,
    ClaimFloor,
    CoalescingFloor,
    Floor,
    charge_card,
    create_shipment,
    reserve_inventory,
    validate_order,
)  # fmt: skip
from docket import Docket
from docket.postgres import PostgresCache
from docket.postgres.embedded import fresh_database, postgres_server
from examples.orders.orders_pb2 import OrderRequest, Shipment

SIZE = 20
"""Connections of every pool."""

Run = Callable[[str, OrderRequest], Awaitable[Any]]

SCHEMA = Path(__file__).parents[1] / "schema.sql"


class Docketed:
    """The order graph in Docket.

    Args:
        dsn: The database.
        charge: The semantics of the charge.
    """

    def __init__(self, dsn: str, charge: Any) -> None:
        self.d = Docket(cache=PostgresCache(dsn, min_size=SIZE, max_size=SIZE))
        self.d.register(validate_order, create_shipment)
        self.d.step(cache_result=charge)(charge_card)
        self.d.step(cache_result="at_least_once")(reserve_inventory)

    async def open(self) -> None:
        """Open nothing: the first run does."""

    async def close(self) -> None:
        """Close the pool."""
        await self.d.close()

    async def run(self, run_id: str, request: OrderRequest) -> Shipment:
        """Resolve one order."""
        return await self.d.run(run_id, Shipment, request)


def request(run_id: str) -> OrderRequest:
    """Make an order."""
    return OrderRequest(order_id=run_id, sku="sku-1", amount_cents=1999)


async def drive(run: Run, names: list[str], clients: int) -> tuple[float, float]:
    """Run *names* with that many clients; return the median latency in seconds and the runs a second."""
    latencies: list[float] = []
    pending = iter(names)

    async def client() -> None:
        for name in pending:
            begun = time.perf_counter()
            await run(name, request(name))
            latencies.append(time.perf_counter() - begun)

    gc.collect()
    begun = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return statistics.median(latencies), len(names) / (time.perf_counter() - begun)


async def compare(dsn: str, clients: int, runs: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Let the contestants take turns, cold and then resumed; return latencies (seconds) and rates by contestant."""
    contestants: dict[str, Any] = {
        "floor": Floor(dsn, SIZE),
        "floor, claims": ClaimFloor(dsn, SIZE),
        "floor, coalescing": CoalescingFloor(dsn, SIZE),
        "docket, at least once": Docketed(dsn, "at_least_once"),
        "docket, at most once": Docketed(dsn, "at_most_once"),
    }
    found: dict[str, dict[str, list[float]]] = {}
    for contestant in contestants.values():
        await contestant.open()
        await drive(contestant.run, [f"warm-{id(contestant)}-{number}" for number in range(200)], clients)
    for number in range(rounds):
        for label, contestant in contestants.items():
            names = [f"{clients}-{number}-{label}-{run}" for run in range(runs)]
            kept = found.setdefault(label, {"cold": [], "cold/s": [], "resume": [], "resume/s": []})
            for kind in ("cold", "resume"):
                latency, rate = await drive(contestant.run, names, clients)
                kept[kind].append(latency)
                kept[f"{kind}/s"].append(rate)
    for contestant in contestants.values():
        await contestant.close()
    return found


def show(title: str, found: dict[str, dict[str, list[float]]]) -> None:
    """Print one line for each contestant: latencies in ms, runs a second."""
    print(f"\n{title}")
    print(f"{'':24}{'cold ms':>10}{'cold/s':>10}{'resume ms':>11}{'resume/s':>10}")
    for label, kept in found.items():
        cold, cold_rate, resume, resume_rate = (statistics.median(values) for values in kept.values())
        print(f"{label:24}{cold * 1e3:10.2f}{cold_rate:10.0f}{resume * 1e3:11.2f}{resume_rate:10.0f}")


def ratio(found: dict[str, dict[str, list[float]]], what: str, mine: str, floor: str) -> float:
    """Return the median over the rounds of one contestant's figure divided by another's."""
    pairs = zip(found[mine][what], found[floor][what], strict=True)
    return statistics.median(one / other for one, other in pairs)


async def fill(dsn: str, runs: int) -> None:
    """Store that many finished runs, as SQL of our own."""
    database = await asyncpg.connect(dsn)
    await database.execute(
        """
        INSERT INTO docket.result (run_id, key, mode, state, claim, serializer, type, body, certified_at)
        SELECT 'old-' || n, key, 'at_least_once', 'certified', gen_random_uuid(), 'protobuf', key, '\\x0a0474786e31', now()
        FROM generate_series(1, $1::int) n, unnest(ARRAY['orders.ChargeResult', 'orders.Reservation']) key
        """,
        runs,
    )
    await database.execute(
        """
        INSERT INTO docket.input (run_id, key, digest, serializer, body)
        SELECT 'old-' || n, 'orders.OrderRequest', md5(n::text) || md5(n::text), 'protobuf', '\\x0a0474786e31'
        FROM generate_series(1, $1::int) n
        """,
        runs,
    )
    await database.execute("VACUUM ANALYZE docket.result, docket.input")
    await database.close()


async def history(server: str, runs: int, rounds: int, stored: int) -> float:
    """Return what a cold run costs with *stored* runs in the tables, divided by what it costs with a thousand.

    Two databases take turns; the figure is the median over the rounds.
    """
    async with fresh_database(server, prefix="docket_few") as few, fresh_database(server, prefix="docket_many") as many:
        for dsn, count in ((few, 1_000), (many, stored)):
            database = await asyncpg.connect(dsn)
            await database.execute(SCHEMA.read_text())
            await database.close()
            await fill(dsn, count)
        ratios: list[float] = []
        for number in range(rounds):
            cost = [await _cold(dsn, f"{number}", runs) for dsn in (few, many)]
            ratios.append(cost[1] / cost[0])
    return statistics.median(ratios)


async def _cold(dsn: str, name: str, runs: int) -> float:
    docketed = Docketed(dsn, "at_most_once")
    await drive(docketed.run, [f"warm-{name}-{number}" for number in range(100)], 1)
    latency, _ = await drive(docketed.run, [f"{name}-{number}" for number in range(runs)], 1)
    await docketed.close()
    return latency


async def main(arguments: argparse.Namespace) -> None:
    """Print the tables and the ratios."""
    async with postgres_server() as server, fresh_database(server, prefix="docket_benchmark") as dsn:
        database = await asyncpg.connect(dsn)
        await database.execute(SCHEMA.read_text())
        await database.execute(TABLES)
        await database.close()
        one = await compare(dsn, 1, arguments.runs, arguments.rounds)
        show("one run at a time", one)
        many = await compare(dsn, 64, arguments.runs * 4, arguments.rounds)
        show("64 runs at a time", many)
        print(f"\ncold, both at least once:   {ratio(one, 'cold', 'docket, at least once', 'floor'):.2f}x floor")
        print(
            f"cold, charge at most once:  {ratio(one, 'cold', 'docket, at most once', 'floor, claims'):.2f}x floor with claims"
        )
        print(f"resume:                     {ratio(one, 'resume', 'docket, at least once', 'floor'):.2f}x floor")
        for kind in ("cold/s", "resume/s"):
            share = ratio(many, kind, "docket, at least once", "floor, coalescing")
            print(f"64 at a time, {kind:8}      {share:.2f}x floor, coalescing")
        if arguments.stored:
            slower = await history(server, arguments.runs, arguments.rounds, arguments.stored)
            print(f"{arguments.stored:,} stored runs:       {slower:.2f}x a thousand")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="runs of each contestant in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stored", type=int, default=0, help="compare with this many stored runs, such as 1000000")
    asyncio.run(main(parser.parse_args()))
