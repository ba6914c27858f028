"""One try at a run: load what is known, plan, carry the plan out.

The decisions are made in `docket._core.plan`, the waiting is done in `docket._engine.execution`, the life of a certified step
is in `docket._certify.certifier`; this file brings the three together and holds what belongs to one try.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any

from docket._certify.certifier import CertifiedStep, Certifier
from docket._core.plan import Plan, Program, in_memory
from docket._core.step import Run, Step
from docket._core.types import Key
from docket._core.wiring import Wiring
from docket._engine.calls import Body, Call, Calls
from docket._engine.execution import Execution, Prepared, execute
from docket._engine.sharing import Work
from docket._runs.knowledge import Knowledge
from docket._runs.resources import Resources
from docket.errors import InDoubt, InputsChanged
from docket.telemetry import Event, Kind, tell


class Attempt:
    """One try at a run.

    Args:
        wiring: The checked graph.
        resources: What the application holds.
        certifier: Carries out certified steps; None if nothing can be certified.
        run_id: The run.
        target: What is asked for.
        inputs: By type, what the caller supplied.
        calls: How the steps are called.
        deadline: When the run's time is up; None if it has no deadline.
        wait: Seconds to wait for a step that another process is at; the certifier's own limit if None.
    """

    __slots__ = (
        "_calls", "_certifier", "_deadline", "_inputs", "_known", "_resources", "_run_id", "_target", "_wait", "_wiring",
    )  # fmt: skip

    _known: Knowledge

    def __init__(
        self,
        wiring: Wiring,
        resources: Resources,
        certifier: Certifier | None,
        run_id: str,
        target: Key,
        inputs: Mapping[Key, object],
        calls: Calls,
        deadline: datetime | None = None,
        wait: float | None = None,
    ) -> None:
        self._wait = wait
        self._wiring, self._resources, self._certifier = wiring, resources, certifier
        self._run_id, self._target, self._inputs, self._calls, self._deadline = run_id, target, inputs, calls, deadline

    def work(self) -> Work[object]:
        """Return the work that makes the value of the target with the least effort.

        One read of the cache if anything on the way to the target is certified or an input was left out, none
        otherwise.
        """
        on_record, grace = self._may_be_on_record(), self._calls.grace
        made = None if on_record else in_memory(self._wiring, self._target, frozenset(self._inputs))
        held = None if made is None else self._resources.opened(self._wiring, made.known)
        if made is None or held is None:
            return Execution(self._prepared(on_record), self._run_id, grace, self._target)
        # Nothing to read or to open first, so nothing to wait for.
        inputs = self._inputs
        values = [None, *[inputs[key] if key in inputs else held[key] for key in made.known], *[None] * len(made.steps)]
        return Execution((made, values, self._calls_of(made)), self._run_id, grace, self._target)

    async def plan(self) -> Plan:
        """Return what `work` would do now, and do nothing. At most one read of the cache."""
        known = Knowledge(self._wiring, self._certifier, self._run_id, self._inputs)
        if self._may_be_on_record():
            await known.load(self._target)
        return known.plan(self._target)

    def _may_be_on_record(self) -> bool:
        """Whether a result may be kept, or an input that the caller left out may be on record."""
        if self._certifier is None:
            return False
        wiring, target = self._wiring, self._target
        return wiring.certifies_for(target) or not wiring.gap(target).roots <= self._inputs.keys()

    async def _prepared(self, on_record: bool) -> Prepared:
        """Find out what makes the value of the target: read, plan, and bring up to date what has to be first."""
        known = self._known = Knowledge(self._wiring, self._certifier, self._run_id, self._inputs)
        if on_record:
            await known.load(self._target)
        while True:
            decided = known.plan(self._target)
            self._refuse(known, decided)
            made = decided.program
            for step in await known.fetched(made):
                self._tell("fetched", step)
            held = self._resources.opened(self._wiring, made.known)
            if held is None:
                held = await self._resources.open(self._wiring, made.known)
            values, calls = known.values(made, held), self._calls_of(made)
            if not decided.first:
                return made, values, calls
            await execute(made, values, calls, self._run_id, self._calls.grace)
            known.keep(made, values)

    def _calls_of(self, made: Program) -> list[Call]:
        return self._calls.of(made, functools.partial(self._call, made))

    def _call(self, made: Program, step: Step) -> Call:
        if step.certifies:
            return functools.partial(self._certified, made, step)
        return functools.partial(self._calls.body(step), self._run_of(step))

    def _run_of(self, step: Step) -> Run:
        return Run(self._run_id, step.name, step.key, deadline=self._deadline)

    async def _certified(self, made: Program, step: Step, *values: object) -> object:
        assert self._certifier is not None  # noqa: S101 - the wiring was checked against it
        sources, inputs = self._known.made_from(made, step)
        record = self._known.record(step)
        call = functools.partial(_called, self._calls.body(step), self._deadline, values)
        work = CertifiedStep(
            self._known.home(step), step, call, sources, inputs, record, values,
            replace=record is not None and record.state in ("certified", "refused"), wait=self._wait,
        )  # fmt: skip
        begun = time.perf_counter()
        try:
            value, record = await self._certifier.value(work)
        except InDoubt as error:
            self._tell("in_doubt", step, time.perf_counter() - begun, error)
            raise
        except InputsChanged:
            await self._refuse_changed(step)  # by the names of the fields, if it finds them
            raise
        if self._calls.observer is not None:
            self._tell("certified", step, time.perf_counter() - begun)
        self._known.certified(step, record)
        return value

    async def _refuse_changed(self, step: Step) -> None:
        """Look again at a run that somebody else began at the same time with other inputs, and refuse it as a plan would."""
        now = Knowledge(self._wiring, self._certifier, self._run_id, self._inputs)
        await now.load(step.gives)
        self._refuse(now, now.plan(step.gives))

    def _refuse(self, known: Knowledge, decided: Plan) -> None:
        """Raise what forbids a plan. A doubt is told like one that arises now: whoever counts them must see it stand."""
        try:
            known.refuse(decided)
        except InDoubt as error:
            self._tell("in_doubt", self._wiring.by_key[error.key], error=error)
            raise

    def _tell(self, kind: Kind, step: Step, seconds: float | None = None, error: Exception | None = None) -> None:
        if (observer := self._calls.observer) is not None:
            tell(observer, Event(kind, self._run_id, step.name, step.key, seconds, error=error))


def _called(body: Body, deadline: datetime | None, values: Sequence[object], run: Run) -> Coroutine[Any, Any, object]:
    return body(run if deadline is None else dataclasses.replace(run, deadline=deadline), *values)
