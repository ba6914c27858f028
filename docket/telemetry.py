"""What Docket tells about its work, to whoever observes it.

An observer is a function that takes an `Event`. It is called where the thing happens: for a step, inside the step's own
context, so what it sets in context variables at ``step_started`` (a span, say) is seen by the step's code. It must not
block. Without an observer nothing of this is on the path of a run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from docket.errors import shown

Kind: TypeAlias = Literal[
    "run_started", "run_finished", "run_failed",
    "step_started", "computed", "retried", "failed", "fetched", "certified", "in_doubt",
]  # fmt: skip

_logger = logging.getLogger("docket")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: ``run_started``, ``run_finished`` or ``run_failed``; and of a step: ``step_started``, ``computed`` (its
            function returned), ``retried`` (a try failed and another follows), ``failed`` (its function raised),
            ``fetched`` (its certified result was read), ``certified`` (its result is kept), ``in_doubt`` (nobody knows how
            it ended: since now, or since an earlier attempt, and then the run ends by it).
        run_id: The run.
        step: The step's name; the target's type for an event of the run.
        key: The storage key of what it gives.
        seconds: How long it took: the run, the function with all its tries, or for ``certified`` and a doubt that arises
            the function and the writes around it; for ``retried`` the pause that follows. None where nothing was timed.
        attempt: Counted from 1. For ``retried`` the try that failed; for ``step_started`` how often the step was started for
            this run, as `docket.Run` says. 0 for every other kind.
        error: What was raised; None if nothing was.
    """

    kind: Kind
    run_id: str
    step: str
    key: str = ""
    seconds: float | None = None
    attempt: int = 0
    error: BaseException | None = None


class Observer(Protocol):
    """Whoever wants to know. Any function of one `Event` is one."""

    def __call__(self, event: Event, /) -> None:
        """Take note of *event*. What it raises is logged and otherwise ignored."""
        ...


def tell(observer: Observer, event: Event) -> None:
    """Call *observer*; what it raises is logged and changes nothing."""
    try:
        observer(event)
    except Exception:
        _logger.exception("the observer failed at %s of %s in run %r", event.kind, event.step, event.run_id)


async def observed_run(observer: Observer, run_id: str, target: str, begin: Callable[[], Awaitable[object]]) -> object:
    """Tell *observer* that a run starts, and when and how it ends. Each caller of a shared attempt is a run here."""
    tell(observer, Event("run_started", run_id, target))
    begun = time.perf_counter()
    try:
        value = await begin()
    except BaseException as error:
        tell(observer, Event("run_failed", run_id, target, seconds=time.perf_counter() - begun, error=error))
        raise
    tell(observer, Event("run_finished", run_id, target, seconds=time.perf_counter() - begun))
    return value


_LEVELS: dict[Kind, int] = {
    "retried": logging.WARNING,
    "failed": logging.WARNING,
    "run_failed": logging.WARNING,
    "in_doubt": logging.ERROR,
}


class LoggingObserver:
    """Writes every event to a logger of the standard library.

    Each record carries ``run_id``, ``step``, ``key``, ``event``, ``seconds`` and ``attempt`` as attributes
    (``extra``), so that a JSON formatter keeps them apart. Doubts are errors, failures and retries are warnings, and
    the rest is *level*.

    Args:
        logger: Where to; the logger ``docket.runs`` if absent.
        level: The level of what is not worth a warning.
    """

    def __init__(self, logger: logging.Logger | None = None, level: int = logging.INFO) -> None:
        self._to = logger or logging.getLogger("docket.runs")
        self._level = level

    def __call__(self, event: Event, /) -> None:
        """Write one record. The exception's text is in the message, its traceback is not: whoever runs it has it."""
        took = "" if event.seconds is None else f" ({event.seconds:.3f} s)"
        why = "" if event.error is None else f": {shown(event.error)}"
        extra = {
            "run_id": event.run_id, "step": event.step, "key": event.key, "event": event.kind,
            "seconds": event.seconds, "attempt": event.attempt,
        }  # fmt: skip
        level = _LEVELS.get(event.kind, self._level)
        self._to.log(level, "%s %s in run %r%s%s", event.step, event.kind, event.run_id, took, why, extra=extra)
