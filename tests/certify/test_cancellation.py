"""A cancellation, of whatever kind and at whatever moment, loses nothing that has happened."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import pytest

from docket._certify.storing import CertifiedStep
from docket._certify.writing import WriteTask, begin, finished
from docket._core.record import MadeFrom
from docket.cache import Certificate, MemoryCache
from docket.postgres import PostgresCache
from tests.certify.records import Records
from tests.certify.steps import CHARGE, Charging, Gate


class SlowCache(MemoryCache):
    """A cache whose certificates take a while, as over a network; it notes who was cancelled meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.writing = asyncio.Event()
        self.written = 0

    async def certify(self, certificate: Certificate, /) -> Any:
        """Write after a while."""
        self.writing.set()
        await asyncio.sleep(0.05)
        self.written += 1
        return await super().certify(certificate)


async def _native(running: asyncio.Task[Any]) -> None:
    running.cancel()


async def _twice(running: asyncio.Task[Any]) -> None:
    running.cancel()
    await asyncio.sleep(0.01)
    running.cancel()


@pytest.mark.parametrize("cancel", [_native, _twice])
@pytest.mark.parametrize("semantics", ["at_most_once", "at_least_once"])
async def test_a_certificate_under_way_is_written(cancel: Callable[..., Any], semantics: str) -> None:
    """Cancelled while the certificate is being written: it is written, then the cancellation goes on (F32)."""
    cache = SlowCache()
    charging = Charging(cache, cache_result=semantics)
    running = asyncio.create_task(charging.run())
    await cache.writing.wait()
    await cancel(running)

    with pytest.raises(asyncio.CancelledError):
        await running
    assert await charging.run() == CHARGE
    assert len(charging.runs) == 1


async def test_a_cancelled_anyio_scope_waits_for_the_certificate() -> None:
    """The same under anyio, which cancels again at every await (FastAPI and Starlette do it that way)."""
    cache = SlowCache()
    charging = Charging(cache)
    with anyio.move_on_after(0.02):
        await charging.run()

    assert await charging.run() == CHARGE
    assert len(charging.runs) == 1


PROCESS = """
import asyncio, sys
from docket.postgres import PostgresCache
from tests.certify.steps import CHARGE, Charging

async def main():
    reached = asyncio.Event()

    async def body():
        reached.set()
        return CHARGE

    charging = Charging(PostgresCache(sys.argv[1]), body)
    task = asyncio.create_task(charging.run())
    await reached.wait()
    assert not task.done()

asyncio.run(main())
"""


async def test_the_end_of_the_loop_waits_for_the_certificate(dsn: str) -> None:
    """`asyncio.run` that ends while a certificate is being written waits for it (F32)."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, dsn)

    assert await process.wait() == 0
    assert (await Records.of(dsn, "order-1")).states == ["certified"]


async def test_a_cancelled_claim_is_given_back() -> None:
    """Cancelled while the claim is being written: the step was not called, so there is no doubt and nobody waits."""

    class SlowClaims(MemoryCache):
        async def claim(self, claim: Any, /) -> Any:
            claiming.set()
            await asyncio.sleep(0.05)
            return await super().claim(claim)

    claiming = asyncio.Event()
    cache = SlowClaims()
    charging = Charging(cache)
    running = asyncio.create_task(charging.d._certifier.value(_work(charging)))  # type: ignore[union-attr]
    await claiming.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert (await cache.load("order-1")).results["orders.ChargeResult"].state == "ready"
    assert charging.runs == []


def _work(charging: Charging) -> Any:
    (step,) = charging.d.check().steps.values()
    return CertifiedStep("order-1", step, lambda run: charging.body(), MadeFrom(), (), None)


async def test_a_slow_claim_is_renewed_before_the_step_is_called() -> None:
    """An answer that took longer than half the lease may be about a lease that is over: the step is not called on it."""

    class Frozen(MemoryCache):
        renewed = 0

        async def claim(self, claim: Any, /) -> Any:
            answer = await super().claim(claim)
            await asyncio.sleep(0.15)
            return answer

        async def renew(self, held: Any, lease: float, /) -> Any:
            self.renewed += 1
            return await super().renew(held, lease)

    cache = Frozen()
    charging = Charging(cache, lease=0.2)

    assert await charging.run() == CHARGE
    assert cache.renewed == 1


async def test_a_claim_that_was_doubted_before_its_answer_came_is_given_back() -> None:
    """Frozen between claim and answer, and put in doubt by another: the step was not called, so it is taken up again."""

    class Frozen(MemoryCache):
        first = True

        async def claim(self, claim: Any, /) -> Any:
            answer = await super().claim(claim)
            if self.first:
                self.first = False
                await asyncio.sleep(0.1)
                await other.d._certifier.presume_dead("order-1", answer.key, answer)  # type: ignore[union-attr]
            return answer

    cache = Frozen()
    charging, other = Charging(cache, lease=0.05), Charging(cache, lease=0.05)

    assert await charging.run() == CHARGE
    assert [move.event for move in cache.journal] == ["doubted", "given_back"]
    assert len(charging.runs) == 1


async def test_cancelled_inside_an_at_most_once_step_is_in_doubt(dsn: str, postgres: PostgresCache) -> None:
    """A process that goes away in the middle of a charge leaves a doubt, not a second charge."""
    gate = Gate()
    charging = Charging(postgres, gate)
    work = asyncio.create_task(charging.d._certifier.value(_work(charging)))  # type: ignore[union-attr]
    await gate.reached.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    records = await Records.of(dsn, "order-1")
    assert (records.states, records.results[0]["reason"], records.events) == (["doubt"], "cancelled", ["doubted"])


async def test_a_write_task_cannot_be_cancelled() -> None:
    """It says so, and goes on."""

    async def write() -> int:
        await asyncio.sleep(0.01)
        return 1

    task = begin(write(), "a write")

    assert isinstance(task, WriteTask)
    assert task.cancel() is False
    assert await task == 1


async def test_a_write_that_fails_during_a_cancellation_is_noted() -> None:
    """The cancellation goes on, with the failure in a note."""

    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise OSError("gone")

    def write() -> Coroutine[Any, Any, None]:
        return fails()

    running = asyncio.create_task(finished(write))
    await asyncio.sleep(0)
    running.cancel()

    with pytest.raises(asyncio.CancelledError) as cancelled:
        await running
    assert "gone" in cancelled.value.__notes__[0]
