"""Graphs of steps that do nothing, the same functions for every contender, and the same work written by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

Step: TypeAlias = Callable[..., Awaitable[Any]]
Graph: TypeAlias = list[tuple[int, ...]]


def chain(count: int) -> Graph:
    """Return steps that each need the one before."""
    return [(number - 1,) if number else () for number in range(count)]


def fan(count: int) -> Graph:
    """Return one step, *count* - 2 that need it, and one that needs all of those."""
    return [(), *[(0,)] * (count - 2), tuple(range(1, count - 1))]


def diamonds(count: int) -> Graph:
    """Return diamonds one below the other, *count* steps at most."""
    graph: Graph = [()]
    while len(graph) + 3 <= count:
        top = len(graph) - 1
        graph += [(top,), (top,), (top + 1, top + 2)]
    return graph


SHAPES: dict[str, Callable[[int], Graph]] = {"chain": chain, "fan": fan, "diamonds": diamonds}


def steps(graph: Graph) -> list[Step]:
    """Return an async function for each step, named ``n7``, that takes ``n3: T3`` and returns a new, empty ``T7``."""
    made: list[Step] = []
    types = [type(f"T{number}", (), {}) for number in range(len(graph))]
    for number, needs in enumerate(graph):
        scope: dict[str, Any] = {"Gives": types[number]}
        exec(f"async def n{number}({', '.join(f'n{need}' for need in needs)}): return Gives()", scope)
        step = scope[f"n{number}"]
        step.__annotations__ = {f"n{need}": types[need] for need in needs} | {"return": types[number]}
        made.append(step)
    return made


def by_hand(shape: str, fns: list[Step]) -> Callable[[], Awaitable[Any]]:
    """Return the same work as one would write it: awaits, and ``gather`` where two things can go on at once."""

    async def run_chain() -> Any:
        value = await fns[0]()
        for fn in fns[1:]:
            value = await fn(value)
        return value

    async def run_fan() -> Any:
        root = await fns[0]()
        return await fns[-1](*await asyncio.gather(*[fn(root) for fn in fns[1:-1]]))

    async def run_diamonds() -> Any:
        value = await fns[0]()
        for at in range(1, len(fns), 3):
            left, right = await asyncio.gather(fns[at](value), fns[at + 1](value))
            value = await fns[at + 2](left, right)
        return value

    return {"chain": run_chain, "fan": run_fan, "diamonds": run_diamonds}[shape]
