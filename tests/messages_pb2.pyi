import datetime

from google.protobuf import any_pb2 as _any_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf import wrappers_pb2 as _wrappers_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Color(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COLOR_UNSPECIFIED: _ClassVar[Color]
    COLOR_RED: _ClassVar[Color]
    COLOR_GREEN: _ClassVar[Color]
COLOR_UNSPECIFIED: Color
COLOR_RED: Color
COLOR_GREEN: Color

class Scalars(_message.Message):
    __slots__ = ("a_double", "a_float", "an_int32", "an_int64", "a_uint32", "a_uint64", "a_sint32", "a_sint64", "a_fixed32", "a_fixed64", "a_sfixed32", "a_sfixed64", "a_bool", "a_string", "some_bytes", "color")
    A_DOUBLE_FIELD_NUMBER: _ClassVar[int]
    A_FLOAT_FIELD_NUMBER: _ClassVar[int]
    AN_INT32_FIELD_NUMBER: _ClassVar[int]
    AN_INT64_FIELD_NUMBER: _ClassVar[int]
    A_UINT32_FIELD_NUMBER: _ClassVar[int]
    A_UINT64_FIELD_NUMBER: _ClassVar[int]
    A_SINT32_FIELD_NUMBER: _ClassVar[int]
    A_SINT64_FIELD_NUMBER: _ClassVar[int]
    A_FIXED32_FIELD_NUMBER: _ClassVar[int]
    A_FIXED64_FIELD_NUMBER: _ClassVar[int]
    A_SFIXED32_FIELD_NUMBER: _ClassVar[int]
    A_SFIXED64_FIELD_NUMBER: _ClassVar[int]
    A_BOOL_FIELD_NUMBER: _ClassVar[int]
    A_STRING_FIELD_NUMBER: _ClassVar[int]
    SOME_BYTES_FIELD_NUMBER: _ClassVar[int]
    COLOR_FIELD_NUMBER: _ClassVar[int]
    a_double: float
    a_float: float
    an_int32: int
    an_int64: int
    a_uint32: int
    a_uint64: int
    a_sint32: int
    a_sint64: int
    a_fixed32: int
    a_fixed64: int
    a_sfixed32: int
    a_sfixed64: int
    a_bool: bool
    a_string: str
    some_bytes: bytes
    color: Color
    def __init__(self, a_double: _Optional[float] = ..., a_float: _Optional[float] = ..., an_int32: _Optional[int] = ..., an_int64: _Optional[int] = ..., a_uint32: _Optional[int] = ..., a_uint64: _Optional[int] = ..., a_sint32: _Optional[int] = ..., a_sint64: _Optional[int] = ..., a_fixed32: _Optional[int] = ..., a_fixed64: _Optional[int] = ..., a_sfixed32: _Optional[int] = ..., a_sfixed64: _Optional[int] = ..., a_bool: bool = ..., a_string: _Optional[str] = ..., some_bytes: _Optional[bytes] = ..., color: _Optional[_Union[Color, str]] = ...) -> None: ...

class Shapes(_message.Message):
    __slots__ = ("inner", "size", "inners", "numbers", "words", "colors", "counts", "by_number", "by_flag", "text", "number", "chosen", "note", "rank", "renamed")
    class Size(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SIZE_UNSPECIFIED: _ClassVar[Shapes.Size]
        SIZE_SMALL: _ClassVar[Shapes.Size]
        SIZE_LARGE: _ClassVar[Shapes.Size]
    SIZE_UNSPECIFIED: Shapes.Size
    SIZE_SMALL: Shapes.Size
    SIZE_LARGE: Shapes.Size
    class Inner(_message.Message):
        __slots__ = ("name", "number")
        NAME_FIELD_NUMBER: _ClassVar[int]
        NUMBER_FIELD_NUMBER: _ClassVar[int]
        name: str
        number: int
        def __init__(self, name: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class ByNumberEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: Shapes.Inner
        def __init__(self, key: _Optional[int] = ..., value: _Optional[_Union[Shapes.Inner, _Mapping]] = ...) -> None: ...
    class ByFlagEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: bool
        value: bytes
        def __init__(self, key: bool = ..., value: _Optional[bytes] = ...) -> None: ...
    INNER_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    INNERS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    COLORS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    BY_NUMBER_FIELD_NUMBER: _ClassVar[int]
    BY_FLAG_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    RENAMED_FIELD_NUMBER: _ClassVar[int]
    inner: Shapes.Inner
    size: Shapes.Size
    inners: _containers.RepeatedCompositeFieldContainer[Shapes.Inner]
    numbers: _containers.RepeatedScalarFieldContainer[int]
    words: _containers.RepeatedScalarFieldContainer[str]
    colors: _containers.RepeatedScalarFieldContainer[Color]
    counts: _containers.ScalarMap[str, int]
    by_number: _containers.MessageMap[int, Shapes.Inner]
    by_flag: _containers.ScalarMap[bool, bytes]
    text: str
    number: int
    chosen: Shapes.Inner
    note: str
    rank: int
    renamed: str
    def __init__(self, inner: _Optional[_Union[Shapes.Inner, _Mapping]] = ..., size: _Optional[_Union[Shapes.Size, str]] = ..., inners: _Optional[_Iterable[_Union[Shapes.Inner, _Mapping]]] = ..., numbers: _Optional[_Iterable[int]] = ..., words: _Optional[_Iterable[str]] = ..., colors: _Optional[_Iterable[_Union[Color, str]]] = ..., counts: _Optional[_Mapping[str, int]] = ..., by_number: _Optional[_Mapping[int, Shapes.Inner]] = ..., by_flag: _Optional[_Mapping[bool, bytes]] = ..., text: _Optional[str] = ..., number: _Optional[int] = ..., chosen: _Optional[_Union[Shapes.Inner, _Mapping]] = ..., note: _Optional[str] = ..., rank: _Optional[int] = ..., renamed: _Optional[str] = ...) -> None: ...

class WellKnown(_message.Message):
    __slots__ = ("at", "lasting", "document", "any", "wrapped")
    AT_FIELD_NUMBER: _ClassVar[int]
    LASTING_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    ANY_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    lasting: _duration_pb2.Duration
    document: _struct_pb2.Struct
    any: _any_pb2.Any
    wrapped: _wrappers_pb2.StringValue
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., lasting: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., document: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., any: _Optional[_Union[_any_pb2.Any, _Mapping]] = ..., wrapped: _Optional[_Union[_wrappers_pb2.StringValue, _Mapping]] = ...) -> None: ...

class Tree(_message.Message):
    __slots__ = ("label", "branches")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    BRANCHES_FIELD_NUMBER: _ClassVar[int]
    label: str
    branches: _containers.RepeatedCompositeFieldContainer[Tree]
    def __init__(self, label: _Optional[str] = ..., branches: _Optional[_Iterable[_Union[Tree, _Mapping]]] = ...) -> None: ...

class Empty(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Before(_message.Message):
    __slots__ = ("id", "total")
    ID_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    id: str
    total: int
    def __init__(self, id: _Optional[str] = ..., total: _Optional[int] = ...) -> None: ...

class After(_message.Message):
    __slots__ = ("id", "total", "currency")
    ID_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    id: str
    total: int
    currency: str
    def __init__(self, id: _Optional[str] = ..., total: _Optional[int] = ..., currency: _Optional[str] = ...) -> None: ...
