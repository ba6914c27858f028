"""Jobs as a queue carries them, and what an attempt's end means for one."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import Busy, ConfigurationError, Docket, InDoubt, MissingInput, NotCertified, Refused, RetryLater
from docket._core.record import Stored
from docket.errors import BadJob, NewerCertificate, SchemaMissing, StepTimeout, Undecodable, WaitingFor
from docket.inprocess import InProcessQueue
from docket.queue import LATEST, MOST_BYTES, Job, Policy, described, read_job, verdict
from examples.orders.orders_pb2 import OrderRequest
from tests.database import connected


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (RuntimeError("x"), "again"),
        (OSError("the database is away"), "again"),
        (StepTimeout("r", "charge", 3), "again"),
        (SchemaMissing("docket", "x"), "again"),
        (NewerCertificate("r", "Charge", "json", "Charge", "x", written=2, version=1), "again"),
        (NotCertified("r", "shop.Charge", "Charge", None, "the database is away"), "fail"),
        (InDoubt("r", "shop.Charge", "Charge", 1, "timeout", 3.0), "fail"),
        (InDoubt("r", "shop.Charge", "Charge", 1, "timeout", 3.0, retry_after=7.0), "later"),
        (MissingInput("r", "Order", ()), "fail"),
        (Undecodable("r", "Charge", "json", "Charge", "x"), "fail"),
        (BadJob("job 1", "x"), "fail"),
        (ConfigurationError("x"), "fail"),
        (Refused("no"), "fail"),
        (Busy("r", "shop.Charge", "Charge", 3.0, "another"), "later"),
        (RetryLater(4), "later"),
        (WaitingFor("Approval"), "wait"),
    ],
)
def test_what_an_error_means_for_a_job(error: Exception, what: str) -> None:
    """What another attempt cannot change fails at once; what time changes is not counted; the rest is tried again."""
    assert verdict(error).what == what
    assert Policy().verdict(error, 1).what == what


def test_delays() -> None:
    """A retry doubles up to the longest, less up to a half at random; what a step asks for is kept, within reason."""
    policy = Policy(attempts=99, backoff=2.0, longest=60.0)
    for attempt, delay in ((1, 2.0), (2, 4.0), (5, 32.0), (6, 60.0), (98, 60.0)):
        assert delay / 2 <= policy.verdict(RuntimeError(), attempt).delay <= delay
    assert verdict(RetryLater(timedelta(minutes=5))).delay == 300.0
    assert verdict(RetryLater(float("inf"))).delay == LATEST
    assert verdict(RetryLater(-1)).delay == 0.0
    assert verdict(RetryLater(float("nan"))).delay == 1.0
    assert verdict(Busy("r", "shop.Charge", "Charge", 0.0, "another")).delay == 1.0


def test_the_last_attempt_fails_for_good() -> None:
    """And says how many there were."""
    found = Policy(attempts=3).verdict(RuntimeError("x"), 3)

    assert (found.what, found.why) == ("fail", "gave up after 3 attempts: RuntimeError: x")


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"attempts": 0}, r"Policy\(attempts=0\): a job is tried at least once; use 1 or more"),
        ({"attempts": "3"}, r"Policy\(attempts='3'\): a job is tried at least once"),
        ({"attempts": 2.5}, r"Policy\(attempts=2.5\): a job is tried at least once"),
        ({"attempts": True}, r"Policy\(attempts=True\): a job is tried at least once"),
        ({"backoff": -1.0}, r"Policy\(backoff=-1.0\): give seconds or a timedelta, 0 or more"),
        ({"backoff": "2"}, r"Policy\(backoff='2'\): give seconds or a timedelta"),
        ({"longest": math.nan}, r"Policy\(longest=nan\): give seconds or a timedelta"),
        ({"backoff": 9.0, "longest": 1.0}, r"Policy\(longest=1.0\): the first pause is longer: backoff=9.0"),
    ],
)
def test_a_policy_that_cannot_be_kept_to_is_refused(wrong: dict[str, Any], text: str) -> None:
    """When it is made, not when the first job fails."""
    with pytest.raises(ConfigurationError, match=text):
        Policy(**wrong)


def test_the_pauses_of_a_policy_may_be_timedeltas() -> None:
    """As everywhere else where a span of time is given."""
    policy = Policy(attempts=99, backoff=timedelta(seconds=2), longest=timedelta(minutes=1))
    delays = [policy.verdict(RuntimeError("x"), attempt).delay for attempt in (1, 2, 50)]

    assert all(half <= delay <= 2 * half for delay, half in zip(delays, (1, 2, 30), strict=True))


@given(st.text(), st.text())
def test_a_reason_is_text_that_postgresql_takes(name: str, text: str) -> None:
    """Short, without NUL, and UTF-8, whatever an error says."""
    why = described(type("Error", (Exception,), {})(name, text))

    assert len(why) <= 2000
    assert "\x00" not in why.encode().decode()


VIEWS: list[str | None] = [
    None, "{}", '{"a": "\\u0000"}', '{"a": "\\ud800"}', '{"a": "\\ud83d\\ude00"}', '{"a": "\ud800"}', '{"a": NaN}', "{", "",
    "[" * 100_000, '{"a": "\\\\u0000"}', '{"a": "\x00"}', '{"ü": "🎈"}',
    '{"a": 1e200000}', '{"a": 1e-20000}', '{"a": 1e300, "b": -1.5E-300}', '["\\\\\\u0000"]',
]  # fmt: skip


@pytest.mark.parametrize("view", VIEWS)
async def test_whatever_a_view_holds_the_job_is_taken_and_read_back(view: str | None, dsn: str) -> None:
    """A projection that jsonb refuses is left out; names and bytes come back as they went."""
    job = Job("orders", "order-1", "orders.Ünïcode", (Stored("json", 'a "type"', b"\x00\xff", view),), once=True)
    async with connected(dsn) as connection:
        taken: str = await connection.fetchval("SELECT $1::text::jsonb::text", job.document())
    again = read_job(json.loads(taken), queue="orders", where="job 1", once=True)

    assert (again.name, again.inputs[0].body, again.inputs[0].type) == (job.name, b"\x00\xff", 'a "type"')


def test_a_view_that_can_be_read_is_beside_the_bytes() -> None:
    """For people who look at the row."""
    job = Job("orders", "order-1", "orders.Shipment", (Stored("json", "Order", b"{}", '{"sku": "lamp"}'),))

    assert json.loads(job.document())["inputs"][0]["view"] == {"sku": "lamp"}


def test_a_job_that_is_too_large_is_not_read() -> None:
    """Whoever wrote it."""
    job = Job("orders", "order-1", "orders.Shipment", (Stored("json", "Order", b"x" * (MOST_BYTES + 1)),))
    with pytest.raises(BadJob, match="a job carries at most 1048576"):
        read_job(json.loads(job.document()), queue="orders", where="job 1")


async def test_times_without_a_zone_and_two_times_are_refused() -> None:
    """Nine o'clock where?"""
    d = Docket(queue=InProcessQueue())

    @d.step
    async def count(order: OrderRequest) -> Policy:
        return Policy(order.quantity)

    with pytest.raises(ConfigurationError, match="has no time zone"):
        await d.enqueue("orders", count, OrderRequest(), schedule_at=datetime(2030, 1, 1))  # noqa: DTZ001
    with pytest.raises(ConfigurationError, match="give one of them"):
        await d.enqueue(
            "orders", count, OrderRequest(), schedule_at=datetime.now(UTC), schedule_in=timedelta(seconds=1)
        )


async def test_without_a_queue_nothing_can_be_enqueued() -> None:
    """The error says what to pass."""
    d = Docket()

    @d.step
    async def count(order: OrderRequest) -> Policy:
        return Policy(order.quantity)

    with pytest.raises(ConfigurationError, match="pass queue="):
        await d.enqueue("orders", count, OrderRequest())
    with pytest.raises(ConfigurationError, match="pass queue="):
        await d.cancel("order-1", count)
