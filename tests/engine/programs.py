"""Small programs for the engine, built without a wiring."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

from docket._core.plan import Program
from docket._core.step import Options, Semantics, Step

Fns: TypeAlias = list[Callable[..., Any]]


def step(name: str, fn: Callable[..., Any], gives: Any = int, cache_result: Semantics | None = None) -> Step:
    """Return a step called *name* around *fn*."""
    return Step(
        fn=fn, call=fn, name=name, where=f"shop.py:{len(name)}", needs=(), gives=gives, gives_none=False, key=name,
        options=Options(cache_result=cache_result), is_async=True,
    )  # fmt: skip


def program(graph: Sequence[Sequence[int]], fns: Sequence[Callable[..., Any]], certified: Collection[int] = ()) -> Program:
    """Return a program in which step *n* takes the results of the steps in ``graph[n]``; the last is the target."""
    steps = tuple(
        step(f"s{number}", fn, cache_result="at_least_once" if number in certified else None) for number, fn in enumerate(fns)
    )
    frees: list[list[int]] = [[] for _ in graph]
    for number, needs in enumerate(graph):
        for need in set(needs):
            frees[need].append(number)
    return Program(
        known=(),
        steps=steps,
        args=tuple(tuple(need + 1 for need in needs) for needs in graph),
        waits=tuple(len(set(needs)) for needs in graph),
        frees=tuple(map(tuple, frees)),
        target=len(graph),
    )


def slots(made: Program) -> list[object]:
    """Return empty slots for *made*."""
    return [None] * (1 + len(made.known) + len(made.steps))


def chain(count: int) -> list[tuple[int, ...]]:
    """Return steps that each need the one before."""
    return [(number - 1,) if number else () for number in range(count)]


def fan(count: int) -> list[tuple[int, ...]]:
    """Return one step, *count* - 2 that need it, and one that needs all of those."""
    return [(), *[(0,)] * (count - 2), tuple(range(1, count - 1))]


def diamonds(count: int) -> list[tuple[int, ...]]:
    """Return diamonds one below the other, *count* steps at most."""
    graph: list[tuple[int, ...]] = [()]
    while len(graph) + 3 <= count:
        top = len(graph) - 1
        graph += [(top,), (top,), (top + 1, top + 2)]
    return graph


def comb(count: int) -> list[tuple[int, ...]]:
    """Return a chain in which each step has a leaf beside the next, and a last step that needs all leaves."""
    graph: list[tuple[int, ...]] = [()]
    leaves: list[int] = []
    spine = 0
    while len(graph) + 3 <= count:
        leaves.append(len(graph))
        graph += [(spine,), (spine,)]
        spine = len(graph) - 1
    graph.append((*leaves, spine))
    return graph


def random_graph(seed: int) -> list[tuple[int, ...]]:
    """Return a random graph whose last step needs everything that nobody else needs."""
    chance = random.Random(seed)
    graph: list[tuple[int, ...]] = []
    for number in range(chance.randint(1, 40)):
        count = min(number, chance.choice([0, 1, 1, 2, 3]))
        graph.append(tuple(chance.sample(range(number), count)))
    needed = {need for needs in graph for need in needs}
    graph.append(tuple(number for number in range(len(graph)) if number not in needed))
    return graph
