"""Typed views of dataclasses, pydantic models and msgspec structs, read from PostgreSQL."""

import datetime as dt
import enum
import json
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NewType

import msgspec
import pydantic
import pytest

from docket._core.types import storage_key
from docket.postgres.views import _cast, script, typed_views
from docket.serializers import Serializers, SqlType
from tests.postgres.views import SERIALIZERS, certify, first_row, views_of


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


def _masked(key: str, text: str) -> str:
    """Mask everything in what has a secret in it."""
    shown: Any = json.loads(text)
    return json.dumps(dict.fromkeys(shown, "***") if "secret" in text else shown)


async def test_what_does_not_fit_its_column_shows_nothing(connection: Any) -> None:
    """A masked row, a number and a span that PostgreSQL does not have: each is NULL there, and other rows are whole."""
    await connection.execute(script(views_of(ChargeResult)))
    values = {
        "plain": _charge(),
        "masked": _charge(note="secret"),
        "large": _charge(ratio=5e-324, took=dt.timedelta.max, item=Item("a", Decimal("1E+200000"))),
        "small": _charge(item=Item("a", Decimal("-1E-20000")), day=dt.date.min, clock=dt.time.max),
    }
    for run_id, value in values.items():
        await certify(connection, ChargeResult, value, run_id, Serializers(redact=_masked))
    rows = {row["run_id"]: row for row in await connection.fetch("SELECT * FROM docket.charge_result")}

    assert rows["plain"]["amount_cents"] == values["plain"].amount_cents
    masked = {name for name, shown in rows["masked"].items() if shown not in (None, "***")}
    assert masked == {"run_id", "certified_at", "items", "stock", "either"}
    assert (rows["large"]["ratio"], rows["large"]["took"], rows["large"]["item_price"]) == (5e-324, None, None)
    assert (rows["small"]["item_price"], rows["small"]["day"], rows["small"]["clock"]) == (None, dt.date.min, dt.time.max)


FITTING: list[tuple[SqlType, str, list[str], list[str]]] = [
    ("boolean", "false", ["true"], ["", "2", "maybe"]),
    ("bytea", "", ["/w==", "AAEC"], ["a", "a b=", "=", "***="]),
    ("date", "0001-01-01", ["2024-02-29", "2000-02-29"], ["2023-02-29", "1900-02-29", "2024-04-31", "0000-01-01"]),
    ("float8", "0", ["1.7976931348623157e+308", "-5e-324", "NaN", "-Infinity", "0e0"], ["1e309", "1e-400", "1e99999", "."]),
    ("int", "-2147483648", ["2147483647"], ["2147483648", "1.5", "-", "9" * 30]),
    ("bigint", "-9223372036854775808", ["9223372036854775807"], ["9223372036854775808", "9" * 5000]),
    ("interval", "PT-1.5S", ["P1Y2M3W4DT5H6M7.5S", "-P1DT2S", "-0.5s", "90s"], ["P", "PT", "P1DT", "-P", "s", f"PT{10**14}S"]),
    ("numeric", "0", ["1e9999", "-1E-9999", "7" * 6000], ["1e200000", "1e-20000", "7" * 6001, "1_0", "sNaN"]),
    ("real", "0", ["3.4028235e38", "1e-45"], ["3.5e38", "1e-60"]),
    ("time", "00:00", ["23:59:59.999999", "01:02:03Z", "01:02:03+00:00"], ["24:00:01", "23:59:59.9999999", "1:2"]),
    (
        "timestamptz",
        "0001-01-01T00:00:00Z",
        ["9999-12-31T23:59:59.999999999", "2024-02-29 12:00:00.5-15:59", "2024-02-29T12:00:00+01:00:30"],
        ["2024-02-30T00:00:00Z", "2024-02-29T24:00:01Z", "2024-02-29T12:00:00+24:00", "now", "2024-02-29"],
    ),
    ("uuid", str(uuid.UUID(int=0)), [str(uuid.UUID(int=2**128 - 1))], ["0", "g" * 32]),
]


@pytest.mark.parametrize(("type_", "first", "more", "others"), FITTING, ids=[one[0] for one in FITTING])
async def test_a_cast_never_fails(connection: Any, type_: SqlType, first: str, more: list[str], others: list[str]) -> None:
    """What fits is read by PostgreSQL, what does not is NULL."""
    sql = f"SELECT {_cast('v', type_)} FROM (SELECT $1::text) AS t(v)"
    with_type = f"SELECT pg_typeof({_cast('v', type_)})::text FROM (SELECT $1::text) AS t(v)"

    for text in (first, *more):
        assert await connection.fetchval(sql.replace("SELECT", "SELECT NOT (", 1).replace(" FROM", ") IS NULL FROM", 1), text)
    for text in (*others, "***", "\n", f"{first}\n"):
        assert await connection.fetchval(sql, text) is None
    named = {"float8": "double precision", "int": "integer", "timestamptz": "timestamp with time zone"}
    named["time"] = "time without time zone"
    assert await connection.fetchval(with_type, first) == named.get(type_, type_)


@dataclass
class Fee:
    """What a charge was called once."""

    amount_cents: str


async def test_a_row_of_another_type_under_the_same_key_is_not_shown(connection: Any) -> None:
    """Unless an upcast says that it is called so now."""
    fee, key = SERIALIZERS.pack(Fee, Fee("12 EUR"), run_id="r", key="k").stored, storage_key(Part)
    renamed = Serializers(upcast={storage_key(Fee): Part})
    await connection.execute(
        "INSERT INTO docket.result (run_id, key, mode, state, claim, serializer, type, body, view, certified_at) "
        "VALUES ('r', $1, 'at_least_once', 'certified', $2, $3, $4, $5, $6::text::jsonb, now())",
        key, uuid.uuid4(), fee.serializer, fee.type, fee.body, fee.view,
    )  # fmt: skip

    for serializers, rows in ((SERIALIZERS, 0), (renamed, 1)):
        await connection.execute(script(typed_views({key: Part}, serializers), drop=True))
        assert await connection.fetchval("SELECT count(*) FROM docket.part") == rows


class Part(msgspec.Struct, omit_defaults=True):
    """A struct whose JSON leaves out what is as it was declared."""

    amount_cents: int = 7
    paid: bool = True
    note: str = "none"
    raw: bytes = b"\xff"
    took: dt.timedelta = dt.timedelta(seconds=-1)
    tags: list[str] = []
    stock: dict[str, int] = {}
    absent: int | None = None


async def test_defaults_that_are_left_out_are_shown(connection: Any) -> None:
    """With omit_defaults, what is not in the JSON is the default and not nothing."""
    row = await first_row(connection, Part())

    assert {name: row[name] for name in Part.__struct_fields__} == {
        "amount_cents": 7, "paid": True, "note": "none", "raw": b"\xff", "took": dt.timedelta(seconds=-1), "tags": [],
        "stock": "{}", "absent": None,
    }  # fmt: skip
