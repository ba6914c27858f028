"""The FastAPI example through a real uvicorn, with real clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest
from fastapi import Request

from docket import Busy, DeadlineExceeded, NotCertified, Refused, RetryLater, StepTimeout, WaitingFor
from docket.errors import Purged
from examples.fastapi_app.app import failed
from tests.database import connected
from tests.procrastinate.queueing import until

ROOT = Path(__file__).parents[2]

PATIENCE = 90.0
"""Seconds that a process may take to start, to answer or to end: a machine may be busy with many of them."""

pytestmark = pytest.mark.timeout(300)


@asynccontextmanager
async def started(dsn: str, *command: str) -> AsyncGenerator[asyncio.subprocess.Process]:
    """Run a command on the database until left; then kill it if it is still there."""
    environment = {**os.environ, "DATABASE_URL": dsn, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *command, cwd=ROOT, env=environment, stderr=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@asynccontextmanager
async def serving(dsn: str, *options: str) -> AsyncGenerator[tuple[httpx.AsyncClient, asyncio.subprocess.Process]]:
    """Serve the example with uvicorn; give a client and the process."""
    with tempfile.TemporaryDirectory(prefix="docket-") as home:
        # Not a port that was free a moment ago: on a busy machine somebody else has it by the time the server asks for it.
        path = f"{home}/http"
        command = ("uvicorn", "examples.fastapi_app.app:app", "--uds", path, "--log-level", "warning", *options)
        transport = httpx.AsyncHTTPTransport(uds=path)
        async with (
            started(dsn, *command) as server,
            httpx.AsyncClient(base_url="http://shop", transport=transport, timeout=PATIENCE) as client,
        ):

            async def answers() -> bool:
                assert server.returncode is None, "the server ended before it answered"
                try:
                    return (await client.get("/openapi.json")).status_code == 200
                except httpx.ConnectError:
                    return False

            await until(answers, PATIENCE)
            yield client, server


def working(dsn: str) -> contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """Run a worker of Procrastinate's, as the example says."""
    return started(dsn, "procrastinate", "--app=examples.fastapi_app.shop.procrastinate_app", "worker", "-q", "orders")


