"""The columns of a protobuf message, read off its descriptor: proto3 JSON with the original field names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docket.serializers._projection import WRAPPERS
from docket.serializers._schema import Case, Child, Column, Schema, SqlType

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

MAX_NESTING = 3
"""Messages inside messages that become prefixed columns; deeper ones stay jsonb. Our choice: views stay readable."""

_WELL_KNOWN: dict[str, SqlType] = {
    "google.protobuf.Any": "jsonb",
    "google.protobuf.Duration": "interval",
    "google.protobuf.Empty": "jsonb",
    "google.protobuf.FieldMask": "text",
    "google.protobuf.ListValue": "jsonb",
    "google.protobuf.Struct": "jsonb",
    "google.protobuf.Timestamp": "timestamptz",
    "google.protobuf.Value": "jsonb",
}


def schema_of(descriptor: Descriptor) -> Schema:
    """Return the columns of messages of *descriptor*; fields that lead back to a message above them are jsonb."""
    if (known := _known(descriptor)) is not None:
        return Schema((Column("value", (), known),))  # its JSON is no object with its fields
    columns: list[Column | Case] = []
    children: list[Child] = []
    _Reader(columns, children).message(descriptor, (), (descriptor.full_name,))
    return Schema(tuple(columns), tuple(children))


class _Reader:
    """Collects the columns and child views of one message."""

    def __init__(self, columns: list[Column | Case], children: list[Child]) -> None:
        self._columns = columns
        self._children = children

    def message(self, descriptor: Descriptor, path: tuple[str, ...], above: tuple[str, ...]) -> None:
        for field in descriptor.fields:
            self._field(field, (*path, field.name), above)
        for oneof in descriptor.oneofs:
            # A field marked `optional` sits alone in a oneof made for it (descriptor.proto, proto3_optional).
            if len(oneof.fields) > 1 or not oneof.name.startswith("_"):
                members = tuple(field.name for field in oneof.fields)
                self._columns.append(Case("_".join((*path, f"{oneof.name}_case")), path, members))

    def _field(self, field: FieldDescriptor, path: tuple[str, ...], above: tuple[str, ...]) -> None:
        name = "_".join(path)
        inner: Descriptor | None = field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            self._columns.append(Column(name, path, "jsonb"))
            self._children.append(Child(name, path, "map", _element(inner.fields_by_name["value"], above)))
        elif inner is None:
            default = "{}" if field.is_repeated else None if field.has_presence else _zero(field)
            self._columns.append(Column(name, path, _scalar(field), field.is_repeated, default))
        elif (known := _known(inner)) is not None:
            many = field.is_repeated and known != "jsonb"
            self._columns.append(Column(name, path, known, many, "{}" if many else None))
        elif field.is_repeated:
            self._columns.append(Column(name, path, "jsonb"))
            if inner.full_name not in above:
                self._children.append(Child(name, path, "list", _element(field, above)))
        elif inner.full_name in above or len(above) > MAX_NESTING:
            self._columns.append(Column(name, path, "jsonb"))
        else:
            self.message(inner, path, (*above, inner.full_name))


def _element(field: FieldDescriptor, above: tuple[str, ...]) -> Schema:
    """Return the columns of one element of a list or one value of a map."""
    inner: Descriptor | None = field.message_type
    if inner is None:
        return Schema((Column("value", (), _scalar(field)),))
    known = _known(inner)
    if known is not None or inner.full_name in above:
        return Schema((Column("value", (), known or "jsonb"),))
    columns: list[Column | Case] = []
    children: list[Child] = []
    _Reader(columns, children).message(inner, (), (*above, inner.full_name))
    return Schema(tuple(columns), tuple(children))


def _known(descriptor: Descriptor) -> SqlType | None:
    if descriptor.full_name in WRAPPERS:
        return _scalar(descriptor.fields_by_name["value"])
    return _WELL_KNOWN.get(descriptor.full_name)


def _scalar(field: FieldDescriptor) -> SqlType:
    if field.type == field.TYPE_BYTES:
        return "bytea"
    by_type: dict[int, SqlType] = {
        field.CPPTYPE_BOOL: "boolean",
        field.CPPTYPE_DOUBLE: "float8",
        field.CPPTYPE_FLOAT: "real",
        field.CPPTYPE_INT32: "int",
        field.CPPTYPE_INT64: "bigint",
        field.CPPTYPE_UINT32: "bigint",
        field.CPPTYPE_UINT64: "numeric",
    }
    return by_type.get(field.cpp_type, "text")


def _zero(field: FieldDescriptor) -> str:
    """Return what an absent field without presence stands for, as text."""
    if field.enum_type is not None:
        return field.enum_type.values_by_number[0].name
    if field.type == field.TYPE_BYTES or field.cpp_type == field.CPPTYPE_STRING:
        return ""
    return "false" if field.cpp_type == field.CPPTYPE_BOOL else "0"
