"""What is said of a failure: notes on the exception, a line in the log. None of it raises.

A failure that cannot be noted or logged still ends its run; a caller who waits for ever is worse than a note that is
missing.
"""

from __future__ import annotations

import contextlib
import logging

from docket._core.plan import Program

_log = logging.getLogger("docket")


def note(error: BaseException, text: str) -> None:
    """Add a note to *error*, once: one exception object may fail several runs."""
    # By its dictionary: a frozen dataclass takes no note, and a class of the user's may refuse anything.
    with contextlib.suppress(Exception):
        notes = error.__dict__.setdefault("__notes__", [])
        if text not in notes:
            notes.append(text)


def attach(first: BaseException, later: BaseException, text: str) -> None:
    """Have *first*, what failed a run, hold what failed after it."""
    note(first, text)
    with contextlib.suppress(Exception):
        attributes = first.__dict__  # not as __context__, which is the user's
        attributes["later_failures"] = (*attributes.get("later_failures", ()), later)


def report(text: str, *about: object, error: BaseException | None = None) -> None:
    """Log what no caller will see."""
    with contextlib.suppress(Exception):  # of a handler
        _log.error(text, *about, exc_info=error)


def path(program: Program, position: int) -> str:
    """Return the steps from the target to the one at *position*, by name."""
    steps, frees = program.steps, program.frees
    names = [steps[position].name]
    while frees[position]:
        position = frees[position][0]
        names.append(steps[position].name)
    return " <- ".join(reversed(names))
