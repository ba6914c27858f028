"""Strict reading of each kind of value, and the columns of each kind of type."""

import datetime as dt
import enum
import uuid
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal

import attrs
import msgspec
import pydantic
import pytest

from docket.serializers import Child, Column, Json, Schema, Serializers
from tests.serializers.test_json import Color, Page, Point, Rank, Rights


@dataclass
class Positive:
    """A dataclass with an objection of its own."""

    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError("negative")


MISMATCHES: list[tuple[object, bytes, str]] = [
    (list[bool], b"[1]", "[0]: expected true or false, found a whole number"),
    (list[int], b"[true]", "[0]: expected a whole number, found true or false"),
    (list[float], b"[true]", "[0]: expected a number, found true or false"),
    (list[bytes], b'["?"]', "[0]: the text is not base64"),
    (list[bytes], b"[1]", "[0]: expected base64 as text, found a whole number"),
    (list[Decimal], b'["x"]', "[0]: the text is not a decimal number"),
    (list[uuid.UUID], b'["x"]', "[0]: the text is not a UUID"),
    (list[dt.datetime], b'["x"]', "[0]: the text is not a date with a time"),
    (list[dt.date], b'["x"]', "[0]: the text is not a date"),
    (list[dt.timedelta], b'["P1D"]', "[0]: the text is not a duration"),
    (list[dt.timedelta], b'["PT99999999999999999.000000S"]', "[0]: the text is not a duration"),
    (list[Color], b'["blue"]', "[0]: it is none of Color's values"),
    (list[Color], b"[[]]", "[0]: it is none of Color's values"),
    (list[Rank], b"[true]", "[0]: it is none of Rank's values"),
    (list[Rights], b"[64]", "[0]: it is none of Rights's values"),
    (list[Rights], b'["1"]', "[0]: expected a whole number, found text"),
    (tuple[int, str], b"[1]", "the value: expected a list of 2, found a list"),
    (set[int], b"{}", "the value: expected a list, found an object"),
    (dict[str, int], b"[]", "the value: expected an object, found a list"),
    (dict[int, int], b'{"x":1}', "['x']: a key is not a number"),
    (Positive, b'{"number":-1}', "the value: Positive refuses it (ValueError)"),
]


@pytest.mark.parametrize(("type_", "body", "problem"), MISMATCHES)
def test_each_kind_is_read_strictly(type_: object, body: bytes, problem: str) -> None:
    """What does not fit is refused with its place and what was expected, and without the value."""
    with pytest.raises(ValueError, match=r".") as caught:
        Json().loads(type_, body)

    assert str(caught.value) == problem


class Status(enum.Enum):
    """Values of more than one kind."""

    NEW = "new"
    NUMBERED = 1


class Root(pydantic.RootModel[list[int]]):
    """A model that is its only member."""


class Telling(pydantic.BaseModel):
    """What pydantic writes its own way."""

    raw: bytes
    root: Root
    link: pydantic.HttpUrl
    shout: Annotated[str, pydantic.Field(max_length=9)]


class Row(msgspec.Struct, array_like=True):
    """A struct that is a list in JSON."""

    number: int


@dataclass
class HoldsRow:
    """A dataclass with a member that is a list in JSON."""

    row: Row


@attrs.define
class Attrs:
    """An attrs class."""

    number: int


@dataclass
class Deep:
    """An object that holds itself, once and in lists."""

    inner: "Deep | None"
    deeper: "list[Deep]"
    named: "dict[str, Deep]"


COLUMNS: list[tuple[object, tuple[Column, ...]]] = [
    (Point, (Column("x", ("x",), "numeric"), Column("y", ("y",), "float8"))),
    (
        Telling,
        (
            Column("raw", ("raw",), "text"),
            Column("root", ("root",), "jsonb"),
            Column("link", ("link",), "jsonb"),
            Column("shout", ("shout",), "text"),
        ),
    ),
    (Attrs, (Column("number", ("number",), "numeric"),)),
    (HoldsRow, (Column("row", ("row",), "jsonb"),)),
    (Color, (Column("value", (), "text"),)),
    (Rank, (Column("value", (), "numeric"),)),
    (Status, (Column("value", (), "text"),)),
    (Literal[True, False], (Column("value", (), "boolean"),)),
    (Literal[1, 2], (Column("value", (), "numeric"),)),
    (list[str], (Column("value", (), "text", many=True),)),
    (tuple[str, ...], (Column("value", (), "text", many=True),)),
    (tuple[str, int], (Column("value", (), "jsonb"),)),
    (list[list[int]], (Column("value", (), "jsonb"),)),
    (int | str, (Column("value", (), "jsonb"),)),
    (Any, (Column("value", (), "jsonb"),)),
]


@pytest.mark.parametrize(("type_", "columns"), COLUMNS)
def test_each_kind_has_its_column(type_: object, columns: tuple[Column, ...]) -> None:
    """Columns follow from the annotations; what has no column type of its own is jsonb."""
    assert Json().schema(type_) == Schema(columns)


def test_recursion_ends_in_jsonb() -> None:
    """A type that leads back to itself is jsonb there, also in lists and dicts."""
    members = ("inner", "deeper", "named")

    assert Json().schema(Deep) == Schema(tuple(Column(name, (name,), "jsonb") for name in members))


def test_deep_nesting_ends_in_jsonb() -> None:
    """Three levels of objects are prefixed columns; the next is jsonb."""
    schema = Json().schema(Page[Page[Page[Page[Page[int]]]]])

    assert schema is not None
    assert [column.name for column in schema.columns if "items" not in column.name] == ["best_best_best_best"]


def test_lists_and_dicts_of_objects_have_children() -> None:
    """A list of objects and a dict are jsonb columns with a child view each."""
    schema = Serializers().of(dict[str, list[Point]]).schema(dict[str, list[Point]])
    inner = Child("value", (), "list", Schema((Column("x", ("x",), "numeric"), Column("y", ("y",), "float8"))))

    assert schema == Schema(
        (Column("value", (), "jsonb"),),
        (Child("value", (), "map", Schema((Column("value", (), "jsonb"),), (inner,))),),
    )
