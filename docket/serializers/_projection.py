"""A protobuf message as proto3 JSON text with the original field names, from writers compiled per field.

The text equals json_format.MessageToJson(preserving_proto_field_name=True), at a fraction of its time. A writer is a
closure, made when its field is first seen set, so that recursive types and extensions need no special care.
"""

from __future__ import annotations

import base64
import math
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

from docket.serializers import _json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

Write: TypeAlias = "Callable[[Any], str]"
"""A field's value in, JSON text out."""

_BY_METHOD = frozenset({"google.protobuf.Duration", "google.protobuf.FieldMask", "google.protobuf.Timestamp"})
_BY_JSON_FORMAT = frozenset(
    {"google.protobuf.Any", "google.protobuf.ListValue", "google.protobuf.Struct", "google.protobuf.Value"}
)
WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Bool", "Bytes", "Double", "Float", "Int32", "Int64", "String", "UInt32", "UInt64")
)
"""The well-known messages that stand for their one field ``value``."""


class Projection:
    """Writes messages of any type; remembers the writers it made."""

    def __init__(self) -> None:
        self._messages: dict[Any, Write] = {}

    def text(self, message: Message) -> str:
        """Return the JSON text of *message*.

        Raises:
            ValueError, TypeError: If the mapping has no JSON for it (a Timestamp out of range, an unknown Any).
        """
        return self.of_message(message.DESCRIPTOR)(message)

    def of_message(self, descriptor: Any) -> Write:
        """Return the writer for messages of *descriptor*, a ``Descriptor`` of either implementation."""
        write = self._messages.get(descriptor)
        if write is None:
            write = self._messages[descriptor] = self._make_message(descriptor)
        return write

    def of_field(self, field: FieldDescriptor) -> Write:
        """Return the writer for all of *field*: its list, its map or its value."""
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            entry = field.message_type.fields_by_name
            return _map_writer(self.of_value(entry["value"]))
        write = self.of_value(field)
        return _list_writer(write) if field.is_repeated else write

    def of_value(self, field: FieldDescriptor) -> Write:
        """Return the writer for one value of *field*."""
        if field.cpp_type == field.CPPTYPE_MESSAGE:
            return self.of_message(field.message_type)
        if field.cpp_type == field.CPPTYPE_ENUM:
            return _enum_writer(field.enum_type)
        if field.type == field.TYPE_BYTES:
            return _bytes
        by_type: dict[int, Write] = {
            field.CPPTYPE_BOOL: _bool,
            field.CPPTYPE_DOUBLE: _double,
            field.CPPTYPE_FLOAT: _float,
            field.CPPTYPE_INT64: _quoted,
            field.CPPTYPE_STRING: _json_text.string,
            field.CPPTYPE_UINT64: _quoted,
        }
        return by_type.get(field.cpp_type, str)

    def _make_message(self, descriptor: Any) -> Write:
        if descriptor.full_name in _BY_METHOD:
            return _by_method
        if descriptor.full_name in _BY_JSON_FORMAT:
            return _by_json_format
        if descriptor.full_name in WRAPPERS:
            write = self.of_value(descriptor.fields_by_name["value"])
            return lambda message: write(message.value)
        fields = _Fields(self)

        def write_fields(message: Message) -> str:
            members: list[str] = []
            for field, value in message.ListFields():
                name, write = fields[field]
                members.append(name + write(value))
            return "{" + ",".join(members) + "}"

        return write_fields


class _Fields(dict["FieldDescriptor", tuple[str, Write]]):
    """The name with its colon and the writer of each field of a message, made as they are asked for."""

    def __init__(self, projection: Projection) -> None:
        super().__init__()
        self._projection = projection

    def __missing__(self, field: FieldDescriptor) -> tuple[str, Write]:
        name = _json_text.encode(f"[{field.full_name}]" if field.is_extension else field.name) + ":"
        member = self[field] = name, self._projection.of_field(field)
        return member


def _list_writer(write: Write) -> Write:
    def write_list(values: Iterable[Any]) -> str:
        return f"[{','.join([write(value) for value in values])}]"

    return write_list


def _map_writer(write: Write) -> Write:
    def write_map(values: Mapping[Any, Any]) -> str:
        # Not items(): the map of messages in upb hands out copies there in some versions; json_format reads by key.
        return f"{{{','.join([f'{_key(key)}:{write(values[key])}' for key in values])}}}"

    return write_map


def _enum_writer(enum: Any) -> Write:
    if enum.full_name == "google.protobuf.NullValue":
        return lambda _: "null"
    names = {number: f'"{value.name}"' for number, value in enum.values_by_number.items()}
    # A number that a newer schema knows stays a number, as in json_format.
    return lambda number: names.get(number) or str(number)


def _key(key: str | int) -> str:
    if isinstance(key, str):
        return _json_text.encode(key)
    return f'"{_bool(key)}"' if isinstance(key, bool) else f'"{key}"'


def _bool(value: object) -> str:
    return "true" if value else "false"


def _quoted(value: int) -> str:
    return f'"{value}"'


def _bytes(value: bytes) -> str:
    return f'"{base64.b64encode(value).decode()}"'


def _double(value: float) -> str:
    if math.isfinite(value):
        return repr(value)
    if math.isnan(value):
        return '"NaN"'
    return '"Infinity"' if value > 0 else '"-Infinity"'


def _float(value: float) -> str:
    """Write a 4-byte float with as few digits as bring it back: from 6 to 9 (IEEE 754 single precision)."""
    if not math.isfinite(value):
        return _double(value)
    for digits in (6, 7, 8):
        shorter = float(f"{value:.{digits}g}")
        try:
            if struct.unpack("<f", struct.pack("<f", shorter))[0] == value:
                return repr(shorter)
        except OverflowError:  # rounded up past the largest 4-byte float
            continue
    return repr(float(f"{value:.9g}"))


def _by_method(message: Any) -> str:
    return _json_text.encode(message.ToJsonString())


def _by_json_format(message: Message) -> str:
    from google.protobuf import json_format

    return _json_text.encode(json_format.MessageToDict(message, preserving_proto_field_name=True))
