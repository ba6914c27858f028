"""A run from end to end, in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from uuid import UUID

import pytest

from docket import (
    Docket,
    InDoubt,
    InputsChanged,
    MissingInput,
    NotApplied,
    Refused,
    WiringError,
)
from docket.cache import Cache, Held, MemoryCache
from docket.errors import BadRunId, Busy, ConfigurationError, NotInDoubt, UnexpectedInput, UnknownTarget
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation, Shipment, ValidOrder
from tests.orders import Orders, request


@pytest.fixture(params=["memory", "postgres"])
async def cache(request: pytest.FixtureRequest, dsn: str) -> AsyncGenerator[Cache]:
    """Each cache in turn."""
    made: Cache = MemoryCache() if request.param == "memory" else PostgresCache(dsn)
    yield made
    await made.close()


async def test_a_run_calls_each_step_once_and_returns_the_target(cache: Cache) -> None:
    """A cold run calls every step once; a diamond's shared step too."""
    orders = Orders(cache)

    shipment = await orders.d.run("order-1", orders.create_shipment, request())

    assert shipment.tracking_number == "trk"
    assert orders.calls == {"validate": 1, "charge": 1, "reserve": 1, "ship": 1}


async def test_a_second_run_fetches_what_is_certified_and_computes_the_rest(cache: Cache) -> None:
    """With both precious results certified, only the uncertified steps that are still needed run again."""
    orders = Orders(cache)
    await orders.d.run("order-1", Shipment, request())

    again = await orders.d.run("order-1", Shipment, request())

    assert again.charge_id == "ch-1"
    assert orders.calls == {"validate": 1, "charge": 1, "reserve": 1, "ship": 2}


async def test_a_run_can_end_anywhere(cache: Cache) -> None:
    """A target is any type; what it does not need is not looked at."""
    orders = Orders(cache)

    charge = await orders.d.run("order-1", ChargeResult, request())

    assert charge.amount_cents == 1999
    assert orders.calls == {"validate": 1, "charge": 1}


async def test_fetch_returns_what_is_certified_and_never_computes(cache: Cache) -> None:
    """Nothing before the run, the certified value after it."""
    orders = Orders(cache)
    before = await orders.d.fetch("order-1", ChargeResult)
    await orders.d.run("order-1", Shipment, request())

    after = await orders.d.fetch("order-1", ChargeResult)

    assert before is None
    assert after is not None
    assert after.charge_id == "ch-1"
    assert orders.calls["charge"] == 1


async def test_a_failed_step_is_retried_from_the_certified_results(cache: Cache) -> None:
    """The step's own exception comes through unchanged; the next attempt charges nobody."""
    orders = Orders(cache)

    async def fail() -> None:
        raise ConnectionError("the carrier is down")

    orders.shipping = fail
    with pytest.raises(ConnectionError, match="the carrier is down"):
        await orders.d.run("order-1", Shipment, request())
    orders.shipping = lambda: asyncio.sleep(0)

    shipment = await orders.d.run("order-1", Shipment, request())

    assert shipment.charge_id == "ch-1"
    assert orders.calls["charge"] == 1


async def test_recorded_inputs_are_used_when_none_are_supplied(cache: Cache) -> None:
    """A later call may leave the request out; a step that still needs it sees the one recorded."""
    orders = Orders(cache)
    await orders.d.run("order-1", ChargeResult, request())

    reservation = await orders.d.run("order-1", Reservation)

    assert reservation.sku == "sku-1"


async def test_other_inputs_under_the_same_run_id_are_refused(cache: Cache) -> None:
    """A run id is an idempotency key: nothing runs, nothing is charged."""
    orders = Orders(cache)
    await orders.d.run("order-1", Shipment, request())
    before = Counter(orders.calls)

    with pytest.raises(InputsChanged, match="OrderRequest"):
        await orders.d.run("order-1", Shipment, request(amount_cents=5))

    assert orders.calls == before


async def test_an_unclassified_error_of_an_at_most_once_step_is_in_doubt(cache: Cache) -> None:
    """Nobody knows whether the effect took place: no retry, and a person's settlement ends it."""
    orders = Orders(cache)

    async def fail() -> None:
        raise ConnectionResetError("connection reset")

    orders.charging = fail
    with pytest.raises(InDoubt, match="connection reset") as first:
        await orders.d.run("order-1", Shipment, request())
    with pytest.raises(InDoubt) as second:
        await orders.d.run("order-1", Shipment, request())

    assert (first.value.reason, second.value.reason) == ("error", "error")
    assert orders.calls["charge"] == 1
    await orders.d.settle("order-1", ChargeResult, ChargeResult(charge_id="found"), token=second.value.token)
    shipment = await orders.d.run("order-1", Shipment, request())
    assert shipment.charge_id == "found"
    assert orders.calls["charge"] == 1


