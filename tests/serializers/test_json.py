"""JSON for plain typed data, pydantic models and msgspec structs."""

import datetime as dt
import enum
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping, MutableSequence, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Required, TypedDict, TypeVar
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import TypeAliasType

from docket.errors import Unstorable
from docket.serializers import Json, Serializers, same

T = TypeVar("T")


class Color(enum.Enum):
    """An enum of text."""

    RED = "red"
    GREEN = "green"


class Rank(enum.IntEnum):
    """An enum of numbers."""

    LOW = 1
    HIGH = 2


class Level(enum.Enum):
    """An enum of numbers with a fraction."""

    LOW = 0.5
    HIGH = 1.5


class Rights(enum.Flag):
    """An enum that combines."""

    READ = 1
    WRITE = 2


class Point(NamedTuple):
    """A NamedTuple."""

    x: int
    y: float = 0.0


class Extra(TypedDict):
    """A TypedDict with a key that may be absent."""

    name: str
    age: NotRequired[int]


@dataclass(frozen=True)
class Everything:
    """One member of every kind."""

    flag: bool
    number: int
    ratio: float
    text: str
    raw: bytes
    price: Decimal
    key: UUID
    moment: dt.datetime
    day: dt.date
    clock: dt.time
    span: dt.timedelta
    color: Color
    rank: Rank
    rights: Rights
    point: Point
    extra: Extra
    kind: Literal["a", 1]
    either: int | str | None
    numbers: list[int]
    pairs: tuple[int, str]
    several: tuple[float, ...]
    names: frozenset[str]
    by_rank: dict[Rank, Color]
    by_key: Mapping[UUID, Sequence[Point]]
    anything: Any
    parent: "Everything | None" = None


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | FLOATS | st.text()
EVERYTHING: st.SearchStrategy[Everything] = st.builds(
    Everything,
    either=st.none() | st.integers() | st.text(),
    moment=st.datetimes(timezones=st.just(dt.UTC) | st.none()),
    price=st.decimals(allow_nan=False, allow_infinity=False),
    ratio=FLOATS,
    rights=st.sampled_from([Rights.READ, Rights.READ | Rights.WRITE, Rights(0)]),
    point=st.builds(Point, st.integers(), FLOATS),
    extra=st.fixed_dictionaries({"name": st.text()}, optional={"age": st.integers()}),
    several=st.lists(FLOATS).map(tuple),
    by_key=st.dictionaries(st.uuids(), st.lists(st.builds(Point, st.integers(), FLOATS), max_size=2), max_size=2),
    anything=PLAIN | st.lists(PLAIN, max_size=2) | st.dictionaries(st.text(), PLAIN, max_size=2),
    parent=st.none(),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVERYTHING, EVERYTHING)
def test_values_come_back_equal_and_are_written_alike(inner: Everything, outer: Everything) -> None:
    """Every kind of member comes back from its JSON as it was, and is written alike again."""
    value = replace(outer, parent=inner)
    json_ = Json()
    body = json_.dumps(value)
    loaded = json_.loads(Everything, body)

    assert value == loaded
    assert json.loads(body) == json.loads(json_.dumps(loaded))


@dataclass
class Page(Generic[T]):
    """A generic."""

    items: list[T]
    best: T | None = None


@dataclass
class PointPage(Page[Point]):
    """A subclass of a parameterised generic."""

    title: str = ""


Points = NewType("Points", list[Point])
Alias = TypeAliasType("Alias", list[Point])


SHAPES: list[tuple[object, object]] = [
    (Page[Point], Page([Point(1)], Point(2, 3.5))),
    (PointPage, PointPage([Point(1)], None, "one")),
    (list[Point], [Point(1), Point(2)]),
    (Points, [Point(1)]),
    (Annotated[Point, "marked"], Point(4)),
    (dict[str, Page[Point]], {"a": Page[Point]([])}),
    (set[int], {3, 1, 2}),
    (Alias, [Point(1)]),
    (dict[float, int], {0.5: 1}),
    (Level, Level.HIGH),
    (Color, Color.RED),
]


@pytest.mark.parametrize(("type_", "value"), SHAPES)
def test_a_result_may_be_any_shape(type_: object, value: object) -> None:
    """Generics, NewTypes, lists, dicts and enums are results of their own."""
    packed = Serializers().pack(type_, value, run_id="r", key="k")

    assert value == packed.value
    assert type(value) is type(packed.value)


class Model(pydantic.BaseModel):
    """A pydantic model with an alias."""

    number: int = pydantic.Field(alias="No")
    ratio: float | None = None
    moment: dt.datetime | None = None

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> int:
        """A value that is computed, so not read back."""
        return 2 * self.number


class Struct(msgspec.Struct):
    """A msgspec struct with another name in JSON."""

    number: int = msgspec.field(name="No")
    raw: bytes = b""
    ratio: float | None = None


@attrs.define
class Attrs:
    """An attrs class."""

    number: int
    names: list[str]


@dataclass
class HoldsModel:
    """A dataclass around a pydantic model."""

    model: Model
    span: dt.timedelta


