"""The loops a run must work in."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvloop

LOOPS: list[str] = ["asyncio", "uvloop", *(["eager"] if sys.version_info >= (3, 12) else [])]
"""The default loop, uvloop, and the default loop with the task factory by which every task starts at once.

uvloop calls that factory in a way that Python 3.13.0 does not know, so the two are not put together.
"""


def run_in(loop: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run *main* in a new loop of its own, with tasks as *loop* says."""

    async def prepared() -> None:
        if sys.version_info >= (3, 12) and loop == "eager":
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def run() -> None:
        factory = uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(prepared())

    with ThreadPoolExecutor(1) as pool:  # a thread of its own, since this one's loop is the session's
        pool.submit(run).result()