@pytest.fixture
async def database(dsn: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to look with; the shop's own tables are gone afterwards."""
    async with connected(dsn) as connection:
        yield connection
        await connection.execute("DROP TABLE IF EXISTS shop_order, shop_ledger")


def order(sku: str = "lamp", amount_cents: int = 1999, patience: float = 0.0) -> dict[str, object]:
    """Make what a customer sends."""
    return {"sku": sku, "amount_cents": amount_cents, "patience": patience}


async def charged(database: asyncpg.Connection[asyncpg.Record]) -> int:
    """Count the provider's bookings."""
    found: int = await database.fetchval("SELECT count(*) FROM shop_ledger")
    return found


async def test_an_order_made_in_the_request(dsn: str, database: asyncpg.Connection[asyncpg.Record]) -> None:
    """The same request again is the same answer and no second charge; another one under its id is refused."""
    async with serving(dsn) as (client, _):
        first = await client.put("/orders/o-1", json=order())
        again = await client.put("/orders/o-1", json=order())
        other = await client.put("/orders/o-1", json=order(amount_cents=1))

        assert (first.status_code, again.json()) == (200, first.json())
        assert (other.status_code, other.json()["error"]) == (422, "InputsChanged")
        assert other.json() == {"error": "InputsChanged", "order_id": "o-1"}
        assert await charged(database) == 1


async def test_an_order_made_by_a_worker(dsn: str, database: asyncpg.Connection[asyncpg.Record]) -> None:
    """202 with what is done while it is on its way, 200 with the parcel when it is there; PUT fetches the same."""
    async with serving(dsn) as (client, _):
        handed_over = await client.post("/orders/o-1", json=order())
        before = await client.get("/orders/o-1")
        async with working(dsn):
            made = await client.get("/orders/o-1", params={"wait": 20})
        fetched = await client.put("/orders/o-1", json=order())
        looked = await client.get("/orders/o-1")

        assert looked.json() == made.json()
        assert (handed_over.status_code, handed_over.headers["location"]) == (202, "/orders/o-1")
        assert (before.status_code, before.headers["retry-after"]) == (202, "1")
        assert before.json() == {"order_id": "o-1", "done": []}
        assert made.status_code == 200
        assert fetched.json() == made.json()
        assert await charged(database) == 1


async def test_an_order_that_is_not_recorded_is_not_enqueued(
    dsn: str, database: asyncpg.Connection[asyncpg.Record]
) -> None:
    """The order's row and its job are one transaction: a failure after the insert leaves neither."""
    async with serving(dsn) as (client, _):
        failed = await client.post("/orders/o-1", json=order("bad-luck"))

        assert failed.status_code == 500
        assert await database.fetchval("SELECT count(*) FROM shop_order") == 0
        assert await database.fetchval("SELECT count(*) FROM procrastinate_jobs") == 0


@pytest.mark.parametrize(
    ("sku", "amount_cents", "status", "error"),
    [("sold-out", 1, 410, "OutOfStock"), ("lamp", 100_001, 402, "Refused"), ("dead-line", 1, 409, "InDoubt")],
)
async def test_errors_are_mapped(
    dsn: str, database: asyncpg.Connection[asyncpg.Record], sku: str, amount_cents: int, status: int, error: str
) -> None:
    """The shop's own as the shop says; a refusal and a doubt are the same on every later attempt."""
    async with serving(dsn) as (client, _):
        answers = [await client.put("/orders/o-1", json=order(sku, amount_cents)) for _ in range(2)]

        assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [(status, error)] * 2
        assert await charged(database) == (error == "InDoubt")


class Declined(Refused):
    """A refusal of the shop's own."""


@pytest.mark.parametrize(
    ("error", "status", "named", "after"),
    [
        (Busy("o-1", "shop.Charge", "Charge", 41.2, "host:1"), 409, "Busy", "42"),
        (RetryLater(5), 503, "RetryLater", "5"),
        (WaitingFor("Approval"), 202, "WaitingFor", None),
        (Declined("no funds"), 402, "Declined", None),
        (Purged("o-1", "shop.Charge", "Charge"), 410, "Purged", None),
        (NotCertified("o-1", "shop.Charge", "Charge", "ch_1", "ConnectionError: away"), 503, "NotCertified", None),
        (StepTimeout("o-1", "charge", 30.0), 504, "StepTimeout", None),
        (DeadlineExceeded("o-1", 10.0), 504, "DeadlineExceeded", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
async def test_a_client_is_told_the_class_of_an_error(
    error: Exception, status: int, named: str, after: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Its text names hosts and inputs: it is for the log."""
    request = Request({"type": "http", "path_params": {"order_id": "o-1"}})

    answer = await failed(request, error)

    assert (answer.status_code, answer.headers.get("retry-after")) == (status, after)
    assert json.loads(bytes(answer.body)) == {"error": named, "order_id": "o-1"}
    assert str(error) in caplog.text


async def test_another_order_under_the_id_of_one_that_waits_is_refused(
    dsn: str, database: asyncpg.Connection[asyncpg.Record]
) -> None:
    """The same order again is on its way; another one is told so and not recorded, while nobody has worked on the first."""
    async with serving(dsn) as (client, _):
        first = await client.post("/orders/o-1", json=order())
        again = await client.post("/orders/o-1", json=order())
        other = await client.post("/orders/o-1", json=order(amount_cents=1))

        assert (first.status_code, again.status_code) == (202, 202)
        assert (other.status_code, other.json()["error"]) == (422, "InputsChanged")
        assert await database.fetchval("SELECT count(*) FROM procrastinate_jobs") == 1


async def test_another_order_under_the_id_of_one_that_was_made_is_not_enqueued(
    dsn: str, database: asyncpg.Connection[asyncpg.Record]
) -> None:
    """No job waits any more, but the charge was made from the first order: refused now, not later in the worker."""
    async with serving(dsn) as (client, _):
        await client.put("/orders/o-1", json=order())
        other = await client.post("/orders/o-1", json=order(amount_cents=1))
        again = await client.post("/orders/o-1", json=order())

        assert (other.status_code, other.json()["error"]) == (422, "InputsChanged")
        assert again.status_code == 202
        assert await database.fetchval("SELECT count(*) FROM procrastinate_jobs") == 1


@pytest.mark.parametrize(
    ("sku", "amount_cents", "status", "error"),
    [("lamp", 100_001, 402, "Refused"), ("dead-line", 1, 409, "InDoubt")],
)
async def test_a_look_at_an_order_that_will_not_be_made(
    dsn: str, database: asyncpg.Connection[asyncpg.Record], sku: str, amount_cents: int, status: int, error: str
) -> None:
    """It is not on its way for ever: the refusal or the doubt is told to whoever looks."""
    async with serving(dsn) as (client, _):
        await client.put("/orders/o-1", json=order(sku, amount_cents))
        looked = await client.get("/orders/o-1")

        assert (looked.status_code, looked.json()) == (status, {"error": error, "order_id": "o-1"})


async def test_a_look_at_an_order_that_nobody_knows(
    dsn: str, database: asyncpg.Connection[asyncpg.Record]
) -> None:
    """404, and 422 for a time that is none."""
    async with serving(dsn) as (client, _):
        unknown = await client.get("/orders/o-1")
        waits = [await client.get("/orders/o-1", params={"wait": wait}) for wait in ("nan", "-1", "inf", "21")]

        assert (unknown.status_code, unknown.json()) == (404, {"error": "NotFound", "order_id": "o-1"})
        assert [answer.status_code for answer in waits] == [422] * 4


@pytest.mark.parametrize("order_id", ["a%0Ab", "%20a", "a%00b", "%C2%A0", "a" * 300, "a%CC%88"])
async def test_an_order_id_that_is_none_is_the_clients_mistake(
    dsn: str, database: asyncpg.Connection[asyncpg.Record], order_id: str
) -> None:
    """Whatever a path may hold: 422 from every handler, and nothing is recorded."""
    async with serving(dsn) as (client, _):
        answers = [
            await client.put(f"/orders/{order_id}", json=order()),
            await client.post(f"/orders/{order_id}", json=order()),
            await client.get(f"/orders/{order_id}"),
        ]

        assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [(422, "BadRunId")] * 3
        assert await database.fetchval("SELECT count(*) FROM shop_order") == 0
        assert await database.fetchval("SELECT count(*) FROM procrastinate_jobs") == 0


async def test_a_client_that_goes_away_loses_no_charge(
    dsn: str, database: asyncpg.Connection[asyncpg.Record]
) -> None:
    """The charge it started is certified; when it comes back, it gets the result of that one."""
    async with serving(dsn) as (client, _):
        with pytest.raises(httpx.ReadTimeout):
            await client.put("/orders/o-1", json=order(patience=1.0), timeout=0.3)
        again = await client.put("/orders/o-1", json=order(patience=1.0))

        assert again.status_code == 200
        assert await charged(database) == 1


async def test_a_server_that_is_stopped_loses_no_charge(
    dsn: str, database: asyncpg.Connection[asyncpg.Record]
) -> None:
    """SIGTERM with less grace than the charge needs: the charge is certified before the process ends."""
    async with serving(dsn, "--timeout-graceful-shutdown", "1") as (client, server):
        request = asyncio.create_task(client.put("/orders/o-1", json=order(patience=3.0)))

        async def begun() -> bool:
            return await charged(database) == 1

        await until(begun, PATIENCE)
        server.send_signal(signal.SIGTERM)
        await asyncio.wait_for(server.wait(), PATIENCE)
        await asyncio.gather(request, return_exceptions=True)
    state = await database.fetchval("SELECT state FROM docket.result WHERE run_id = 'o-1' AND key LIKE '%Charge'")
    async with serving(dsn) as (client, _):
        again = await client.put("/orders/o-1", json=order(patience=3.0))

    assert state == "certified"
    assert again.status_code == 200
    assert await charged(database) == 1


async def test_two_servers_and_one_order(dsn: str, database: asyncpg.Connection[asyncpg.Record]) -> None:
    """The second waits for the first and answers the same; no second charge."""
    async with serving(dsn) as (one, _), serving(dsn) as (other, _):
        answers = await asyncio.gather(
            *(client.put("/orders/o-1", json=order(patience=0.5)) for client in (one, other, one, other))
        )

        assert {answer.status_code for answer in answers} == {200}
        assert len({answer.text for answer in answers}) == 1
        assert await charged(database) == 1
