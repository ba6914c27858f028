"""What a result is made from, as its certificate will remember it. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from docket._core.plan import Program
from docket._core.record import MadeFrom
from docket._core.step import SPECIAL, Step
from docket._core.types import Key
from docket._core.wiring import Wiring


@dataclass(frozen=True, slots=True)
class _Between:
    """What lies between a step and what is known or certified: absent inputs, versions, and where it ends.

    Attributes:
        inputs: By name, the inputs that are absent.
        versions: By storage key, the version of every step in it that is not 1.
        above: The types it ends at.
        only: The one it ends at if nothing else is to be said; else None.
    """

    inputs: Mapping[str, None]
    versions: Mapping[str, int]
    above: tuple[Key, ...]
    only: Key | None


def made_from(wiring: Wiring, program: Program, step: Step, source_of: Callable[[Key], MadeFrom | None]) -> MadeFrom:
    """Say what the result of *step* is made from.

    Args:
        wiring: The wiring.
        program: The program it is computed in.
        step: The step.
        source_of: Tells where a value at hand or a certified result comes from; None for a resource.
    """
    between: _Between | None = program.memo.get(step.gives)
    if between is None:
        between = program.memo[step.gives] = _between(wiring, program, step)
    if between.only is not None and (source := source_of(between.only)) is not None:
        return source
    inputs: dict[str, str | None] = dict(between.inputs)
    above: dict[str, str] = {}
    versions = dict(between.versions)
    deep: dict[str, str | None] = {}
    for key in between.above:
        source = source_of(key)
        if source is not None:
            inputs.update(source.inputs)
            above.update(source.above)
            versions.update(source.versions)
            deep.update(source.deep)
    return MadeFrom(inputs, above, versions, deep)


def _between(wiring: Wiring, program: Program, step: Step) -> _Between:
    """Walk back from *step* to what is known or certified. An absent value counts: its coming is a change."""
    results = len(program.known) + 1
    absent: dict[str, None] = {}
    above: dict[Key, None] = {}
    passed: dict[Key, Step] = {step.gives: step}
    pending = [step]
    while pending:
        at = pending.pop()
        for need, slot in zip(at.needs, program.args[program.position[at.gives]], strict=True):
            giver = program.steps[slot - results] if slot >= results else None
            if slot == 0:
                if need.key not in SPECIAL and need.key not in wiring.steps:
                    absent[wiring.name(need.key)] = None
            elif giver is None or giver.certifies:
                above[need.key] = None
            elif giver.gives not in passed:
                passed[giver.gives] = giver
                pending.append(giver)
    versions = {one.key: one.options.version for one in passed.values() if one.options.version != 1}
    only = next(iter(above)) if len(above) == 1 and not absent and not versions else None
    return _Between(absent, versions, tuple(above), only)
