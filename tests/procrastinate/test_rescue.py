"""Workers that die, stop and freeze, with real processes where it matters."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator

import pytest

from docket import InDoubt
from docket.cache import MemoryCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Shipment
from tests.database import connected
from tests.orders import Orders, request
from tests.procrastinate.queueing import QUEUE, Shop, until
from tests.procrastinate.worker import MARKS, build, marks, process

LOST = "UPDATE procrastinate_jobs SET status = 'doing', worker_id = NULL, args = args || $1::text::jsonb"


@pytest.fixture
async def marked(dsn: str) -> AsyncGenerator[str]:
    """The database with a table in which steps of other processes leave their marks."""
    async with connected(dsn) as connection:
        await connection.execute(MARKS)
        yield dsn
        await connection.execute("DROP TABLE mark")


async def test_a_killed_worker_leaves_a_doubt_and_no_second_charge(marked: str) -> None:
    """The job is worked on by another; the charge that was under way is reported, not repeated."""
    d, shop = build(marked)
    order = OrderRequest(order_id="order-1", quantity=600)
    await d.enqueue(QUEUE, Shipment, order, run_id="order-1")
    async with process(marked) as first:
        await until(lambda: marks(marked, "charging order-1"))
        first.kill()
        async with process(marked):
            (row,) = await shop.become("failed")

    assert "InDoubt" in row.outcome["why"]
    assert "holder_lost" in row.outcome["why"]
    assert await marks(marked, "charging order-1") == 1
    with pytest.raises(InDoubt):
        await d.wait("order-1", ChargeResult, timeout=10)
    await d.close()


async def test_a_stopped_worker_lets_a_charge_finish_and_another_goes_on(marked: str) -> None:
    """SIGTERM with less grace than the charge needs: the charge is certified, the job goes back, the shipment is made."""
    d, shop = build(marked)
    await d.enqueue(QUEUE, Shipment, OrderRequest(order_id="order-1", quantity=15), run_id="order-1")
    async with process(marked, grace=0.2) as first:
        await until(lambda: marks(marked, "charging order-1"))
        first.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(first.wait(), 20) == 0
    assert await marks(marked, "charged order-1") == 1
    assert await marks(marked, "shipping order-1") == 0
    async with process(marked):
        await shop.become("succeeded")
    await d.close()

    assert await marks(marked, "charging order-1") == 1


async def test_a_job_that_kills_its_workers_ends(dsn: str) -> None:
    """It may lose its worker as often as the limit says; then it fails for good and the row says why."""
    shop = Shop(dsn, rescues=2, rescue_cron="* * * * * */1")
    orders = Orders(MemoryCache(), shop.queue)
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    for _ in range(2):
        await shop.execute(LOST, "{}")
        async with shop.working(queues=["another"]):
            await shop.become("todo")
    await shop.execute(LOST, "{}")
    async with shop.working(queues=["another"]):
        (row,) = await shop.become("failed")

    assert row.outcome["why"] == "lost its worker 3 times: it may be what kills them"
    assert (row.attempts, orders.calls) == (3, {})


async def test_what_was_lost_does_not_count_as_an_attempt(dsn: str) -> None:
    """A job that was rescued twice still has all of its attempts."""
    shop = Shop(dsn, attempts=1)
    orders = Orders(MemoryCache(), shop.queue)
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    for _ in range(2):
        await shop.execute(LOST, "{}")
        async with shop.working(queues=["another"]):
            await shop.become("todo")
    async with shop.working():
        await shop.become("succeeded")


@pytest.mark.parametrize(
    ("what", "status"),
    [("fail", "failed"), ("again", "todo"), ("later", "todo"), ("wait", "succeeded"), ("cancelled", "aborted")],
)
async def test_an_attempt_that_ended_without_the_queue_being_told(dsn: str, what: str, status: str) -> None:
    """A worker wrote the outcome and could not report it: after a while the job gets the status that the outcome calls for."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    outcome = {"what": what, "why": "it was so", "attempt": 1, "free": 0, "epoch": 1}
    await shop.execute(LOST, json.dumps({"outcome": outcome}))
    await shop.execute(
        "WITH alive AS (INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() + interval '1 hour') RETURNING id)"
        " UPDATE procrastinate_jobs SET worker_id = (SELECT id FROM alive)"
    )
    async with shop.working(queues=["another"]):
        (row,) = await shop.become(status)

    assert row.outcome["why"] == "it was so"


async def test_of_two_lost_jobs_for_one_run_one_is_put_back(dsn: str) -> None:
    """Both may have been fetched before their worker died; the queue takes back only one of them."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    await shop.execute(LOST, "{}")
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    await shop.execute(LOST, "{}")
    async with shop.working(queues=["another"]):
        await shop.become("todo", "aborted")


async def test_a_lost_job_gives_way_to_one_that_waits(dsn: str) -> None:
    """The waiting one does its work; nothing is stuck."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    await shop.execute(LOST, "{}")
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    async with shop.working(queues=["another"]):
        await shop.become("aborted", "todo")


async def test_a_forged_outcome_does_not_stop_the_rescue(dsn: str) -> None:
    """What a row holds cannot make the statement fail for all others."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    runs = {f"order-{number}": [request()] for number in range(4)}
    await orders.d.enqueue_many(QUEUE, Shipment, runs)
    await shop.execute(LOST, "{}")
    forged = [7, {"free": "x", "lost": [1], "epoch": "now"}, {"free": -1, "lost": 10**30}]
    for number, outcome in enumerate(forged, 1):
        arguments = json.dumps({"outcome": outcome})
        await shop.execute("UPDATE procrastinate_jobs SET args = args || $2::text::jsonb WHERE id = $1", number, arguments)
    async with shop.working(queues=["another"]):
        await shop.become("todo", "todo", "todo", "todo")


async def test_a_live_workers_job_is_left_alone(dsn: str) -> None:
    """A job under way is neither put back nor touched, however often the rescue looks."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    shipped = asyncio.Event()
    orders.shipping = shipped.wait
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    other = Shop(dsn)
    Orders(MemoryCache(), other.queue)
    async with shop.working(), other.working(queues=["another"]):
        await shop.become("doing")
        for look in range(2):
            await orders.d.enqueue(QUEUE, Shipment, request(), run_id=f"lost-{look}")
            await shop.execute(LOST + " WHERE status = 'todo'", "{}")
            await shop.become("doing", *["todo"] * (look + 1))  # the rescue has looked
        shipped.set()
        row, *_ = await shop.become("succeeded", "succeeded", "succeeded")

    assert (row.attempts, orders.calls["ship"]) == (1, 3)


async def test_several_workers_make_each_charge_once(marked: str) -> None:
    """Three worker processes and forty runs: every charge is made once."""
    d, shop = build(marked)
    orders = {f"order-{number}": [OrderRequest(order_id=f"order-{number}")] for number in range(40)}
    assert len(await d.enqueue_many(QUEUE, Shipment, orders)) == 40
    async with process(marked), process(marked), process(marked):
        await shop.become(*["succeeded"] * 40)
    await d.close()

    assert [await marks(marked, f"charging {run_id}") for run_id in orders] == [1] * 40
