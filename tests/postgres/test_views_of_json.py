"""Typed views of dataclasses, pydantic models and msgspec structs, read from PostgreSQL."""

import datetime as dt
import enum
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NewType

import msgspec
import pydantic
import pytest

from docket.postgres.views import script
from tests.postgres.views import certify, first_row, views_of


class Color(enum.Enum):
    """An enum of text."""

    RED = "red"


@dataclass
class Item:
    """An element."""

    sku: str
    price: Decimal | None = None


@dataclass
class ChargeResult:
    """A dataclass with one member of every kind of column."""

    amount_cents: int
    ratio: float
    paid: bool
    color: Color
    raw: bytes
    at: dt.datetime
    day: dt.date
    clock: dt.time
    took: dt.timedelta
    id: uuid.UUID
    item: Item
    items: list[Item]
    tags: list[str] | None
    stock: dict[str, int]
    either: int | str
    note: str | None = None


def _charge(**changes: Any) -> ChargeResult:
    charge = ChargeResult(
        amount_cents=2**70,
        ratio=0.1,
        paid=True,
        color=Color.RED,
        raw=b"\xff",
        at=dt.datetime(2026, 1, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        day=dt.date(2026, 1, 2),
        clock=dt.time(3, 4, 5),
        took=dt.timedelta(days=-1, microseconds=1),
        id=uuid.UUID(int=7),
        item=Item("a", Decimal("1.50")),
        items=[Item("b"), Item("c", Decimal("-0.1"))],
        tags=["x"],
        stock={"a": 1},
        either="or",
    )
    for name, value in changes.items():
        setattr(charge, name, value)
    return charge


async def test_dataclasses_have_columns_too(connection: Any) -> None:
    """Members of a dataclass are columns of their type, nested ones prefixed, whole numbers without a bound."""
    charge = _charge()
    row = await first_row(connection, charge)

    for name in ("amount_cents", "ratio", "paid", "raw", "at", "day", "clock", "took", "id", "tags", "note"):
        assert getattr(charge, name) == row[name]
    assert ("red", "a", Decimal("1.50"), '"or"') == (row["color"], row["item_sku"], row["item_price"], row["either"])
    assert [("b", None), ("c", Decimal("-0.1"))] == [
        tuple(each) for each in await connection.fetch("SELECT sku, price FROM docket.charge_result__items ORDER BY idx")
    ]
    assert [tuple(each) for each in await connection.fetch("SELECT key, value FROM docket.charge_result__stock")] == [("a", 1)]


async def test_a_list_that_is_none_is_null(connection: Any) -> None:
    """None where a list may be is NULL, not an empty array and not an error."""
    row = await first_row(connection, _charge(tags=None))

    assert row["tags"] is None


class Model(pydantic.BaseModel):
    """A pydantic model."""

    amount: Decimal = pydantic.Field(alias="Amount")
    took: dt.timedelta
    item: Item


class Struct(msgspec.Struct):
    """A msgspec struct."""

    amount: Decimal = msgspec.field(name="Amount")
    took: dt.timedelta
    item: Item
    raw: bytes = b"\xff"


@pytest.mark.parametrize("type_", [Model, Struct])
@pytest.mark.parametrize("took", [dt.timedelta(days=-2, seconds=5), dt.timedelta(hours=30, microseconds=1)])
async def test_pydantic_and_msgspec_have_columns_too(connection: Any, type_: Any, took: dt.timedelta) -> None:
    """Columns are named as in the JSON; durations of either sign are read."""
    fields: dict[str, Any] = {"took": took, "item": Item("a")}
    fields["Amount" if type_ is Model else "amount"] = Decimal("1.50")
    row = await first_row(connection, type_(**fields))

    assert (Decimal("1.50"), took, "a") == (row["Amount"], row["took"], row["item_sku"])
    assert row.get("raw", b"\xff") == b"\xff"


Items = NewType("Items", list[Item])


async def test_a_result_that_is_a_list_has_a_view_of_its_items(connection: Any) -> None:
    """A NewType over a list is one jsonb column, and a view of its elements."""
    await connection.execute(script(views_of(Items)))
    await certify(connection, Items, [Item("a"), Item("b")])

    assert (
        await connection.fetchval("SELECT value FROM docket.items")
        == '[{"sku": "a", "price": null}, {"sku": "b", "price": null}]'
    )
    assert [row[0] for row in await connection.fetch("SELECT sku FROM docket.items__value ORDER BY idx")] == ["a", "b"]
