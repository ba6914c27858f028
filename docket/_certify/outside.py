"""What comes from outside a run: values that are supplied to it later, and results that others wait for."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import uuid
from collections.abc import Mapping, Sequence

from docket._certify.changes import ABSENT, changes
from docket._certify.storing import Storing, in_doubt, refusal
from docket._core.record import MadeFrom, Record, Records, State, Stored
from docket._core.step import Step
from docket._core.types import Key, label, storage_key
from docket._core.wiring import Wiring
from docket.cache import Cache, Certificate, Glances, Place, lost_for_good
from docket.errors import InputsChanged, NotYet, Purged
from docket.serializers import same

INPUT = "input"
"""The mode of a row that holds a value supplied from outside, not a step's result."""

PAUSE = (0.05, 2.0)
"""Shortest and longest pause, in seconds, between two looks at the results that are waited for. The shortest is what a person
does not notice, and keeps a process at twenty looks a second however many wait; the longest keeps one that waits for hours at
one look in two seconds."""

_FINAL = ("certified", "refused", "doubt", "purged")


def purged_inputs(records: Records) -> Mapping[str, Record]:
    """Return the rows of values that were supplied to a run and deleted by retention, by storage key."""
    return {key: record for key, record in records.results.items() if record.mode == INPUT and record.state == "purged"}


def supplied_inputs(records: Records) -> Mapping[str, Record]:
    """Return the rows of values that were supplied to a run, by storage key."""
    return {key: record for key, record in records.results.items() if record.mode == INPUT and record.state == "certified"}


async def supply(storing: Storing, run_id: str, key: Key, value: object) -> None:
    """Record *value* as an input of a run. The first one stands; the same again changes nothing.

    Raises:
        InputsChanged: Another value was supplied before, or was used by the run already. Nothing is recorded.
        Purged: One was supplied before, and deleted by retention.
        Unstorable: The value cannot be kept.
    """
    name = storage_key(key)
    now = storing.recorded(run_id, key, name, value, {})
    records = await storing.cache.load(run_id)
    used = {made for record in records.results.values() if (made := record.made_from.inputs.get(name)) is not None}
    earlier = records.results.get(name)
    for digest in used - {now.digest}:
        recorded = records.inputs.get((name, digest)) or (earlier.stored if earlier is not None else None)
        _refuse_other(storing, run_id, key, recorded, value)
    made_from = MadeFrom(inputs={name: now.digest})
    certificate = Certificate(run_id, name, INPUT, uuid.uuid4(), 0, storing.owner, now.stored, made_from=made_from)
    standing = await storing.cache.certify(certificate)
    if standing.state == "purged":
        raise Purged(run_id, name, label(key))
    if standing.made_from.inputs.get(name) != now.digest:
        _refuse_other(storing, run_id, key, standing.stored, value)


def _refuse_other(storing: Storing, run_id: str, key: Key, recorded: Stored | None, value: object) -> None:
    old = ABSENT if recorded is None else storing.decode_stored(run_id, key, storage_key(key), recorded)
    if not same(old, value):
        raise InputsChanged(run_id, "", changes(label(key), old, value))


