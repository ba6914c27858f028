"""The engine beside what one would write by hand, Hamilton's AsyncDriver and dishka; and ten thousand runs in flight.

Run it as ``python -m benchmarks.engine``, with the ``bench`` extra. Steps do nothing, so what is measured is what the
resolver adds. All contenders run the same functions in one process and take turns, so that what else the machine does
falls on all alike; figures are medians. Docket is measured through `Docket.run`, with context isolation and without an
observer. dishka resolves one step at a time. Memory is measured in a process for each contender.

Each line ends with the figure it must reach. The program fails if one is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from benchmarks.shapes import SHAPES, Step, by_hand, steps
from docket import Docket

Contender: TypeAlias = Callable[[], Awaitable[Any]]

COUNT = 1000
ROUNDS = 30
FLIGHT = 10_000
EAGER = sys.version_info >= (3, 12)
"""From 3.12 on a task can start at once; before that, each costs a turn of the loop."""


@dataclass
class Order:
    """The input of the order graph."""

    id: int


@dataclass
class Valid:
    """What it is checked into."""


@dataclass
class Charge:
    """One branch."""


@dataclass
class Stock:
    """The other."""


@dataclass
class Shipment:
    """The target."""


VALID, CHARGE, STOCK, SHIPMENT = Valid(), Charge(), Stock(), Shipment()


async def validate(_order: Order) -> Valid:
    """Do nothing."""
    return VALID


async def charge(_order: Valid) -> Charge:
    """Do nothing."""
    return CHARGE


async def charge_slowly(_order: Valid) -> Charge:
    """Wait for a second."""
    await asyncio.sleep(1)
    return CHARGE


async def reserve(_order: Valid) -> Stock:
    """Do nothing."""
    return STOCK


async def ship(_charge: Charge, _stock: Stock) -> Shipment:
    """Do nothing."""
    return SHIPMENT


def docket(fns: list[Step]) -> Contender:
    """Resolve the last step with Docket."""
    d = Docket()
    d.register(*fns)
    return lambda: d.run("order-17", fns[-1])


# The peers are imported by name: they are there with the extra alone, and the type checkers run without it.
async def hamilton(fns: list[Step]) -> Contender:
    """Resolve the last step with Hamilton, which matches by name."""
    os.environ["HAMILTON_TELEMETRY_ENABLED"] = "false"
    tools: Any = importlib.import_module("hamilton.ad_hoc_utils")
    drivers: Any = importlib.import_module("hamilton.async_driver")
    module = tools.create_temporary_module(*fns, module_name=f"steps_{id(fns)}")
    driver: Any = await drivers.Builder().with_modules(module).build()

    async def run() -> Any:
        return await driver.execute([fns[-1].__name__])

    return run


def dishka(fns: list[Step]) -> Contender:
    """Resolve the last step with dishka, in a scope of its own."""
    library: Any = importlib.import_module("dishka")
    provider = library.Provider(scope=library.Scope.REQUEST)
    for fn in fns:
        provider.provide(fn)
    container = library.make_async_container(provider)

    async def run() -> Any:
        async with container() as request:
            return await request.get(fns[-1].__annotations__["return"])

    return run


async def medians(contenders: dict[str, Contender], rounds: int, times: int = 1) -> dict[str, float]:
    """Return the median seconds of processor time of one call for each contender; they take turns.

    Nothing here waits for anything outside, and time that the machine gives to others is nobody's cost.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for contender in contenders.values():
        await contender()
    gc.collect()
    gc.freeze()  # or each contender would pay for the collector's walks over what the others have loaded
    for _ in range(rounds):
        for name, contender in contenders.items():
            gc.collect()
            begun = time.thread_time()
            for _ in range(times):
                await contender()
            taken[name].append((time.thread_time() - begun) / times)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


class Table:
    """Prints a line for each figure, with the one it must reach, and remembers whether all did."""

    def __init__(self) -> None:
        self.missed = 0

    def line(self, what: str, figure: float, unit: str, limit: float, *, least: bool = False) -> None:
        """Print one figure; *limit* is the most it may be, or the least."""
        good = figure >= limit if least else figure <= limit
        self.missed += not good
        sign = ">=" if least else "<="
        print(f"  {what:52}{figure:9.2f} {unit:4} {sign} {limit:<5g} {'' if good else 'MISSED'}", flush=True)


