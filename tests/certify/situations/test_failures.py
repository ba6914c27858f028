"""Steps that fail, together and again; and transactions that are not what they should be."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import asyncpg
import pytest

from docket import ConfigurationError, Docket, InDoubt, NotApplied
from docket._certify.reconcile import NOT_APPLIED
from docket.errors import BrokenTransaction
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation, Shipment
from tests.certify.doors import Door
from tests.certify.records import Records
from tests.certify.situations.processes import ONCE, UNCLAIMED, Ledger, process
from tests.certify.steps import CHARGE, REQUEST, Charging, Gate, Selling, sales
from tests.orders import request
from tests.procrastinate.queueing import QUEUE
from tests.procrastinate.queueing import Shop as Queue


async def test_r23_sibling_fails_while_a_charge_is_under_way(door: Door) -> None:
    """The charge ends and is certified, then the error is raised; the next attempt charges nobody."""
    d, gate, charges = Docket(cache=door.cache()), Gate(), list[str]()

    @d.step(cache_result="at_most_once")
    async def charge(order: OrderRequest) -> ChargeResult:
        charges.append(order.order_id)
        answer: ChargeResult = await gate()
        return answer

    @d.step
    async def reserve(order: OrderRequest) -> Reservation:
        await gate.reached.wait()
        asyncio.get_running_loop().call_later(0.05, gate.go.set)
        raise LookupError("sold out") if len(charges) == 1 and not gate.go.is_set() else AssertionError

    @d.step
    async def ship(charge: ChargeResult, stock: Reservation) -> Shipment:
        raise AssertionError

    with pytest.raises(LookupError, match="sold out"):
        await d.run("order-1", Shipment, REQUEST)
    records = await Records.of(door.straight, "order-1")

    assert (records.states, records.events) == (["certified"], [])
    assert await d.run("order-1", ChargeResult, REQUEST) == CHARGE
    assert charges == ["order-1"]


async def test_r24_storm_of_retries(door: Door) -> None:
    """A dozen runs that fail at once: each is tried as often as the policy says, never before its pause is over."""
    attempts, backoff, runs = 3, 0.2, 12
    queue = Queue(door.straight, attempts=attempts, backoff=backoff, longest=10.0)
    d = Docket(cache=door.cache(), queue=queue.queue)
    loop = asyncio.get_running_loop()
    tried: defaultdict[str, list[float]] = defaultdict(list)

    @d.step(cache_result="at_most_once")
    async def charge(order: OrderRequest) -> ChargeResult:
        tried[order.order_id].append(loop.time())
        raise NotApplied("the provider is down")

    names = [f"order-{number}" for number in range(runs)]
    await d.enqueue_many(QUEUE, ChargeResult, {name: [request(name)] for name in names})
    async with queue.working(concurrency=runs):
        await queue.become(*["failed"] * runs)
    await d.close()

    assert {name: len(times) for name, times in tried.items()} == dict.fromkeys(names, attempts)
    for first, second, third in tried.values():
        assert second - first >= backoff / 2
        assert third - second >= backoff
    for name in names:
        assert (await Records.of(door.straight, name)).states == ["ready"]


async def test_r32_claim_inside_the_callers_transaction(door: Door) -> None:
    """Refused before anything is written: a claim that the caller's rollback could undo would be none."""

    async def begin(connection: Any) -> None:
        await connection.execute("BEGIN")

    async with asyncpg.create_pool(door.dsn, min_size=0, max_size=2, setup=begin, **door.options) as pool:
        for options in (ONCE, UNCLAIMED):
            charging = Charging(PostgresCache(pool), **options)
            with pytest.raises(ConfigurationError, match="inside a transaction"):
                await charging.run()
            assert charging.runs == []

    assert (await Records.of(door.straight, "order-1")).states == []


@pytest.mark.parametrize("ending", ["COMMIT", "COMMIT; BEGIN"])
async def test_r33_transactional_step_that_commits_by_itself(shop: Door, ending: str) -> None:
    """Its error says so; since its SQL stands without a certificate, the step is in doubt and not run again."""

    async def end(db: Any) -> None:
        await db.execute(ending)

    selling = Selling(shop.cache(), end)
    with pytest.raises(BrokenTransaction, match="leave BEGIN, COMMIT"):
        await selling.run()
    for _ in range(2):
        with pytest.raises(InDoubt, match="step_committed"):
            await selling.run()
    await selling.d.close()
    assert (selling.calls, await sales(shop.straight)) == (1, 1)


@pytest.mark.parametrize("happened", [True, False])
async def test_r34_doubt_that_its_step_can_clear_up(door: Door, ledger: Ledger, happened: bool) -> None:
    """After a killed process the other side is asked: the charge is certified if it knows it, else made, by nobody's hand."""
    async with process(door, ledger) as holder:
        await holder.called()
        holder.kill()
    asked: list[str] = []

    async def find_charge(order: OrderRequest) -> Any:
        asked.append(order.order_id)
        return ChargeResult(charge_id=ledger.effects()[0]) if happened else NOT_APPLIED

    heir = Charging(door.cache(), lease=0.4, reconcile=find_charge, reconcile_after=0.0, **ONCE)
    told = (await heir.run()).charge_id

    assert (told, len(heir.runs)) == ((holder.effect, 0) if happened else (CHARGE.charge_id, 1))
    assert (await heir.run()).charge_id == told
    assert asked == ["order-1"]
    assert (await Records.of(door.straight, "order-1")).events == ["doubted", "settled" if happened else "released"]
