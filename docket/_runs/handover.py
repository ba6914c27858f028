"""Calls into jobs, on the side that enqueues; jobs into calls, on the side that works."""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from docket._certify.changes import ABSENT, changes
from docket._certify.outside import supplied_inputs
from docket._core.certificates import Facts
from docket._core.names import checked_run_id
from docket._core.plan import Plan, plan
from docket._core.record import NOTHING, Records
from docket._core.types import Key, label, storage_key
from docket._core.wiring import Wiring
from docket._given import moment, span
from docket.errors import Change, ConfigurationError, InputsChanged, MissingInput, UnexpectedInput, UnknownTarget
from docket.queue import Job, OtherInputs, QueueDriver, refuse_too_large, refuse_unable
from docket.serializers import Serializers, same

BREATH = 100
"""Jobs made in one go before other tasks of the loop get their turn: about 5 ms."""


Decided: TypeAlias = Callable[[str, Key, Mapping[Key, object]], Awaitable[Plan]]
"""Takes a run id, a target and the inputs that came with the call."""


class Handover:
    """Hands runs to a queue driver and takes them from its workers.

    Args:
        driver: The driver; None if there is no queue.
        serializers: Values to bytes and back.
        decided: Plans a run by all that is on record about it.
    """

    def __init__(self, driver: QueueDriver | None, serializers: Serializers, decided: Decided) -> None:
        self._driver, self._serializers, self._decided = driver, serializers, decided

    @property
    def driver(self) -> QueueDriver:
        """The driver.

        Raises:
            ConfigurationError: There is no queue.
        """
        if self._driver is None:
            raise ConfigurationError("there is no queue; pass queue=ProcrastinateQueue(app) to Docket")
        return self._driver

    async def put(
        self,
        wiring: Wiring,
        target: Key,
        runs: Iterable[tuple[str | None, Mapping[Key, object]]],
        queue: str,
        priority: int,
        schedule_at: datetime | None,
        connection: object | None,
    ) -> list[tuple[str, bool]]:
        """Enqueue one job for each run, all or none.

        Args:
            wiring: The wiring.
            target: What the runs are asked for.
            runs: For each its id, None for a random one, and its inputs by type.
            queue: The queue's name.
            priority: Higher goes first.
            schedule_at: When they may start; None for at once.
            connection: A connection in the caller's transaction, or None.

        Returns:
            For each its run id, and whether a job was added; False if one was waiting already.

        Raises:
            ConfigurationError: There is no queue, or it cannot do what is asked.
            MissingInput: A run could never succeed.
            Unstorable: Inputs are too large, or cannot be kept.
            InputsChanged: A job of one of the runs waits with other inputs.
        """
        driver, asked_for = self.driver, wiring.steps[target].key
        jobs: list[Job] = []
        for number, (run_id, inputs) in enumerate(runs, 1):
            name = run_id if run_id is not None else str(uuid.uuid4())
            if not _is_complete(wiring, target, frozenset(inputs)):
                await self._refuse_missing(name, target, inputs)
            stored = tuple(
                self._serializers.pack(key, value, run_id=name, key=storage_key(key)).stored for key, value in inputs.items()
            )
            job = Job(queue, name, asked_for, stored, run_id is not None, priority, schedule_at)
            refuse_unable(driver, job, connection)
            refuse_too_large(job)
            jobs.append(job)
            if not number % BREATH:
                await asyncio.sleep(0)
        added = await self._added(wiring, driver, jobs, connection)
        return [(job.run_id, job.run_id in added) for job in jobs]

    async def _added(self, wiring: Wiring, driver: QueueDriver, jobs: list[Job], connection: object | None) -> set[str]:
        """Enqueue jobs, and return the runs of those that were not waiting already with the same inputs."""
        while jobs:
            try:
                ids = await driver.enqueue(jobs, connection)
            except OtherInputs as error:
                waiting = {job.name: job for job in error.waiting}
            else:
                return {job.run_id for job, job_id in zip(jobs, ids, strict=True) if job_id is not None}
            for job in jobs:
                if job.name in waiting:
                    await self._refuse_changed(wiring, job, waiting[job.name])
            jobs = [job for job in jobs if job.name not in waiting]  # the same values, in other bytes
        return set()

    def taken(self, wiring: Wiring, job: Job) -> tuple[Key, Mapping[Key, object]]:
        """Return what a job asks for, and the inputs it carries, by type.

        Raises:
            BadRunId | UnknownTarget | UnexpectedInput: It was enqueued by other code, or not by Docket.
            Undecodable: An input can no longer be read.
        """
        run_id = checked_run_id(job.run_id)
        step = wiring.by_key.get(job.target)
        if step is None:
            advice = "the job was enqueued by other code; deploy the step it asks for to the workers of this queue"
            raise UnknownTarget(run_id, job.target, advice)
        brought: dict[Key, object] = {}
        for stored in job.inputs:
            root = wiring.roots.get(stored.type)
            if root is None:
                raise UnexpectedInput(run_id, stored.type, "no step takes one; the job was enqueued by other code")
            value = brought[root] = self._serializers.unpack(root, stored, run_id=run_id, key=stored.type)
            if value is None:  # what any type is read as where a row says so; no caller can pass it
                raise UnexpectedInput(run_id, stored.type, "it is None, which no input is; the job was not enqueued by Docket")
        return step.gives, brought

    async def _refuse_changed(self, wiring: Wiring, job: Job, waiting: Job) -> None:
        """Refuse a job that brings another value than the one that waits.

        What it leaves out the other one brings. What the other one leaves out is on record, or it could not wait.
        """
        (target, now), (_, before) = self.taken(wiring, job), self.taken(wiring, waiting)
        found: list[Change] = []
        records = (await self._decided(job.run_id, target, {})).facts.records if now.keys() - before.keys() else NOTHING
        for key, new in now.items():
            old = [before[key]] if key in before else self._recorded(job.run_id, key, records)
            if not any(same(one, new) for one in old):
                found += changes(label(key), old[-1] if old else ABSENT, new)
        if found:
            raise InputsChanged(job.run_id, "", tuple(found), waiting=True)

    def _recorded(self, run_id: str, key: Key, records: Records) -> list[object]:
        """Return every value of a type that is on record as an input of a run."""
        name = storage_key(key)
        stored = [one for (recorded, _), one in records.inputs.items() if recorded == name]
        if (record := supplied_inputs(records).get(name)) is not None and record.stored is not None:
            stored.append(dataclasses.replace(record.stored, type=name))
        return [self._serializers.unpack(key, one, run_id=run_id, key=name) for one in stored]

    async def _refuse_missing(self, run_id: str, target: Key, inputs: Mapping[Key, object]) -> None:
        decided = await self._decided(run_id, target, inputs)
        for needed, path in decided.missing.items():  # not even an earlier attempt has recorded it
            raise MissingInput(run_id, label(needed), path)


def _is_complete(wiring: Wiring, target: Key, inputs: frozenset[Key]) -> bool:
    """Whether *inputs* are all that a run needs of which nothing is on record."""
    known: bool | None = wiring.memo.get(("complete", target, inputs))
    if known is None:
        known = wiring.memo["complete", target, inputs] = not plan(wiring, target, inputs, Facts()).missing
    return known


def start_of(schedule_at: datetime | None, schedule_in: float | timedelta | None) -> datetime | None:
    """Return when a job may start, None for at once.

    Raises:
        ConfigurationError: Both are given, a time without a time zone, or what is no time at all.
    """
    if schedule_in is not None:
        if schedule_at is not None:
            raise ConfigurationError("both schedule_at and schedule_in were given; give one of them")
        return datetime.now(UTC) + timedelta(seconds=span("enqueue", "schedule_in", schedule_in))
    if schedule_at is not None:
        moment("enqueue", "schedule_at", schedule_at)
    if schedule_at is not None and schedule_at.utcoffset() is None:
        raise ConfigurationError(
            f"schedule_at={schedule_at.isoformat()} has no time zone; say which: schedule_at.replace(tzinfo=timezone.utc)"
        )
    return schedule_at
