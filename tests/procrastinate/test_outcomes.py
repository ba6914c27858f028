"""How a job ends, and where one reads why."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

import docket_procrastinate
from docket import Docket, InDoubt
from docket.cache import MemoryCache
from docket.errors import ConfigurationError, RetryLater, Unstorable
from docket.postgres import PostgresCache
from docket.queue import MOST_BYTES, Job
from docket_procrastinate import ProcrastinateQueue
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Shipment
from tests.database import connected
from tests.orders import Orders, request
from tests.procrastinate.queueing import QUEUE, Shop, until
from tests.procrastinate.wire import Proxy

VIEWS = Path(docket_procrastinate.__file__).with_name("views.sql")


async def test_a_failure_is_written_beside_the_job_and_read_in_one_select(dsn: str) -> None:
    """The view shows the run, the state, the reason and what it waits for, without a line of Python."""
    shop = Shop(dsn, attempts=2)
    orders = Orders(MemoryCache(), shop.queue)

    async def fail() -> None:
        raise RuntimeError("the printer is out of paper")

    orders.shipping = fail
    await shop.execute(VIEWS.read_text())
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    async with shop.working():
        await shop.become("failed")

    async with connected(dsn) as connection:
        rows = await connection.fetch("SELECT * FROM docket.run_status WHERE run_id = 'order-1'")
    assert [(row["what"], row["key"], row["state"]) for row in rows] == [("job 1 on orders", "orders.Shipment", "failed")]
    assert rows[0]["last_error"] == "gave up after 2 attempts: RuntimeError: the printer is out of paper"
    assert rows[0]["waiting_for"] == "a person: mend the cause and enqueue again"


async def test_the_views_are_printed_for_psql() -> None:
    """``python -m docket_procrastinate`` writes exactly the file that ships with the package."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "docket_procrastinate", cwd=VIEWS.parents[1], stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()

    assert output.decode() == VIEWS.read_text()


async def test_the_view_says_what_a_waiting_job_waits_for(dsn: str) -> None:
    """A queue nobody works, a time that has not come: both can be read."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    await shop.execute(VIEWS.read_text())
    await shop.execute(VIEWS.read_text())
    await orders.d.enqueue("ordres", Shipment, request(), run_id="order-1")
    await shop.execute("UPDATE procrastinate_jobs SET scheduled_at = '2199-01-01' WHERE id = 1")
    await orders.d.enqueue("ordres", Shipment, request(), run_id="order-2")

    async with connected(dsn) as connection:
        rows = await connection.fetch("SELECT state, waiting_for FROM docket.job ORDER BY run_id")
    await shop.queue.close()
    assert [row["state"] for row in rows] == ["enqueued", "enqueued"]
    assert rows[0]["waiting_for"].startswith("its time, 2199-01-01")
    assert rows[1]["waiting_for"] == "a worker of queue ordres"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("{}", "BadJob: job 1 on queue 'orders' cannot be worked on: it does not describe a run (KeyError: 'run_id')"),
        ('{"run_id": 7, "target": "orders.Shipment", "inputs": []}', "a text was expected, not int"),
        ('{"run_id": "o", "target": "orders.Shipment", "inputs": [{"type": "x"}]}', "KeyError: 'serializer'"),
        ('{"run_id": "o", "target": "orders.Shipment", "inputs": [{"type":"x","serializer":"p","body":"!"}]}', "base64"),
        ('{"run_id": " o", "target": "orders.Shipment", "inputs": []}', "BadRunId: the run id ' o' has blanks around it"),
        ('{"run_id": "o", "target": "os.system", "inputs": []}', "UnknownTarget: run 'o': nothing gives os.system"),
        (
            '{"run_id":"o","target":"orders.Shipment","inputs":[{"type":"orders.ChargeResult","serializer":"p","body":""}]}',
            "UnexpectedInput: run 'o': a value of type orders.ChargeResult was passed, but no step takes one",
        ),
        (
            '{"run_id":"o","target":"orders.Shipment","inputs":[{"type":"orders.OrderRequest","serializer":"pickle","body":""}]}',
            "Undecodable: run 'o'",
        ),
        (
            '{"run_id":"o","target":"orders.Shipment",'
            '"inputs":[{"type":"orders.OrderRequest","serializer":"protobuf","body":"/w=="}]}',
            "Undecodable: run 'o'",
        ),
        (
            '{"run_id":"o","target":"orders.Shipment",'
            '"inputs":[{"type":"orders.OrderRequest","serializer":"none","body":""}]}',
            "UnexpectedInput: run 'o': a value of type orders.OrderRequest was passed, but it is None, which no input is",
        ),
        ('{"run_id": "o", "target": "orders.Shipment", "inputs": []}', "MissingInput: run 'o': OrderRequest is needed"),
        ('{"run_id": "o", "target": "orders.Shipment", "inputs": [], "outcome": {"free": 99, "lost": "x"}}', "MissingInput"),
    ],
)
async def test_a_forged_or_outdated_job_fails_for_good_with_its_reason(dsn: str, arguments: str, why: str) -> None:
    """Whatever stands in a row, no step is called, nothing is tried again, and the row says why."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    await shop.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('orders', 'docket.run', $1::text::jsonb)",
        arguments,
    )
    async with shop.working():
        (row,) = await shop.become("failed")

    assert why in row.outcome["why"]
    assert row.attempts == 1
    assert orders.calls == {}


