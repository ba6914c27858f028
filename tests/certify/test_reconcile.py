"""A doubt is cleared up by asking the other side: `reconcile=`."""

from __future__ import annotations

from typing import Any

import pytest

from docket import ConfigurationError, InDoubt, Run
from docket._certify.reconcile import NOT_APPLIED
from docket.cache import Cache, MemoryCache
from docket.errors import WrongResult
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
    for _ in range(2):
        with pytest.raises(InDoubt):
            await charging.run()

    assert len(charging.runs) == 1
    assert len(charging.asked) == 1


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
