"""Typed views of protobuf messages, read from PostgreSQL."""

import datetime as dt
import math
from typing import Any

import pytest
from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2, wrappers_pb2

from docket.postgres.views import script
from tests.postgres.views import certify, first_row, views_of
from tests.serializers.messages import Everything, Money


async def test_extreme_scalars_arrive_whole(connection: Any) -> None:
    """The least int64, the largest uint64, NaN and the infinities, bytes and enums are what they were."""
    row = await first_row(
        connection,
        Everything(
            a_int64=-(2**63),
            a_sint64=2**63 - 1,
            a_uint64=2**64 - 1,
            a_fixed32=2**32 - 1,
            a_int32=-(2**31),
            a_double=math.nan,
            many_double=[math.inf, -math.inf, 5e-324, 1.7976931348623157e308],
            a_float=0.1,
            many_float=[3.4028234663852886e38, 1e-45],
            a_bytes=b"\x00\xff",
            many_bytes=[b"", b"\x80"],
            a_string="'\"\\ ☃",
            a_bool=True,
            color=2,
            colors=[1, 9],
        ),
    )

    assert (
        row["a_int64"],
        row["a_sint64"],
        row["a_uint64"],
        row["a_fixed32"],
        row["a_int32"],
    ) == (-(2**63), 2**63 - 1, 2**64 - 1, 2**32 - 1, -(2**31))
    assert math.isnan(row["a_double"])
    assert [math.inf, -math.inf, 5e-324, 1.7976931348623157e308] == row["many_double"]
    assert pytest.approx(row["a_float"], rel=1e-7) == 0.1
    assert pytest.approx(row["many_float"]) == [3.4028234663852886e38, 1e-45]
    assert (row["a_bytes"], row["many_bytes"]) == (b"\x00\xff", [b"", b"\x80"])
    assert (row["a_string"], row["a_bool"], row["color"], row["colors"]) == ("'\"\\ ☃", True, "GREEN", ["RED", "9"])


async def test_well_known_types_are_columns_of_their_kind(connection: Any) -> None:
    """Timestamps, durations and wrappers have SQL types; Struct, Value and Any stay jsonb."""
    value = Everything(card="x")
    value.timestamp.seconds, value.timestamp.nanos = -62135596800, 123_456_789
    value.duration.seconds, value.duration.nanos = -3, -500_000_000
    value.timestamps.add(seconds=1)
    value.mask.paths.append("total.currency")
    value.struct["a"] = [1, "b"]
    value.wrapped_uint64.value = 2**64 - 1
    value.wrapped_string.value = ""
    value.wrapped_bytes.value = b"\xff"
    row = await first_row(connection, value)

    assert dt.datetime(1, 1, 1, microsecond=123_457, tzinfo=dt.UTC) == row["timestamp"]
    assert dt.timedelta(seconds=-3.5) == row["duration"]
    assert [dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)] == row["timestamps"]
    assert (row["mask"], row["struct"]) == ("total.currency", '{"a": [1.0, "b"]}')
    assert (
        row["wrapped_uint64"],
        row["wrapped_string"],
        row["wrapped_bytes"],
        row["wrapped_int64"],
    ) == (2**64 - 1, "", b"\xff", None)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (wrappers_pb2.Int64Value(value=42), 42),
        (wrappers_pb2.StringValue(), ""),
        (timestamp_pb2.Timestamp(seconds=1), dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)),
        (duration_pb2.Duration(seconds=90), dt.timedelta(seconds=90)),
        (struct_pb2.Value(bool_value=True), "true"),
    ],
)
async def test_a_well_known_type_by_itself_is_one_column(connection: Any, value: Any, shown: object) -> None:
    """Its JSON is not an object with its fields."""
    row = await first_row(connection, value)

    assert (row.keys() - {"run_id", "certified_at"}, row["value"]) == ({"value"}, shown)


