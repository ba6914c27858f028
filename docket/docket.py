"""The facade: what a user holds."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, overload

from docket._certify.certifier import Certifier
from docket._certify.invalidate import invalidate
from docket._certify.kept import check_kept
from docket._certify.outside import Watch
from docket._certify.storing import Blobs
from docket._certify.verdicts import release, settle
from docket._core.names import checked_run_id
from docket._core.plan import Plan
from docket._core.types import Key, label
from docket._core.wiring import Wiring
from docket._engine.bounds import GRACE, THREADS
from docket._engine.calls import Calls
from docket._engine.sharing import Shared
from docket._given import count, span
from docket._runs.attempt import Attempt
from docket._runs.handover import Handover
from docket._runs.parts import check_parts, serializers_of
from docket._runs.queued import Queued
from docket._runs.resources import Resources
from docket._runs.supplied import asked_for, supplied
from docket.cache import Cache
from docket.errors import ConfigurationError
from docket.explain import text
from docket.queue import Job, QueueDriver, disclose
from docket.serializers import Serializers, error_text
from docket.telemetry import Observer, observed_run

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from typing_extensions import TypeForm

    from docket.serializers import Serializer

T = TypeVar("T")

Limit: TypeAlias = float | timedelta | None
"""Seconds, a timedelta, or no limit."""


class Docket(Queued):
    """Typed steps, resolved: ask for any type, get it with the least work.

    Args:
        cache: Where certified results live. Needed as soon as a step is marked ``cache_result``.
        queue: What `enqueue` hands runs to. Needed only for that.
        serializers: Tried before the built-in ones (protobuf, JSON), for types of your own; or a
            `docket.serializers.Serializers`, which also reads old types, encrypts and redacts.
        lease: Seconds (or timedelta) after which a silent holder of a claim may be presumed dead. Keep it above the time
            your database takes to fail over.
        wait: Seconds (or timedelta) that `run` waits for a step which another process is at, before it raises `Busy`.
        blobs: Where results over 1 MiB go; they are refused if absent. See `docket.blobs`.
        deadline: How long a run may take (seconds or timedelta) unless its call says otherwise; no limit if absent.
        threads: How many plain functions among the steps run at once, each in a thread of its own.
        grace: Seconds (or timedelta) a step may take to end when it is cancelled or passed its timeout; then it is left behind.
        observer: Is told what happens; see `docket.telemetry`.
        inputs: The types that callers supply; with it, `check` finds what nobody gives. See `docket.graph.Graph`.

    One instance per application, at module level: it opens nothing until it is used. What cannot work is refused at once,
    with a `ConfigurationError`.

    Attributes:
        cache: Where certified results live; None if nowhere.
        serializers: What turns values into bytes and back.
    """

    def __init__(
        self,
        *,
        cache: Cache | None = None,
        queue: QueueDriver | None = None,
        serializers: Serializers | Iterable[Serializer] = (),
        lease: float | timedelta = 60.0,
        wait: float | timedelta = 10.0,
        blobs: Blobs | None = None,
        deadline: Limit = None,
        threads: int = THREADS,
        grace: float | timedelta = GRACE,
        observer: Observer | None = None,
        inputs: Iterable[TypeForm[Any]] | None = None,
    ) -> None:
        super().__init__(inputs=inputs)
        check_parts(cache, queue, blobs, observer)
        self.serializers = serializers_of(serializers)
        self.cache, self._queue = cache, queue
        self._handover = Handover(queue, self.serializers, self._decided)
        self._watch = None if cache is None else Watch(cache)
        self._calls = calls = Calls(count("Docket", "threads", threads), span("Docket", "grace", grace, 0), observer)
        term, patience = span("Docket", "lease", lease, 0, zero=False), span("Docket", "wait", wait, 0)
        self._certifier = None if cache is None else Certifier(cache, self.serializers, calls, term, patience, blobs)
        self._shared = Shared()
        self._held = Resources()
        self._deadline = None if deadline is None else span("Docket", "deadline", deadline, 0, zero=False)
        if queue is not None:
            queue.serve(self._work)

    def check(self) -> Wiring:
        """Check the wiring and return it. Done by itself on first use; nothing can be registered afterwards.

        Raises:
            WiringError: Steps do not fit together; it lists every problem.
            ConfigurationError: A step is marked ``cache_result`` and there is no cache.
        """
        if self._wiring is None:
            wiring = self._build()
            kept = next((step for step in wiring.steps.values() if step.certifies), None)
            if kept is not None and self.cache is None:
                raise ConfigurationError(
                    f"{kept.name} ({kept.where}) is marked cache_result={kept.options.cache_result!r} and there is nowhere "
                    "to keep it; pass cache=PostgresCache(DSN) to Docket, or MemoryCache() in a test"
                )
            if self.cache is not None:
                check_kept(wiring, self.cache, self.serializers)
            self._wiring = wiring
        return self._wiring

    @overload
    async def run(
        self, run_id: str, target: TypeForm[T], /, *inputs: object, given: Iterable[object] = ..., deadline: Limit = ...
    ) -> T: ...
    @overload
    async def run(
        self,
        run_id: str,
        target: Callable[..., Awaitable[T]],
        /,
        *inputs: object,
        given: Iterable[object] = ...,
        deadline: Limit = ...,
    ) -> T: ...
    @overload
    async def run(
        self, run_id: str, target: Callable[..., T], /, *inputs: object, given: Iterable[object] = ..., deadline: Limit = ...
    ) -> T: ...
    async def run(
        self, run_id: str, target: Any, /, *inputs: object, given: Iterable[object] = (), deadline: Limit = None
    ) -> Any:
        """Return the value of *target* for this run, made with the least work.

        Certified results are fetched, the rest is computed. One read of the cache if anything on the way may be certified, and
        none otherwise; the writes are those of the steps that run. Callers in one process who ask for the same at the same time
        share one attempt, and cancelling one of them does not disturb the others.

        Args:
            run_id: Your id for the business case, such as the order's. It is the idempotency key of the whole run.
            target: A step, or a type that some step gives.
            inputs: The values nobody gives, matched by their exact type; `As` says another one. Those recorded earlier in
                the run may be left out.
            given: Values that take the place of a step's result, for tests and repairs.
            deadline: How long it may take (seconds or timedelta); the instance's deadline if absent.

        Raises:
            WiringError: Steps do not fit together.
            DeadlineExceeded: Its time was up. Uncertified steps were cancelled, certified ones have finished.
            WaitsForItself: It was called inside a step that this very run waits for.
            RunError: See `docket.errors`. The step's own exceptions pass through unchanged.
        """
        wiring = self._wiring or self.check()
        wanted = asked_for(wiring, checked_run_id(run_id), target).gives
        limit = self._deadline if deadline is None else deadline
        return await self._resolve(wiring, run_id, wanted, supplied(wiring, run_id, inputs, given), limit)

    @overload
    async def fetch(self, run_id: str, target: TypeForm[T], /) -> T | None: ...
    @overload
    async def fetch(self, run_id: str, target: Callable[..., Awaitable[T]], /) -> T | None: ...
    @overload
    async def fetch(self, run_id: str, target: Callable[..., T], /) -> T | None: ...
    async def fetch(self, run_id: str, target: Any, /) -> Any:
        """Return the certified result of this run, or None. One read; never computes anything.

        Raises:
            UnknownTarget: No step gives it, or its result is not kept.
            Undecodable: It is there and can no longer be read.
        """
        step, certifier = self._kept(checked_run_id(run_id), target)
        record = (await certifier.cache.load(run_id)).results.get(step.key)
        if record is None or record.state != "certified":
            return None
        return await certifier.decode(run_id, step, record)

    async def plan(self, run_id: str, target: Any, /, *inputs: object, given: Iterable[object] = ()) -> Plan:
        """Return what `run` with the same arguments would do now, and why. At most one read; nothing runs, nothing is written.

        Args:
            run_id: The run.
            target: A step, or a type that some step gives.
            inputs: As for `run`.
            given: As for `run`.

        Returns:
            The plan: ``plan.steps`` has one state and one reason for each step and input it looked at, ``str(plan)`` and
            `explain` write them down. What forbids the run is part of it and not raised.
        """
        wiring = self._wiring or self.check()
        wanted = asked_for(wiring, checked_run_id(run_id), target).gives
        return await self._decided(run_id, wanted, supplied(wiring, run_id, inputs, given))

    async def explain(self, run_id: str, target: Any, /, *inputs: object, given: Iterable[object] = ()) -> str:
        """Return `plan` as a tree for people: why is this run where it is, and what would happen next?"""
        return text(await self.plan(run_id, target, *inputs, given=given))

    async def settle(
        self, run_id: str, target: Any, value: object, /, *, token: int | None = None, note: str = "", by: str = ""
    ) -> None:
        """Decide a doubt: the step did take effect, and *value* is its result. It is certified.

        With ``token=0`` the same for a step of which nothing is recorded: its effect outlived its row.

        Args:
            run_id: The run.
            target: The step or its type.
            value: The result, as the step would have returned it; or a `Refused`, if the other side gave its final "no".
            token: The token seen with the doubt, so that a verdict on an older doubt changes nothing; 0 if nothing was seen;
                the present one if absent.
            note: Why, for the journal.
            by: Who decides, for the journal; this process if empty.

        Raises:
            NotInDoubt: There is no such doubt (any more).
            UnexpectedInput: The value is not what the step gives. Nothing was changed.
        """
        step, certifier = self._kept(checked_run_id(run_id), target)
        await settle(certifier, run_id, step, value, token, note, by)

    async def release(self, run_id: str, target: Any, /, *, token: int | None = None, note: str = "", by: str = "") -> None:
        """Decide a doubt: the step took no effect, and may run again. The arguments are those of `settle`.

        Raises:
            NotInDoubt: There is no such doubt (any more).
        """
        step, certifier = self._kept(checked_run_id(run_id), target)
        await release(certifier, run_id, step, token, note, by)

    async def invalidate(
        self, run_id: str, target: Any, /, *, force: bool = False, note: str = "", by: str = ""
    ) -> tuple[str, ...]:
        """Take back a certified result and everything that was made from it, so that the next run makes them again.

        Args:
            run_id: The run.
            target: The step or its type.
            force: Whether effects that must not repeat by themselves (``at_most_once``, ``transactional``) may be among them.
            note: Why, for the journal, which keeps the values that were taken back.
            by: Who takes it back, for the journal; this process if empty.

        Returns:
            The storage keys of what was taken back; empty if nothing was certified.

        Raises:
            NeedsForce: There is such an effect among them. Nothing was changed.
        """
        step, certifier = self._kept(checked_run_id(run_id), target)
        return await invalidate(certifier, self.check(), run_id, step, force=force, note=note, by=by)

    async def close(self) -> None:
        """Close what was opened on first use: threads, pools of cache and queue. Using them opens them again.

        Waits for the runs that are under way in this process. A server that has cancelled its requests and now closes what it
        holds lets a charge finish by this, and certify.
        """
        await self._shared.over()
        self._calls.close()
        await self._held.close()
        if self._queue is not None:
            await self._queue.close()
        if self.cache is not None:
            await self.cache.close()

    async def __aenter__(self) -> Self:
        self.check()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        await self.close()

    async def _decided(self, run_id: str, target: Key, inputs: Mapping[Key, object]) -> Plan:
        return await Attempt(self.check(), self._held, self._certifier, run_id, target, inputs, self._calls).plan()

    async def _work(self, job: Job) -> None:
        """Make one attempt at a queued run: what a queue's worker calls."""
        wiring = self.check()
        try:
            target, inputs = self._handover.taken(wiring, job)
            await self._resolve(wiring, job.run_id, target, inputs, self._deadline, wait=0.0)  # the queue waits better
        except Exception as error:
            disclose(error, error_text(error, job.target, self.serializers.redact))
            raise

    def _resolve(
        self,
        wiring: Wiring,
        run_id: str,
        target: Key,
        inputs: Mapping[Key, object],
        deadline: float | timedelta | None,
        wait: float | None = None,
    ) -> Awaitable[object]:
        limit = None if deadline is None else span("run", "deadline", deadline)
        end = None if limit is None else datetime.now(UTC) + timedelta(seconds=limit)
        attempt = Attempt(wiring, self._held, self._certifier, run_id, target, inputs, self._calls, end, wait)
        begin = functools.partial(self._shared.join, (run_id, target), inputs, attempt.work, limit)
        observer = self._calls.observer
        return begin() if observer is None else observed_run(observer, run_id, label(target), begin)
