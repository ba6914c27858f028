"""Retention: values go, what must not happen twice stays known, and nothing in flight is touched."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import pytest

from docket import Docket, Refused, Run
from docket.cache import Retention
from docket.errors import Busy, ConfigurationError, Purged
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation, Shipment
from tests.database import connected
from tests.orders import Orders, request

DAY = timedelta(days=1)


@pytest.fixture
async def cache(dsn: str) -> AsyncGenerator[PostgresCache]:
    """A cache on empty tables."""
    cache = PostgresCache(dsn)
    yield cache
    await cache.close()


async def age(pool: Any, days: float, run_id: str | None = None, key: str | None = None) -> None:
    """Let rows have been changed *days* ago; of one run or key, or all."""
    await pool.execute(
        "UPDATE docket.result SET changed_at = clock_timestamp() - make_interval(secs => $1) "
        "WHERE run_id = coalesce($2, run_id) AND key = coalesce($3, key)",
        days * 86_400, run_id, key,
    )  # fmt: skip


async def rows(pool: Any) -> dict[str, str]:
    """Return the state of each row, by the last name of its type; of one run."""
    found = await pool.fetch("SELECT key, state FROM docket.result")
    return {row["key"].rpartition(".")[2]: row["state"] for row in found}


async def test_values_go_and_the_charge_stays_known(cache: PostgresCache, pool: Any) -> None:
    """What may be made again is deleted, with inputs and journal; the charge keeps a row without value, view or text."""
    orders = Orders(cache)
    await orders.d.run("order-1", Shipment, request())
    await orders.d.invalidate("order-1", Reservation)
    await orders.d.run("order-1", Shipment, request())
    before = await rows(pool)
    await age(pool, 2)
    purged = await cache.purge(DAY)

    assert isinstance(cache, Retention)
    assert before == {"ChargeResult": "certified", "Reservation": "certified"}
    assert purged == 1
    assert await rows(pool) == {"ChargeResult": "purged"}
    assert await pool.fetchval("SELECT count(*) FROM docket.input") == 0
    assert await pool.fetchval("SELECT count(*) FROM docket.journal") == 0
    stone = await pool.fetchrow("SELECT * FROM docket.result")
    assert [stone[name] for name in ("body", "view", "blob", "serializer", "type", "error_text")] == [None] * 6
    assert await cache.purge(DAY) == 0
    assert await cache.purge(0.0) == 0


async def test_an_old_job_runs_nothing(cache: PostgresCache, pool: Any) -> None:
    """A run that needs what was purged is told before any of its steps runs, those that may repeat among them."""
    orders = Orders(cache)
    await orders.d.run("order-1", Shipment, request())
    await age(pool, 2)
    await cache.purge(DAY)
    calls = orders.calls.copy()

    for target in (Shipment, ChargeResult):
        with pytest.raises(Purged, match="ChargeResult was made and its value has been purged since"):
            await orders.d.run("order-1", target, request())
    assert orders.calls == calls
    assert await rows(pool) == {"ChargeResult": "purged"}


async def test_a_refusal_leaves_a_tombstone_whatever_its_mode(cache: PostgresCache, pool: Any) -> None:
    """A final "no" must not become a "yes" because its reason was forgotten."""
    d = Docket(cache=cache)
    asked: list[str] = []

    @d.step(cache_result="at_least_once")
    async def charge(request: OrderRequest, run: Run) -> ChargeResult:
        asked.append(run.run_id)
        raise Refused("card of Ada is stolen")

    with pytest.raises(Refused):
        await d.run("order-1", ChargeResult, request())
    await age(pool, 2)

    assert await cache.purge(DAY) == 1
    assert await pool.fetchval("SELECT state || coalesce(error_text, '') FROM docket.result") == "purged"
    with pytest.raises(Purged):
        await d.run("order-1", ChargeResult, request())
    assert asked == ["order-1"]


@pytest.mark.parametrize("state", ["running", "doubt", "ready"])
async def test_a_run_with_anything_open_is_left_alone(state: str, cache: PostgresCache, pool: Any) -> None:
    """However old it is: somebody may be at it, has to decide, or will try again."""
    orders = Orders(cache)
    await orders.d.run("order-1", Shipment, request())
    await orders.d.run("order-2", Shipment, request("order-2"))
    await pool.execute(
        "INSERT INTO docket.result (run_id, key, mode, state, claim, lease_until, reason) "
        "VALUES ('order-1', 'x', 'at_most_once', $1, gen_random_uuid(), CASE WHEN $1 = 'running' THEN now() END, 'r')",
        state,
    )
    await age(pool, 400)

    assert await cache.purge(DAY) == 1
    assert await pool.fetchval("SELECT count(*) FROM docket.result WHERE run_id = 'order-1' AND state <> 'purged'") == 3


async def test_a_run_with_anything_young_is_left_alone(cache: PostgresCache, pool: Any) -> None:
    """All of a run goes, or nothing."""
    orders = Orders(cache)
    await orders.d.run("order-1", Shipment, request())
    await age(pool, 2)
    await age(pool, 0.5, key="orders.Reservation")
    young = await cache.purge(DAY)
    await age(pool, 2)

    assert (young, await cache.purge(DAY)) == (0, 1)


async def test_batches_are_of_the_size_asked_for(cache: PostgresCache, pool: Any) -> None:
    """The oldest runs go first, at most as many as said, until none is left."""
    orders = Orders(cache)
    for number in range(5):
        await orders.d.run(f"order-{number}", Shipment, request(f"order-{number}"))
        await age(pool, 10 - number, f"order-{number}")
    first = await cache.purge(DAY, 2)
    gone = await pool.fetch("SELECT run_id FROM docket.result WHERE state = 'purged' ORDER BY run_id")
    whole = first
    while done := await cache.purge(DAY, 2):
        assert done <= 2
        whole += done

    assert 1 <= first <= 2
    assert [row["run_id"] for row in gone] == [f"order-{number}" for number in range(first)]
    assert whole == 5


@pytest.mark.parametrize("key", ["orders.ChargeResult", "orders.Reservation"])
async def test_a_run_that_somebody_is_changing_is_left_alone(key: str, cache: PostgresCache, pool: Any) -> None:
    """All of it, without waiting; other runs are purged meanwhile, and this one when it is over."""
    orders = Orders(cache)
    for name in ("order-1", "order-2"):
        await orders.d.run(name, Shipment, request(name))
    await age(pool, 2)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM docket.result WHERE run_id = 'order-1' AND key = $1 FOR UPDATE", key)
        meanwhile = await cache.purge(DAY)
        left = await pool.fetch("SELECT state FROM docket.result WHERE run_id = 'order-1'")

    assert meanwhile == 1
    assert [row["state"] for row in left] == ["certified", "certified"]
    assert await cache.purge(DAY) == 1


async def test_a_purge_in_the_middle_of_a_run_repeats_nothing(cache: PostgresCache, pool: Any) -> None:
    """An attempt that has fetched the charge goes on with it; what it certifies is there; the charge is not made again."""
    orders = Orders(cache)
    await orders.d.run("order-1", ChargeResult, request())
    await age(pool, 2)
    purged: list[int] = []

    async def purge() -> None:
        purged.append(await cache.purge(DAY))

    orders.shipping = purge
    made = await orders.d.run("order-1", Shipment, request())

    assert made.charge_id == "ch-1"
    assert purged == [0]  # the reservation was certified a moment ago
    assert orders.calls["charge"] == 1


async def test_a_purge_under_a_running_charge_leaves_its_claim(cache: PostgresCache, pool: Any) -> None:
    """Even with an age of nothing: what is claimed is open, and is certified afterwards."""
    orders = Orders(cache)
    await orders.d.run("order-1", Reservation, request())
    purged: list[int] = []

    async def purge() -> None:
        purged.append(await cache.purge(0.0))

    orders.charging = purge
    await orders.d.run("order-1", Shipment, request())

    assert purged == [0]
    assert await rows(pool) == {"ChargeResult": "certified", "Reservation": "certified"}


@pytest.mark.parametrize("seed", range(3))
async def test_purges_that_race_with_runs_repeat_no_effect(seed: int, dsn: str, pool: Any) -> None:
    """Purging everything at every moment, under runs of three processes' worth of caches: each charge is made at most once."""
    charged: Counter[str] = Counter()
    caches = [PostgresCache(dsn) for _ in range(3)]
    shops = [Orders(cache, wait=5.0) for cache in caches]
    names = [f"order-{seed}-{number}" for number in range(12)]
    outcomes: Counter[str] = Counter()

    async def attempt(orders: Orders, name: str) -> None:
        try:
            made = await orders.d.run(name, Shipment, request(name))
            outcomes[type(made).__name__] += 1
        except (Purged, Busy) as error:
            outcomes[type(error).__name__] += 1

    async def purging(done: asyncio.Event) -> None:
        while not done.is_set():
            outcomes["purges"] += await caches[0].purge(0.0, 5)

    done = asyncio.Event()
    purge = asyncio.create_task(purging(done))
    try:
        for _ in range(3):
            await asyncio.gather(*(attempt(orders, name) for orders in shops for name in names))
    finally:
        done.set()
        await purge
        for cache in caches:
            await cache.close()
    for orders in shops:
        charged.update(run.run_id for run in orders.runs)

    assert max(charged.values()) == 1, charged
    assert outcomes["Shipment"] > 0
    assert outcomes["Purged"] > 0
    assert outcomes["purges"] > 0


