"""How often a step is tried within one attempt at a run. Pure: who waits, and by what clock, is decided elsewhere.

Short waits belong here; long ones belong to the queue, which a step hands its job back to by raising
`docket.errors.RetryLater`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from docket._given import count, refuse, span
from docket.errors import DocketError, NotApplied, Refused, RetryLater, StepTimeout

LONGEST = 60.0
"""Seconds that a doubling pause grows to. Our choice: what waits longer should give its worker back to the queue."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try a step again, in process, when it failed.

    Attributes:
        attempts: How often it is tried in all, the first time included.
        wait: Seconds (or a timedelta) before the second try, doubled before each one after it up to a minute; or a
            function from the number of the try that failed, counted from 1, to seconds.
        on: The exceptions to try again on. Whatever it says, `Refused`, `RetryLater` and Docket's own errors other than
            `StepTimeout` are final, and an at-most-once step is tried again on `NotApplied` alone.

    Each try has the step's whole timeout. What a failed try of a transactional step wrote is rolled back to a savepoint
    before the next one; its transaction stays open meanwhile, so keep the pauses short. A pause that is not a function's
    is shortened by up to a half, at random, so that runs that failed together do not come back together.
    """

    attempts: int = 3
    wait: float | timedelta | Callable[[int], float] = 0.1
    on: type[Exception] | tuple[type[Exception], ...] = Exception

    def __post_init__(self) -> None:
        """Refuse what could not mean anything.

        Raises:
            ConfigurationError: ``attempts`` is no number of 1 or more, ``wait`` no function and no span of time, or ``on``
                no exception and no tuple of them.
        """
        count("Retry", "attempts", self.attempts, why="a step is tried at least once")
        if not callable(self.wait):
            span("Retry", "wait", self.wait, 0)
        kinds: tuple[Any, ...] = self.on if isinstance(self.on, tuple) else (self.on,)
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            refuse("Retry", "on", self.on, "give exceptions, by their classes: on=OSError, or on=(OSError, TimeoutError)")

    def pause(self, tried: int) -> float:
        """Return the longest wait after *tried* tries, in seconds."""
        if callable(self.wait):
            return self.wait(tried)
        first = span("Retry", "wait", self.wait)
        # The exponent is capped because 2.0 ** 1024 overflows, long after the pause has reached its limit.
        return min(first * 2.0 ** min(tried - 1, 64), max(LONGEST, first))

    def again(self, error: BaseException, *, at_most_once: bool) -> bool:
        """Say whether a step that raised *error* may be tried again."""
        if isinstance(error, Refused | RetryLater):
            return False
        if at_most_once:
            return isinstance(error, NotApplied)
        if isinstance(error, DocketError) and not isinstance(error, StepTimeout):
            return False
        return isinstance(error, self.on)
