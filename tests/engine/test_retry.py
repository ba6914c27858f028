"""Trying a step again, in process and through the queue."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta

import pytest

from docket import Docket, InDoubt, NotApplied, Refused
from docket.cache import MemoryCache
from docket.errors import ConfigurationError, RetryLater, StepTimeout
from docket.queue import Policy
from docket.retry import Retry
from tests.engine.orders import Charge, Order


class Flaky:
    """A step that raises what it is given, one after the other, and then charges."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, order: Order) -> Charge:
        """Fail or charge."""
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return Charge()


async def test_tried_until_it_works() -> None:
    """A step is tried as often as it may be, and the run goes on with the first result."""
    d, flaky = Docket(), Flaky(OSError("one"), OSError("two"))
    d.step(retry=Retry(attempts=3, wait=0))(flaky)

    assert await d.run("order-1", Charge, Order()) == Charge()
    assert flaky.calls == 3


async def test_last_failure_surfaces_as_it_is() -> None:
    """When every try failed, the last exception is raised unchanged."""
    d, last = Docket(), OSError("two")
    flaky = Flaky(OSError("one"), last)
    d.step(retry=Retry(attempts=2, wait=timedelta(0)))(flaky)

    with pytest.raises(OSError, match="two") as caught:
        await d.run("order-1", Charge, Order())

    assert caught.value is last


@pytest.mark.parametrize("error", [ValueError("not in on="), Refused("card stolen"), RetryLater(5), ConfigurationError("ours")])
async def test_not_tried_again(error: Exception) -> None:
    """What ``on`` does not name, a refusal, a request for later and Docket's own errors are final."""
    d, flaky = Docket(), Flaky(error)
    on = OSError if isinstance(error, ValueError) else Exception
    d.step(retry=Retry(attempts=3, wait=0, on=on))(flaky)

    with pytest.raises(type(error)):
        await d.run("order-1", Charge, Order())

    assert flaky.calls == 1


async def test_each_try_has_the_whole_timeout() -> None:
    """A try past its timeout is followed by another, with all of the time again."""
    d, calls = Docket(), list[int]()

    @d.step(timeout=0.02, retry=Retry(attempts=2, wait=0))
    async def charge_card(order: Order) -> Charge:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return Charge()

    assert await d.run("order-1", Charge, Order()) == Charge()
    assert len(calls) == 2


async def test_cancelled_in_a_pause() -> None:
    """Cancelling the caller ends the pause between two tries."""
    d, flaky = Docket(), Flaky(OSError())
    d.step(retry=Retry(attempts=2, wait=60))(flaky)
    task = asyncio.create_task(d.run("order-1", Charge, Order()))
    await asyncio.sleep(0.01)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert flaky.calls == 1


async def test_at_most_once_step_that_failed_is_not_tried_again() -> None:
    """Whatever ``on`` says: after any other failure nobody knows whether it took effect."""
    d, flaky = Docket(cache=MemoryCache()), Flaky(OSError())
    d.step(cache_result="at_most_once", retry=Retry(attempts=3, wait=0))(flaky)

    with pytest.raises(InDoubt):
        await d.run("order-1", Charge, Order())

    assert flaky.calls == 1


async def test_at_most_once_step_that_was_not_applied_is_tried_again() -> None:
    """``NotApplied`` says that nothing happened, so it may run again, under the same claim."""
    d, flaky = Docket(cache=MemoryCache()), Flaky(NotApplied(), NotApplied())
    d.step(cache_result="at_most_once", retry=Retry(attempts=3, wait=0))(flaky)

    assert await d.run("order-1", Charge, Order()) == Charge()
    assert flaky.calls == 3


async def test_retry_later_leaves_an_at_most_once_step_free() -> None:
    """``RetryLater`` passes through the run, says that nothing happened, and the next attempt runs the step."""
    d, flaky = Docket(cache=MemoryCache()), Flaky(RetryLater(timedelta(minutes=5), "bank closed"))
    d.step(cache_result="at_most_once")(flaky)

    with pytest.raises(RetryLater, match="try again in 300 s: bank closed"):
        await d.run("order-1", Charge, Order())

    assert await d.run("order-1", Charge, Order()) == Charge()


def test_what_a_queue_makes_of_it() -> None:
    """``RetryLater`` asks the queue for its delay; a step past its timeout is the queue's to retry."""
    later = Policy().verdict(RetryLater(300), 1)
    again = Policy().verdict(StepTimeout("order-1", "charge_card", 5), 1)

    assert (later.what, later.delay) == ("later", 300)
    assert again.what == "again"


def test_pauses_double_up_to_a_minute() -> None:
    """A number of seconds doubles with each try; a function is asked."""
    assert [Retry(wait=1).pause(tried) for tried in (1, 2, 3, 7, 5000)] == [1, 2, 4, 60, 60]
    assert Retry(wait=timedelta(minutes=2)).pause(3) == 120
    assert Retry(wait=lambda tried: tried / 10).pause(3) == 0.3


@pytest.mark.parametrize(("attempts", "wait"), [(0, 0.1), (3, -1), (3, timedelta(seconds=-1))])
def test_what_a_retry_refuses(attempts: int, wait: float | timedelta) -> None:
    """No try at all and pauses below zero are refused where they are written."""
    with pytest.raises(ConfigurationError, match=r"^Retry\("):
        Retry(attempts, wait)


def test_tenacity_is_loaded_by_use() -> None:
    """Importing Docket and declaring a retry does not load tenacity."""
    code = "import sys, docket, docket.retry; docket.retry.Retry(); print('tenacity' in sys.modules)"

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "False"