@dataclass
class HoldsStruct:
    """A dataclass around a msgspec struct."""

    struct: Struct
    raw: bytes


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Model, Model(No=3, moment=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))),
        (list[Model], [Model(No=1), Model(No=2)]),
        (HoldsModel, HoldsModel(Model(No=1), dt.timedelta(days=-1, microseconds=3))),
        (Struct, Struct(3, b"\xff")),
        (dict[str, Struct], {"a": Struct(1)}),
        (HoldsStruct, HoldsStruct(Struct(1), b"\x00\xff")),
        (Attrs, Attrs(1, ["a"])),
    ],
)
def test_other_libraries_read_what_they_wrote(type_: object, value: object) -> None:
    """Types of pydantic, msgspec and attrs come back equal, alone, in containers and in dataclasses."""
    packed = Serializers().pack(type_, value, run_id="r", key="k")

    assert value == packed.value
    assert packed.stored.serializer == "json"


class Address(TypedDict):
    """A TypedDict whose annotations are text, as under ``from __future__ import annotations``."""

    street: "str"
    zip: "NotRequired[str]"
    city: "Annotated[NotRequired[str], 'as it is written']"


class Partial(TypedDict, total=False):
    """One that need not have anything but what says so."""

    street: "Required[str]"
    zip: "str"


@pytest.mark.parametrize(("type_", "body"), [(Address, b'{"street":"s"}'), (Partial, b'{"street":"s"}')])
def test_what_need_not_be_there_may_say_so_in_text(type_: object, body: bytes) -> None:
    """The markers count where the annotations are not looked at when the class is made."""
    assert Json().loads(type_, body) == {"street": "s"}
    with pytest.raises(ValueError, match="street is missing"):
        Json().loads(type_, b"{}")


@dataclass(frozen=True)
class Basket:
    """Sequences of whatever kind."""

    items: Sequence[float] = ()
    more: Collection[Sequence[int]] = ()
    kept: MutableSequence[int] = field(default_factory=list[int])


@pytest.mark.parametrize(
    "basket", [Basket(), Basket((1.5,), ((1, 2), [3])), Basket([1.5], [(), []], [1])], ids=repr
)
def test_any_sequence_is_one(basket: Basket) -> None:
    """A tuple holds the same as the list that is read, whatever both hold."""
    packed = Serializers().pack(Basket, basket, run_id="r", key="k")

    assert same(packed.value, basket)
    assert same(basket, Serializers().unpack(Basket, packed.stored, run_id="r", key="k"))


@pytest.mark.parametrize("items", [{"items": {1.5}}, {"kept": (1,)}], ids=repr)
def test_what_is_no_such_sequence_is_refused(items: dict[str, Any]) -> None:
    """A set comes back as a list, and a tuple cannot be written into."""
    with pytest.raises(Unstorable, match="another value"):
        Serializers().pack(Basket, Basket(**items), run_id="r", key="k")


class Tag(pydantic.BaseModel, frozen=True):
    """One that may be in a set itself."""

    names: frozenset[str] = pydantic.Field(default=frozenset(), alias="n")


class Tagged(pydantic.BaseModel, extra="allow"):
    """Sets wherever pydantic writes them."""

    held: dict[str, set[str]]
    several: tuple[Tag | set[str], ...]
    others: frozenset[Tag]
    anything: Any


class TaggedRow(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A list in JSON, after its tag."""

    names: frozenset[str]


class TaggedStruct(msgspec.Struct, rename="camel"):
    """Sets wherever msgspec writes them."""

    some_names: set[str]
    rows: frozenset[TaggedRow]
    kept: dict[str, set[str]]


@attrs.define
class TaggedAttrs:
    """A set in an attrs class."""

    names: set[str]


class TaggedRoot(pydantic.RootModel[list[set[str]]]):
    """A model that is its only member."""


@dataclass
class Holder:
    """A dataclass with a model in it, written by pydantic."""

    tag: Tag
    names: set[str]


ORDERED = """
import sys
from tests.serializers.test_json import *
words = set("red green blue black white".split())
inner = Tag(n=words)
values = [
    Tagged(held={"z": words, "a": words}, several=(inner, words), others={inner, Tag()}, anything=[words], more=words),
    TaggedStruct(words, frozenset([TaggedRow(frozenset(words)), TaggedRow(frozenset())]), {"z": words, "a": words}),
    TaggedAttrs(words), TaggedRoot([words]), Holder(inner, words),
]
for value in values:
    body = Json().dumps(value)
    assert same(Json().loads(type(value), body), value) or type(value) is Tagged
    sys.stdout.write(body.decode() + "\\n")
"""


def test_equal_sets_have_equal_bytes_in_every_process() -> None:
    """Whoever writes them: the order of hashes differs from process to process, and digests must not."""
    written = {
        subprocess.run(
            [sys.executable, "-c", ORDERED], env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, check=True
        ).stdout.decode()
        for seed in "123"
    }

    assert len(written) == 1
    assert written.pop().count('["black","blue","green","red","white"]') == 15
