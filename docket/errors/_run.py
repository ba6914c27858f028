"""What goes wrong in one run. Part of the tree in `docket.errors`."""

from __future__ import annotations

from collections.abc import Awaitable

from docket.errors._author import DocketError
from docket.errors._details import Change, shown


class RunError(DocketError):
    """Something about one run.

    Attributes:
        run_id: The run it concerns.
    """

    def __init__(self, run_id: str, message: str) -> None:
        self.run_id = run_id
        super().__init__(message)


class BadRunId(RunError, ValueError):
    """The run id is not one Docket accepts: 1 to 255 bytes of printable, normalised text."""

    def __init__(self, run_id: object, reason: str) -> None:
        super().__init__(
            run_id if isinstance(run_id, str) else shown(run_id),
            f"the run id {shown(run_id, 80)} {reason}; use 1 to 255 bytes of printable NFC text, such as 'tenant-7/order-1042'",
        )


class UnknownTarget(RunError, LookupError):
    """Nothing in the wiring gives the target.

    Attributes:
        target: What was asked for, as the user wrote it.
    """

    def __init__(self, run_id: str, target: str, advice: str) -> None:
        self.target = target
        super().__init__(run_id, f"run {run_id!r}: nothing gives {target}; {advice}")


class MissingInput(RunError, LookupError):
    """A value is needed that no step gives and that was neither supplied nor recorded.

    Attributes:
        needed: The type, as the user wrote it.
        path: From the target down to the type, each as ``Type  step  file:line``.
    """

    def __init__(self, run_id: str, needed: str, path: tuple[str, ...]) -> None:
        self.needed, self.path = needed, path
        drawn = "".join(f"\n  {'└─ ' if depth else ''}{line}" for depth, line in enumerate(path))
        super().__init__(
            run_id,
            f"run {run_id!r}: {needed} is needed, no step gives it and it was not supplied{drawn}\n"
            f"  fix: pass a value of type {needed} to the call, or register a step that returns it",
        )


class UnexpectedInput(RunError, TypeError):
    """A value was handed to the call that it may not or cannot take.

    Attributes:
        given: The value's type, as the user wrote it.
    """

    def __init__(self, run_id: str, given: str, reason: str) -> None:
        self.given = given
        super().__init__(run_id, f"run {run_id!r}: a value of type {given} was passed, but {reason}")


class InputsChanged(RunError):
    """The run id was used before with other inputs. Nothing has run.

    A run id is an idempotency key: the same id with another request is refused, as at Stripe
    (https://docs.stripe.com/idempotency), not silently recomputed and not silently answered with the old result.

    Attributes:
        step: The certified step that was made from the old inputs; empty if the value itself is on record.
        changes: What differs.
        recomputable: Whether the step may be marked to be made again from other inputs; not if it takes effect outside.
        waiting: Whether the old inputs are those of a job that waits in the queue.
    """

    def __init__(
        self, run_id: str, step: str, changes: tuple[Change, ...], *, recomputable: bool = False, waiting: bool = False
    ) -> None:
        self.step, self.changes, self.recomputable, self.waiting = step, changes, recomputable, waiting
        found = f"{step} was made from other inputs" if step else "another value is on record, and the first one stands"
        marks = "'recompute' or 'keep'" if recomputable else "'keep' if what it gave is to stand"
        also = f", or mark the step on_change={marks}" if step else ""
        if waiting:
            found, also = "a job with other inputs waits, and nothing was enqueued", ", or take the job back first: cancel"
        listed = "; ".join(map(str, changes))
        super().__init__(run_id, f"run {run_id!r}: {found} ({listed}); use a new run id for a new request{also}")


class WrongResult(RunError, TypeError):
    """A step, or its reconcile function, returned something other than it declares.

    Attributes:
        step: The function's name.
    """

    def __init__(self, run_id: str, step: str, expected: str, got: object, where: str, advice: str = "") -> None:
        self.step = step
        if not advice:
            advice = "await it" if hasattr(type(got), "__await__") else f"return a {expected}, or change its annotation"
        super().__init__(
            run_id,
            f"run {run_id!r}: {step} ({where}) declares {expected} and returned {shown(got)}; {advice}",
        )


class StepTimeout(RunError, TimeoutError):
    """A step did not answer within its timeout.

    Attributes:
        step: The step's name.
        seconds: The limit.
        unfinished: The call itself, if it would not stop and was left behind; None otherwise.
    """

    unfinished: Awaitable[object] | None = None

    def __init__(self, run_id: str, step: str, seconds: float) -> None:
        self.step, self.seconds = step, seconds
        super().__init__(run_id, f"run {run_id!r}: {step} gave no answer within {seconds:g} s")


