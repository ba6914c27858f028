"""How runs are handed to a job queue: the QueueDriver protocol.

A driver does two things: it puts jobs on its queue, and on the worker's side it turns each job into one attempt at a run and
the attempt's outcome into the queue's own terms. Retries, schedules and concurrency stay the queue's business; who may run a
step is decided by claims, never by the queue.
"""

from __future__ import annotations

import base64
import binascii
import math
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from json.encoder import encode_basestring_ascii as _quoted  # json.dumps of a text, without its detours
from typing import Any, Literal, Protocol, TypeAlias

from docket._core.names import storable
from docket._core.record import Stored
from docket._given import count, refuse, span
from docket.errors import (
    BadJob,
    Busy,
    ConfigurationError,
    DeadlineExceeded,
    DocketError,
    InDoubt,
    NewerCertificate,
    Refused,
    RetryLater,
    SchemaMissing,
    StepTimeout,
    Unstorable,
    WaitingFor,
    shown,
)
from docket.serializers import error_text
from docket.serializers._json_text import fit_for_jsonb

MOST_BYTES = 1_048_576
"""Bytes of inputs that a job carries at most. Our choice, the same as for a result kept in a row: a queue's table is read
far more often than it is written, and what is larger belongs into object storage, with its name in the job."""

LOOK_AGAIN = 10.0
"""Seconds until a job looks again whether somebody else is still at its step, at most. Our choice: a lease is a minute, and its
holder is mostly done long before it ends."""

LATEST = 3650 * 86_400.0
"""Seconds that a job is put off at most. Our choice: ten years, which every queue's clock can still hold."""

WHY = 2000
"""Characters of an outcome's reason that are kept beside a job."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run to be worked on, as a queue carries it. It names things; it holds nothing executable.

    Attributes:
        queue: The queue's name.
        run_id: The run.
        target: The storage key of what the run is asked for.
        inputs: The caller's inputs, serialized.
        once: Whether a second job for the same run and target, while the first is waiting, is the same job.
        priority: Higher goes first.
        schedule_at: When it may start; None for at once.
    """

    queue: str
    run_id: str
    target: str
    inputs: tuple[Stored, ...] = ()
    once: bool = False
    priority: int = 0
    schedule_at: datetime | None = None

    @property
    def name(self) -> str:
        """The run and the target in one text: the same for two jobs exactly if they ask for the same."""
        return f"{self.run_id}\t{self.target}"  # a run id holds no control characters, so this cannot be ambiguous

    def document(self) -> str:
        """Return what a worker needs to know, as JSON text that PostgreSQL's jsonb takes: names, inputs and how they read."""
        inputs = ", ".join(map(_packed, self.inputs))
        return f'{{"run_id": {_quoted(self.run_id)}, "target": {_quoted(self.target)}, "inputs": [{inputs}]}}'


def read_job(document: Mapping[str, Any], *, queue: str, where: str, once: bool = False, priority: int = 0) -> Job:
    """Return the job that ``Job.document`` described.

    Args:
        document: What the queue carried; not trusted.
        queue: The queue's name.
        where: What to call the queue's record in an error, such as ``"job 17 on queue 'orders'"``.
        once: As in `Job`.
        priority: As in `Job`.

    Raises:
        BadJob: It describes no job, or carries more than `MOST_BYTES`.
    """
    try:
        run_id, target = document["run_id"], document["target"]
        inputs = tuple(
            Stored(_text(one["serializer"]), _text(one["type"]), base64.b64decode(_text(one["body"]), validate=True))
            for one in document["inputs"]
        )
        job = Job(queue, _text(run_id), _text(target), inputs, once, priority)
    except (KeyError, TypeError, ValueError) as error:
        raise BadJob(where, f"it does not describe a run ({type(error).__name__}: {error})") from error
    size = sum(len(stored.body) for stored in inputs)
    if size > MOST_BYTES:
        raise BadJob(where, f"its inputs have {size} bytes, and a job carries at most {MOST_BYTES}")
    return job


def refuse_too_large(job: Job) -> None:
    """Refuse a job whose inputs are too large to be carried.

    Raises:
        Unstorable: They have more than `MOST_BYTES`. Nothing was enqueued.
    """
    size = sum(len(stored.body) for stored in job.inputs)
    if size > MOST_BYTES:
        largest = max(job.inputs, key=lambda stored: len(stored.body))
        reason = f"the inputs of run {job.run_id!r} have {size} bytes, and a job carries at most {MOST_BYTES}"
        raise Unstorable(largest.type, reason, "put it into object storage and enqueue its name")