async def test_a_purge_looks_at_no_more_than_its_batch(cache: PostgresCache, pool: Any) -> None:
    """Among many finished runs, only those of the batch are locked and written."""
    await pool.execute(
        "INSERT INTO docket.result (run_id, key, mode, state, claim, serializer, type, body, certified_at, changed_at) "
        "SELECT 'r' || n, 'k', 'at_most_once', 'certified', $1, 'json', 'k', '{}', now(), now() - interval '2 days' "
        "FROM generate_series(1, 2000) n",
        uuid.uuid4(),
    )
    await pool.execute("ANALYZE docket.result")

    assert await cache.purge(DAY, 10) == 10
    assert await pool.fetchval("SELECT count(*) FROM docket.result WHERE xmax <> 0 OR state = 'purged'") == 10


async def test_a_supplied_value_that_was_purged_is_not_taken_for_absent(dsn: str, cache: PostgresCache) -> None:
    """Nobody decides as if it had never been given: the run says that it is gone, and so does supplying it again."""
    decided: list[bool] = []
    d = Docket(cache=cache)

    @d.step(cache_result="at_least_once")
    async def ship(order: OrderRequest, approval: Reservation | None) -> Shipment:
        decided.append(approval is not None)
        return Shipment(tracking_number=order.order_id)

    await d.supply("order-1", Reservation(sku="approved"))
    await d.run("order-1", Shipment, request())
    async with connected(dsn) as connection:
        await connection.execute("UPDATE docket.result SET changed_at = now() - interval '2 days'")
    assert await cache.purge(86_400.0) == 1

    with pytest.raises(Purged, match="Reservation"):
        await d.run("order-1", Shipment, request())
    with pytest.raises(Purged, match="Reservation"):
        await d.supply("order-1", Reservation(sku="approved"))
    assert decided == [True]


@pytest.mark.parametrize("age", [-1.0, "90d", True])
async def test_an_age_that_is_none_is_refused(age: Any, cache: PostgresCache) -> None:
    """Before anything is deleted by it."""
    with pytest.raises(ConfigurationError, match=r"purge\(older_than=.*\): give seconds or a timedelta, 0 or more"):
        await cache.purge(age)