class DeadlineExceeded(RunError, TimeoutError):
    """A run did not end within its deadline. No step was started after it; certified steps under way have finished.

    Attributes:
        seconds: The limit, counted from the call.
    """

    def __init__(self, run_id: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(run_id, f"run {run_id!r}: no answer within its deadline of {seconds:g} s; run it again to go on")


class WaitsForItself(RunError):
    """A step asked for a run that waits for this very step, so neither would ever end.

    Attributes:
        target: What was asked for.
    """

    def __init__(self, run_id: str, target: str) -> None:
        self.target = target
        super().__init__(
            run_id,
            f"run {run_id!r}: {target} was asked for inside a step that it waits for, so neither would ever end; "
            f"let the step take a {target} as a parameter, or ask under another run id",
        )


class NotYet(RunError, TimeoutError):
    """A result that was waited for is not there yet. Nothing is wrong: wait again, or ask later.

    Attributes:
        key: The storage key of the result.
        type: Its type, as the user wrote it.
        state: What stands in its place; ``"nothing"`` if it was never begun.
    """

    def __init__(self, run_id: str, key: str, type_: str, state: str, seconds: float) -> None:
        self.key, self.type, self.state = key, type_, state
        super().__init__(
            run_id, f"run {run_id!r}: {type_} is not certified after {seconds:g} s of waiting ({state}); wait again"
        )


class Busy(RunError):
    """Another process holds the step and is alive. Nothing is wrong: ask again later.

    Attributes:
        key: The storage key of what it is making.
        type: The type, as the user wrote it.
        retry_after: Seconds until the holder's lease ends, at least 0.
        owner: Who holds it.
    """

    def __init__(self, run_id: str, key: str, type_: str, retry_after: float, owner: str, advice: str = "") -> None:
        self.key, self.type, self.retry_after, self.owner = key, type_, retry_after, owner
        what = advice or f"is being made by {owner or 'another process'}; ask again in {retry_after:.1f} s"
        super().__init__(run_id, f"run {run_id!r}: {type_} {what}")


class InDoubt(RunError):
    """An at-most-once step was started and nobody knows how it ended. Docket never starts it again by itself.

    Attributes:
        key: The storage key of the result that is in doubt.
        type: Its type, as the user wrote it.
        token: The fencing token of the doubtful claim; ``settle`` and ``release`` take it.
        reason: ``"holder_lost"``, ``"error"``, ``"timeout"``, ``"cancelled"``, ``"unstorable"``, ``"attempts"`` (it was started
            that often and its process never came back) or ``"step_committed"`` (it ended the transaction it was lent).
        since: Seconds since the doubt arose or the holder was last heard of.
        retry_after: Seconds until its ``reconcile=`` function may be asked; None if it has none.
    """

    def __init__(
        self,
        run_id: str,
        key: str,
        type_: str,
        token: int,
        reason: str,
        since: float,
        detail: str = "",
        retry_after: float | None = None,
    ) -> None:
        self.key, self.type, self.token, self.reason, self.since = key, type_, token, reason, since
        self.retry_after = retry_after
        advice = f"its reconcile function is asked by the next attempt, {retry_after or 0:.0f} s from now at the earliest"
        if retry_after is None:
            advice = (
                f"ask the other side about {run_id}/{key}, then settle({run_id!r}, {type_}, value, token={token}) if it did or "
                f"release({run_id!r}, {type_}, token={token}) if it did not"
            )
        super().__init__(
            run_id,
            f"run {run_id!r}: {type_} was started and nobody knows whether it took effect "
            f"({reason}{f', {since:.0f} s ago' if since >= 1 else ''}{': ' if detail else ''}{detail}); {advice}",
        )

    @property
    def idempotency_key(self) -> str:
        """What the step gave the other side as its idempotency key, if it used ``Run.idempotency_key``."""
        return f"{self.run_id}/{self.key}"


class BrokenTransaction(RunError):
    """A transactional step committed or rolled back the transaction it was lent. Its result is not certified.

    Attributes:
        step: The step's name.
    """

    def __init__(self, run_id: str, step: str) -> None:
        self.step = step
        super().__init__(
            run_id,
            f"run {run_id!r}: {step} ended the transaction it was lent; use the connection for statements and savepoints "
            "(async with connection.transaction()) and leave BEGIN, COMMIT and ROLLBACK to Docket",
        )


class Purged(RunError):
    """The result was deleted by retention. The step is not run again, since its effect may have happened.

    Attributes:
        key: The storage key of the result that was purged.
        type: Its type, as the user wrote it.
    """

    def __init__(self, run_id: str, key: str, type_: str) -> None:
        self.key, self.type = key, type_
        super().__init__(
            run_id,
            f"run {run_id!r}: {type_} was made and its value has been purged since; use a new run id for a new request, or "
            "keep results longer",
        )


class NotInDoubt(RunError):
    """A verdict was given on a doubt that is not there, or no longer the one that was seen. Nothing was changed.

    Attributes:
        key: The storage key of the result it was about.
        type: Its type, as the user wrote it.
    """

    def __init__(self, run_id: str, key: str, type_: str, found: str) -> None:
        self.key, self.type = key, type_
        super().__init__(
            run_id, f"run {run_id!r}: {type_} is not in doubt, or not in the one that was seen: {found}; look again first"
        )


class NeedsForce(RunError):
    """What is to be invalidated took effect outside, and making it again would do it again. Nothing was changed.

    Attributes:
        key: The storage key of the result it was about.
        type: Its type, as the user wrote it.
        facts: The types of the results that took effect.
    """

    def __init__(self, run_id: str, key: str, type_: str, facts: tuple[str, ...]) -> None:
        self.key, self.type, self.facts = key, type_, facts
        super().__init__(
            run_id,
            f"run {run_id!r}: invalidating {type_} would let {', '.join(facts)} take effect once more; undo that first, then "
            f"say invalidate({run_id!r}, {type_}, force=True)",
        )


class NotCertified(RunError):
    """A step is done and its result could not be stored. It is not computed again by itself.

    Attributes:
        key: The storage key of what was made.
        type: Its type, as the user wrote it.
        result: The value the step returned: keep it, it may be the only copy.
        token: What ``settle`` takes: the fencing token of its claim, 0 if it was made without one; None if that is not known.
    """

    def __init__(
        self, run_id: str, key: str, type_: str, result: object, reason: str, token: int | None = None
    ) -> None:
        self.key, self.type, self.result, self.token = key, type_, result, token
        seen = "" if token is None else f", token={token}"
        super().__init__(
            run_id,
            f"run {run_id!r}: {type_} was made but could not be certified: {reason}; "
            f"the value is in this error's .result; pass it to settle({run_id!r}, {type_}, value{seen}) when that is mended",
        )


class Undecodable(RunError):
    """A certified result can no longer be read. It stays as it is, and nothing is computed in its place.

    Attributes:
        key: The stored key.
        serializer: The serializer that wrote it.
        type: The type it was stored as.
    """

    def __init__(
        self,
        run_id: str,
        key: str,
        serializer: str,
        type_: str,
        reason: str,
        advice: str = "restore a type that reads it, or register an upcast",
    ) -> None:
        self.key, self.serializer, self.type = key, serializer, type_
        super().__init__(
            run_id,
            f"run {run_id!r}: the certified {key} (written by {serializer} as {type_}) cannot be read: {reason}; {advice}",
        )


class NewerCertificate(Undecodable):
    """A certified result cannot be read here, and a newer version of its step wrote it: this process is behind a deployment.

    It stays as it is, and nothing is computed in its place. Where the new code runs it can be read; a queue tries again.

    Attributes:
        written: The version of the step that wrote it.
        version: The version of the step that this process has.
    """

    def __init__(
        self, run_id: str, key: str, serializer: str, type_: str, reason: str, *, written: int, version: int
    ) -> None:
        self.written, self.version = written, version
        super().__init__(
            run_id, key, serializer, type_, f"version {written} of its step wrote it and this process has {version} ({reason})",
            "try again where the new code runs, or deploy it here",
        )  # fmt: skip


class SchemaMissing(DocketError):
    """The tables are not in the database, or are of an older version.

    Attributes:
        schema: The schema that was looked for.
        outdated: Whether the tables are there and lack something.
    """

    def __init__(self, schema: str, reason: str, *, outdated: bool = False) -> None:
        self.schema, self.outdated = schema, outdated
        where = "" if schema == "docket" else f" --schema {schema}"
        if outdated:
            told, advice = "are of an older version", f"python -m docket schema migrate{where}"
        else:
            told, advice = "are not in this database", f"python -m docket schema apply{where}"
            advice += "" if where else ", or psql -f schema.sql"
        super().__init__(f"the tables of schema {schema!r} {told} ({reason}); run: {advice}")