async def test_a_released_doubt_runs_again(cache: Cache) -> None:
    """A person who knows that nothing happened lets the step run once more, under a larger token."""
    orders = Orders(cache)

    async def fail() -> None:
        raise ConnectionResetError

    orders.charging = fail
    with pytest.raises(InDoubt):
        await orders.d.run("order-1", Shipment, request())
    orders.charging = lambda: asyncio.sleep(0)
    await orders.d.release("order-1", ChargeResult)

    shipment = await orders.d.run("order-1", Shipment, request())

    assert shipment.charge_id == "ch-2"
    assert orders.runs[1].token > orders.runs[0].token
    assert orders.runs[1].idempotency_key == orders.runs[0].idempotency_key


async def test_a_verdict_needs_its_doubt(cache: Cache) -> None:
    """Settling or releasing what is not in doubt, or on a stale token, changes nothing."""
    orders = Orders(cache)
    await orders.d.run("order-1", ChargeResult, request())

    with pytest.raises(NotInDoubt, match="certified"):
        await orders.d.release("order-1", ChargeResult)
    with pytest.raises(NotInDoubt, match="nothing is recorded"):
        await orders.d.settle("order-2", ChargeResult, ChargeResult())


async def test_an_effect_that_outlived_its_row_is_settled(cache: Cache) -> None:
    """With a token of 0 a person says that nothing is recorded and all the same it happened; whoever began it first decides."""
    orders = Orders(cache)
    found = ChargeResult(charge_id="on the dashboard")
    with pytest.raises(NotInDoubt, match="nothing is recorded"):
        await orders.d.settle("order-1", ChargeResult, found, token=1)
    await orders.d.settle("order-1", ChargeResult, found, token=0, note="restored from a backup")
    with pytest.raises(NotInDoubt, match="certified"):
        await orders.d.settle("order-1", ChargeResult, ChargeResult(), token=0)
    reached, go = asyncio.Event(), asyncio.Event()

    async def charging() -> None:
        reached.set()
        await go.wait()

    orders.charging = charging
    running = asyncio.create_task(orders.d.run("order-2", ChargeResult, request("order-2")))
    await reached.wait()
    with pytest.raises(NotInDoubt, match="running"):
        await orders.d.settle("order-2", ChargeResult, found, token=0)
    go.set()

    assert (await running).charge_id == "ch-1"
    assert await orders.d.run("order-1", ChargeResult, request()) == found
    assert orders.calls["charge"] == 1


async def test_not_applied_lets_the_step_run_again(cache: Cache) -> None:
    """A step that knows nothing happened says so, and is not in doubt."""
    orders = Orders(cache)

    async def refuse() -> None:
        raise NotApplied("the provider was not reached")

    orders.charging = refuse
    with pytest.raises(NotApplied):
        await orders.d.run("order-1", Shipment, request())
    orders.charging = lambda: asyncio.sleep(0)

    shipment = await orders.d.run("order-1", Shipment, request())

    assert shipment.charge_id == "ch-2"


async def test_a_refusal_is_final(cache: Cache) -> None:
    """A business refusal is certified and raised again without asking again."""
    orders = Orders(cache)

    async def decline() -> None:
        raise Refused("insufficient funds")

    orders.charging = decline
    with pytest.raises(Refused):
        await orders.d.run("order-1", Shipment, request())
    orders.charging = lambda: asyncio.sleep(0)

    with pytest.raises(Refused, match="insufficient funds"):
        await orders.d.run("order-1", Shipment, request())
    assert orders.calls["charge"] == 1


async def test_a_held_step_is_waited_for(cache: Cache) -> None:
    """While another holder is at the step, a second one waits and then fetches; it never runs it."""
    first, second = Orders(cache), Orders(cache)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go_on.wait()

    first.charging = hold
    one = asyncio.create_task(first.d.run("order-1", ChargeResult, request()))
    await reached.wait()
    two = asyncio.create_task(second.d.run("order-1", ChargeResult, request()))
    await asyncio.sleep(0.05)
    go_on.set()

    charges = await asyncio.gather(one, two)

    assert charges[0] == charges[1]
    assert second.calls["charge"] == 0


