"""What is wrong with a set of steps, drawn so that the mistake can be seen. Pure: no I/O."""

from __future__ import annotations

import difflib
import graphlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NewType, get_origin

from docket._core.step import SPECIAL, Need, Step, Transaction
from docket._core.types import Key, class_of, is_below, label
from docket.errors import Problem

DRAWN = 12
"""Most lines of one path or circle; the middle of a longer one is left out. Our choice: the rest fits on the screen."""

NEAR = 3
"""Most near misses shown for one type."""


def at(step: Step) -> str:
    """Name a step and its place, as errors do."""
    return f"{step.name}  {step.where}"


def shortened(lines: Sequence[str]) -> tuple[str, ...]:
    """Leave out the middle of a long path."""
    if len(lines) <= DRAWN:
        return tuple(lines)
    half = DRAWN // 2
    return (*lines[:half], f"... {len(lines) - DRAWN} more ...", *lines[-half:])


def shown(key: Key, others: Iterable[Key]) -> str:
    """Name a type as the user wrote it; with its module if another of *others* has the same name."""
    name = label(key)
    if any(other is not key and other != key and label(other) == name for other in others):
        return f"{getattr(key, '__module__', '?')}.{name}"
    return name


def clash(step: Step, steps: Mapping[Key, Step], by_key: Mapping[str, Step]) -> Problem | None:
    """Say what keeps *step* from joining *steps*: one type, or one storage key, is given twice."""
    if (other := steps.get(step.gives)) is not None:
        name = label(step.gives)
        fix = f"give one of them a type of its own; in tests, replace one: d.override({name}, ...)"
        return Problem(f"{name} is given twice", (at(other), at(step)), fix)
    if (other := by_key.get(step.key)) is not None:
        fix = "give one of them a storage key of its own: @d.step(key=...)"
        return Problem(f"two results would be stored under the key {step.key!r}", (at(other), at(step)), fix)
    return None


def refused_none(steps: Mapping[Key, Step]) -> list[Problem]:
    """Find the steps that demand what may be None."""
    problems: list[Problem] = []
    for step in steps.values():
        for need in step.needs:
            giver = steps.get(need.key)
            if giver is not None and giver.gives_none and not need.optional:
                what = f"{step.name} demands {label(need.key)}, which may be None"
                fix = f"write {need.name}: {label(need.key)} | None, or let {giver.name} always return one"
                problems.append(Problem(what, (at(giver), at(step)), fix))
    return problems


def circles(steps: Mapping[Key, Step]) -> list[Problem]:
    """Find the steps that need each other, one problem for each circle that shares no step with another one."""
    problems: list[Problem] = []
    order = {key: number for number, key in enumerate(steps)}
    graph = {key: [need.key for need in step.needs if need.key in steps] for key, step in steps.items()}
    while True:
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            circle: list[Key] = error.args[1][:0:-1]  # from each step to one that it needs
            start = circle.index(min(circle, key=order.__getitem__))
            lines = [f"{label(key)}  {at(steps[key])}" for key in circle[start:] + circle[:start]]
            first, *middle = shortened(lines)
            drawn = (f"╭─> {first}", *(f"│   {line}" for line in middle[:-1]), *(f"╰── {line}" for line in middle[-1:]))
            count = f"{len(circle)} steps need each other in a circle" if middle else f"{label(circle[0])} needs itself"
            problems.append(Problem(count, drawn, "split one of them so that the circle opens"))
            cut = set(circle)
            graph = {key: [need for need in needs if need not in cut] for key, needs in graph.items() if key not in cut}
        else:
            return problems


def holes(steps: Mapping[Key, Step], at_hand: Collection[Key], unsure: Collection[Key]) -> list[Problem]:
    """Find the types that are demanded, that no step gives and that are not *at_hand* (resources and declared inputs).

    Args:
        steps: By the type they give.
        at_hand: What is there without a step.
        unsure: Types given by steps that are reported as wrong already.
    """
    wanted: dict[Key, tuple[Step, Need]] = {}
    for step in steps.values():
        for need in step.needs:
            wanted.setdefault(need.key, (step, need))
    return [
        _hole(steps, at_hand, wanted, key)
        for key, (_, need) in wanted.items()
        if not (need.optional or key in steps or key in at_hand or key in unsure or key in SPECIAL)
        or (need.optional and _demanded(steps, key) and not (key in steps or key in at_hand or key in unsure))
    ]


def _demanded(steps: Mapping[Key, Step], key: Key) -> bool:
    return any(need.key == key and not need.optional for step in steps.values() for need in step.needs)


def _hole(steps: Mapping[Key, Step], at_hand: Collection[Key], wanted: Mapping[Key, tuple[Step, Need]], key: Key) -> Problem:
    everything = [*steps, *at_hand, key]
    name = shown(key, everything)
    near = near_misses(key, steps, at_hand)
    fix = f"write a step that returns {label(key)}, or name it as an input: inputs=[{label(key)}, ...]"
    return Problem(f"nothing gives {name}", (*_path(wanted, key), f"└─ {name}  ???"), fix, near)


