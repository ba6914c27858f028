"""What wiring and planning cost, and that they grow no faster than the graph.

Run it as ``python -m benchmarks.planning``. Each line ends with the figure it must reach; the program fails if one is
missed. Figures are the best of several rounds, since everything here is computation.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from docket import Graph
from docket._core.certificates import Facts
from docket._core.plan import plan, reached
from docket._core.record import MadeFrom, Record, Records, Stored, digest_of
from docket._core.wiring import Wiring

ROUNDS = 15
COUNT = 1000
DIAMONDS = 100


def graph(needs: Sequence[Sequence[int]], kept: bool = False) -> tuple[Graph, list[type]]:
    """Return a graph whose steps need the earlier ones that *needs* names, and the types they give."""
    kinds = [type(f"T{number}", (), {}) for number in range(len(needs))]
    made = Graph()
    for number, before in enumerate(needs):
        made.step(cache_result="at_least_once" if kept else None)(_step(number, [kinds[one] for one in before], kinds[number]))
    return made, kinds


def _step(number: int, needs: Sequence[type], gives: type) -> Any:
    names = [f"p{position}" for position in range(len(needs))]
    scope: dict[str, Any] = {}
    exec(f"async def step_{number}({', '.join(names)}): ...", scope)
    function = scope[f"step_{number}"]
    function.__annotations__ = {**dict(zip(names, needs, strict=True)), "return": gives}
    return function


def chain(count: int) -> list[list[int]]:
    """Return steps that each need the one before."""
    return [[number - 1] if number else [] for number in range(count)]


def diamonds(count: int) -> list[list[int]]:
    """Return *count* diamonds, one below the other: three steps each, and 2**count paths from top to bottom."""
    needs: list[list[int]] = [[]]
    for _ in range(count):
        top = len(needs) - 1
        needs += [[top], [top], [top + 1, top + 2]]
    return needs


def best(work: Callable[[], object]) -> float:
    """Return the seconds of the fastest round."""
    found: list[float] = []
    for _ in range(ROUNDS):
        gc.collect()
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return min(found)


def certified(wiring: Wiring, kinds: Sequence[type]) -> Records:
    """Return records in which every step is certified, each made from the one before."""
    records: dict[str, Record] = {}
    above: dict[str, str] = {}
    for kind in kinds:
        key = wiring.steps[kind].key
        stored = Stored("json", key, b"{}")
        records[key] = Record(key, "at_least_once", "certified", 1, UUID(int=1), made_from=MadeFrom(above=above), stored=stored)
        above = {key: digest_of(stored)}
    return Records(records)


def walking(needs: Sequence[Sequence[int]]) -> float:
    """Return the microseconds for each step of deciding which steps are needed, in which order."""
    made, kinds = graph(needs)
    wiring = made.check()
    wiring.rank()
    return best(lambda: reached(wiring, (kinds[-1],), frozenset())) * 1e6 / len(needs)


def planning(needs: Sequence[Sequence[int]]) -> float:
    """Return the microseconds that a first plan takes for each step it visits, compiled for the engine."""
    made, kinds = graph(needs)
    wiring = made.check()

    rounds = iter(range(1000))

    def work() -> None:
        # Another type at hand that nothing needs: a plan that was not made before.
        plan(wiring, kinds[-1], frozenset([next(rounds)]), Facts())

    work()
    return best(work) * 1e6 / len(needs)


def again(needs: Sequence[Sequence[int]]) -> float:
    """Return the microseconds that a repeated plan takes in all."""
    made, kinds = graph(needs)
    wiring = made.check()
    return best(lambda: [plan(wiring, kinds[-1], frozenset(), Facts()) for _ in range(100)]) * 1e6 / 100


def judging(count: int) -> float:
    """Return the microseconds for each certificate when all *count* of a chain are looked at."""
    made, kinds = graph(chain(count), kept=True)
    wiring = made.check()
    facts = Facts(certified(wiring, kinds))
    return best(lambda: plan(wiring, kinds[-1], frozenset(), facts)) * 1e6 / count


def main() -> int:
    """Print the figures; return 1 if one is missed."""
    lines = [
        ("wiring a chain of 1000", best(lambda: graph(chain(COUNT))[0].check()) * 1e3, "ms", 100.0),
        ("wiring 100 stacked diamonds", best(lambda: graph(diamonds(DIAMONDS))[0].check()) * 1e3, "ms", 100.0),
        ("the walk back, chain of 1000, per step", walking(chain(COUNT)), "us", 0.6),
        ("the walk back, 100 diamonds, per step", walking(diamonds(DIAMONDS)), "us", 0.6),
        ("a first plan, chain of 1000, per step", planning(chain(COUNT)), "us", 2.0),
        ("a first plan, 100 diamonds, per step", planning(diamonds(DIAMONDS)), "us", 2.0),
        ("a first plan, 1000 diamonds, per step", planning(diamonds(10 * DIAMONDS)), "us", 2.0),
        ("a repeated plan, chain of 1000, in all", again(chain(COUNT)), "us", 20.0),
        ("a chain of 1000 certificates, per certificate", judging(COUNT), "us", 5.0),
    ]
    for name, figure, unit, limit in lines:
        print(f"{name:<48} {figure:8.2f} {unit}   limit {limit:g}{'' if figure <= limit else '   MISSED'}")
    return int(any(figure > limit for _, figure, _, limit in lines))


if __name__ == "__main__":
    sys.exit(main())
