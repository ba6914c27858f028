"""What is known about a run while an attempt is at it: supplied, recorded, certified, made.

Values become facts here (digests, equal or not), so that `docket._core.plan` can decide without any; and what it decided
becomes values again.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence

from docket._certify.certifier import Certifier, in_doubt, refusal
from docket._certify.changes import ABSENT, UNREADABLE, changes
from docket._certify.outside import purged_inputs, supplied_inputs
from docket._core.certificates import Facts, Verdict, outlived
from docket._core.plan import Plan, Program, plan
from docket._core.record import NOTHING, MadeFrom, Record, Records, Stored, digest_of
from docket._core.shared import homes, shared_by
from docket._core.sources import made_from
from docket._core.step import Step
from docket._core.types import Key, label
from docket._core.wiring import Wiring
from docket.cache import Input
from docket.errors import Change, InputsChanged, MissingInput, Purged, Undecodable
from docket.serializers import same

_NOTHING = MadeFrom()


class Knowledge:
    """What is known about one run.

    Args:
        wiring: The checked graph.
        certifier: Reads and writes what is certified; None if nothing can be.
        run_id: The run.
        supplied: By type, the values that came with the call.
    """

    __slots__ = (
        "_certifier",
        "_fresh",
        "_homes",
        "_latest",
        "_outside",
        "_purged",
        "_recorded",
        "_records",
        "_results",
        "_run_id",
        "_same",
        "_sources",
        "_supplied",
        "_values",
        "_wiring",
    )  # fmt: skip

    def __init__(self, wiring: Wiring, certifier: Certifier | None, run_id: str, supplied: Mapping[Key, object]) -> None:
        self._wiring, self._certifier, self._run_id, self._supplied = wiring, certifier, run_id, supplied
        self._records: Records = NOTHING
        self._results: dict[str, Record] = {}
        self._recorded: dict[Key, Input] = {}
        self._same: dict[str, frozenset[str]] = {}
        self._sources: dict[Key, MadeFrom | Record] = {}  # a record as long as nobody asked
        self._values: dict[Key, object] = dict(supplied)
        self._fresh: set[str] = set()
        self._homes: dict[str, str] = {}
        self._outside: Mapping[str, Record] = {}
        self._purged: Mapping[str, Record] = {}
        self._latest: tuple[MadeFrom, tuple[Input, ...]] = (_NOTHING, ())

    async def load(self, target: Key) -> None:
        """Read everything that is recorded about the run. One read, and one for each shared result it may need.

        They are sent at the same time, except where a shared result is found by an input that was recorded earlier.
        """
        assert self._certifier is not None  # noqa: S101 - nothing is asked that is not there
        wiring, supplied = self._wiring, self._supplied
        shares = wiring.shares and bool(shared_by(wiring, target))
        packed = self._packed() if shares else {}
        if shares:
            self._homes = self._homes_by(target, packed)
            run, *shared = await self._load_all([self._run_id, *self._homes.values()])
        else:
            run, shared = await self._certifier.cache.load(self._run_id), []
        self._results = dict(run.results)
        self._records = Records(self._results, run.inputs, run.latest)
        self._add_shared(self._homes, shared)
        for name, latest in run.latest.items():
            if (root := wiring.roots.get(name)) is not None and root not in supplied:
                self._recorded[root] = Input(latest, run.inputs[name, latest])
        if run.results:
            self._outside, self._purged = supplied_inputs(run), purged_inputs(run)
        for name, record in self._outside.items():
            root = wiring.roots.get(name)
            if root is not None and root not in supplied and record.stored is not None:
                stored = dataclasses.replace(record.stored, type=name)
                self._recorded[root] = Input(record.made_from.inputs[name] or "", stored)
        for key, value in supplied.items():
            if wiring.is_kept(key):
                now = self._certifier.recorded(self._run_id, key, wiring.name(key), value, run.inputs)
                self._recorded[key] = self._as_recorded(now, key, value) if run.inputs else now
        if shares:
            later = self._homes_by(target, {**self._recorded, **packed})
            if new := {name: home for name, home in later.items() if self._homes.get(name) != home}:
                self._add_shared(new, await self._load_all(list(new.values())))
                self._homes.update(new)
        for key, one in self._recorded.items():
            self._sources[key] = MadeFrom({wiring.name(key): one.digest})

    def _packed(self) -> dict[Key, Input]:
        assert self._certifier is not None  # noqa: S101 - see `load`
        kept = {key: value for key, value in self._supplied.items() if self._wiring.is_kept(key)}
        name = self._wiring.name
        return {key: self._certifier.recorded(self._run_id, key, name(key), value, {}) for key, value in kept.items()}

    def home(self, step: Step) -> str:
        """Return the run id under which the result of *step* lives."""
        return self._homes.get(step.key, self._run_id)

    def plan(self, target: Key) -> Plan:
        """Decide what to do for *target* by what is known now."""
        wiring, recorded = self._wiring, self._recorded
        supplied = {wiring.names[key]: recorded[key].digest for key in self._supplied if key in recorded}
        facts = Facts(self._records, supplied, self._same, frozenset(self._fresh))
        decided = plan(wiring, target, frozenset([*self._values, *recorded]), facts)
        if decided.verdicts and decided.conflicts:
            found = {verdict.key: self._changes(verdict) for verdict in decided.conflicts}
            decided = dataclasses.replace(decided, changes=found)
        return decided

    def refuse(self, decided: Plan) -> None:
        """Raise what forbids carrying out a plan, before anything runs.

        Raises:
            InputsChanged: The run id was used before with other inputs.
            MissingInput: A value is needed that nobody gives and nobody supplied.
            Purged: A value would be used that was supplied, and deleted by retention.
            Refused: A step that would run has given its final "no".
            InDoubt: Nobody knows how a step ended that would run.
        """
        if self._outside:
            self._refuse_other_than_supplied()
        for key, found in decided.changes.items():
            step = self._wiring.by_key[key]
            raise InputsChanged(self._run_id, step.name, found, recomputable=step.options.cache_result == "at_least_once")
        for name in self._purged:
            root = self._wiring.roots.get(name)
            if root not in self._supplied and any(need.key == root for step in decided.program.steps for need in step.needs):
                raise Purged(self._run_id, name, label(root))
        for needed, path in decided.missing.items():
            raise MissingInput(self._run_id, label(needed), path)
        for step in decided.program.steps if self._results else ():
            record = self._results.get(step.key)
            if record is not None and record.state == "refused" and not outlived(step, record):
                raise refusal(self._run_id, record)
            asks = step.options.reconcile is not None
            if record is not None and (record.state == "purged" or (record.state == "doubt" and not asks)):
                raise in_doubt(self._run_id, step, record)

    def _refuse_other_than_supplied(self) -> None:
        for name, record in self._outside.items():
            key = self._wiring.roots.get(name)
            if key is None or key not in self._supplied:
                continue
            old, new = self._read(key, record.stored), self._supplied[key]
            if not same(old, new):
                raise InputsChanged(self._run_id, "", changes(label(key), old, new))

    async def fetched(self, made: Program) -> Sequence[Step]:
        """Decode what *made* takes from the cache; return the steps whose certified results are among it."""
        steps: list[Step] = []
        certifier = self._certifier
        for key in made.known:
            if key in self._values or certifier is None:
                continue
            if (step := self._wiring.steps.get(key)) is not None:
                record = self._results[step.key]
                stored = record.stored
                if stored is not None and stored.blob is not None:
                    stored = await certifier.fetched(self.home(step), step.key, stored)
                self._values[key] = certifier.decoded(self.home(step), step, record, stored)
                self._sources[key] = record
                steps.append(step)
            elif (recorded := self._recorded.get(key)) is not None:
                name = self._wiring.name(key)
                self._values[key] = certifier.decode_stored(self._run_id, key, name, recorded.stored)
        return steps

    def values(self, made: Program, held: Mapping[Key, object]) -> list[object]:
        """Return the slots of *made*, filled with what is known and with the resources *held*."""
        known = [self._values[key] if key in self._values else held[key] for key in made.known]
        return [None, *known, *[None] * len(made.steps)]

    def made_from(self, made: Program, step: Step) -> tuple[MadeFrom, tuple[Input, ...]]:
        """Return what the result of *step* is made from, and the inputs among it."""
        found = made_from(self._wiring, made, step, self._source)
        if found is self._latest[0]:  # results made from the same, which those of one run often are
            return self._latest
        # What a shared result is made from is recorded with it, and with what this run makes of it.
        consumed = found.inputs.keys() | found.deep.keys() if self._homes else found.inputs
        names = self._wiring.names
        self._latest = found, tuple([one for key, one in self._recorded.items() if names[key] in consumed])
        return self._latest

    def record(self, step: Step) -> Record | None:
        """Return what is recorded about the result of *step*."""
        return self._results.get(step.key)

    def certified(self, step: Step, record: Record) -> None:
        """Take note of a result that was certified just now."""
        self._results[step.key] = record
        self._fresh.add(step.key)
        self._sources[step.gives] = record

    def keep(self, made: Program, values: list[object]) -> None:
        """Keep what *made* computed, so that the next plan of this attempt computes nothing again."""
        for number, step in enumerate(made.steps):
            if not step.certifies:
                self._sources[step.gives] = made_from(self._wiring, made, step, self._source)
            self._values[step.gives] = values[len(made.known) + 1 + number]

    def _source(self, key: Key) -> MadeFrom | None:
        found = self._sources.get(key)
        if isinstance(found, Record):
            found = self._sources[key] = _made_from_result(found)
        return found

    def _homes_by(self, target: Key, inputs: Mapping[Key, Input]) -> dict[str, str]:
        digests = {self._wiring.name(key): one.digest for key, one in inputs.items()}
        return homes(self._wiring, target, digests, self._supplied)

    async def _load_all(self, run_ids: Sequence[str]) -> list[Records]:
        assert self._certifier is not None  # noqa: S101 - see `load`
        # Together, so that the run waits for one round trip.
        return await asyncio.gather(*(self._certifier.cache.load(run_id) for run_id in run_ids))

    def _add_shared(self, found: Mapping[str, str], loaded: Sequence[Records]) -> None:
        for name, records in zip(found, loaded, strict=True):
            self._results.pop(name, None)
            if name in records.results:
                self._results[name] = records.results[name]

    def _as_recorded(self, now: Input, key: Key, value: object) -> Input:
        """Return *now*, or an equal value that is recorded already under other bytes; note which are equal."""
        name = self._wiring.name(key)
        others = {digest: stored for (other, digest), stored in self._records.inputs.items() if other == name}
        if not others or others.keys() == {now.digest}:
            return now
        equal = {digest for digest, stored in others.items() if same(self._read(key, stored), value)}
        self._same[name] = frozenset({*equal, now.digest})
        return now if now.digest in others or not equal else Input(min(equal), others[min(equal)])

    def _read(self, key: Key, stored: Stored | None) -> object:
        """Read a recorded value to compare it; one that cannot be read any more is equal to nothing."""
        if stored is None or self._certifier is None:
            return ABSENT
        try:
            return self._certifier.decode_stored(self._run_id, key, self._wiring.name(key), stored)
        except Undecodable:
            return UNREADABLE

    def _changes(self, verdict: Verdict) -> tuple[Change, ...]:
        made = self._results[verdict.key].made_from
        found: list[Change] = []
        for name in verdict.changed:
            key = self._wiring.roots[name] if name in self._wiring.roots else self._wiring.by_key[name].gives
            digest = made.inputs.get(name, made.deep.get(name, made.above.get(name)))
            result = self._results.get(name)
            stored = self._records.inputs.get((name, digest or "")) or (result.stored if result is not None else None)
            old = self._read(key, stored)
            found += changes(label(key), old, self._supplied[key])
        for name in verdict.remade:
            made_again = label(self._wiring.by_key[name].gives)
            found.append(Change(made_again, "", "as it was", "made again with another value"))
        return tuple(found)


def _made_from_result(record: Record) -> MadeFrom:
    """Return what everything is made from that takes this certified result."""
    below = record.made_from
    above = {record.key: digest_of(record.stored)} if record.stored is not None else {}
    return MadeFrom(above=above, deep={**below.deep, **below.inputs})