async def test_a_job_whose_arguments_are_no_object_is_ended(dsn: str) -> None:
    """Procrastinate cannot even log such a row; the rescue ends it, and other jobs go on."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    await shop.execute("INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('orders', 'docket.run', '[1]')")
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    async with shop.working():
        await shop.become("failed", "succeeded")


@pytest.mark.parametrize(("nested", "why"), [("[" * 3000 + "]" * 3000, "RecursionError"), ("9" * 5000, "ValueError")])
async def test_arguments_that_python_cannot_read_do_not_stop_a_worker(dsn: str, nested: str, why: str) -> None:
    """The job fails for good and says why; one of another task is not called with anything else; other jobs go on."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    called: list[object] = []

    @shop.app.task(name="of_the_users")
    async def of_the_users(**arguments: object) -> None:
        called.append(arguments)

    for task in ("docket.run", "of_the_users"):
        await shop.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('orders', $1, $2::text::jsonb)",
            task, f'{{"run_id": "o", "target": "orders.Shipment", "inputs": {nested}}}',
        )  # fmt: skip
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    async with shop.working():
        forged, *_ = await shop.become("failed", "failed", "succeeded")

    assert f"BadJob: job 1 on queue 'orders' cannot be worked on: its arguments cannot be read ({why}" in forged.outcome["why"]
    assert (forged.attempts, called) == (1, [])


async def test_inputs_over_the_limit_are_refused_when_they_are_enqueued(dsn: str) -> None:
    """The call says so, and nothing is on the queue."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    with pytest.raises(Unstorable, match="a job carries at most 1048576"):
        await orders.d.enqueue(QUEUE, Shipment, OrderRequest(customer="x" * MOST_BYTES), run_id="order-1")

    assert await shop.rows() == []


async def test_a_job_over_the_limit_that_is_there_all_the_same_is_not_worked_on(dsn: str) -> None:
    """The limit holds for workers too, whoever wrote the row."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    await shop.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args) VALUES ('orders', 'docket.run', jsonb_build_object("
        "'run_id', 'o', 'target', 'orders.Shipment', 'inputs', jsonb_build_array(jsonb_build_object("
        "'type', 'orders.OrderRequest', 'serializer', 'protobuf', 'body', repeat('AAAA', 400000)))))"
    )
    async with shop.working():
        (row,) = await shop.become("failed")

    assert "1200000 bytes" in row.outcome["why"]
    assert orders.calls == {}


async def test_text_that_jsonb_refuses_does_not_keep_a_run_from_the_queue(dsn: str) -> None:
    """A NUL in an input costs its readable form in the row, not the job."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    await orders.d.enqueue(QUEUE, Shipment, OrderRequest(order_id="order-1", customer="a\x00da"), run_id="order-1")
    async with shop.working():
        await shop.become("succeeded")

    assert orders.calls["ship"] == 1


@pytest.mark.parametrize("name", ["é" * 21, "q" * 41])
async def test_a_queue_name_that_cannot_be_notified_is_refused(dsn: str, name: str) -> None:
    """Rather than failing in a trigger of Procrastinate's."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    with pytest.raises(ConfigurationError, match="1 to 40 bytes"):
        await orders.d.enqueue(name, Shipment, request())