def _path(wanted: Mapping[Key, tuple[Step, Need]], key: Key) -> tuple[str, ...]:
    lines: list[str] = []
    seen: set[Key] = set()
    while (found := wanted.get(key)) is not None and key not in seen:
        seen.add(key)
        step, need = found
        lines.append(f"{label(step.gives)}  {at(step)}  parameter {need.name!r}")
        key = step.gives
    return shortened(lines[::-1])


def near_misses(key: Key, steps: Mapping[Key, Step], at_hand: Collection[Key]) -> tuple[str, ...]:
    """Describe the types that are there and may be meant by *key*: relatives of it, namesakes, close names."""
    there = [*steps, *at_hand]
    found = dict.fromkeys(namesakes(key, there), "another type of the same name")
    for judge in (_relative, _alike):
        for other in there:
            if other != key and other not in found and (kind := judge(key, other)) is not None:
                found[other] = kind
    everything = [*there, key]
    lines: list[str] = []
    for other, kind in list(found.items())[:NEAR]:
        giver = f"is given by {at(steps[other])}" if other in steps else "is at hand"
        lines.append(f"{shown(other, everything)}, {kind}, {giver}")
    return tuple(lines)


def namesakes(key: Key, others: Iterable[Key]) -> tuple[Key, ...]:
    """Return the types among *others* that are called like *key* and are not it."""
    name = label(key)
    return tuple(other for other in others if other != key and label(other) == name)


def _relative(key: Key, other: Key) -> str | None:
    if isinstance(key, NewType) or isinstance(other, NewType):
        if getattr(key, "__supertype__", None) == other:
            return "the type it wraps"
        return "a NewType of it" if getattr(other, "__supertype__", None) == key else None
    one, two = class_of(key), class_of(other)
    if get_origin(key) or get_origin(other):
        return "the same generic with other parameters" if one is two else None
    if is_below(two, one):
        return "a subclass of it"
    return "a base class of it" if is_below(one, two) else None


def _alike(key: Key, other: Key) -> str | None:
    one, two = label(key), label(other)
    return "a similar name" if difflib.SequenceMatcher(None, one, two).ratio() > 0.75 else None


def misdeclared(declared: Iterable[Key], steps: Mapping[Key, Step], resources: Mapping[Key, str]) -> Iterator[Problem]:
    """Find what is declared as an input although the application makes it, and resources that a step gives."""
    for key in dict.fromkeys(declared):
        if (step := steps.get(key)) is not None:
            fix = f"take {label(key)} out of inputs=, or do not register {step.name}"
            yield Problem(f"{label(key)} is declared as an input and given by a step", (at(step),), fix)
        elif key in resources:
            fix = f"take {label(key)} out of inputs="
            yield Problem(f"{label(key)} is declared as an input and held as a resource", (resources[key],), fix)
    for key, where in resources.items():
        if (step := steps.get(key)) is not None:
            what = f"{label(key)} is a resource and the result of a step"
            yield Problem(what, (f"provide  {where}", at(step)), "drop one of the two")


def misplaced(step: Step) -> Iterator[Problem]:
    """Find a Transaction where there is none, and a transactional step that does not or cannot use its own."""
    takes = any(need.key is Transaction for need in step.needs)
    transactional = step.options.cache_result == "transactional"
    if takes and not transactional:
        fix = 'mark it cache_result="transactional", or take a pool that you provide'
        yield Problem(f"{step.name} takes a Transaction and is not transactional", (at(step),), fix)
    if takes and transactional and not step.is_async:
        what = f"{step.name} is transactional and a plain function, which cannot await what its Transaction does"
        yield Problem(what, (at(step),), f"write it as async def {step.name}")
    if transactional and not takes:
        fix = "add a parameter of type docket.Transaction and run its SQL through it, or mark it at_least_once"
        yield Problem(f"{step.name} is transactional and takes no Transaction", (at(step),), fix)


def overshared(steps: Mapping[Key, Step]) -> Iterable[Problem]:
    """Find what shared results may not be made from: what belongs to one run."""
    for step in steps.values():
        if step.options.scope != "global":
            continue
        for passed in passed_by(steps, step):
            own = next((need.key for need in passed.needs if need.key in SPECIAL), None)
            if passed.certifies and passed.options.scope != "global":
                what = f"{label(step.gives)} is shared by all runs and made from {label(passed.gives)}, which is one run's own"
                yield Problem(what, (at(step), at(passed)), f'drop scope="global", or share {label(passed.gives)} as well')
            elif own is not None:
                what = f"{label(step.gives)} is shared by all runs and made with a {label(own)}, which is one run's own"
                yield Problem(what, (at(step), at(passed)), f'drop scope="global", or the {label(own)}')


def passed_by(steps: Mapping[Key, Step], step: Step) -> list[Step]:
    """Return *step* and every step it may need."""
    found = {step.gives: step}
    pending = [step]
    while pending:
        for need in pending.pop().needs:
            other = steps.get(need.key)
            if other is not None and need.key not in found:
                found[need.key] = other
                pending.append(other)
    return list(found.values())
