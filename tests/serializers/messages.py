"""Messages with every kind of field, made without a compiler: their classes are read from descriptors."""

from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)

_F = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "bool": _F.TYPE_BOOL,
    "bytes": _F.TYPE_BYTES,
    "double": _F.TYPE_DOUBLE,
    "fixed32": _F.TYPE_FIXED32,
    "fixed64": _F.TYPE_FIXED64,
    "float": _F.TYPE_FLOAT,
    "int32": _F.TYPE_INT32,
    "int64": _F.TYPE_INT64,
    "sfixed32": _F.TYPE_SFIXED32,
    "sfixed64": _F.TYPE_SFIXED64,
    "sint32": _F.TYPE_SINT32,
    "sint64": _F.TYPE_SINT64,
    "string": _F.TYPE_STRING,
    "uint32": _F.TYPE_UINT32,
    "uint64": _F.TYPE_UINT64,
}
_WELL_KNOWN = {
    "any": "Any",
    "duration": "Duration",
    "mask": "FieldMask",
    "struct": "Struct",
    "timestamp": "Timestamp",
    "value": "Value",
    "wrapped_bool": "BoolValue",
    "wrapped_bytes": "BytesValue",
    "wrapped_double": "DoubleValue",
    "wrapped_float": "FloatValue",
    "wrapped_int32": "Int32Value",
    "wrapped_int64": "Int64Value",
    "wrapped_string": "StringValue",
    "wrapped_uint32": "UInt32Value",
    "wrapped_uint64": "UInt64Value",
}
_FILES = (any_pb2, duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)


def _field(message: Any, name: str, type_: int, type_name: str = "", *, repeated: bool = False) -> Any:
    label = _F.LABEL_REPEATED if repeated else _F.LABEL_OPTIONAL
    number = len(message.field) + 1
    return message.field.add(name=name, number=number, type=type_, type_name=type_name or None, label=label)


def _map(message: Any, name: str, key: int, value: int, type_name: str = "") -> None:
    entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
    entry.options.map_entry = True
    _field(entry, "key", key)
    _field(entry, "value", value, type_name)
    _field(message, name, _F.TYPE_MESSAGE, f".docket_test.Everything.{entry.name}", repeated=True)


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="docket_test.proto", package="docket_test", syntax="proto3")
    file.dependency.extend(module.DESCRIPTOR.name for module in _FILES)
    color = file.enum_type.add(name="Color")
    for number, name in enumerate(("COLOR_UNSPECIFIED", "RED", "GREEN")):
        color.value.add(name=name, number=number)
    money = file.message_type.add(name="Money")
    _field(money, "currency", _F.TYPE_STRING)
    _field(money, "amount_cents", _F.TYPE_INT64)
    line = file.message_type.add(name="Line")
    _field(line, "sku", _F.TYPE_STRING)
    _field(line, "price", _F.TYPE_MESSAGE, ".docket_test.Money")
    _field(line, "discounts", _F.TYPE_MESSAGE, ".docket_test.Money", repeated=True)
    _everything(file.message_type.add(name="Everything"))
    return file


def _everything(message: Any) -> None:
    for name, type_ in _SCALARS.items():
        _field(message, f"a_{name}", type_)
        _field(message, f"many_{name}", type_, repeated=True)
    _field(message, "color", _F.TYPE_ENUM, ".docket_test.Color")
    _field(message, "colors", _F.TYPE_ENUM, ".docket_test.Color", repeated=True)
    _field(message, "total", _F.TYPE_MESSAGE, ".docket_test.Money")
    _field(message, "lines", _F.TYPE_MESSAGE, ".docket_test.Line", repeated=True)
    _field(message, "parent", _F.TYPE_MESSAGE, ".docket_test.Everything")
    for name, type_name in _WELL_KNOWN.items():
        _field(message, name, _F.TYPE_MESSAGE, f".google.protobuf.{type_name}")
    _field(message, "timestamps", _F.TYPE_MESSAGE, ".google.protobuf.Timestamp", repeated=True)
    _field(message, "structs", _F.TYPE_MESSAGE, ".google.protobuf.Struct", repeated=True)
    _map(message, "counts", _F.TYPE_STRING, _F.TYPE_INT64)
    _map(message, "prices", _F.TYPE_INT32, _F.TYPE_MESSAGE, ".docket_test.Money")
    _map(message, "flags", _F.TYPE_BOOL, _F.TYPE_ENUM, ".docket_test.Color")
    _field(message, "run_id", _F.TYPE_STRING)
    message.oneof_decl.add(name="method")
    for name, type_, type_name in (
        ("card", _F.TYPE_STRING, ""),
        ("cash", _F.TYPE_MESSAGE, ".docket_test.Money"),
        ("points", _F.TYPE_UINT64, ""),
    ):
        _field(message, name, type_, type_name).oneof_index = 0
    optional = _field(message, "note", _F.TYPE_STRING)
    optional.proto3_optional = True
    optional.oneof_index = len(message.oneof_decl)
    message.oneof_decl.add(name="_note")


# A pool of its own, so that nothing here can clash with a file of the same name in the process.
POOL = descriptor_pool.DescriptorPool()
for _module in _FILES:
    POOL.AddSerializedFile(_module.DESCRIPTOR.serialized_pb)
POOL.Add(_file())


def _message_class(name: str) -> Any:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(f"docket_test.{name}"))


Everything = _message_class("Everything")
Line = _message_class("Line")
Money = _message_class("Money")
