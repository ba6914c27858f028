"""What a run returns, in which order its steps run, and that each runs once."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import random
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from docket._core.plan import Program
from docket._engine.execution import execute
from docket.errors import WrongResult
from tests.engine import programs
from tests.engine.loops import LOOPS, run_in


class Model:
    """Steps over a graph that note what happens, and what the graph gives when it is walked in order."""

    def __init__(self, seed: int) -> None:
        self.graph = programs.random_graph(seed)
        chance = random.Random(seed)
        self.started: list[int] = []
        self.finished: set[int] = set()
        self.pauses = [chance.choice([0, 0, 1, 2, 5]) for _ in self.graph]
        self.expected: list[int] = []
        for number, needs in enumerate(self.graph):
            self.expected.append((number + sum(self.expected[need] for need in needs)) % 1_000_003)

    def fn(self, number: int) -> Callable[..., Any]:
        """Return step *number*."""

        async def call(*values: int) -> int:
            assert self.finished.issuperset(self.graph[number])
            self.started.append(number)
            for _ in range(self.pauses[number]):
                await asyncio.sleep(0)
            self.finished.add(number)
            return (number + sum(values)) % 1_000_003

        return call


@pytest.mark.parametrize("loop", LOOPS)
def test_random_graphs(loop: str) -> None:
    """Any graph gives what a walk in order gives; every step runs once, after what it needs; no task is left."""

    async def main() -> None:
        for seed in range(300):
            model = Model(seed)
            fns: programs.Fns = [model.fn(number) for number in range(len(model.graph))]
            made = programs.program(model.graph, fns)
            values = programs.slots(made)

            answer = await execute(made, values, fns)

            assert answer == model.expected[-1]
            assert values[1:] == model.expected
            assert sorted(model.started) == list(range(len(model.graph)))
            assert asyncio.all_tasks() == {asyncio.current_task()}

    run_in(loop, main)


@pytest.mark.parametrize("shape", [programs.chain, programs.fan, programs.comb, programs.diamonds])
@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("loop", LOOPS)
def test_ten_thousand_steps(loop: str, shape: Callable[[int], list[tuple[int, ...]]], pause: bool) -> None:
    """Ten thousand steps of any shape run without recursion, whether or not they wait."""

    async def one(*values: int) -> int:
        if pause:
            await asyncio.sleep(0)
        return 1

    async def main() -> None:
        graph = shape(10_000)
        fns: programs.Fns = [one] * len(graph)
        made = programs.program(graph, fns)
        assert await execute(made, programs.slots(made), fns) == 1

    run_in(loop, main)


async def test_target_that_is_known_already() -> None:
    """A program without steps gives what was put in."""
    made = Program(known=(int,), steps=(), args=(), waits=(), frees=(), target=1)

    assert await execute(made, [None, 5], []) == 5


async def test_branches_wait_at_the_same_time() -> None:
    """Steps that do not need each other run at the same time: each of these waits for all others to begin."""
    begun = asyncio.Barrier(50)

    async def root() -> int:
        return 1

    async def meet(value: int) -> int:
        await begun.wait()
        return value

    async def last(*values: int) -> int:
        return sum(values)

    graph = programs.fan(52)
    fns: programs.Fns = [root, *[meet] * 50, last]
    made = programs.program(graph, fns)

    assert await execute(made, programs.slots(made), fns) == 50


async def test_context_variables_are_the_callers_and_writes_are_the_steps_own() -> None:
    """Each step sees the caller's context variables and nothing of what another step wrote."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("caller")
    seen: list[str] = []

    async def write(*values: int) -> int:
        seen.append(variable.get())
        variable.set("step")
        await asyncio.sleep(0)
        seen.append(variable.get())
        return 1

    graph = programs.diamonds(7)
    fns: programs.Fns = [write] * len(graph)
    made = programs.program(graph, fns)
    await execute(made, programs.slots(made), fns)

    assert seen.count("caller") == seen.count("step") == 7
    assert variable.get() == "caller"


@pytest.mark.parametrize("pause", [False, True])
@pytest.mark.parametrize("value", [None, "one"])
async def test_wrong_result(value: object, pause: bool) -> None:
    """A result of the wrong type, or None, is refused at the step that made it."""

    async def wrong() -> object:
        if pause:
            await asyncio.sleep(0)
        return value

    made = programs.program([()], [wrong])

    with pytest.raises(WrongResult, match=r"run 'r': s0 \(shop.py:2\) declares int and returned"):
        await execute(made, programs.slots(made), [wrong], "r")


async def test_the_current_task_is_one_that_a_step_may_use() -> None:
    """What hangs on the current task works inside a step, before and after it waits."""

    async def slow() -> int:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(60)
        with anyio.move_on_after(0.001):
            await anyio.sleep(60)
        async with asyncio.TaskGroup() as group:
            one = group.create_task(asyncio.sleep(0, 1))
        return one.result()

    made = programs.program([()], [slow])

    assert await execute(made, programs.slots(made), [slow]) == 1
