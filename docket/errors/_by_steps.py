"""What a step raises to say what its failure means. Imports nothing of ours; `docket.errors` holds these names."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta


class NotApplied(Exception):
    """Raised by a step: certainly no effect took place, so it may run again."""


class RetryLater(NotApplied):
    """Raised by a step: not now. No effect took place; the queue is to try the run again after a while.

    Outside a queue it passes through `docket.Docket.run` like any other exception.

    Attributes:
        delay: Seconds until then.
    """

    def __init__(self, delay: float | timedelta, reason: str = "") -> None:
        self.delay = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        super().__init__(f"try again in {self.delay:g} s{': ' if reason else ''}{reason}")


class WaitingFor(RetryLater):
    """Raised by a step: something from outside must come first. The job is over; nothing is tried again by itself.

    The step takes the value as ``Approval | None`` and raises ``WaitingFor(Approval)`` while it is None. Once it is there,
    ``await d.supply(run_id, Approval(...))`` records it and enqueueing the run again goes on from what is certified.

    Attributes:
        needed: What is waited for, as the user wrote it.
    """

    def __init__(self, needed: type | str) -> None:
        super().__init__(float("inf"))
        self.needed = needed if isinstance(needed, str) else needed.__qualname__
        self.args = (f"waiting for {self.needed}; supply it and enqueue the run again",)


@dataclass(eq=False)
class Refused(Exception):
    """Raised by a step: a final business answer.

    That of a step whose result is kept is certified, and raised again on every later attempt: as a `Refused`, whose ``kind``
    names the class that the step raised. That of any other step passes through, and the next attempt asks again.

    Attributes:
        reason: Why, for people and for the row.
        run_id: The run, once Docket has certified the refusal; empty before.
        kind: The name of the class the step raised.
    """

    reason: str = ""
    run_id: str = field(default="", kw_only=True)
    kind: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        super().__init__(self.reason)
        self.kind = self.kind or type(self).__name__

    def __str__(self) -> str:
        return self.reason