async def shapes(table: Table, rounds: int) -> None:
    """Measure a thousand steps of each shape."""
    for shape, make in SHAPES.items():
        graph = make(COUNT)
        fns = steps(graph)
        contenders = {"docket": docket(fns), "by hand": by_hand(shape, fns), "hamilton": await hamilton(fns)}
        if shape == "diamonds":
            contenders["dishka"] = dishka(fns)
        took = await medians(contenders, rounds)
        each = "   ".join(f"{name} {seconds / len(graph) * 1e6:.2f}" for name, seconds in took.items())
        print(f"{shape}, {len(graph)} steps, µs a step: {each}")
        if shape == "chain":
            table.line("a step of a chain", took["docket"] / len(graph) * 1e6, "µs", 2)
        else:
            limit = 0.5 if EAGER else {"fan": 1.2, "diamonds": 0.7}[shape]
            table.line("against gather by hand", took["docket"] / took["by hand"], "x", limit)
        table.line("faster than Hamilton", took["hamilton"] / took["docket"], "x", 20, least=True)
        if "dishka" in took:
            table.line("against dishka", took["docket"] / took["dishka"], "x", 1)


async def order_graph(table: Table, rounds: int) -> None:
    """Measure the order graph of four steps."""
    d = Docket()
    d.register(validate, charge, reserve, ship)
    order = Order(1)

    async def hand() -> Shipment:
        checked = await validate(order)
        return await ship(*await asyncio.gather(charge(checked), reserve(checked)))

    took = await medians({"docket": lambda: d.run("order-17", Shipment, order), "by hand": hand}, rounds * 3, 200)
    print(f"the order graph, four steps, µs a run: {'   '.join(f'{n} {s * 1e6:.1f}' for n, s in took.items())}")
    table.line("against awaits and gather by hand", took["docket"] / took["by hand"], "x", 1.2)


def resident() -> int:
    """Return the bytes of memory this process has now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def in_flight(contender: str) -> None:
    """Have many runs of the order graph wait for a second each; print the bytes a run takes and the seconds for all."""
    d = Docket()
    d.register(validate, charge_slowly, reserve, ship)

    async def hand(order: Order) -> Shipment:
        checked = await validate(order)
        return await ship(*await asyncio.gather(charge_slowly(checked), reserve(checked)))

    orders = [(f"order-{number}", Order(number)) for number in range(FLIGHT)]
    await (d.run("warm", Shipment, Order(0)) if contender == "docket" else hand(Order(0)))
    gc.collect()
    before, begun = resident(), time.perf_counter()
    if contender == "docket":
        tasks = [asyncio.create_task(d.run(run_id, Shipment, order)) for run_id, order in orders]
    else:
        tasks = [asyncio.create_task(hand(order)) for _, order in orders]
    await asyncio.sleep(0.9)
    size = (resident() - before) / FLIGHT
    await asyncio.gather(*tasks)
    print(size, time.perf_counter() - begun)


def memory(table: Table, rounds: int) -> None:
    """Measure many runs in flight, each contender in processes of its own."""
    sizes: dict[str, float] = {}
    seconds: dict[str, float] = {}
    for contender in ("docket", "by hand"):
        said = [
            subprocess.run(
                [sys.executable, "-m", "benchmarks.engine", "--in-flight", contender],
                capture_output=True, text=True, check=True,
            ).stdout.split()
            for _ in range(rounds)
        ]  # fmt: skip
        sizes[contender] = statistics.median(float(size) for size, _ in said)
        seconds[contender] = statistics.median(float(took) for _, took in said)
    print(f"{FLIGHT} runs in flight, bytes a run: {'   '.join(f'{n} {size:.0f}' for n, size in sizes.items())}")
    table.line("against tasks by hand", sizes["docket"] / sizes["by hand"], "x", 1.5)
    table.line("all of them, each waiting for a second", seconds["docket"], "s", 2.5)


def main() -> int:
    """Print the table; return how many figures were missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="turns of each contender")
    parser.add_argument("--in-flight", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_flight:
        asyncio.run(in_flight(options.in_flight))
        return 0
    table = Table()
    print(f"Python {sys.version.split()[0]}, {options.rounds} rounds, medians")

    async def measure() -> None:
        await shapes(table, options.rounds)
        await order_graph(table, options.rounds)

    # dishka goes as deep as the graph is: give it the stack and the limit that it takes.
    sys.setrecursionlimit(100_000)
    threading.stack_size(512 * 1024 * 1024)
    thread = threading.Thread(target=lambda: asyncio.run(measure()))
    thread.start()
    thread.join()
    memory(table, 3)
    return table.missed


if __name__ == "__main__":
    sys.exit(main())
