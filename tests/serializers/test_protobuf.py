"""Protobuf: bytes, and the projection against protobuf's own JSON."""

import json
import math
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, json_format, struct_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from docket.errors import Unstorable
from docket.serializers import Protobuf
from tests.messages_pb2 import Scalars, Shapes, Tree, WellKnown
from tests.serializers.messages import Everything, Line, Money

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
NANOS = st.integers(0, 999_999_999)
NOTHING: dict[str, Any] = {}
MOMENTS: st.SearchStrategy[Any] = st.fixed_dictionaries({"seconds": st.integers(-62135596800, 253402300799), "nanos": NANOS})


def _integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else st.integers(0, 2**bits - 1)


def _scalars(field: Any) -> st.SearchStrategy[Any]:
    if field.type == field.TYPE_BYTES:
        return st.binary(max_size=8)
    return {
        field.CPPTYPE_BOOL: st.booleans(),
        field.CPPTYPE_DOUBLE: st.floats(),
        field.CPPTYPE_ENUM: st.integers(0, 5),
        field.CPPTYPE_FLOAT: st.floats(width=32),
        field.CPPTYPE_INT32: _integers(32, signed=True),
        field.CPPTYPE_INT64: _integers(64, signed=True),
        field.CPPTYPE_STRING: TEXTS,
        field.CPPTYPE_UINT32: _integers(32, signed=False),
        field.CPPTYPE_UINT64: _integers(64, signed=False),
    }[field.cpp_type]


def _known(name: str) -> st.SearchStrategy[Any] | None:
    span = st.fixed_dictionaries({"seconds": st.integers(0, 10**9), "nanos": NANOS})
    known: dict[str, st.SearchStrategy[Any]] = {
        "Any": st.just(NOTHING),
        "Duration": span | span.map(lambda parts: {name: -part for name, part in parts.items()}),
        "FieldMask": st.fixed_dictionaries({"paths": st.lists(st.sampled_from(["a", "b.c"]), max_size=3)}),
        "Struct": st.dictionaries(TEXTS, st.floats(allow_nan=False, allow_infinity=False) | TEXTS, max_size=2).map(
            lambda items: {"fields": {key: _value(item) for key, item in items.items()}}
        ),
        "Timestamp": MOMENTS,
        "Value": st.just({"null_value": 0}) | st.just({"bool_value": True}) | st.just(NOTHING),
    }
    return known.get(name.removeprefix("google.protobuf."))


def _value(item: float | str) -> dict[str, Any]:
    return {"string_value": item} if isinstance(item, str) else {"number_value": item}


def _values(field: Any, depth: int) -> st.SearchStrategy[Any]:
    inner = field.message_type
    if inner is None:
        return _scalars(field)
    known = _known(inner.full_name)
    return _messages(inner, depth - 1) if known is None else known


