"""What people write beside their decisions is kept, whatever characters are in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket import Docket, InDoubt
from docket._core.names import storable
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest
from tests.orders import request

ODD: dict[str, Any] = {"note": "seen\x00 at \ud800 the bank", "by": "an\x00n \udfff"}
KEPT = ("seen at ? the bank", "ann ?")

Decide = Callable[[Docket], Awaitable[object]]


async def _settle(d: Docket) -> None:
    await d.settle("order-1", ChargeResult, ChargeResult(charge_id="ch_1"), **ODD)


async def _settle_what_is_not_recorded(d: Docket) -> None:
    await d.settle("order-2", ChargeResult, ChargeResult(charge_id="ch_2"), token=0, **ODD)


async def _release(d: Docket) -> None:
    await d.release("order-1", ChargeResult, **ODD)


async def _invalidate(d: Docket) -> object:
    await d.settle("order-1", ChargeResult, ChargeResult(charge_id="ch_1"))
    return await d.invalidate("order-1", ChargeResult, force=True, **ODD)


@pytest.mark.parametrize("decide", [_settle, _settle_what_is_not_recorded, _release, _invalidate])
async def test_a_note_and_a_name_are_kept_without_what_cannot_be_stored(
    decide: Decide, postgres: PostgresCache, pool: Any
) -> None:
    """NUL and half a surrogate pair come from a terminal or a form, and must not stop a decision."""
    d = Docket(cache=postgres)

    @d.step(cache_result="at_most_once")
    async def charge(_request: OrderRequest) -> ChargeResult:
        raise OSError("the line went dead")

    with pytest.raises((OSError, InDoubt)):
        await d.run("order-1", ChargeResult, request())
    await decide(d)
    row = await pool.fetchrow("SELECT detail, owner FROM docket.journal ORDER BY at DESC LIMIT 1")

    assert row["detail"].endswith(KEPT[0])
    assert row["owner"] == KEPT[1]


@given(st.text(st.characters(codec=None)))
def test_storable_text_is_what_postgresql_takes_and_stays_as_it_is(text: str) -> None:
    """UTF-8 without NUL; text that is that already is not changed."""
    kept = storable(text)

    assert "\x00" not in kept.encode().decode()
    assert storable(kept) == kept
    assert kept == text or any(char == "\x00" or "\ud800" <= char <= "\udfff" for char in text)
