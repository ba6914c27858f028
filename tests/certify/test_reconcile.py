"""A doubt is cleared up by asking the other side: `reconcile=`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import Any

import pytest

from docket import ConfigurationError, InDoubt, Refused, Run
from docket._certify.certifier import ASK_AGAIN
from docket._certify.reconcile import NOT_APPLIED
from docket.cache import Cache, MemoryCache
from docket.errors import DeadlineExceeded, NotInDoubt, StepTimeout, WrongResult
from docket.queue import verdict
from examples.orders.orders_pb2 import ChargeResult, OrderRequest
from tests.certify.steps import CHARGE, REQUEST, Charging, charged, failing


class Reconciling(Charging):
    """A charge whose doubts are settled by asking the provider."""

    def __init__(self, cache: Cache, body: Any, answer: Any, *, after: float = 0.0) -> None:
        self.asked: list[tuple[OrderRequest, Run]] = []

        async def find_charge(run: Run, request: OrderRequest) -> Any:
            self.asked.append((request, run))
            if isinstance(answer, Exception):
                raise answer
            return answer

        super().__init__(cache, body, cache_result="at_most_once", reconcile=find_charge, reconcile_after=after)


async def test_a_doubt_is_settled_by_asking(cache: Cache) -> None:
    """The provider knows the charge: it is certified, and the step is not run again."""
    charging = Reconciling(cache, failing(OSError("gone")), CHARGE)
    with pytest.raises(InDoubt) as doubt:
        await charging.run()

    assert await charging.run() == CHARGE
    assert await charging.run() == CHARGE
    assert (len(charging.runs), len(charging.asked)) == (1, 1)
    assert charging.asked[0][0] == REQUEST
    assert charging.asked[0][1].idempotency_key == charging.runs[0].idempotency_key
    assert doubt.value.retry_after == 0.0


async def test_a_doubt_is_released_by_asking(cache: Cache) -> None:
    """The provider knows nothing of it: the step runs again, under a larger token."""
    charging = Reconciling(cache, failing(OSError("gone")), NOT_APPLIED)
    with pytest.raises(InDoubt):
        await charging.run()
    charging.body = charged

    assert await charging.run() == CHARGE
    assert [run.token for run in charging.runs] == [1, 3]


async def test_a_question_without_an_answer_leaves_the_doubt(cache: Cache) -> None:
    """When asking fails, the doubt stays, with the reason."""
    charging = Reconciling(cache, failing(OSError("gone")), OSError("provider down"))
    with pytest.raises(InDoubt):
        await charging.run()
    with pytest.raises(InDoubt) as doubt:
        await charging.run()

    assert len(charging.runs) == 1
    assert len(charging.asked) == 1
    assert verdict(doubt.value).what == "later"  # a queue asks again: the outage may be over then
    assert doubt.value.retry_after == ASK_AGAIN


async def test_a_refusal_of_the_other_side_is_final(cache: Cache) -> None:
    """It was asked for and declined, which is neither a result nor nothing: certified, and raised from then on."""
    charging = Reconciling(cache, failing(OSError("gone")), Refused("declined by the issuer"))
    with pytest.raises(InDoubt):
        await charging.run()

    for _ in range(2):
        with pytest.raises(Refused, match="declined by the issuer"):
            await charging.run()
    assert (len(charging.runs), len(charging.asked)) == (1, 1)


async def test_a_person_may_say_that_it_was_refused(cache: Cache) -> None:
    """As a step would have: the doubt is over, and a later verdict on it is too late."""
    charging = Charging(cache, failing(OSError("gone")))
    with pytest.raises(InDoubt) as doubt:
        await charging.run()
    await charging.d.settle("order-1", ChargeResult, Refused("declined by phone"), token=doubt.value.token, by="ada")

    with pytest.raises(Refused, match="declined by phone"):
        await charging.run()
    with pytest.raises(NotInDoubt):
        await charging.d.settle("order-1", ChargeResult, CHARGE)
    assert len(charging.runs) == 1


async def test_a_refusal_can_be_taken_back(cache: Cache) -> None:
    """What was refused because of something that turned out wrong is asked for again, and nothing is forced by that."""
    charging = Charging(cache, failing(Refused("the limit is too low")))
    with pytest.raises(Refused):
        await charging.run()
    taken = await charging.d.invalidate("order-1", ChargeResult, note="the limit was wrong")
    charging.body = charged

    assert taken == ("orders.ChargeResult",)
    assert await charging.run() == CHARGE


@pytest.mark.parametrize("answer", [None, REQUEST])
async def test_an_answer_that_is_no_result_leaves_the_doubt(cache: Cache, answer: object) -> None:
    """None for "I do not know", and a value of another type, certify nothing; the error says who answered what."""
    charging = Reconciling(cache, failing(OSError("gone")), answer)
    with pytest.raises(InDoubt):
        await charging.run()

    for _ in range(2):
        with pytest.raises(InDoubt, match="OSError: gone; its reconcile function gave no answer: WrongResult") as doubt:
            await charging.run()
        assert "find_charge" in str(doubt.value)
        assert "return one of these, or raise if it cannot tell" in str(doubt.value)
        assert isinstance(doubt.value.__cause__, WrongResult)

    assert (len(charging.runs), len(charging.asked)) == (1, 2)
    await charging.d.settle("order-1", ChargeResult, CHARGE)
    assert await charging.run() == CHARGE


async def test_what_a_question_met_is_shown_without_its_secrets(cache: Cache) -> None:
    """The error of a reconcile function comes into the text of the doubt as a stored error would."""
    charging = Reconciling(cache, failing(OSError("gone")), OSError("no answer from https://ada:hunter2@pay.example"))
    with pytest.raises(InDoubt):
        await charging.run()

    with pytest.raises(InDoubt, match="no answer from") as doubt:
        await charging.run()

    assert "hunter2" not in str(doubt.value)


async def test_a_young_doubt_is_not_asked_about(cache: Cache) -> None:
    """The call may still be on its way, and then the provider would say that nothing happened."""
    charging = Reconciling(cache, failing(OSError("gone")), NOT_APPLIED, after=60.0)
    waits: list[float | None] = []
    for _ in range(2):
        with pytest.raises(InDoubt, match="reconcile") as doubt:
            await charging.run()
        waits.append(doubt.value.retry_after)

    assert all(wait is not None and 50 < wait <= 60 for wait in waits)
    assert charging.asked == []


async def test_a_reconcile_function_that_fits_nothing_is_refused() -> None:
    """What it takes must be among the step's needs, and that is said before anything runs."""

    async def find(other: ChargeResult) -> ChargeResult:
        return other

    charging = Charging(MemoryCache(), cache_result="at_most_once", reconcile=find)

    with pytest.raises(ConfigurationError, match="OrderRequest"):
        charging.d.check()


