"""``docket.status``: one row per run and result, in words."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from docket import Docket, WaitingFor
from docket.cache import Claim
from docket.errors import InDoubt
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation, Shipment
from tests.orders import Orders, request

STATUS = "SELECT state, attempt, last_error, waiting_for FROM docket.status WHERE run_id = $1 AND key = $2"
PERSON = "its reconcile function, or a person: settle or release"


@pytest.mark.parametrize(
    ("mode", "state", "lease", "said", "waits"),
    [
        ("at_least_once", "running", "now() - interval '1 s'", "holder lost", "the next attempt"),
        ("at_most_once", "running", "now() - interval '1 s'", "in doubt", PERSON),
        ("transactional", "running", "now() - interval '1 s'", "in doubt", PERSON),
        ("at_most_once", "running", "'2999-01-01 00:00:00+00'", "running", "its holder, lease until 2999-01-01 00:00:00+00"),
        ("at_most_once", "doubt", "NULL", "in doubt", PERSON),
        ("at_most_once", "ready", "NULL", "ready", "the next attempt"),
        ("at_least_once", "superseded", "NULL", "superseded", "the next attempt"),
        ("at_most_once", "refused", "NULL", "refused", None),
        ("at_most_once", "purged", "NULL", "purged", None),
    ],
)
async def test_each_state_is_said_in_words(
    mode: str, state: str, lease: str, said: str, waits: str | None, connection: Any
) -> None:
    """With the last error, and with what it waits for; an effect whose holder is lost is in doubt, whoever looks first."""
    await connection.execute(
        "INSERT INTO docket.result (run_id, key, mode, state, claim, attempt, reason, error_type, error_text, lease_until) "
        f"VALUES ('r', 'k', $1, $2, gen_random_uuid(), 3, 'error', 'Down', 'no answer', {lease})",
        mode, state,
    )  # fmt: skip
    row = await connection.fetchrow(STATUS, "r", "k")

    assert tuple(row) == (said, 3, "Down: no answer", waits)


async def test_why_is_this_order_stuck(dsn: str, pool: Any) -> None:
    """One SELECT: the doubt with its error and token beside what is certified; and what needs a person, over all runs."""
    cache = PostgresCache(dsn)
    orders = Orders(cache)

    async def fail() -> None:
        raise ConnectionError("no answer")

    await orders.d.run("order-1", Reservation, request())
    await orders.d.run("order-2", Shipment, request("order-2"))
    orders.charging = fail
    with pytest.raises(InDoubt) as doubt:
        await orders.d.run("order-1", Shipment, request())
    await cache.close()
    rows = await pool.fetch(
        "SELECT key, state, last_error, mode, token, since < clock_timestamp() FROM docket.status WHERE run_id = 'order-1' "
        "ORDER BY key"
    )
    people = await pool.fetch("SELECT run_id FROM docket.status WHERE state = 'in doubt'")

    assert [tuple(row) for row in rows] == [
        ("orders.ChargeResult", "in doubt", "ConnectionError: no answer", "at_most_once", doubt.value.token, True),
        ("orders.Reservation", "certified", None, "at_least_once", 1, True),
    ]
    assert [row["run_id"] for row in people] == ["order-1"]


async def test_a_step_that_waits_for_a_value_says_so(dsn: str, pool: Any) -> None:
    """Not for the next attempt alone, which would only wait again."""
    cache = PostgresCache(dsn)
    d = Docket(cache=cache)

    @d.step(cache_result="at_most_once", timeout=5)
    async def charge(request: OrderRequest) -> ChargeResult:
        raise WaitingFor("Approval")

    with pytest.raises(WaitingFor):
        await d.run("order-1", ChargeResult, request())
    await cache.close()
    row = await pool.fetchrow(STATUS, "order-1", "orders.ChargeResult")

    assert row["state"] == "ready"
    assert row["last_error"].startswith("WaitingFor: waiting for Approval")
    assert row["waiting_for"] == "a value from outside, and then the next attempt"


class WaitingForApproval(WaitingFor):
    """A class of the user's own."""


async def test_a_wait_of_one_s_own_is_a_wait_too(dsn: str, pool: Any) -> None:
    """By what it is, not by what it is called."""
    cache = PostgresCache(dsn)
    d = Docket(cache=cache)

    @d.step(cache_result="at_most_once", timeout=5)
    async def charge(request: OrderRequest) -> ChargeResult:
        raise WaitingForApproval("Approval")

    with pytest.raises(WaitingFor):
        await d.run("order-1", ChargeResult, request())
    plan = await d.plan("order-1", ChargeResult, request())
    await cache.close()
    row = await pool.fetchrow(STATUS, "order-1", "orders.ChargeResult")

    assert row["waiting_for"] == "a value from outside, and then the next attempt"
    assert [standing.state for standing in plan.steps if standing.step is not None] == ["waiting"]


async def test_a_lost_holder_and_a_note_are_told_from_an_error(dsn: str, pool: Any) -> None:
    """A holder that is gone is named before anybody has looked; what a person wrote is no error; the key is at hand."""
    cache = PostgresCache(dsn)
    orders = Orders(cache)
    await cache.claim(Claim("order-2", "orders.ChargeResult", "at_most_once", uuid.uuid4(), "web-1:22", 0.0))

    async def fail() -> None:
        raise ConnectionError("no answer")

    orders.charging = fail
    with pytest.raises(InDoubt):
        await orders.d.run("order-1", ChargeResult, request())
    await orders.d.settle("order-1", ChargeResult, ChargeResult(charge_id="ch-1"), note="saw it in the dashboard")
    await cache.close()
    settled, lost = await pool.fetch("SELECT state, last_error, note, idempotency_key FROM docket.status ORDER BY run_id")

    assert tuple(settled) == ("certified", None, "saw it in the dashboard", "order-1/orders.ChargeResult")
    assert lost["last_error"].startswith("web-1:22 was last heard of before its lease ended, 2")
