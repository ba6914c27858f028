"""What is enqueued while something else happens to the job that waits in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString

import pytest

from docket.cache import MemoryCache
from docket.errors import BadJob
from docket.queue import Job
from docket_procrastinate._enqueue import Rows, enqueue_one, enqueue_skipping, enqueue_together
from docket_procrastinate._statements import WAITING
from examples.orders.orders_pb2 import Shipment
from tests.orders import Orders, request
from tests.procrastinate.queueing import QUEUE, Shop

FORGED = """
INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, args) VALUES ('orders', 'x', $1, $2::text::jsonb)
"""


def jobs(*run_ids: str) -> list[Job]:
    """Make jobs that may each wait once."""
    return [Job(QUEUE, run_id, "shop.Parcel", once=True) for run_id in run_ids]


@pytest.mark.parametrize("way", ["one", "together", "skipping"])
async def test_a_job_that_is_taken_before_it_can_be_compared_makes_room(dsn: str, way: str) -> None:
    """A worker takes it between the two statements: it waits no more, so the run is enqueued after all."""
    shop = Shop(dsn)
    await shop.queue.enqueue(jobs("a"), None)

    async def send(query: LiteralString, arguments: Mapping[str, Any]) -> Rows:
        if query is WAITING:
            await shop.execute("UPDATE procrastinate_jobs SET status = 'doing'")
        return await shop.queue._rows(query, arguments)

    if way == "one":
        ids = [await enqueue_one(send, *jobs("a"))]
    else:
        ids = await (enqueue_together if way == "together" else enqueue_skipping)(send, jobs("a", "b"))
    await shop.queue.close()

    assert None not in ids
    assert {row.status for row in await shop.rows()} == {"doing", "todo"}


async def test_a_run_twice_in_one_call_is_one_job(dsn: str) -> None:
    """And jobs that may wait beside one another are as many as were asked for."""
    shop = Shop(dsn)
    a, b, d = jobs("a", "b", "d")
    ids = await shop.queue.enqueue([a, b, a, Job(QUEUE, "c", "t"), Job(QUEUE, "c", "t")], None)
    again = await shop.queue.enqueue([b, *jobs("d"), d, Job(QUEUE, "c", "t")], None)
    await shop.queue.close()

    assert [found is None for found in ids] == [False, False, True, False, False]
    assert [found is None for found in again] == [True, False, True, False]
    assert len(await shop.rows()) == 6


@pytest.mark.parametrize("arguments", ["{}", "[1]", "[" * 3000 + "]" * 3000])
async def test_what_waits_in_its_place_and_is_no_job_is_told(dsn: str, arguments: str) -> None:
    """Whoever enqueues would otherwise believe that the run is on its way. None of many is enqueued either."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    await shop.execute(FORGED, "order-1\torders.Shipment", arguments)
    with pytest.raises(BadJob, match="job 1 on queue 'orders' cannot be worked on"):
        await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    with pytest.raises(BadJob, match="job 1 on queue 'orders' cannot be worked on"):
        await orders.d.enqueue_many(QUEUE, Shipment, {"order-0": [request()], "order-1": [request()]})
    await orders.d.close()

    assert len(await shop.rows()) == 1
