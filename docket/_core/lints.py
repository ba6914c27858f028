"""What is allowed in a wiring and probably not meant. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from docket._core.problems import at, namesakes, near_misses
from docket._core.step import SPECIAL, Need, Step
from docket._core.types import Key, label
from docket._core.wiring import Wiring
from docket.errors import Problem


def lints(wiring: Wiring, targets: Sequence[Step] = ()) -> tuple[Problem, ...]:
    """Return what should be looked at, as problems that forbid nothing.

    Args:
        wiring: The checked wiring.
        targets: What will be asked for; if there are any, the steps that none of them needs are reported.
    """
    found = [*_disagreeing(wiring), *_namesakes(wiring), *_unlimited(wiring), *_untaken(wiring)]
    for step in wiring.steps.values():
        found += [_never(step, need) for need in step.needs if _is_never_there(wiring, need)]
    return (*found, *(_unreached(wiring, targets) if targets else ()))


def _disagreeing(wiring: Wiring) -> Iterator[Problem]:
    """Find the steps that are run again for a second kept result: it may be made from another value than the first."""
    feeds: dict[Step, list[Step]] = {}
    for kept in wiring.steps.values():
        if kept.certifies:
            for step in wiring.gap(kept.gives).between:
                if step is not kept and not step.options.pure:
                    feeds.setdefault(step, []).append(kept)
    for step, fed in feeds.items():
        if len(fed) > 1:
            names = " and ".join(label(one.gives) for one in fed)
            what = f"{step.name} is not kept and feeds {names}: after a crash in between they may be made from different values"
            fix = f'keep it: cache_result="at_least_once"; or, if it gives the same for the same {_inputs(step)}: pure=True'
            yield Problem(what, (at(step), *(at(one) for one in fed)), fix)


def _inputs(step: Step) -> str:
    return " and ".join(label(need.key) for need in step.needs if need.key not in SPECIAL) or "nothing"


def _namesakes(wiring: Wiring) -> Iterator[Problem]:
    """Find the inputs that are called like something a step gives, where nobody said what the inputs are."""
    for key in wiring.roots.values() if wiring.declared is None else ():
        near = near_misses(key, {other: wiring.steps[other] for other in namesakes(key, wiring.steps)}, ())
        takers = tuple(at(step) for step in wiring.steps.values() if any(need.key == key for need in step.needs))
        if near:
            fix = "import the same class in both places, or name the inputs: inputs=[...]"
            yield Problem(f"{label(key)} counts as an input, although one is given", takers, fix, near)


def _unlimited(wiring: Wiring) -> Iterator[Problem]:
    for step in wiring.steps.values():
        if step.options.cache_result == "at_most_once" and step.options.timeout is None:
            what = f"{step.name} is at_most_once and has no timeout: when it hangs, so does its run"
            yield Problem(what, (at(step),), "say how long it may take: timeout=30")


def _untaken(wiring: Wiring) -> Iterator[Problem]:
    for key in sorted((wiring.declared or frozenset()) - wiring.inputs, key=label):
        yield Problem(f"{label(key)} is declared as an input and no step takes one", (), "take it out of inputs=")


def _is_never_there(wiring: Wiring, need: Need) -> bool:
    giver = wiring.steps.get(need.key)
    if need.if_certified and giver is not None:
        return not giver.certifies
    supplied = wiring.declared is None or need.key in wiring.declared
    return need.optional and giver is None and not supplied and need.key not in wiring.resources


def _never(step: Step, need: Need) -> Problem:
    marked = ", which nothing keeps" if need.if_certified else ", which nothing gives"
    what = f"the parameter {need.name!r} of {step.name} is always None: it wants a {label(need.key)}{marked}"
    fix = "keep it: cache_result=..." if need.if_certified else f"name it as an input: inputs=[{label(need.key)}, ...]"
    return Problem(what, (at(step),), f"{fix}; or drop the parameter")


def _unreached(wiring: Wiring, targets: Sequence[Step]) -> Iterator[Problem]:
    reached: set[Key] = {step.gives for step in targets}
    pending = list(targets)
    while pending:
        for need in pending.pop().needs:
            step = wiring.steps.get(need.key)
            if step is not None and need.key not in reached:
                reached.add(need.key)
                pending.append(step)
    names = " or ".join(label(step.gives) for step in targets)
    for key, step in wiring.steps.items():
        if key not in reached:
            yield Problem(f"{step.name} is never run for {names}", (at(step),), "drop it, or name it as a target as well")
