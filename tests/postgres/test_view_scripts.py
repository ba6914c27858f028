"""Names, quoting and upgrades of typed views."""

from dataclasses import dataclass
from typing import Any

import asyncpg
import msgspec
import pydantic
import pytest

from docket.errors import ConfigurationError
from docket.postgres.views import identifier, literal, script, snake_case, typed_views
from docket.serializers import Serializers
from tests.postgres.views import SERIALIZERS, certify, views_of
from tests.serializers.messages import Everything, Money


@dataclass
class Item:
    """A small type."""

    sku: str


async def test_only_certified_rows_are_shown(connection: Any) -> None:
    """A row that is no longer certified leaves the view."""
    await connection.execute(script(views_of(Money)))
    await certify(connection, Money, Money(amount_cents=3), "kept")
    await certify(connection, Money, Money(amount_cents=4), "gone")
    await connection.execute(
        "UPDATE docket.result SET state = 'superseded', serializer = NULL, type = NULL, body = NULL, view = NULL "
        "WHERE run_id = 'gone'"
    )

    assert [tuple(row) for row in await connection.fetch("SELECT run_id, amount_cents FROM docket.money")] == [("kept", 3)]


async def test_a_script_may_be_applied_again(connection: Any) -> None:
    """CREATE OR REPLACE makes it idempotent, and a field more at the end needs nothing else."""
    await connection.execute(script(views_of(Everything)))
    await connection.execute(script(views_of(Everything)))


@dataclass
class Narrow:
    """A type before it changed."""

    a: int
    b: int


@dataclass
class Wide:
    """The type after a field was put in the middle."""

    a: int
    between: str
    b: int


async def test_a_field_in_the_middle_needs_a_drop(connection: Any) -> None:
    """CREATE OR REPLACE VIEW takes new columns at the end only; the script with drop=True makes the view anew."""
    await connection.execute(script(typed_views({"k": Narrow}, SERIALIZERS, names={"k": "it"})))
    changed = typed_views({"k": Wide}, SERIALIZERS, names={"k": "it"})

    with pytest.raises(asyncpg.InvalidTableDefinitionError):
        await connection.execute(script(changed))
    await connection.execute(script(changed, drop=True))

    assert await connection.fetch("SELECT a, between, b FROM docket.it") == []


async def test_names_from_hostile_keys_are_quoted(connection: Any) -> None:
    """Keys, members and view names with quotes and backslashes are data."""

    class Hostile(pydantic.BaseModel):
        a: int = pydantic.Field(alias="a'; DROP TABLE docket.result; --")
        b: int = pydantic.Field(alias='b"\\')

    views = typed_views({'it\'s \\ "k"': Hostile}, SERIALIZERS, names={'it\'s \\ "k"': 'a "view"'})
    await connection.execute("SET standard_conforming_strings = off; SET escape_string_warning = off")
    await connection.execute(script(views))

    columns = [
        row[0]
        for row in await connection.fetch(
            'SELECT attname FROM pg_attribute WHERE attrelid = \'docket."a ""view"""\'::regclass AND attnum > 0 ORDER BY attnum'
        )
    ]
    assert columns == ["run_id", "certified_at", "a'; DROP TABLE docket.result; --", 'b"\\']


async def test_long_names_are_cut_apart(connection: Any) -> None:
    """Names over 63 bytes are shortened with a hash, so that two of them stay two."""
    stem = "x" * 70
    shape = msgspec.defstruct("Long", [(f"{stem}_one", int), (f"{stem}_two", int), ("ö" * 40, int)])
    await connection.execute(script(typed_views({"k": shape}, SERIALIZERS, names={"k": "v" * 80})))
    names = [
        row[0]
        for row in await connection.fetch(
            "SELECT attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE attnum > 0 AND relname ~ '^vvv'"
        )
    ]

    assert len(set(names)) == 5
    assert all(len(name.encode()) <= 63 for name in names)


async def test_the_view_says_what_it_shows(connection: Any) -> None:
    """Each view carries a comment with the storage key."""
    await connection.execute(script(views_of(Everything)))
    comments = await connection.fetch(
        "SELECT obj_description(to_regclass('docket.' || name), 'pg_class') FROM unnest($1::text[]) AS n(name)",
        ["everything", "everything__lines__discounts"],
    )

    assert [row[0] for row in comments] == [
        "Certified results docket_test.Everything.",
        "Certified results docket_test.Everything, one row per entry of lines.discounts.",
    ]


async def test_another_schema_has_its_ownviews_of(connection: Any) -> None:
    """Views are made in the schema that has the tables, and read from there."""
    await connection.execute("CREATE SCHEMA shop; CREATE TABLE shop.result (LIKE docket.result)")
    await connection.execute(script(views_of(Money, schema="shop")))

    assert await connection.fetch("SELECT amount_cents FROM shop.money") == []


def test_two_types_of_one_name_are_an_error_that_names_both() -> None:
    """Views that would collide are refused, with both keys and the way out."""
    with pytest.raises(ConfigurationError) as caught:
        typed_views({"a.Charge": Item, "b.Charge": Item}, SERIALIZERS)

    assert str(caught.value) == (
        "the view docket.item would show both a.Charge and b.Charge; give one another name: names={'b.Charge': 'item_result'}"
    )
    assert [
        view.name for view in typed_views({"a.Charge": Item, "b.Charge": Item}, SERIALIZERS, names={"b.Charge": "other"})
    ] == ["item", "other"]


def test_a_type_named_like_a_table_is_an_error() -> None:
    """A view may not take the place of Docket's own tables."""
    with pytest.raises(ConfigurationError, match=r"the table or view docket\.result of Docket itself and k"):
        typed_views({"k": Item}, SERIALIZERS, names={"k": "result"})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ChargeResult", "charge_result"),
        ("shop.HTTPAnswer", "http_answer"),
        ("Page[shop.User]", "page_user"),
        ("Invoice2Line", "invoice2_line"),
        ("lower", "lower"),
    ],
)
def test_names_are_snake_case(name: str, expected: str) -> None:
    """A view is named as SQL would have it, by the last part of the type's name."""
    assert expected == snake_case(name)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 64])
def test_what_cannot_be_a_name_is_refused(name: str) -> None:
    """An empty name, NUL and more than 63 bytes are refused instead of cut."""
    with pytest.raises(ConfigurationError, match="cannot be a name in SQL"):
        identifier(name)


def test_text_is_quoted_for_either_setting() -> None:
    """Backslashes are doubled in an E'' string only where there are any."""
    assert (literal("it's"), literal("a\\b")) == ("'it''s'", "E'a\\\\b'")


def test_a_hostile_schema_name_is_refused() -> None:
    """A schema name with a quote never reaches the text."""
    with pytest.raises(ConfigurationError, match="schema name"):
        typed_views({"k": Item}, SERIALIZERS, schema='x"; DROP SCHEMA docket; --')


class Untyped:
    """A serializer without columns."""

    name = "untyped"

    def handles(self, type_: object, /) -> bool:
        """Tell whether it is an Item."""
        return type_ is Item

    def dumps(self, value: object, /) -> bytes:
        """Write it."""
        return msgspec.json.encode(value)

    def loads(self, type_: object, body: bytes, /) -> object:
        """Read it."""
        return msgspec.json.decode(body, type=Item)

    def view(self, value: object, /) -> str | None:
        """Project nothing."""
        return None

    def schema(self, type_: object, /) -> None:
        """Know no columns."""


def test_a_type_without_known_columns_has_no_view() -> None:
    """Where the serializer knows no columns, no view is made."""
    assert typed_views({"k": Item}, Serializers(Untyped())) == []
