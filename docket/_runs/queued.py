"""The verbs of `docket.Docket` that hand runs to a queue, and those that deal with the outside while a run waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, overload

from docket._certify.certifier import Certifier
from docket._certify.outside import Watch, supply
from docket._core.names import checked_run_id
from docket._core.step import Step
from docket._core.types import label
from docket._given import count, refuse, span
from docket._runs.handover import Handover, start_of
from docket._runs.supplied import asked_for, supplied
from docket.errors import ConfigurationError, UnknownTarget
from docket.graph import Graph

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")


class Queued(Graph):
    """A graph whose runs can be handed over and waited for. What it stands on is set by `docket.Docket`."""

    _handover: Handover
    _certifier: Certifier | None
    _watch: Watch | None

    async def enqueue(
        self,
        queue: str,
        target: Any,
        /,
        *inputs: object,
        run_id: str | None = None,
        priority: int = 0,
        schedule_at: datetime | None = None,
        schedule_in: float | timedelta | None = None,
        connection: object | None = None,
    ) -> str:
        """Hand a run to the queue; return its run id.

        Args:
            queue: The queue's name.
            target: A step, or a type that some step gives.
            inputs: The values nobody gives, matched by their exact type.
            run_id: Your id for the business case. With it the call is idempotent: enqueued again while the first job waits, it
                stays one job, and certified results are never made again. Inputs may then be left out, but not be others. A
                random one if absent.
            priority: Higher goes first.
            schedule_at: When it may start, with a time zone.
            schedule_in: How long from now it may start (seconds or timedelta).
            connection: A connection in a transaction of yours: the job exists exactly if that commits.

        Raises:
            ConfigurationError: There is no queue, or it cannot do what is asked.
            UnknownTarget | UnexpectedInput | MissingInput: The run could never succeed; nothing was enqueued.
            Unstorable: The inputs cannot be kept, or are larger than a job may carry (`docket.queue.MOST_BYTES`).
            InputsChanged: A job for the same run and target waits with other inputs; nothing was enqueued.
            TypeError: The driver knows no connection of this kind; nothing was enqueued.
        """
        _check_job(queue, priority)
        wiring, name = self.check(), run_id or ""
        wanted = asked_for(wiring, name, target).gives
        runs = [(None if run_id is None else checked_run_id(run_id), supplied(wiring, name, inputs))]
        start = start_of(schedule_at, schedule_in)
        ((name, _),) = await self._handover.put(wiring, wanted, runs, queue, priority, start, connection)
        return name

    async def enqueue_many(
        self,
        queue: str,
        target: Any,
        runs: Mapping[str, Sequence[object]],
        /,
        *,
        priority: int = 0,
        schedule_at: datetime | None = None,
        schedule_in: float | timedelta | None = None,
        connection: object | None = None,
    ) -> list[str]:
        """Hand many runs to the queue in one statement, all or none; return the ids of those that were not waiting already.

        Args:
            queue: The queue's name.
            target: A step, or a type that some step gives.
            runs: By run id, the inputs of each.
            priority: As in `enqueue`, as is all that follows.
            schedule_at: When they may start.
            schedule_in: How long from now they may start (seconds or timedelta).
            connection: A connection in a transaction of yours.

        Raises:
            ConfigurationError | UnknownTarget | UnexpectedInput | MissingInput | Unstorable | InputsChanged | TypeError: As
                `enqueue` does. Nothing was enqueued.
        """
        _check_job(queue, priority)
        wiring = self.check()
        wanted = asked_for(wiring, "", target).gives
        asked = ((checked_run_id(name), supplied(wiring, name, values)) for name, values in runs.items())
        start = start_of(schedule_at, schedule_in)
        put = await self._handover.put(wiring, wanted, asked, queue, priority, start, connection)
        return [name for name, added in put if added]

    async def cancel(self, run_id: str, target: Any, /) -> int:
        """Take back the jobs that ask for *target* in this run; return how many there were.

        A job that waits is never worked on. One that is being worked on is cancelled there, as soon as its worker hears of
        it: steps that are not certified stop, certified ones finish first. Nothing that is certified is undone.
        """
        step = asked_for(self.check(), checked_run_id(run_id), target)
        return await self._handover.driver.cancel(run_id, step.key)

    async def supply(self, run_id: str, value: object, /) -> None:
        """Record a value that only the outside can give, such as a person's approval, as an input of the run.

        The first value stands; the same one again changes nothing. It starts nothing: run the run, or enqueue it again.

        Raises:
            ConfigurationError: There is no cache to record it in.
            UnexpectedInput: No step takes such a value.
            InputsChanged: Another value is on record already. Nothing was changed.
        """
        ((key, brought),) = supplied(self.check(), checked_run_id(run_id), (value,)).items()
        if self._certifier is None:
            raise ConfigurationError("there is nowhere to keep a value; pass cache=PostgresCache(DSN) to Docket")
        await supply(self._certifier, run_id, key, brought)

    @overload
    async def wait(self, run_id: str, target: TypeForm[T], /, *, timeout: float | timedelta | None = ...) -> T: ...
    @overload
    async def wait(
        self, run_id: str, target: Callable[..., Awaitable[T]], /, *, timeout: float | timedelta | None = ...
    ) -> T: ...
    @overload
    async def wait(self, run_id: str, target: Callable[..., T], /, *, timeout: float | timedelta | None = ...) -> T: ...
    async def wait(self, run_id: str, target: Any, /, *, timeout: float | timedelta | None = None) -> Any:
        """Return the certified result of this run once it is there, made by whomever.

        All who wait in this process share their looks at the cache, at most twenty a second, and each is looked for less and
        less often, up to once in two seconds. With `docket.postgres.PostgresCache` a look reads no run. Nothing is computed.

        Args:
            run_id: The run.
            target: A step that is marked ``cache_result``, or its type.
            timeout: How long to wait (seconds or timedelta); for ever if absent.

        Raises:
            NotYet: It is not there in time. It is a TimeoutError, too.
            InDoubt: Nobody knows how the step, or one that it needs, ended, or its holder was lost: only a person can tell.
            Refused: The step, or one that it needs, gave a final "no".
            UnknownTarget: No step gives it, or its result is not kept.
        """
        step, certifier = self._kept(checked_run_id(run_id), target)
        assert self._watch is not None  # noqa: S101 - it is there if a certifier is
        limit = None if timeout is None else span("wait", "timeout", timeout)
        record = await self._watch.final(run_id, step, self.check(), limit)
        return await certifier.decode(run_id, step, record)

    def _kept(self, run_id: str, target: object) -> tuple[Step, Certifier]:
        step = asked_for(self.check(), run_id, target)
        if not step.certifies or self._certifier is None:
            raise UnknownTarget(run_id, f"a certified {label(step.gives)}", f"mark {step.name} with cache_result= to keep it")
        if step.options.scope == "global":
            advice = f"{step.name} shares its result with all runs, found by their inputs: run it"
            raise UnknownTarget(run_id, f"a {label(step.gives)} of its own", advice)
        return step, self._certifier


def _check_job(queue: Any, priority: int) -> None:
    if not (isinstance(queue, str) and queue):
        refuse("enqueue", "queue", queue, "the name of the queue comes first: enqueue('orders', Shipment, request)")
    count("enqueue", "priority", priority, None)
