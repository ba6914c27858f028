"""Results that all runs share: where they live is named by what they are made from. Pure: no I/O, no clock."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from docket._core.names import SHARED
from docket._core.problems import passed_by
from docket._core.step import Step
from docket._core.types import Key
from docket._core.wiring import Wiring


@dataclass(frozen=True, slots=True)
class Cone:
    """What a shared result may be made from.

    Attributes:
        roots: The inputs, by name in the cache; whether each may be absent.
        versions: By storage key, the version of every step, those of version 1 left out.
        keys: The types in it.
    """

    roots: Mapping[str, bool]
    versions: Mapping[str, int]
    keys: frozenset[Key]


def homes(wiring: Wiring, target: Key, digests: Mapping[str, str], given: Collection[Key]) -> dict[str, str]:
    """Return, by storage key, the run id under which each shared result lives that *target* may need.

    Left out are those of which an input is not known yet, and those that are made from a value given in place of a
    step: they are this run's alone.

    Args:
        wiring: The wiring.
        target: What was asked for.
        digests: By name in the cache, the digest of every input that is known.
        given: The types that were supplied.
    """
    found: dict[str, str] = {}
    for step in shared_by(wiring, target):
        cone = _cone(wiring, step)
        known = all(name in digests or optional for name, optional in cone.roots.items())
        if known and not any(key in cone.keys and key in wiring.steps for key in given):
            inputs = {name: digests.get(name) for name in cone.roots}
            text = json.dumps([step.key, step.options.version, inputs, dict(cone.versions)], sort_keys=True)
            found[step.key] = SHARED + hashlib.sha256(text.encode()).hexdigest()
    return found


def shared_by(wiring: Wiring, target: Key) -> list[Step]:
    """Return the steps that *target* may need and whose results are shared."""
    known: list[Step] | None = wiring.memo.get(("shared", target))
    if known is None:
        passed = passed_by(wiring.steps, wiring.steps[target])
        known = wiring.memo["shared", target] = [step for step in passed if step.options.scope == "global"]
    return known


def _cone(wiring: Wiring, step: Step) -> Cone:
    known: Cone | None = wiring.memo.get(("cone", step.gives))
    if known is None:
        passed = passed_by(wiring.steps, step)
        roots: dict[str, bool] = {}
        for need in (need for one in passed for need in one.needs):
            if need.key in wiring.inputs:
                name = wiring.name(need.key)
                roots[name] = need.optional and roots.get(name, True)
        versions = {one.key: one.options.version for one in passed if one.options.version != 1}
        known = Cone(roots, versions, frozenset(one.gives for one in passed))
        wiring.memo["cone", step.gives] = known
    return known