class Asking(Charging):
    """A charge in doubt whose provider is asked by *ask*."""

    def __init__(self, cache: Cache, ask: Callable[[OrderRequest], Any], *, grace: float = 5.0, **options: Any) -> None:
        fail = failing(OSError("gone"))
        chosen: dict[str, Any] = {"cache_result": "at_most_once", "reconcile": ask, "reconcile_after": 0.0, **options}
        super().__init__(cache, fail, grace=grace, **chosen)

    async def doubt(self) -> None:
        """Come to be in doubt."""
        with pytest.raises(InDoubt):
            await self.run()


async def test_a_plain_question_does_not_block_the_loop(cache: Cache) -> None:
    """A plain function is called in a thread of the Docket's, as a plain step is."""
    threads: list[str] = []

    def find(request: OrderRequest) -> ChargeResult:
        threads.append(threading.current_thread().name)
        return CHARGE

    charging = Asking(cache, find)
    await charging.doubt()

    assert await charging.run() == CHARGE
    assert threads[0].startswith("docket step")


async def test_a_function_that_hands_back_an_awaitable_is_awaited(cache: Cache) -> None:
    """A lambda around an async function is one, too."""

    async def find(request: OrderRequest) -> ChargeResult:
        return CHARGE

    def wrapped(request: OrderRequest) -> Any:
        return find(request)

    charging = Asking(cache, wrapped)
    await charging.doubt()

    assert await charging.run() == CHARGE


@pytest.mark.parametrize("options", [{"timeout": 0.05}, {}])
async def test_a_question_has_a_limit(cache: Cache, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The step's timeout is the question's, too; without one there is a limit all the same. The doubt stays."""
    monkeypatch.setattr("docket._certify.reconcile.ASKING", 0.05)

    async def find(request: OrderRequest) -> ChargeResult:
        await asyncio.sleep(60)
        return CHARGE

    charging = Asking(cache, find, **options)
    await charging.doubt()

    with pytest.raises(InDoubt, match=r"find gave no answer within 0\.05 s") as doubt:
        await charging.run()

    assert isinstance(doubt.value.__cause__, StepTimeout)
    assert (await cache.load("order-1")).results["orders.ChargeResult"].state == "doubt"


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_question_ends_with_its_run(cache: Cache, stubborn: bool, caplog: pytest.LogCaptureFixture) -> None:
    """The deadline of the run stops the question; one that does not stop is left behind after the grace."""
    asked, go = asyncio.Event(), asyncio.Event()

    async def find(request: OrderRequest) -> ChargeResult:
        asked.set()
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                if not stubborn:
                    raise
        return CHARGE

    charging = Asking(cache, find, grace=0.05)
    await charging.doubt()

    async with asyncio.timeout(10):
        with pytest.raises(DeadlineExceeded):
            await charging.d.run("order-1", ChargeResult, REQUEST, deadline=0.1)

    go.set()
    assert asked.is_set()
    assert ("after the end of its run, and was left behind" in caplog.text) == stubborn
    assert (await cache.load("order-1")).results["orders.ChargeResult"].state == "doubt"


async def test_a_question_ends_with_its_caller(cache: Cache) -> None:
    """A caller who is cancelled does not wait for the answer, and the next attempt asks again."""
    asked, calls = asyncio.Event(), list[int]()

    async def find(request: OrderRequest) -> ChargeResult:
        calls.append(1)
        if len(calls) == 1:
            asked.set()
            await asyncio.sleep(60)
        return CHARGE

    charging = Asking(cache, find)
    await charging.doubt()
    running = asyncio.create_task(charging.run())
    await asked.wait()
    running.cancel()

    async with asyncio.timeout(10):
        with pytest.raises(asyncio.CancelledError):
            await running

    assert await charging.run() == CHARGE


async def test_an_answer_that_comes_while_it_is_stopped_counts(cache: Cache) -> None:
    """What the other side said within the grace is certified, as a step's answer would be."""

    async def find(request: OrderRequest) -> ChargeResult:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        return CHARGE

    charging = Asking(cache, find, timeout=0.05)
    await charging.doubt()

    assert await charging.run() == CHARGE