class OtherInputs(Exception):
    """Raised by ``QueueDriver.enqueue`` to Docket: jobs wait whose inputs have other bytes. Nothing was enqueued.

    Other bytes may hold the same value (they may be sealed), so Docket reads both before it refuses anything.

    Attributes:
        waiting: The jobs that wait.
    """

    def __init__(self, waiting: Sequence[Job]) -> None:
        self.waiting = waiting
        names = ", ".join(repr(job.run_id) for job in waiting[:3])
        super().__init__(f"{len(waiting)} jobs wait with inputs in other bytes ({names}); let Docket.enqueue compare them")


def refuse_others(jobs: Iterable[Job], waiting: Mapping[str, Job]) -> None:
    """Refuse *jobs* of which one waits with other inputs; for drivers, when a job turns out to be there already.

    Args:
        jobs: What is to be enqueued.
        waiting: By `Job.name`, what waits.

    Raises:
        OtherInputs: There is such a job. It is the driver's to leave nothing enqueued.
    """
    others = [
        found for job in jobs if job.once and (found := waiting.get(job.name)) is not None and _bytes(job) != _bytes(found)
    ]
    if others:
        raise OtherInputs(others)


Work: TypeAlias = Callable[[Job], Awaitable[None]]
"""Makes one attempt at a job's run. Returns when it is done; raises whatever the run raised."""

Capability: TypeAlias = Literal["schedule", "priority", "once", "transaction", "durable"]
"""What a job may ask of a driver (``Job.schedule_at``, ``.priority``, ``.once``, a connection), and whether its jobs survive
the death of the process that works on them."""


class QueueDriver(Protocol):
    """Hands runs to a job queue.

    Attributes:
        capabilities: What it can do beyond putting a job on a queue. A job that asks for more is refused when it is enqueued.
    """

    capabilities: frozenset[Capability]

    def serve(self, work: Work, /) -> None:
        """Remember *work* as what this driver's workers do with a job. Called once, when Docket is constructed."""
        ...

    async def enqueue(self, jobs: Sequence[Job], connection: object | None, /) -> Sequence[str | None]:
        """Put jobs on their queues, all or none; return the queue's ids in their order, None for a job that was there already.

        Args:
            jobs: What to enqueue.
            connection: A connection in a transaction of the caller's, so that the jobs exist exactly if it commits; None to
                enqueue at once. A job that was there already leaves the transaction usable.

        Raises:
            OtherInputs: A job that was there already has other inputs (see `refuse_others`). Nothing is enqueued, and the
                transaction is usable.
        """
        ...

    async def cancel(self, run_id: str, target: str, /) -> int:
        """Take back the jobs of a run that wait, and cancel those that are being worked on; return how many there were.

        One that is worked on is cancelled where it runs, as soon as its worker hears of it; its certified steps finish first.
        """
        ...

    async def close(self) -> None:
        """Let go of what `enqueue` opened."""
        ...


