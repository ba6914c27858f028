"""What a job's row says of an error: no known kind of secret, and what the application lets be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from docket import Docket
from docket.cache import MemoryCache
from docket.inprocess import InProcessQueue
from docket.queue import Policy, described, disclose
from docket.serializers import Serializers
from examples.orders.orders_pb2 import OrderRequest, Shipment
from tests.database import connected
from tests.procrastinate.queueing import QUEUE, Shop

TEXT = "no route to postgresql://svc:hunter2@db/x for the card of ada"


@dataclass(frozen=True)
class Frozen(Exception):
    """An error that takes no attributes."""

    text: str

    def __str__(self) -> str:
        return self.text


def nothing(key: str, text: str) -> str | None:
    """Let nothing be seen."""
    return None


def no_names(key: str, text: str) -> str | None:
    """Let be seen whatever names nobody, of what this key is about."""
    return text.replace("ada", "somebody") if key == "orders.Shipment" else None


def broken(key: str, text: str) -> str | None:
    """Be no help."""
    raise KeyError(text)


SEEN: list[tuple[Callable[[str, str], str | None] | None, Exception, str]] = [
    (None, OSError(TEXT), "OSError: no route to postgresql://svc:***@db/x for the card of ada"),
    (nothing, OSError(TEXT), "OSError"),
    (no_names, OSError(TEXT), "OSError: no route to postgresql://svc:***@db/x for the card of somebody"),
    (broken, OSError(TEXT), "OSError"),
]


def failing(d: Docket, error: Exception) -> Docket:
    """Give a Docket a step that raises."""

    @d.step
    async def ship(order: OrderRequest) -> Shipment:  # pyright: ignore[reportUnusedFunction]
        raise error

    return d


@pytest.mark.parametrize(("redact", "error", "why"), SEEN)
async def test_a_jobs_row_says_of_an_error_what_may_be_seen(
    dsn: str, redact: Callable[[str, str], str | None] | None, error: Exception, why: str
) -> None:
    """With Procrastinate's own worker; the type is always there, the text as ``redact=`` has it."""
    shop = Shop(dsn, attempts=1)
    d = failing(Docket(queue=shop.queue, serializers=Serializers(redact=redact)), error)
    await d.enqueue(QUEUE, Shipment, OrderRequest(order_id="order-1"), run_id="order-1")
    async with shop.working():
        (row,) = await shop.become("failed")

    assert row.outcome["why"] == f"gave up after 1 attempts: {why}"
    async with connected(dsn) as connection:
        assert "hunter2" not in await connection.fetchval("SELECT string_agg(args::text, '') FROM procrastinate_jobs")


def test_an_error_that_takes_no_attributes_keeps_what_may_be_said() -> None:
    """Such as a frozen dataclass."""
    error = Frozen(TEXT)
    disclose(error, "no route")

    assert described(error) == "Frozen: no route"


async def test_dockets_own_errors_pass_the_same_way() -> None:
    """An error of Docket's own may quote a value."""
    queue = InProcessQueue(policy=Policy(1))
    d = Docket(cache=MemoryCache(), queue=queue, serializers=Serializers(redact=nothing))

    @d.step
    async def ship(order: OrderRequest) -> Shipment:
        return TEXT  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    await d.enqueue(QUEUE, ship, OrderRequest(quantity=1), run_id="order-1")
    await queue.drain()

    assert [ended.why for ended in queue.ended] == ["WrongResult"]
