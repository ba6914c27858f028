"""What JSON refuses, before anything is stored and when it is read."""

import datetime as dt
import enum
import math
from dataclasses import InitVar, dataclass, field
from decimal import Decimal
from typing import Any, ClassVar, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest

from docket.errors import NoSerializer, Unstorable
from docket.serializers import Json, Serializers
from tests.serializers.test_json import Model, Page, Point, Struct

T = TypeVar("T")


@dataclass
class Ratio:
    """One number."""

    value: float | None
    name: str = ""


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (Ratio(math.nan), "value is nan, which JSON does not have"),
        (Ratio(-math.inf), "value is -inf, which JSON does not have"),
        (Ratio(1.0, "\ud800"), "name holds half a surrogate pair, which is not text"),
        (Model(No=1, ratio=math.nan), "ratio is nan, which JSON does not have"),
        (Struct(1, ratio=math.inf), "ratio is inf, which JSON does not have"),
        ([{"\udfff": 1}], r"key of \[0\] holds half a surrogate pair, which is not text"),
        ({"a": object()}, "object has no JSON"),
        ({"a": Decimal("NaN")}, "a Decimal is NaN"),
        ({1: "a", "1": "b"}, "two of its dict keys are written alike"),
        ({(1, 2): "a"}, "a dict key of type tuple has no JSON"),
        ({True: 1}, "a dict key of type bool has no JSON"),
        ([10**5000], "it cannot be written as JSON"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_its_place(value: object, reason: str) -> None:
    """NaN, half surrogate pairs and objects are refused before anything is stored, and the place is named."""
    with pytest.raises(Unstorable, match=reason):
        Json().dumps(value)


@dataclass
class Link:
    """A list that may become very long, or a circle."""

    next: "Link | None" = None


def test_a_chain_of_objects_that_is_too_deep_is_refused() -> None:
    """100,000 nested objects are an Unstorable, not a RecursionError."""
    link = Link()
    for _ in range(100_000):
        link = Link(link)

    with pytest.raises(Unstorable, match="nests too deep or contains itself; flatten it"):
        Json().dumps(link)


def test_a_value_that_contains_itself_is_refused() -> None:
    """A circle is an Unstorable, not a RecursionError."""
    link = Link()
    link.next = link

    with pytest.raises(Unstorable, match="contains itself"):
        Json().dumps(link)


def test_the_deepest_json_that_is_written_can_be_read() -> None:
    """The limits on writing and on reading are one and the same: 200 levels."""
    link = None
    for _ in range(200):
        link = Link(link)
    body = Json().dumps(link)

    assert link == Json().loads(Link, body)
    with pytest.raises(Unstorable, match="nests deeper than 200 levels"):
        Json().dumps(Link(link))


@pytest.mark.parametrize("type_", [Link, Model, Struct, list[Any]])
@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"next":' * 100_000 + b"null" + b"}" * 100_000,
        b'["\\"",' + b"[" * 100_000,
        b"]" * 5 + b"[" * 100_000,
        b"\x80\x04\x95\x00pickle",
        b"\xff\xfe[\x00",
        b'"\xed\xa0\x80"',
        b"",
        b"NaN",
        b'{"next": NaN}',
        b"{",
        b"1" * 5000,
    ],
)
def test_hostile_bytes_are_a_value_error(type_: object, body: bytes) -> None:
    """100,000 levels of JSON, other encodings, a pickle and broken text are refused as a ValueError."""
    with pytest.raises(ValueError, match=r"."):
        Json().loads(type_, body)


def test_brackets_in_text_are_no_depth() -> None:
    """Only brackets outside of strings count as levels."""
    value = ["[" * 100_000, '"{' * 100_000]

    assert value == Json().loads(list[str], Json().dumps(value))


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"value":"1"}', "value: expected a number or null, found text"),
        (b'{"value":true}', "value: expected a number or null, found true or false"),
        (b'{"name":""}', "the value: Ratio.value is missing"),
        (b'{"value":1,"name":2}', "name: expected text, found a whole number"),
        (b"[]", "the value: expected an object for Ratio, found a list"),
    ],
)
def test_values_of_another_type_are_named_with_their_place(body: bytes, problem: str) -> None:
    """Reading is strict: what does not fit is named, without the value itself."""
    with pytest.raises(ValueError, match=r".") as caught:
        Json().loads(Ratio, body)

    assert problem == str(caught.value)


def test_a_place_deep_inside_is_named() -> None:
    """The path leads through members, positions and keys."""
    with pytest.raises(ValueError, match=r"^\['a'\]\.items\[1\]\.x: expected a whole number, found text$"):
        Json().loads(dict[str, Page[Point]], b'{"a":{"items":[{"x":1},{"x":"2"}]}}')


def test_members_may_come_and_go() -> None:
    """A member this code does not know is ignored, and a missing one takes its default: both sides of a deploy read."""
    assert Ratio(1.0) == Json().loads(Ratio, b'{"value":1,"added_later":[1]}')


class Plain:
    """A class without fields."""