def refuse_unable(driver: QueueDriver, job: Job, connection: object | None) -> None:
    """Refuse a job that asks for what its driver cannot do.

    Raises:
        ConfigurationError: It does. Nothing was enqueued.
    """
    asked: dict[Capability, bool] = {
        "schedule": job.schedule_at is not None,
        "priority": job.priority != 0,
        "once": job.once,
        "transaction": connection is not None,
    }
    unable = [name for name, wanted in asked.items() if wanted and name not in driver.capabilities]
    if unable:
        raise ConfigurationError(
            f"{type(driver).__name__} cannot do {', '.join(unable)}, which the job for run {job.run_id!r} asks for; "
            f"leave it out, or use a driver that can (it does {', '.join(sorted(driver.capabilities)) or 'none of these'})"
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a queue should do with a job whose attempt raised.

    Attributes:
        what: ``"again"`` after ``delay``; ``"later"`` the same without counting the attempt; ``"wait"``: the job is over and
            well, the run waits for something from outside; ``"fail"``: the job is over for good.
        delay: Seconds, for ``"again"`` and ``"later"``.
        why: The reason, for people, redacted: to be kept where the job can be looked at.
    """

    what: Literal["again", "later", "wait", "fail"]
    delay: float = 0.0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a job is tried, and when.

    Attributes:
        attempts: How often a job whose step raised is tried before it fails for good.
        backoff: Seconds (or a timedelta) before the second attempt; doubled for each further one.
        longest: Seconds (or a timedelta) between two attempts at most; not less than ``backoff``.

    What another attempt cannot change fails at once, whatever is said here. What only time can change (`RetryLater`, `Busy`)
    is tried again without being counted.
    """

    attempts: int = 10
    backoff: float | timedelta = 2.0
    longest: float | timedelta = 600.0

    def __post_init__(self) -> None:
        """Refuse what could not mean anything.

        Raises:
            ConfigurationError: ``attempts`` is no number of 1 or more, a pause no span of time, or ``longest`` shorter than
                ``backoff``.
        """
        count("Policy", "attempts", self.attempts, why="a job is tried at least once")
        first, longest = self._pauses()
        if first > longest:
            refuse("Policy", "longest", self.longest, f"the first pause is longer: backoff={shown(self.backoff)}")

    def verdict(self, error: BaseException, attempt: int) -> Verdict:
        """Say what an attempt's error means for its job.

        Args:
            error: What the attempt raised.
            attempt: Which attempt it was, counted from 1.
        """
        found = verdict(error)
        if found.what != "again":
            return found
        if attempt >= self.attempts:
            return Verdict("fail", why=f"gave up after {attempt} attempts: {found.why}")
        first, longest = self._pauses()
        delay = min(first * 2.0 ** min(attempt - 1, 60), longest)
        # Up to a half is taken off at random, so that jobs which failed together do not come back together.
        return Verdict("again", delay * (0.5 + random.random() / 2), found.why)  # noqa: S311 - keeps no secret

    def _pauses(self) -> tuple[float, float]:
        return span("Policy", "backoff", self.backoff, 0), span("Policy", "longest", self.longest, 0)


def verdict(error: BaseException) -> Verdict:
    """Say what an attempt's error means for its job, whatever happened before.

    What another attempt cannot change fails for good; what only time can change is asked again later, uncounted; the rest,
    the user's own exceptions and the database's, is tried again.
    """
    why = described(error)
    match error:
        case WaitingFor():
            return Verdict("wait", why=_message(error) or why)
        case RetryLater():
            # No number at all says no more than "not now", and a queue can make no time of it.
            delay = 1.0 if math.isnan(error.delay) else error.delay
            return Verdict("later", min(max(delay, 0.0), LATEST), why)
        case Busy():
            return Verdict("later", min(max(error.retry_after, 1.0), LOOK_AGAIN), why)
        case InDoubt() if error.retry_after is not None:
            return Verdict("later", max(error.retry_after, 1.0), why)  # the next attempt asks the other side
        case DeadlineExceeded() | StepTimeout() | SchemaMissing() | NewerCertificate():
            return Verdict("again", why=why)
        case DocketError() | Refused():
            return Verdict("fail", why=why)  # NotCertified among them: what is done is not done again by itself
        case _:
            return Verdict("again", why=why)


def disclose(error: BaseException, text: str) -> None:
    """Let *text* stand for the message of *error* wherever `verdict` and `described` write it down."""
    object.__setattr__(error, _SAID, text)  # an exception may be a frozen dataclass


def described(error: BaseException) -> str:
    """Return an error as one short text that PostgreSQL takes, without what looks like a password, a token or a key.

    Of an error that came out of an attempt it says what Docket's ``redact=`` lets be seen.
    """
    name, message = type(error).__name__, _message(error)
    text = f"{name}: {message}" if message else name
    return storable(text)[:WHY]


def _message(error: BaseException) -> str:
    said: str | None = vars(error).get(_SAID)
    return error_text(error, "") if said is None else said


_SAID = "__docket_said__"
"""Where an error keeps what may be said of it: queues judge it in other places than those that know what that is."""


def _bytes(job: Job) -> set[tuple[str, str, bytes]]:
    return {(stored.type, stored.serializer, stored.body) for stored in job.inputs}


def _packed(stored: Stored) -> str:
    body = binascii.b2a_base64(stored.body, newline=False).decode()
    names = f'"type": {_quoted(stored.type)}, "serializer": {_quoted(stored.serializer)}'
    return f'{{{names}, "body": "{body}", "view": {_readable(stored.view)}}}'


def _readable(view: str | None) -> str:
    """Return a projection if jsonb takes it, or else null: a job must not be lost for its looks."""
    return view if view is not None and fit_for_jsonb(view) else "null"


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text was expected, not {type(value).__name__}")
    return value