async def test_a_held_step_that_takes_too_long_is_busy(cache: Cache) -> None:
    """Past the wait, the caller is told when to ask again."""
    first, second = Orders(cache), Orders(cache, wait=0.05)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go_on.wait()

    first.charging = hold
    one = asyncio.create_task(first.d.run("order-1", ChargeResult, request()))
    await reached.wait()

    with pytest.raises(Busy) as busy:
        await second.d.run("order-1", ChargeResult, request())

    assert 0 < busy.value.retry_after <= 60
    go_on.set()
    await one


async def test_a_silent_holder_leaves_a_doubt(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the lease of an at-most-once step ends without an answer, the next attempt finds it in doubt."""
    first, second = Orders(cache, lease=0.2), Orders(cache, lease=0.2)

    async def renew(held: Sequence[Held], lease: float, /) -> frozenset[UUID]:
        return frozenset(one.nonce for one in held)  # a heartbeat that never arrives

    monkeypatch.setattr(cache, "renew", renew)
    reached = asyncio.Event()

    async def hold() -> None:
        reached.set()
        await asyncio.sleep(0.6)

    first.charging = hold
    one = asyncio.create_task(first.d.run("order-1", ChargeResult, request()))
    await reached.wait()
    await asyncio.sleep(0.3)

    with pytest.raises(InDoubt) as doubt:
        await second.d.run("order-1", ChargeResult, request())
    late = await one
    after = await second.d.run("order-1", ChargeResult, request())

    assert doubt.value.reason == "holder_lost"
    assert late == after
    assert second.calls["charge"] == 0


async def test_a_cancelled_caller_does_not_lose_a_charge(cache: Cache) -> None:
    """A charge under way when its caller is cancelled finishes and is certified."""
    orders = Orders(cache)
    reached = asyncio.Event()

    async def hold() -> None:
        reached.set()
        await asyncio.sleep(0.05)

    orders.charging = hold
    run = asyncio.create_task(orders.d.run("order-1", Shipment, request()))
    await reached.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run

    assert await orders.d.fetch("order-1", ChargeResult) is not None


async def test_bad_calls_are_told_at_once(cache: Cache) -> None:
    """Each mistake has its own error, and nothing runs."""
    orders = Orders(cache)

    with pytest.raises(MissingInput, match="OrderRequest is needed"):
        await orders.d.run("order-1", Shipment)
    with pytest.raises(UnexpectedInput, match="gives it"):
        await orders.d.run("order-1", Shipment, ValidOrder())
    with pytest.raises(UnexpectedInput, match="no step takes one"):
        await orders.d.run("order-1", Shipment, request(), "stray")
    with pytest.raises(UnexpectedInput, match="pass one"):
        await orders.d.run("order-1", Shipment, request(), request())
    with pytest.raises(UnknownTarget, match="nothing gives OrderRequest"):
        await orders.d.run("order-1", OrderRequest, request())
    with pytest.raises(BadRunId):
        await orders.d.run("order\n1", Shipment, request())
    with pytest.raises(UnknownTarget, match="mark"):
        await orders.d.fetch("order-1", Shipment)

    assert orders.calls == {}


async def test_what_is_kept_needs_a_cache() -> None:
    """A step marked cache_result without a cache is refused before anything runs."""
    d = Docket()

    @d.step(cache_result="at_least_once")
    async def reserve(request: OrderRequest) -> Reservation:
        raise AssertionError

    with pytest.raises(ConfigurationError, match="nowhere to keep it"):
        await d.run("order-1", Reservation, request())


async def test_the_wiring_is_checked_before_anything_runs() -> None:
    """Two providers and a circle are both reported, in one error."""
    d = Docket()

    @d.step
    async def one(order: ValidOrder) -> ChargeResult:
        raise AssertionError

    @d.step
    async def other(order: ValidOrder) -> ChargeResult:
        raise AssertionError

    @d.step
    async def circle(charge: ChargeResult) -> ValidOrder:
        raise AssertionError

    with pytest.raises(WiringError) as error:
        await d.run("order-1", ChargeResult)
    text = str(error.value)
    assert "2 problems" in text
    assert "ChargeResult is given twice" in text
    assert "in a circle" in text


async def test_no_step_is_registered_after_the_first_run() -> None:
    """The wiring is frozen once it is in use."""
    d = Docket()

    @d.step
    async def validate(request: OrderRequest) -> ValidOrder:
        return ValidOrder()

    await d.run("order-1", ValidOrder, request())

    async def late(order: ValidOrder) -> ChargeResult:
        raise AssertionError

    with pytest.raises(ConfigurationError, match="comes too late"):
        d.register(late)
