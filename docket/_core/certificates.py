"""Whether a certified result still stands. Pure: no I/O, no clock.

A certificate remembers what it was made from. It stands as long as none of that is known to have changed; what is not
known counts as unchanged. Nothing is run to find out, and nothing is looked at that the result asked about was not
made from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Literal

from docket._core.immutable import immutable, nothing
from docket._core.record import NOTHING, Record, Records, digest_of
from docket._core.step import Step
from docket._core.types import label
from docket._core.wiring import Wiring


@immutable(frozen=True, slots=True)
class Facts:
    """What is known when a plan is made.

    Attributes:
        records: What the cache knows about the run.
        supplied: By storage key, the digest of every value that was supplied now.
        same: By storage key, the digests of recorded values that are equal to the one supplied now although their bytes
            may
            differ: serialized bytes are not canonical.
        fresh: Storage keys of what was certified in this very attempt.
    """

    records: Records = NOTHING
    supplied: Mapping[str, str] = field(default_factory=nothing)
    same: Mapping[str, frozenset[str]] = field(default_factory=nothing)
    fresh: frozenset[str] = frozenset()


@immutable(frozen=True, slots=True)
class Verdict:
    """What is to be thought of one certified result.

    Attributes:
        state: It ``stands``; it is ``stale`` and will be made again; it is ``waiting`` for others to be brought up to
            date before that can be said; or it is in ``conflict`` with what was supplied now.
        why: What was found, for people; empty if it stands.
        changed: Storage keys of the inputs that are not what it was made from.
        remade: Storage keys of the certified results that are not what it was made from.
        first: What has to be brought up to date before it can be judged.
        outdated: Whether only code or age speaks against it, not data.
        key: The storage key of the result that the verdict is about.
    """

    state: Literal["stands", "stale", "waiting", "conflict"]
    why: str = ""
    changed: tuple[str, ...] = ()
    remade: tuple[str, ...] = ()
    first: tuple[Step, ...] = ()
    outdated: bool = False
    key: str = ""


STANDS = Verdict("stands")


def outlived(step: Step, record: Record) -> bool:
    """Whether a final record is older than its step's ``ttl``."""
    return step.options.ttl is not None and record.since > step.options.ttl