def _messages(descriptor: Any, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Make keyword arguments for messages of *descriptor*; some fields are left out."""
    chosen: dict[str, st.SearchStrategy[Any]] = {}
    for field in descriptor.fields:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name
            chosen[field.name] = st.dictionaries(_scalars(entry["key"]), _values(entry["value"], depth), max_size=2)
        elif field.message_type is not None and depth <= 0 and _known(field.message_type.full_name) is None:
            continue
        elif field.is_repeated:
            chosen[field.name] = st.lists(_values(field, depth), max_size=2)
        else:
            chosen[field.name] = _values(field, depth)
    return st.lists(st.sampled_from(sorted(chosen)), max_size=8, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: chosen[name] for name in names})
    )


@pytest.mark.parametrize("type_", [Everything, Scalars, Shapes, Tree, WellKnown])
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_projection_is_protobuf_json(type_: Any, data: st.DataObject) -> None:
    """The projection of any message says what json_format says, with the field names of the .proto file."""
    message = type_(**data.draw(_messages(type_.DESCRIPTOR, 2)))

    assert json_format.MessageToDict(message, preserving_proto_field_name=True) == json.loads(Protobuf().view(message) or "")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_messages(Everything.DESCRIPTOR, 2))
def test_messages_come_back_from_their_bytes(arguments: dict[str, Any]) -> None:
    """What loads() reads is written as the same bytes again."""
    serializer = Protobuf()
    body = serializer.dumps(Everything(**arguments))

    assert body == serializer.dumps(serializer.loads(Everything, body))


def test_equal_maps_have_equal_bytes() -> None:
    """Bytes do not depend on the order in which a map was filled."""
    one, other = Everything(counts={"a": 1, "b": 2, "c": 3}), Everything(counts={"c": 3, "b": 2, "a": 1})

    assert Protobuf().dumps(one) == Protobuf().dumps(other)


def test_a_large_descriptor_of_proto2_projects_like_protobuf_json() -> None:
    """Extensions, groups and closed enums of proto2 are no different: descriptor.proto describes itself."""
    file = descriptor_pb2.FileDescriptorProto()
    descriptor_pb2.DESCRIPTOR.CopyToProto(file)

    assert json_format.MessageToDict(file, preserving_proto_field_name=True) == json.loads(Protobuf().view(file) or "")


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, 3.4028234663852886e38, 1e-45, -0.0, 0.1, 16777216.5, 1.17549421e-38]
)
def test_floats_project_like_protobuf_json(value: float) -> None:
    """Floats of both widths have the shortest text that brings them back; NaN and Infinity are text."""
    message = Everything(a_float=value, a_double=value)
    expected = json_format.MessageToDict(message, preserving_proto_field_name=True)

    assert str(expected) == str(json.loads(Protobuf().view(message) or ""))


def test_text_with_nul_has_bytes_and_no_projection() -> None:
    """U+0000 is kept in the bytes; jsonb cannot hold it, so the projection is left out."""
    serializer, message = Protobuf(), Money(currency="a\0b")

    assert serializer.view(message) is None
    assert message == serializer.loads(Money, serializer.dumps(message))


def test_a_backslash_before_u0000_is_no_nul() -> None:
    r"""The text ``\u0000`` itself, six characters, is projected."""
    assert Protobuf().view(Money(currency="\\u0000")) == '{"currency":"\\\\u0000"}'


def test_unknown_fields_are_kept() -> None:
    """A field that this code does not know survives reading and writing."""
    body = Line(sku="a", price=Money(amount_cents=3)).SerializeToString()
    older = Protobuf().loads(Money, body)

    assert body == Protobuf().dumps(older)


@pytest.mark.parametrize("body", [b"\xff\xff", b"\x0a\x05a", b"\x80\x04\x95pickle", bytes(10) + b"\xff"])
def test_hostile_bytes_are_a_value_error(body: bytes) -> None:
    """Bytes that are not in the wire format, a pickle among them, are refused as a ValueError."""
    with pytest.raises(ValueError, match="pars"):
        Protobuf().loads(Money, body)


def test_a_bomb_of_nested_messages_is_a_value_error() -> None:
    """100,000 levels of nesting are refused by the parser and exhaust nothing."""
    layers: list[bytes] = []
    size = 0
    for number in range(100_000):
        tag = b"\x32" if number % 2 else b"\x0a"  # Value.list_value, ListValue.values
        layers.append(tag + _varint(size))
        size += len(layers[-1])

    with pytest.raises(ValueError, match="pars"):
        Protobuf().loads(struct_pb2.Value, b"".join(reversed(layers)))


def _varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low | 0x80]) + _varint(number >> 7) if number > low else bytes([low])


def test_a_missing_required_field_cannot_be_stored() -> None:
    """A proto2 message without a required field is refused before anything is stored."""
    part = descriptor_pb2.UninterpretedOption.NamePart(name_part="x")

    with pytest.raises(Unstorable, match=r"NamePart cannot be stored: .*is_extension"):
        Protobuf().dumps(part)


class Foreign:
    """A message of another library: it has to_binary and from_binary."""

    def __init__(self, text: str) -> None:
        self.text = text

    def to_binary(self) -> bytes:
        """Write it."""
        return self.text.encode()

    @classmethod
    def from_binary(cls, body: bytes) -> "Foreign":
        """Read it."""
        return cls(body.decode())


def test_messages_of_other_libraries_are_known_by_what_they_can() -> None:
    """A class with to_binary and from_binary is protobuf, without projection or columns."""
    serializer = Protobuf()
    loaded = serializer.loads(Foreign, serializer.dumps(Foreign("hello")))

    assert serializer.handles(Foreign)
    assert isinstance(loaded, Foreign)
    assert loaded.text == "hello"
    assert serializer.view(loaded) is None
    assert serializer.schema(Foreign) is None


@pytest.mark.parametrize("type_", [int, dict, Money(), "Money", list[int]])
def test_other_types_are_not_protobuf(type_: object) -> None:
    """Only classes of messages are handled, not instances, names or builtins."""
    assert not Protobuf().handles(type_)