async def test_zero_and_absent_differ(connection: Any) -> None:
    """A field without presence shows its zero value; what may be absent and is shows NULL."""
    row = await first_row(connection, Everything())

    assert (
        row["a_int64"],
        row["a_string"],
        row["a_bool"],
        row["color"],
        row["a_bytes"],
        row["many_int64"],
    ) == (0, "", False, "COLOR_UNSPECIFIED", b"", [])
    assert (
        row["note"],
        row["total_currency"],
        row["total_amount_cents"],
        row["method_case"],
        row["timestamp"],
    ) == (None, None, None, None, None)


async def test_a_present_empty_message_shows_its_zeros(connection: Any) -> None:
    """An optional text that is set shows even when empty, and so do the fields of a nested message that is set."""
    row = await first_row(connection, Everything(note="", total=Money()))

    assert (row["note"], row["total_currency"], row["total_amount_cents"]) == ("", "", 0)


@pytest.mark.parametrize(
    ("value", "case"),
    [(Everything(card=""), "card"), (Everything(points=0), "points"), (Everything(cash=Money()), "cash")],
)
async def test_a_oneof_says_which_member_is_set(connection: Any, value: Any, case: str) -> None:
    """The case column names the member also when its value is the zero value."""
    row = await first_row(connection, value)

    assert case == row["method_case"]


async def test_a_field_named_like_a_column_of_ours_is_numbered(connection: Any) -> None:
    """The message's own run_id does not hide the run's."""
    row = await first_row(connection, Everything(run_id="theirs"))

    assert (row["run_id"], row["run_id_2"]) == ("r", "theirs")


async def test_recursion_ends_in_jsonb(connection: Any) -> None:
    """A message inside itself stays jsonb."""
    row = await first_row(connection, Everything(parent=Everything(a_int64=1)))

    assert row["parent"] == '{"a_int64": "1"}'


async def test_a_row_without_projection_shows_nothing_rather_than_zero(connection: Any) -> None:
    """A result whose projection was left out has its row, with NULL in every column: no zero that nobody stored."""
    row = await first_row(connection, Everything(a_int64=5, many_int64=[1], a_string="a\0b"))
    given = {name: shown for name, shown in row.items() if shown is not None}

    assert {"run_id", "certified_at"} == set(given)


async def test_absence_shows_nothing(connection: Any) -> None:
    """A certified None has a row with NULL in every column."""
    await connection.execute(script(views_of(Everything)))
    await certify(connection, Everything, None)

    assert dict(await connection.fetchrow("SELECT run_id, a_int64, color FROM docket.everything")) == {
        "run_id": "r",
        "a_int64": None,
        "color": None,
    }


async def test_lists_and_maps_have_views_of_their_own(connection: Any) -> None:
    """A repeated message is one row per element in order, a map one per entry, also inside one another."""
    value = Everything(counts={"a": 2**62, "it's": -1}, prices={3: Money(currency="EUR")}, flags={True: 1})
    for sku, discounts in (("x", [1, 2]), ("y", []), ("z", [3])):
        line = value.lines.add(sku=sku, price=Money(amount_cents=10))
        line.discounts.extend(Money(amount_cents=cents) for cents in discounts)
    await first_row(connection, value)

    async def rows(columns: str, view: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await connection.fetch(f"SELECT {columns} FROM docket.{view} ORDER BY 1, 2, 3")]

    assert await rows("idx, sku, price_amount_cents", "everything__lines") == [(1, "x", 10), (2, "y", 10), (3, "z", 10)]
    assert await rows("lines_idx, idx, amount_cents", "everything__lines__discounts") == [
        (1, 1, 1),
        (1, 2, 2),
        (3, 1, 3),
    ]
    assert await rows("run_id, key, value", "everything__counts") == [("r", "a", 2**62), ("r", "it's", -1)]
    assert await rows("key, currency, amount_cents", "everything__prices") == [("3", "EUR", 0)]
    assert await rows("key, value, run_id", "everything__flags") == [("true", "RED", "r")]