@dataclass
class HoldsPlain:
    """A dataclass with a member that has no JSON."""

    plain: Plain


class Attempt(enum.Enum):
    """An enum whose values are neither text nor numbers."""

    FIRST = (1, 2)


@dataclass
class Clumsy:
    """A dataclass that pydantic must read and cannot."""

    model: Model
    plain: Plain


class Odd(msgspec.Struct):
    """A struct that msgspec cannot read."""

    either: Struct | Page[int]


@dataclass
class Vague:
    """A union whose cases look alike."""

    either: Page[int] | Ratio


@dataclass
class Dated:
    """A union whose cases are both text."""

    either: str | dt.date


@dataclass
class Started:
    """A dataclass that forgets a parameter of its constructor."""

    number: int
    seed: InitVar[int]


@dataclass
class Named:
    """The same, with annotations that are text."""

    number: int
    kinds: "ClassVar[int]" = 3
    seed: "InitVar[int]" = 0


@dataclass
class Mixed:
    """A dataclass with members of both libraries."""

    model: Model
    struct: Struct


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        (Plain, "Plain cannot be stored: Plain has no JSON that comes back the same"),
        (HoldsPlain, "HoldsPlain cannot be stored: Plain has no JSON that comes back the same"),
        (Vague, r"two cases of the union Page\[int\] \| Ratio look alike in JSON"),
        (Dated, r"two cases of the union str \| date look alike in JSON"),
        (Started, "Started.seed is an InitVar, which the object does not keep"),
        (Named, "Named.seed is an InitVar, which the object does not keep"),
        (Attempt, "Attempt has values that are not text or numbers"),
        (Clumsy, "pydantic cannot validate Clumsy"),
        (Odd, "msgspec cannot read Odd"),
        (Mixed, "it mixes pydantic and msgspec types, and neither library reads the other's"),
        (Page[T], "the type variable ~T is open"),  # type: ignore[valid-type]
        (dict[Point, int], "dict keys of type Point have no JSON"),
    ],
)
def test_types_without_faithful_json_are_refused_while_wiring(type_: object, reason: str) -> None:
    """A type that would not come back the same is refused before anything runs, with the reason."""
    with pytest.raises(NoSerializer, match=reason):
        Serializers().of(type_)


class Child(Point):
    """A subclass, where its base is declared."""


@dataclass
class Wider(Ratio):
    """A subclass with one member more."""

    more: int = 0


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        (Ratio, Wider(1.0, more=3)),
        (list[Ratio], [Wider(1.0, more=3)]),
        (Ratio, Ratio("1")),  # type: ignore[arg-type]
        (Ratio, Ratio(value=True)),
        (Page[int], Page((1, 2))),  # type: ignore[arg-type]
    ],
)
def test_values_that_would_come_back_otherwise_are_refused(type_: object, value: object) -> None:
    """A subclass would lose its members, text is no number, a tuple is no list: said before anything is stored."""
    with pytest.raises(Unstorable, match="read back"):
        Serializers().pack(type_, value, run_id="r", key="k")


class Secret(pydantic.BaseModel):
    """A model whose JSON is masked."""

    password: pydantic.SecretStr


def test_masked_values_are_refused() -> None:
    """A SecretStr is written as asterisks, which would be all that is left of it."""
    with pytest.raises(Unstorable, match="read back as another value"):
        Serializers().pack(Secret, Secret(password=pydantic.SecretStr("x")), run_id="r", key="k")


@dataclass(eq=False)
class NoEquality:
    """A dataclass that compares by identity."""

    number: int
    made: list[int] = field(default_factory=list[int])


def test_objects_without_equality_are_compared_by_their_members() -> None:
    """A dataclass with eq=False can be stored: it comes back with the same members."""
    packed = Serializers().pack(NoEquality, NoEquality(1, [2]), run_id="r", key="k")

    assert isinstance(packed.value, NoEquality)
    assert (packed.value.number, packed.value.made) == (1, [2])


def test_the_repeated_hour_of_autumn_can_be_stored() -> None:
    """A time in the hour that happens twice is unequal to itself in another zone (PEP 495), and can be stored."""
    moment = dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin"))
    packed = Serializers().pack(list[dt.datetime], [moment], run_id="r", key="k")

    assert [moment.isoformat()] == [each.isoformat() for each in packed.value]  # type: ignore[attr-defined]


def test_text_with_nul_has_bytes_and_no_projection() -> None:
    """U+0000 is kept in the bytes; jsonb cannot hold it, so the projection is left out."""
    value = Ratio(None, "a\0b")

    assert Json().view(value) is None
    assert value == Json().loads(Ratio, Json().dumps(value))


def test_an_annotation_that_cannot_be_resolved_is_named() -> None:
    """A forward reference to a name that does not exist is refused while wiring, by name."""

    @dataclass
    class Lost:
        other: "Nowhere"  # type: ignore[name-defined]  # noqa: F821 - that is the point

    with pytest.raises(NoSerializer, match=r"an annotation of .*Lost cannot be resolved: name 'Nowhere' is not defined"):
        Serializers().of(Lost)
