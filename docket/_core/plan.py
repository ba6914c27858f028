"""The least work to a target, and why. Pure: no I/O, no clock.

A plan is made by walking back from the target and stopping at whatever is there already: inputs, resources and
certified results that still stand. What the walk does not reach is not looked at. What is to be done is compiled to a
`Program`: numbered slots and counters, which is all the engine needs. Programs depend only on which values are there,
so each is compiled once and reused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docket._core.certificates import Facts, Judge, Verdict
from docket._core.immutable import immutable, nothing
from docket._core.problems import at, shortened
from docket._core.standing import Standing, standings
from docket._core.step import SPECIAL, Need, Step
from docket._core.types import Key, label
from docket._core.wiring import Wiring
from docket.errors import Change


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """What is to be done, in slots.

    Slot 0 holds None, for absent optional values. The slots after it hold what is known before the start, in the order
    of ``known``. Then follow the results of ``steps``, in an order in which every step stands behind its needs.

    Attributes:
        known: The types whose values are put in before the start.
        steps: What is computed.
        args: For each step, the slots of its arguments, in order.
        waits: For each step, how many steps it waits for.
        frees: For each step, the positions in ``steps`` of those that wait for it.
        target: The slot of what was asked for.
        starts: The positions of the steps that wait for none.
        certifies: For each step, whether its result is kept.
        expects: For each step, the class its result is an instance of; None where that cannot be judged.
        position: By the type it gives, where each step stands in ``steps``.
        memo: Work done once per program by its readers.
    """

    known: tuple[Key, ...]
    steps: tuple[Step, ...]
    args: tuple[tuple[int, ...], ...]
    waits: tuple[int, ...]
    frees: tuple[tuple[int, ...], ...]
    target: int
    starts: tuple[int, ...] = field(init=False)
    certifies: tuple[bool, ...] = field(init=False)
    expects: tuple[type | None, ...] = field(init=False)
    position: Mapping[Key, int] = field(init=False)
    memo: dict[Any, Any] = field(default_factory=dict[Any, Any], init=False, repr=False)

    def __post_init__(self) -> None:
        """Tabulate what the engine would otherwise look up again in every run."""
        object.__setattr__(self, "starts", tuple(number for number, count in enumerate(self.waits) if not count))
        object.__setattr__(self, "certifies", tuple([step.certifies for step in self.steps]))
        object.__setattr__(self, "expects", tuple([step.expects for step in self.steps]))
        object.__setattr__(self, "position", {step.gives: number for number, step in enumerate(self.steps)})


@immutable(frozen=True, slots=True, eq=False, repr=False)
class Plan:
    """What a run would do, or why it cannot.

    Attributes:
        wiring: The wiring it was made for.
        target: What was asked for.
        facts: What it was made from.
        program: What is carried out. If something is missing, what would be if it were there.
        whole: The same, or, if the program only prepares, what would follow if nothing came of that.
        first: Certified results that the program brings up to date. If there are any, it does only that, and afterwards
            a new plan is made with what came of it.
        missing: By type, the path from the target to each value that is needed, that nobody gives and nobody supplied.
        verdicts: By storage key, what was found about the certified results that were looked at.
        changes: By storage key of a certified result, how what it was made from differs from what is there now.
    """

    wiring: Wiring
    target: Key
    facts: Facts
    program: Program
    whole: Program
    first: tuple[Step, ...] = ()
    missing: Mapping[Key, tuple[str, ...]] = field(default_factory=nothing)
    verdicts: Mapping[str, Verdict] = field(default_factory=nothing)
    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=nothing)

    @property
    def conflicts(self) -> tuple[Verdict, ...]:
        """The verdicts that forbid the run: if there is one, nothing may be carried out."""
        return tuple([one for key, one in self.verdicts.items() if one.state == "conflict" and one.key == key])

    @property
    def steps(self) -> tuple[Standing, ...]:
        """Everything the plan looked at, needs before what needs them, each with one state and one reason."""
        made = self.whole
        return standings(self.wiring, made.known, made.steps, self.facts, self.verdicts, self.changes, self.missing)

    def __str__(self) -> str:
        return "\n".join(map(str, self.steps))

    def __repr__(self) -> str:
        return f"<Plan of {label(self.target)}: {len(self.program.steps)} of {len(self.wiring.steps)} steps would run>"


class _Missing(Exception):
    def __init__(self, key: Key, path: tuple[str, ...]) -> None:
        self.key, self.path = key, path
        super().__init__(key, path)


def plan(wiring: Wiring, target: Key, inputs: frozenset[Key], facts: Facts) -> Plan:
    """Decide what to do for *target*.

    Args:
        wiring: The wiring.
        target: What was asked for.
        inputs: The types whose values are at hand: supplied now, recorded earlier in the run, or made in this attempt.
        facts: What is known about the run.
    """
    judge = Judge(wiring, facts)
    certified = frozenset(
        [
            step.gives
            for key, record in facts.records.results.items()
            if record.state == "certified" and (step := wiring.by_key.get(key)) is not None
        ]
    )
    targets: tuple[Key, ...] = (target,)
    whole: Program | None = None
    while True:
        made, missing = _closed(wiring, targets, inputs, certified)
        used = [judge.of(wiring.steps[key]) for key in made.known if key in certified and key not in inputs]
        stale = {wiring.by_key[key].gives for key, verdict in judge.verdicts.items() if verdict.state == "stale"}
        first = tuple(dict.fromkeys([step.gives for verdict in used for step in verdict.first]))
        if stale and not stale.isdisjoint(certified):
            certified -= stale
        elif first and first != targets and not missing and not any(verdict.state == "conflict" for verdict in used):
            whole = whole or made
            targets, certified = first, certified - set(first)
        else:
            _judge_begun(judge, made, facts)
            brought = tuple(wiring.steps[key] for key in targets) if whole else ()
            return Plan(wiring, target, facts, made, whole or made, brought, missing, judge.verdicts)


def _judge_begun(judge: Judge, made: Program, facts: Facts) -> None:
    """Compare the inputs of what was begun and not certified: it must not be finished with others."""
    results = facts.records.results
    begun = [record for record in results.values() if record.state in ("running", "doubt", "refused", "ready")]
    for step in made.steps if begun else ():
        record = results.get(step.key)
        if record is not None and record in begun and step.options.on_change == "raise":
            changed = judge.changed_inputs(step, record)
            if record.state == "ready":  # it may be tried again because what it waited for has come
                changed = tuple(key for key in changed if record.made_from.inputs[key] is not None)
            if changed:
                judge.verdicts[step.key] = Verdict("conflict", f"{', '.join(changed)} changed", changed, key=step.key)


def _closed(
    wiring: Wiring, targets: tuple[Key, ...], inputs: frozenset[Key], certified: frozenset[Key]
) -> tuple[Program, dict[Key, tuple[str, ...]]]:
    """Compile, as if what is missing were there; say what is."""
    missing: dict[Key, tuple[str, ...]] = {}
    while True:
        try:
            return program(wiring, targets, inputs.union(missing) if missing else inputs, certified), missing
        except _Missing as one:
            missing[one.key] = one.path


def program(wiring: Wiring, targets: tuple[Key, ...], inputs: frozenset[Key], certified: frozenset[Key]) -> Program:
    """Compile the least work to *targets* when *inputs* are at hand and *certified* results can be fetched."""
    name = ("program", targets, inputs, certified)
    found: Program | None = wiring.recent.get(name)
    if found is None:
        found = wiring.recent[name] = _compile(wiring, targets, inputs, certified)
    return found


def in_memory(wiring: Wiring, target: Key, inputs: frozenset[Key]) -> Program | None:
    """Compile the least work to a *target* to which nothing certified belongs; None if *inputs* are not enough for it."""
    try:
        return program(wiring, (target,), inputs, frozenset())
    except _Missing:
        return None


def _compile(wiring: Wiring, targets: tuple[Key, ...], inputs: frozenset[Key], certified: frozenset[Key]) -> Program:
    at_hand = inputs | certified | wiring.resources.keys()
    known, steps = reached(wiring, targets, at_hand)
    first = len(known) + 1
    slots: dict[Key | None, int] = {None: 0, **dict(zip(known, range(1, first), strict=True))}
    slots.update(zip([step.gives for step in steps], range(first, first + len(steps)), strict=True))
    frees: list[list[int]] = [[] for _ in steps]
    waits: list[int] = []
    args: list[tuple[int, ...]] = []
    for number, step in enumerate(steps):
        row = tuple([slots[key] for key in _wanted(wiring, step, at_hand)])
        args.append(row)
        count = 0
        for slot in row if len(row) < 2 else dict.fromkeys(row):
            if slot >= first:
                frees[slot - first].append(number)
                count += 1
        waits.append(count)
    return Program(tuple(known), tuple(steps), tuple(args), tuple(waits), tuple(map(tuple, frees)), slots[targets[0]])


def reached(wiring: Wiring, targets: tuple[Key, ...], at_hand: frozenset[Key]) -> tuple[list[Key], list[Step]]:
    """Walk back from the targets to what is at hand; return that, and the steps passed, needs before what needs them.

    With a list for a stack: a chain of 10,000 steps is no deeper than one of ten.
    """
    given = wiring.steps
    seen: set[Key | None] = {None, *targets}
    known: list[Key] = []
    passed: list[Step] = []
    pending = list(targets)
    while pending:
        key = pending.pop()
        if key in at_hand:
            known.append(key)
        elif (step := given.get(key)) is None:
            raise _Missing(key, _path(wiring, targets, at_hand, key))
        else:
            passed.append(step)
            for need in reversed(_wanted(wiring, step, at_hand)):
                if need not in seen:
                    seen.add(need)
                    pending.append(need)
    rank = wiring.rank()
    passed.sort(key=lambda step: rank[step.gives])
    return known, passed


def _wanted(wiring: Wiring, step: Step, at_hand: frozenset[Key]) -> Sequence[Key | None]:
    """Return the type of each need of *step*; None for one that gets None, since nobody gives it or may be asked to."""
    if step.sure is not None:
        return step.sure
    return [None if need.key not in at_hand and _is_absent(wiring, need) else need.key for need in step.needs]


def _is_absent(wiring: Wiring, need: Need) -> bool:
    return need.if_certified or (need.optional and need.key not in wiring.steps) or need.key in SPECIAL


def _path(wiring: Wiring, targets: tuple[Key, ...], at_hand: frozenset[Key], key: Key) -> tuple[str, ...]:
    """Draw a shortest path from a target to *key*."""
    entered: dict[Key, Key | None] = dict.fromkeys(targets)
    pending = deque(targets)
    while key not in entered:
        above = pending.popleft()
        step = wiring.steps.get(above)
        for need in _wanted(wiring, step, at_hand) if step is not None and above not in at_hand else ():
            if need is not None and need not in entered:
                entered[need] = above
                pending.append(need)
    lines = [f"{label(key)}  ???"]
    passed = entered[key]
    while passed is not None:
        lines.append(f"{label(passed)}  {at(wiring.steps[passed])}")
        passed = entered[passed]
    return shortened(lines[::-1])