class Judge:
    """Judges the certified results of one run, each once and only when asked.

    Attributes:
        verdicts: By storage key, what was found so far.
    """

    def __init__(self, wiring: Wiring, facts: Facts) -> None:
        self._wiring, self._facts = wiring, facts
        self.verdicts: dict[str, Verdict] = {}

    def of(self, step: Step) -> Verdict:
        """Return the verdict on the certified result of *step*."""
        known = self.verdicts.get(step.key)
        if known is None and not self._facts.records.results[step.key].made_from.above:
            known = self.verdicts[step.key] = self._verdict(step)
        return known or self._walk(step)

    def _walk(self, step: Step) -> Verdict:
        entered: set[str] = set()
        pending = [step]  # a stack of its own: certificates may rest on each other 10,000 deep
        while pending:
            at = pending[-1]
            if at.key in self.verdicts:
                pending.pop()
                continue
            below = [] if at.key in entered else [one for one in self._below(at) if one.key not in self.verdicts]
            entered.add(at.key)
            if below:
                pending += below
            else:
                self.verdicts[at.key] = self._verdict(at)
                pending.pop()
        return self.verdicts[step.key]

    def changed_inputs(self, step: Step, record: Record) -> tuple[str, ...]:
        """Return the storage keys of the inputs that are supplied now and are not what *record* is made from."""
        return tuple([key for key, digest in record.made_from.inputs.items() if self._differs(step, key, digest)])

    def _below(self, step: Step) -> Iterator[Step]:
        if step.options.on_change == "keep" or step.key in self._facts.fresh:
            return
        results = self._facts.records.results
        for key in results[step.key].made_from.above:
            giver, record = self._wiring.by_key.get(key), results.get(key)
            if giver is not None and record is not None and record.state == "certified" and self._uses(step, giver):
                yield giver

    def _verdict(self, step: Step) -> Verdict:
        record, options = self._facts.records.results[step.key], step.options
        if step.key in self._facts.fresh:
            return STANDS
        if outlived(step, record):
            return Verdict("stale", f"it is older than its ttl of {options.ttl:g} s", outdated=True)
        if options.on_change == "keep":
            return STANDS
        changed = list(self.changed_inputs(step, record))
        remade: list[str] = []
        first: dict[Step, None] = {}
        outdated = True
        for key, digest in record.made_from.above.items():
            found = self._above(step, key, digest)
            if found.state == "conflict":
                return found
            changed += found.changed
            remade += found.remade
            if not (found.outdated and options.on_change == "raise"):  # a fact survives a deploy
                first.update(dict.fromkeys(found.first))
                outdated = outdated and found.outdated
        if changed or remade:
            return self._changed(step, changed, remade)
        if first:
            names = ", ".join(label(one.gives) for one in first)
            return Verdict("waiting", f"it depends on {names}, to be made again first", first=tuple(first), outdated=outdated)
        if options.on_change == "recompute" and (why := self._other_code(step, record)) is not None:
            return Verdict("stale", why, outdated=True)
        return STANDS

    def _above(self, step: Step, key: str, digest: str) -> Verdict:
        """Judge one certified result that *step* was made from."""
        giver, record = self._wiring.by_key.get(key), self._facts.records.results.get(key)
        if key in self._facts.supplied:
            return Verdict("stale", changed=(key,)) if self._differs(step, key, digest) else STANDS
        # A fact was made from one value of a shared result, whatever the later ones are.
        past = giver is not None and giver.options.scope == "global" and step.options.on_change == "raise"
        if past or giver is None or record is None or record.state == "purged":  # compare what lies below it
            deep = self._facts.records.results[step.key].made_from.deep
            return Verdict("stale", changed=tuple(one for one in deep if self._differs(step, one, deep[one])))
        if not self._uses(step, giver):
            return STANDS
        if record.state != "certified":
            return Verdict("waiting", first=(giver,))
        verdict = self.verdicts.get(key, STANDS)  # missing only if code was changed so that two rest on each other
        if verdict.state == "stale":
            return Verdict("waiting", first=(giver,), outdated=verdict.outdated)
        if verdict is STANDS and record.stored is not None and digest_of(record.stored) != digest:
            return STANDS if self._is_only_younger(step, giver, record) else Verdict("stale", remade=(key,))
        return verdict

    def _is_only_younger(self, step: Step, giver: Step, record: Record) -> bool:
        """Whether *giver* has made its result again of the same inputs, for its age or its version: a fact outlives that."""
        if step.options.on_change != "raise" or giver.options.on_change != "recompute":
            return False
        then, now = self._facts.records.results[step.key].made_from.deep, record.made_from
        return all(then.get(name, digest) == digest for name, digest in {**now.deep, **now.inputs}.items())

    def _changed(self, step: Step, changed: list[str], remade: list[str]) -> Verdict:
        names = ", ".join([*changed, *remade])
        state: Literal["stale", "conflict"] = "stale" if step.options.on_change == "recompute" else "conflict"
        return Verdict(state, f"{names} changed", tuple(dict.fromkeys(changed)), tuple(remade), key=step.key)

    def _other_code(self, step: Step, record: Record) -> str | None:
        versions = record.made_from.versions
        for passed in self._wiring.gap(step.gives).between:
            if passed.options.version != versions.get(passed.key, 1):
                return f"the version of {passed.name} is {passed.options.version}, it was {versions.get(passed.key, 1)}"
        return None

    def _differs(self, step: Step, key: str, digest: str | None) -> bool:
        now = self._facts.supplied.get(key)
        if now is None or now == digest or digest in self._facts.same.get(key, ()):
            return False
        known = self._wiring.roots[key] if key in self._wiring.roots else self._wiring.by_key[key].gives
        return known in self._wiring.gap(step.gives).roots or self._wiring.reaches(step.gives, known)

    def _uses(self, step: Step, other: Step) -> bool:
        return other in self._wiring.gap(step.gives).above or self._wiring.reaches(step.gives, other.gives)
