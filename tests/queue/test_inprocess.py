"""The driver in this process."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from docket.errors import ConfigurationError
from docket.inprocess import InProcessQueue
from docket.queue import Policy
from docket.testing import ATTEMPTS, QUEUE_RULES, QueueRig, exercise_queue


class Rig:
    """The driver, and where it says what became of its jobs."""

    def __init__(self) -> None:
        self.queue = InProcessQueue(policy=Policy(ATTEMPTS, 0.01, 0.1), concurrency=1)

    def working(self) -> AbstractAsyncContextManager[None]:
        """Work."""
        return self.queue.working(grace=0.1)

    def transaction(self) -> AbstractAsyncContextManager[object]:
        """Take part in none."""
        raise NotImplementedError

    async def strand(self) -> None:
        """Lose nothing that another process could find."""
        raise NotImplementedError

    async def reason(self, run_id: str) -> str:
        """Look among the jobs that ended."""
        return " ".join(ended.why for ended in self.queue.ended if ended.job.run_id == run_id)


@asynccontextmanager
async def rig() -> AsyncGenerator[QueueRig]:
    """A new queue."""
    yield Rig()


@pytest.mark.parametrize("rule", QUEUE_RULES)
async def test_it_keeps_to_the_rules_of_drivers(rule: str) -> None:
    """Every rule that its capabilities call for holds."""
    await exercise_queue(rig, rule)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "10", None])
def test_a_queue_that_would_work_on_nothing_is_refused(wrong: Any) -> None:
    """When it is made; draining it would never end."""
    with pytest.raises(ConfigurationError, match=r"InProcessQueue\(concurrency=.*\): without one no job is ever worked on"):
        InProcessQueue(concurrency=wrong)
