"""Over random graphs, certified sets and changes: a plan is enough, is least, and equals what an obvious model decides."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Sequence
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from docket import InputsChanged, MissingInput
from docket._core.certificates import Facts
from docket._core.plan import Plan, plan
from docket._core.record import Record, Records, Stored
from docket._core.types import label
from tests.planning.graphs import INPUTS, Node, Program, graphs, kind
from tests.planning.model import Failed, Model

NO_POLICY = st.sampled_from([None, "raise"])
_NOBODY = UUID(int=0)


@given(graphs(NO_POLICY), st.data())
def test_a_plan_is_enough_and_least_and_looks_at_nothing_else(nodes: tuple[Node, ...], data: st.DataObject) -> None:
    """Every need is known or computed before it is needed; everything planned is needed; no other record is read."""
    program = Program(nodes)
    target = nodes[-1].name
    kept = [node.name for node in nodes if node.policy is not None]
    certified = data.draw(st.sets(st.sampled_from(kept))) if kept else set[str]()
    inputs: set[str] = set(data.draw(st.sets(st.sampled_from(INPUTS))))
    wiring = program.d.check()
    read: set[str] = set()
    records = Records({wiring.name(kind(name)): _Watched(wiring.name(kind(name)), name, read) for name in certified})

    found = plan(wiring, kind(target), frozenset(map(kind, inputs)), Facts(records))

    known = set(map(label, found.program.known))
    computed = [label(step.gives) for step in found.program.steps]
    assert _parts(found) == _obvious(nodes, target, inputs, certified)
    assert read <= known & certified
    for step in found.program.steps:
        for need in step.needs:
            name = label(need.key)
            assert need.optional or name in known or name in computed[: computed.index(label(step.gives))]


class _Watched(Record):
    """A record that notes that its value or what it was made from was looked at."""

    def __init__(self, key: str, name: str, read: set[str]) -> None:
        stored = Stored("json", key, name.encode())
        super().__init__(key=key, mode="at_least_once", state="certified", token=1, claim=_NOBODY, stored=stored)
        object.__setattr__(self, "_noted", (name, read))

    def __getattribute__(self, attribute: str) -> object:
        if attribute in ("made_from", "stored"):
            name, read = object.__getattribute__(self, "_noted")
            read.add(name)
        return object.__getattribute__(self, attribute)


def _parts(found: Plan) -> tuple[set[str], set[str], set[str]]:
    """Return the names of what is computed, known and missing."""
    missing = set(map(label, found.missing))
    known = set(map(label, found.program.known)) - missing
    return {label(step.gives) for step in found.program.steps}, known, missing


def _obvious(nodes: Sequence[Node], target: str, inputs: set[str], certified: set[str]) -> tuple[set[str], set[str], set[str]]:
    """Say the same by walking back from the target, as one would on paper."""
    by_name = {node.name: node for node in nodes}
    computed: set[str] = set()
    known: set[str] = set()
    missing: set[str] = set()

    def want(name: str) -> None:
        if name in inputs or name in certified:
            known.add(name)
        elif name in by_name:
            computed.add(name)
            for need in by_name[name].needs:
                if need in inputs or need in by_name or need not in by_name[name].optional:
                    want(need)
        else:
            missing.add(name)

    want(target)
    return computed, known, missing


VALUES = st.sampled_from(["a", "b"])
SUPPLIED = st.fixed_dictionaries({}, optional=dict.fromkeys(INPUTS, VALUES)) | st.fixed_dictionaries(
    dict.fromkeys(INPUTS, VALUES)
)
CALLS = st.lists(st.tuples(SUPPLIED, st.just(-1) | st.integers(0, 8)), min_size=2, max_size=6)


@settings(max_examples=400, deadline=None)
@given(graphs(), CALLS)
def test_runs_do_what_the_model_does(nodes: tuple[Node, ...], calls: list[tuple[dict[str, str], int]]) -> None:
    """The same values, the same steps run, each at most once, and the same refusals, call after call."""
    asyncio.run(_compare(nodes, calls))


async def _compare(nodes: tuple[Node, ...], calls: list[tuple[dict[str, str], int]]) -> None:
    program, model = Program(nodes), Model(nodes)
    for inputs, number in calls:
        target = nodes[number % len(nodes)].name
        wanted = program.d.check().inputs
        supplied = {name: text for name, text in inputs.items() if kind(name) in wanted}
        before = copy.deepcopy(model)
        program.ran.clear()
        try:
            got = await program.d.run("r", kind(target), *(kind(name)(text) for name, text in supplied.items()))
        except (InputsChanged, MissingInput):
            try:
                model.run(target, supplied)
            except Failed:
                if program.ran:  # something was brought up to date before the conflict showed
                    return
                model = before
                continue
            raise
        assert got.text == model.run(target, supplied)
        assert sorted(program.ran) == sorted(model.ran)
        assert len(set(program.ran)) == len(program.ran)