@pytest.mark.parametrize("mode", ["at_least_once", "at_most_once"])
async def test_what_could_not_be_certified_is_not_done_again(
    dsn: str, mode: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The database is away for longer than the patience: the job fails for good, and says why as soon as it can be written."""
    proxy = Proxy(dsn)
    await proxy.arrive()
    shop = Shop(proxy.dsn, attempts=5)
    d = Docket(cache=PostgresCache(proxy.dsn, patience=0.2), queue=shop.queue, lease=1.0)
    calls: list[str] = []

    @d.step(cache_result=mode)
    async def charge(order: OrderRequest) -> ChargeResult:
        calls.append(order.order_id)
        await proxy.leave()
        return ChargeResult(charge_id="ch-1")

    async def told() -> bool:
        return "could not be certified" in caplog.text

    await d.enqueue(QUEUE, charge, request(), run_id="order-1")
    async with shop.working():
        await until(told)
        await proxy.arrive()
        (row,) = await shop.become("failed")
    assert (row.attempts, calls) == (1, ["order-1"])
    assert row.outcome["why"].startswith("NotCertified: run 'order-1': ChargeResult was made but could not be certified")
    if mode == "at_most_once":
        with pytest.raises(InDoubt, match="holder_lost"):
            await d.run("order-1", charge, request())
    await d.close()
    await proxy.leave()

    assert calls == ["order-1"]


async def test_a_worker_that_stops_costs_no_attempt(dsn: str) -> None:
    """Ten deployments in a row do not use up the attempts of a slow job."""
    shop = Shop(dsn, attempts=2)
    d = Docket(queue=shop.queue)
    started: list[int] = []
    go_on = asyncio.Event()

    @d.step
    async def ship(order: OrderRequest) -> Shipment:
        started.append(1)
        await go_on.wait()
        return Shipment()

    async def begun() -> bool:
        begun = bool(started)
        started.clear()
        return begun

    await d.enqueue(QUEUE, ship, request())
    for _ in range(3):
        async with shop.working(grace=0.01):
            await until(begun)
    (row,) = await shop.rows()
    go_on.set()
    async with shop.working():
        await shop.become("succeeded")

    assert (row.status, row.attempts, row.outcome["free"]) == ("todo", 3, 3)
    assert row.outcome["why"] == "its worker was shut down"


async def test_a_step_that_says_later_and_gives_no_number_is_asked_again(dsn: str) -> None:
    """Whatever became of its arithmetic: the job comes back, as its outcome says."""
    shop = Shop(dsn)
    d = Docket(queue=shop.queue)
    started: list[int] = []

    @d.step
    async def ship(order: OrderRequest) -> Shipment:
        started.append(1)
        if len(started) == 1:
            raise RetryLater(float("nan"))
        return Shipment()

    await d.enqueue(QUEUE, ship, request())
    async with shop.working():
        (row,) = await shop.become("succeeded")

    assert (len(started), row.outcome["what"]) == (2, "later")


async def test_a_step_that_cancels_itself_is_no_endless_loop(dsn: str) -> None:
    """A CancelledError that nobody caused from outside counts as a failure."""
    shop = Shop(dsn, attempts=2)
    d = Docket(queue=shop.queue)
    started: list[int] = []

    @d.step
    async def ship(order: OrderRequest) -> Shipment:
        started.append(1)
        raise asyncio.CancelledError

    await d.enqueue(QUEUE, ship, request())
    async with shop.working():
        (row,) = await shop.become("failed")

    assert len(started) == 2
    assert "SelfCancelled" in row.outcome["why"]


async def test_a_job_that_would_come_back_beside_a_second_one_is_over(dsn: str) -> None:
    """Procrastinate lets a second job for the run wait while the first is worked on, and cannot take the first one back."""
    shop = Shop(dsn)
    d = Docket(queue=shop.queue)
    started: list[int] = []
    second_is_there = asyncio.Event()

    @d.step
    async def ship(order: OrderRequest) -> Shipment:
        started.append(1)
        await second_is_there.wait()
        if len(started) == 1:
            raise RetryLater(0.0)
        return Shipment()

    async def begun() -> bool:
        return bool(started)

    await d.enqueue(QUEUE, ship, request(), run_id="order-1")
    async with shop.working():
        await until(begun)
        assert await d.enqueue_many(QUEUE, ship, {"order-1": [request()]}) == ["order-1"]
        second_is_there.set()
        await shop.become("aborted", "succeeded")


async def test_enqueueing_opens_the_app_as_often_as_it_takes(dsn: str) -> None:
    """A worker in the same process closes the app when it ends; the next call finds it closed, and many at once do too."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    await orders.d.enqueue(QUEUE, Shipment, request(), run_id="order-1")
    async with shop.working():
        await shop.become("succeeded")
    later = [orders.d.enqueue(QUEUE, Shipment, request(), run_id=f"order-{number}") for number in (2, 3, 4)]
    await asyncio.gather(*later)
    await orders.d.close()

    assert [row.status for row in await shop.rows()] == ["succeeded", "todo", "todo", "todo"]


async def test_an_app_works_for_one_docket(dsn: str) -> None:
    """Its jobs do not say whose they are; a second Docket is told so when it is made."""
    shop = Shop(dsn)
    Docket(queue=shop.queue)
    with pytest.raises(ConfigurationError, match="give each Docket an app"):
        Docket(queue=ProcrastinateQueue(shop.app))


async def test_two_jobs_with_ids_that_could_be_confused_are_two(dsn: str) -> None:
    """The lock that makes enqueueing idempotent cannot be the same for two runs."""
    shop = Shop(dsn)
    ids = await shop.queue.enqueue([Job(QUEUE, "a b", "c", once=True), Job(QUEUE, "a", "b c", once=True)], None)
    await shop.queue.close()

    assert ids == ["1", "2"]


async def test_what_a_run_was_asked_stands_in_no_log(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    """Procrastinate logs a job's arguments; of a run it says which, not with what. The job's row has everything."""
    shop = Shop(dsn)
    orders = Orders(MemoryCache(), shop.queue)
    asked = request()
    await orders.d.enqueue(QUEUE, Shipment, asked, run_id="order-1")
    with caplog.at_level("DEBUG", logger="procrastinate"):
        async with shop.working():
            await shop.become("succeeded")

    lines = [record.getMessage() for record in caplog.records]
    assert any("run_id='order-1'" in line and "inputs=..." in line for line in lines)
    assert not any(asked.sku in f"{record.getMessage()} {vars(record)}" for record in caplog.records)
    async with connected(dsn) as connection:
        (row,) = await connection.fetch("SELECT args -> 'inputs' -> 0 -> 'view' ->> 'sku' AS sku FROM procrastinate_jobs")
    assert row["sku"] == asked.sku