class Watch:
    """Waits for results that are made elsewhere: one task looks for all waiters of this process, and none when nobody waits.

    Each waiter is looked for less and less often; those whose turn comes at about the same time share a look. A look is one
    read of how the results stand, if the cache can say that, and only those that are there are read.

    Args:
        cache: Where the results appear. One without `docket.cache.Glances` is asked for whole runs.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._waiters: set[_Waiter] = set()
        self._task: asyncio.Task[None] | None = None
        self._joined = asyncio.Event()

    async def final(self, run_id: str, step: Step, wiring: Wiring, timeout: float | None) -> Record:
        """Return the record of a step's certified result once it is there.

        Args:
            run_id: The run.
            step: The step.
            wiring: The checked graph: a step that this one needs may have ended in a way that no waiting changes.
            timeout: Seconds to wait after the first look; None for ever.

        Raises:
            NotYet: It is not there in time.
            InDoubt: Nobody knows how the step, or one that it needs, ended, or its holder was lost, which nobody may have
                written down yet.
            Refused: The step, or one that it needs, gave a final "no".
        """
        loop = asyncio.get_running_loop()
        waiter = _Waiter(run_id, step, _ways(wiring, step), loop.create_future(), loop.time())
        self._join(waiter)
        try:
            await waiter.looked  # whoever has no time at all may still have what is there
            async with asyncio.timeout(timeout):
                ended, record = await waiter.future
        except TimeoutError:
            raise NotYet(run_id, step.key, label(step.gives), waiter.state, timeout or 0.0) from None
        finally:
            self._leave(waiter)
        if record.state == "refused":
            raise refusal(run_id, record)
        if record.state != "certified":
            raise in_doubt(run_id, ended, record)
        return record

    def _join(self, waiter: _Waiter) -> None:
        self._waiters.add(waiter)
        if self._task is None or self._task.done():
            self._joined = asyncio.Event()  # an event belongs to the loop it was waited for in
            self._task = asyncio.create_task(self._look(), name="docket waiting")
        self._joined.set()

    def _leave(self, waiter: _Waiter) -> None:
        self._waiters.discard(waiter)
        if not self._waiters and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._joined.clear()
            due = [waiter for waiter in self._waiters if waiter.due <= loop.time() + PAUSE[0] / 2]
            if due:
                await self._look_for(due)
                await asyncio.sleep(PAUSE[0])  # whoever joins meanwhile is looked for together
            soonest = min((waiter.due for waiter in self._waiters), default=loop.time())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(soonest):
                    await self._joined.wait()

    async def _look_for(self, due: list[_Waiter]) -> None:
        there = due
        if isinstance(self._cache, Glances):
            try:
                states = await self._cache.states(list({place for waiter in due for place in waiter.places()}))
            except Exception as error:
                for waiter in due:
                    waiter.told(error)
                return
            for waiter in due:
                waiter.state = states.get((waiter.run_id, waiter.step.key), "nothing")
            there = [waiter for waiter in due if waiter.ended(states) is not None]
        run_ids = list({waiter.run_id for waiter in there})
        # All at once, so that a cache which shares round trips sends them together.
        found = await asyncio.gather(*map(self._cache.load, run_ids), return_exceptions=True)
        by_run = dict(zip(run_ids, found, strict=True))
        for waiter in there:
            waiter.told(by_run[waiter.run_id])
        now = asyncio.get_running_loop().time()
        for waiter in due:
            waiter.have_looked()
            waiter.due = now + waiter.pause * (0.5 + random.random())  # noqa: S311 - spreads what began together
            waiter.pause = min(waiter.pause * 1.5, PAUSE[1])


class _Waiter:
    __slots__ = ("due", "future", "looked", "pause", "run_id", "state", "step", "ways")

    def __init__(
        self,
        run_id: str,
        step: Step,
        ways: Mapping[Step, Sequence[Step]],
        future: asyncio.Future[tuple[Step, Record]],
        due: float,
    ) -> None:
        self.run_id, self.step, self.ways, self.future, self.due = run_id, step, ways, future, due
        self.looked: asyncio.Future[None] = future.get_loop().create_future()
        self.pause, self.state = PAUSE[0], "nothing"

    def places(self) -> Sequence[Place]:
        """Return what is looked at: what is waited for, and what it surely needs."""
        return [(self.run_id, step.key) for step in self.ways]

    def ended(self, states: Mapping[Place, State]) -> Step | None:
        """Return the step whose state ends the waiting; None if there is none."""
        pending = [self.step]
        while pending:
            step = pending.pop()
            state = states.get((self.run_id, step.key))
            if state in _FINAL and (step is self.step or not _may_change(step, state)):
                if state != "certified" or step is self.step:
                    return step
            elif state != "certified":
                pending += self.ways[step]
        return None

    def have_looked(self) -> None:
        """Take note that there was a look."""
        if not self.looked.done():
            self.looked.set_result(None)

    def told(self, records: Records | BaseException) -> None:
        """Take note of what is known about the run, or of the error that a look at it met."""
        self.have_looked()
        if self.future.done():
            return
        if isinstance(records, BaseException):
            self.future.set_exception(records)
            self.future.exception()  # its waiter may have left meanwhile, and nobody else is to be told
            return
        found = {step.key: _as_final(record) for step in self.ways if (record := records.results.get(step.key)) is not None}
        states: dict[Place, State] = {(self.run_id, key): record.state for key, record in found.items()}
        self.state = states.get((self.run_id, self.step.key), "nothing")
        if (ended := self.ended(states)) is not None:
            self.future.set_result((ended, found[ended.key]))


def _ways(wiring: Wiring, step: Step) -> Mapping[Step, Sequence[Step]]:
    """Return, for *step* and each kept step that it surely needs, the kept steps that this one surely needs next."""
    found: dict[Step, Sequence[Step]] = {}
    pending = [step]
    while pending:
        one = pending.pop()
        if one not in found:
            found[one] = _surely_needed(wiring, one)
            pending += found[one]
    return found


def _surely_needed(wiring: Wiring, step: Step) -> Sequence[Step]:
    kept: list[Step] = []
    pending, seen = [step], {step}
    while pending:
        for need in pending.pop().needs:
            above = wiring.steps.get(need.key)
            # A shared result lives elsewhere, found by inputs that nobody here knows.
            if above is not None and not need.if_certified and above not in seen and above.options.scope == "run":
                seen.add(above)
                (kept if above.certifies else pending).append(above)
    return kept


def _may_change(step: Step, state: State) -> bool:
    """Whether the next attempt may come to something else without anybody's verdict."""
    if state == "refused":
        return step.options.ttl is not None or step.options.on_change == "recompute"
    return state == "doubt" and step.options.reconcile is not None


def _as_final(record: Record) -> Record:
    if not lost_for_good(record):
        return record
    # The next attempt, or a verdict, writes it down.
    reason = "step_committed" if record.mode == "transactional" else "holder_lost"
    told = f"{record.owner} was last heard of before its lease ended"
    return dataclasses.replace(record, state="doubt", reason=reason, error_text=told)
