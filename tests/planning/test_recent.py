"""What is remembered about plans does not grow with the runs that are made."""

from __future__ import annotations

import itertools

import pytest

from docket._core import recent
from docket._core.recent import Recent
from tests.planning.graphs import Node, Program, kind


def test_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit each new entry pushes out the one that was added first, and only that."""
    monkeypatch.setattr(recent, "MOST", 3)
    kept = Recent[str, int]()

    for number, name in enumerate("abacd"):
        kept[name] = number
    assert kept == {"b": 1, "c": 3, "d": 4}

    assert kept.get("b") == 1
    kept["e"] = 5
    assert list(kept) == ["c", "d", "e"]


async def test_runs_that_failed_in_ever_other_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program for each set of certified results is compiled, and not kept for ever; nothing is computed twice for it."""
    monkeypatch.setattr(recent, "MOST", 8)
    parts = [Node(f"s{number}", ("in0",), policy="raise") for number in range(6)]
    nodes = [*parts, Node("end", tuple(part.name for part in parts))]
    program = Program(nodes)
    wiring, calls = program.d.check(), program.d._calls
    order = kind("in0")("1")
    expected = kind("end")(f"endv1({','.join(f'{part.name}v1(1)' for part in parts)})")

    async def resume(done: tuple[Node, ...]) -> int:
        run_id = "-".join(["run", *[part.name for part in done]])
        for part in done:
            await program.d.run(run_id, kind(part.name), order)
        program.ran.clear()
        assert await program.d.run(run_id, kind("end"), order) == expected
        assert sorted(program.ran) == sorted(node.name for node in nodes if node not in done)
        return len(wiring.memo)

    sets = [done for size in range(len(parts)) for done in itertools.combinations(parts, size)]
    remembered = [await resume(done) for done in sets]

    assert len(sets) > 60
    assert len(wiring.recent) == len(calls._programs) == 8
    assert remembered[8:] == [remembered[-1]] * len(remembered[8:])
