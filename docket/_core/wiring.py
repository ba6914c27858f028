"""Who provides what: the checked graph of steps, inputs and resources.

One provider per type, for ever: no last-wins, no best match, no subclass. A wiring is made in one go from everything
that was registered, says all that is wrong with it at once, and never changes afterwards. No I/O here.
"""

from __future__ import annotations

import contextlib
import graphlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docket._core.problems import circles, clash, holes, misdeclared, misplaced, overshared, refused_none
from docket._core.recent import Recent
from docket._core.step import SPECIAL, Options, Step, read_step
from docket._core.types import Key, Refusal, label, read, storage_key
from docket.errors import Problem, WiringError


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """Something the application holds for its steps.

    Attributes:
        type: What steps ask for.
        source: The value, or a function that makes it.
        where: ``file:line`` of the call that provided it.
    """

    type: Any
    source: object
    where: str


@dataclass(frozen=True, slots=True)
class Gap:
    """What lies between a step and the certified results nearest to it.

    Attributes:
        roots: The types in it that no step gives.
        above: The certified steps it ends at.
        between: The steps in it, the one asked about included.
    """

    roots: frozenset[Key]
    above: tuple[Step, ...]
    between: tuple[Step, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Wiring:
    """The checked graph.

    Attributes:
        steps: By the type they give.
        by_key: The same by storage key.
        by_fn: The same by the function, for functions that can be hashed.
        resources: What the application holds, by type.
        roots: The types that steps need and nobody gives, by storage key: the caller supplies them.
        declared: The types that were declared as inputs; None if nothing was declared, so that every root is one.
        inputs: The types in ``roots``, for asking whether one of them is meant.
        names: What inputs and results are called in the cache.
        shares: Whether any result is shared by all runs.
        memo: Work done once per wiring by its readers; not part of its value.
        recent: The same for what depends on the run, of which there may be ever more.
    """

    steps: Mapping[Key, Step]
    by_key: Mapping[str, Step]
    by_fn: Mapping[Any, Step]
    resources: Mapping[Key, Resource]
    roots: Mapping[str, Key]
    declared: frozenset[Key] | None = None
    inputs: frozenset[Key] = field(init=False)
    names: Mapping[Key, str] = field(init=False)
    shares: bool = field(init=False)
    memo: dict[Any, Any] = field(default_factory=dict[Any, Any], repr=False)
    recent: Recent[Any, Any] = field(default_factory=Recent[Any, Any], repr=False)

    def __post_init__(self) -> None:
        """Gather what every run asks about."""
        object.__setattr__(self, "inputs", frozenset(self.roots.values()))
        names = {key: name for name, key in self.roots.items()}
        names.update((key, step.key) for key, step in self.steps.items())
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "shares", any(step.options.scope == "global" for step in self.steps.values()))

    def target(self, asked: object) -> Step | None:
        """Return the step that *asked* (a registered function or a type that some step gives) stands for, if any."""
        try:
            found = self.steps.get(asked) or self.by_fn.get(asked)
            return found or self.by_fn.get(getattr(asked, "__wrapped__", None)) or self.steps.get(read(asked).key)
        except (TypeError, Refusal):  # not hashable, or no type
            return next((step for step in self.steps.values() if step.fn is asked), None)

    def name(self, key: Key) -> str:
        """Return what *key* is called in the cache."""
        return self.names.get(key) or storage_key(key)

    def certifies_for(self, target: Key) -> bool:
        """Say whether *target*, or anything it may need, is kept; if not, a run of it never asks the cache."""
        known: bool | None = self.memo.get(("certifies", target))
        if known is None:
            known = self.memo["certifies", target] = self.steps[target].certifies or bool(self.gap(target).above)
        return known

    def is_kept(self, root: Key) -> bool:
        """Say whether anything that is kept may be made from the input *root*, so that it is recorded too."""
        known: frozenset[Key] | None = self.memo.get("kept")
        if known is None:
            gaps = [self.gap(step.gives) for step in self.steps.values() if step.certifies]
            between = (step.gives for gap in gaps for step in gap.between)
            known = self.memo["kept"] = frozenset(between).union(*(gap.roots for gap in gaps))
        return root in known

    def gap(self, key: Key) -> Gap:
        """Return what lies between the step that gives *key* and the certified results nearest to it."""
        known: Gap | None = self.memo.get(("gap", key))
        if known is not None:
            return known
        roots: dict[Key, None] = {}
        above: dict[Key, Step] = {}
        between: dict[Key, Step] = {}
        pending: list[tuple[Key, bool]] = [(key, False)]
        while pending:
            at, only_if_certified = pending.pop()
            step = self.steps.get(at)
            if step is None:
                if at not in self.resources and at not in SPECIAL:
                    roots[at] = None
            elif step.certifies and at != key:
                above[at] = step
            elif at not in between and not only_if_certified:
                between[at] = step
                pending += [(need.key, need.if_certified) for need in reversed(step.needs)]
        found = self.memo["gap", key] = Gap(frozenset(roots), tuple(above.values()), tuple(between.values()))
        return found

    def rank(self) -> Mapping[Key, int]:
        """Return an order of all steps in which every step stands behind its needs, as a number for each."""
        known: Mapping[Key, int] | None = self.memo.get("rank")
        if known is None:
            needs = {key: [need.key for need in step.needs if need.key in self.steps] for key, step in self.steps.items()}
            known = self.memo["rank"] = {key: n for n, key in enumerate(graphlib.TopologicalSorter(needs).static_order())}
        return known

    def reaches(self, key: Key, other: Key) -> bool:
        """Say whether making *key* may need *other*."""
        seen: set[Key] = {key}
        pending = [key]
        while pending:
            step = self.steps.get(pending.pop())
            for need in step.needs if step is not None else ():
                if need.key == other:
                    return True
                if need.key not in seen:
                    seen.add(need.key)
                    pending.append(need.key)
        return False


