"""One call of a claimed step, and what the loss of its lease means for it."""

from __future__ import annotations

import asyncio
import logging

from docket._certify.storing import CertifiedStep
from docket._core.step import Run

_log = logging.getLogger("docket")


class Calling:
    """One call of a claimed step.

    An exclusive at-least-once step is stopped when its claim passes to somebody else. Any other is left to finish: its answer
    is the only one there is.

    Attributes:
        lost: Whether the claim's lease could not be kept.
    """

    def __init__(self, work: CertifiedStep, run: Run, *, stoppable: bool) -> None:
        self.lost = False
        self._work, self._run = work, run
        self._task: asyncio.Future[object] | None = None
        self._stoppable = stoppable

    async def answer(self) -> object:
        """Call the step and return what it returns."""
        if not self._stoppable:
            return await self._work.call(self._run)
        self._task = asyncio.ensure_future(self._work.call(self._run))
        return await self._task

    def lose(self) -> None:
        """Take note that the lease is lost."""
        self.lost = True
        if self._task is not None:
            self._task.cancel()
        else:
            _log.warning(
                "run %r: the lease of %s (claim %d) could not be renewed while it runs; its answer is certified if nobody else "
                "has decided by then",
                self._work.run_id, self._work.step.name, self._run.token,
            )  # fmt: skip