def build(
    registered: Sequence[tuple[Callable[..., Any], Options]],
    resources: Iterable[Resource] = (),
    declared: Iterable[Any] | None = None,
) -> Wiring:
    """Check everything that was registered and make a wiring of it.

    Args:
        registered: Functions with their options, in order.
        resources: What the application holds.
        declared: The types that callers supply; None if nobody said.

    Raises:
        WiringError: Something does not fit; it holds every problem found, not just the first.
    """
    problems: list[Problem] = []
    steps: dict[Key, Step] = {}
    by_key: dict[str, Step] = {}
    unsure: set[Key | None] = set()
    for fn, options in registered:
        step = read_step(fn, options)
        if not isinstance(step, Step):
            problems += step.problems
            unsure.add(step.gives)
        elif (problem := clash(step, steps, by_key)) is not None:
            problems.append(problem)
        else:
            problems += misplaced(step)
            steps[step.gives] = by_key[step.key] = step
    held = _held(resources, problems)
    inputs = None if declared is None else _inputs(declared, problems)
    problems += misdeclared(inputs or (), steps, {key: resource.where for key, resource in held.items()})
    problems += refused_none(steps)
    problems += circles(steps)
    problems += overshared(steps)
    if inputs is not None and None not in unsure:  # it is not known what the step gives that could not be read
        problems += holes(steps, [*held, *inputs], unsure)
    if problems:
        raise WiringError(tuple(problems))
    needed = dict.fromkeys(need.key for step in steps.values() for need in step.needs)
    roots = {storage_key(key): key for key in needed if key not in held and key not in steps and key not in SPECIAL}
    return Wiring(steps, by_key, _by_fn(steps), held, roots, inputs)


def _held(resources: Iterable[Resource], problems: list[Problem]) -> dict[Key, Resource]:
    held: dict[Key, Resource] = {}
    for resource in resources:
        try:
            key = read(resource.type).key
        except Refusal as refusal:
            problems.append(Problem(f"a resource: {refusal.what}", (f"provide  {resource.where}",), refusal.fix))
            continue
        if (other := held.get(key)) is not None:
            where = (f"provide  {other.where}", f"provide  {resource.where}")
            fix = f"give one of them a type of its own; in tests, replace one: d.override({label(key)}, ...)"
            problems.append(Problem(f"{label(key)} is provided twice", where, fix))
        held.setdefault(key, resource)
    return held


def _inputs(declared: Iterable[Any], problems: list[Problem]) -> frozenset[Key]:
    keys: list[Key] = []
    for one in declared:
        try:
            keys.append(read(one).key)
        except Refusal as refusal:
            problems.append(Problem(f"inputs=[...]: {refusal.what}", (), refusal.fix))
    return frozenset(keys)


def _by_fn(steps: Mapping[Key, Step]) -> dict[Any, Step]:
    found: dict[Any, Step] = {}
    for step in steps.values():
        with contextlib.suppress(TypeError):  # an object with __eq__ and no __hash__ can still be asked for by its type
            found[step.fn] = step
    return found
