"""The columns of a type that is stored as JSON, read off its annotations."""

from __future__ import annotations

import collections.abc
import datetime as dt
import enum
import json
from decimal import Decimal
from typing import Any, Literal, TypeAlias, get_args, get_origin
from uuid import UUID

from docket.serializers._schema import Case, Child, Column, Schema, SqlType
from docket.serializers._shapes import (
    Library,
    has_members,
    is_class,
    is_union,
    library_of,
    library_of_class,
    members_of,
    stripped,
)

MAX_NESTING = 3
"""Objects inside objects that become prefixed columns; deeper ones stay jsonb. Our choice: views stay readable."""

# numeric for int: Python's has no bound, and one value that does not fit its cast would break the view for every row.
_SCALARS: dict[type, SqlType] = {
    bool: "boolean",
    bytes: "bytea",
    dt.date: "date",
    dt.datetime: "timestamptz",
    dt.time: "time",
    dt.timedelta: "interval",
    Decimal: "numeric",
    float: "float8",
    int: "numeric",
    str: "text",
    UUID: "uuid",
}
_Member: TypeAlias = tuple[str, Any, "str | None"]
"""A member's name in JSON, its type, and the JSON of the value that is left out of the projection, if one is."""

_LISTS = (list, set, frozenset, collections.abc.Sequence, collections.abc.Set, collections.abc.Collection)


def schema_of(type_: Any) -> Schema:
    """Return the columns of values of *type_*; members that lead back to a type above them are jsonb."""
    return _Reader(library_of(type_)).schema(type_, ())


class _Reader:
    """Reads types that *library* writes; None for our own JSON."""

    def __init__(self, library: Library | None) -> None:
        self._library = library

    def schema(self, type_: Any, above: tuple[Any, ...]) -> Schema:
        """Return the columns of a value that stands alone: a result, or an element of a list or a dict."""
        type_ = _present(type_)
        columns: list[Column | Case] = []
        children: list[Child] = []
        members = None if type_ in above else self._members(type_)
        if members is None:
            self._member("value", (), type_, above, columns, children)
        for name, member, default in members or ():
            self._member(name, (name,), member, (*above, type_), columns, children, default)
        return Schema(tuple(columns), tuple(children))

    def _member(
        self,
        name: str,
        path: tuple[str, ...],
        type_: Any,
        above: tuple[Any, ...],
        columns: list[Column | Case],
        children: list[Child],
        default: str | None = None,
    ) -> None:
        type_ = _present(type_)
        element, kind = _element(type_)
        members = self._members(type_)
        if kind == "list" and (scalar := self._scalar(element)) != "jsonb":
            columns.append(Column(name, path, scalar, many=True, default="{}" if default == "[]" else None))
        elif kind is not None:
            columns.append(Column(name, path, "jsonb", default=default))
            if element not in above and (kind == "map" or self._members(element) is not None):
                children.append(Child(name, path, kind, self.schema(element, above)))
        elif members is None or type_ in above or len(above) > MAX_NESTING:
            scalar = self._scalar(type_)
            columns.append(Column(name, path, scalar, default=_unquoted(default) if scalar != "jsonb" else default))
        else:
            for inner, member, left_out in members:
                self._member(f"{name}_{inner}", (*path, inner), member, (*above, type_), columns, children, left_out)

    def _members(self, type_: Any) -> list[_Member] | None:
        """Return an object's members, or None if *type_* is no object."""
        cls = get_origin(type_) or type_
        if not is_class(cls):
            return None
        if library_of_class(cls) == "msgspec":
            return _msgspec_members(type_)
        if hasattr(cls, "model_fields"):
            return _pydantic_members(cls)
        if has_members(cls):
            return [(member.name, member.type, None) for member in members_of(type_)]
        return None

    def _scalar(self, type_: Any) -> SqlType:
        type_ = _present(type_)
        if get_origin(type_) is Literal:
            return _of_values(get_args(type_))
        if not is_class(type_) or self._members(type_) is not None:
            return "jsonb"
        if issubclass(type_, enum.Enum):
            return _of_values([member.value for member in type_])
        if type_ is bytes and self._library == "pydantic":
            return "text"  # its default; base64 is an option
        return _SCALARS.get(type_) or ("text" if issubclass(type_, str) else "jsonb")


def _present(type_: Any) -> Any:
    """Return *type_* without None, names and annotations."""
    type_ = stripped(type_)
    if is_union(type_):
        members = [member for member in get_args(type_) if member is not type(None)]
        if len(members) == 1:
            return _present(members[0])
    return type_


def _element(type_: Any) -> tuple[Any, Literal["list", "map"] | None]:
    """Return the type of the elements of a list or of the values of a dict, and which of the two it is."""
    origin, arguments = get_origin(type_), get_args(type_)
    if origin in _LISTS and arguments:
        return _present(arguments[0]), "list"
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _present(arguments[0]), "list"
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping) and len(arguments) == 2:
        return _present(arguments[1]), "map"
    return None, None


def _of_values(values: Any) -> SqlType:
    kinds: set[type] = {type(value) for value in values}
    if kinds == {bool}:
        return "boolean"
    return "numeric" if kinds and kinds <= {int} else "text"


def _pydantic_members(cls: Any) -> list[_Member] | None:
    if getattr(cls, "__pydantic_root_model__", False):
        return None  # its JSON is that of its only member
    return [
        (field.serialization_alias or field.alias or name, field.annotation, None) for name, field in cls.model_fields.items()
    ]


def _msgspec_members(type_: Any) -> list[_Member] | None:
    cls = get_origin(type_) or type_
    if not hasattr(cls, "__struct_fields__"):  # attrs
        return [(attribute.name, attribute.type, None) for attribute in cls.__attrs_attrs__]
    import msgspec

    if cls.__struct_config__.array_like:
        return None
    omits = cls.__struct_config__.omit_defaults
    return [
        (field.encode_name, field.type, _default(field) if omits else None) for field in msgspec.structs.fields(type_)
    ]


def _default(field: Any) -> str | None:
    """Return what msgspec leaves out of the JSON, as JSON; None if nothing, or null."""
    import msgspec

    if field.default is not msgspec.NODEFAULT:
        text = msgspec.json.encode(field.default).decode()
    elif field.default_factory in (list, set, dict):  # it calls no other to compare with what it makes
        text = "{}" if field.default_factory is dict else "[]"
    else:
        return None
    return None if text == "null" else text


def _unquoted(default: str | None) -> str | None:
    """Return the JSON of a scalar as the text that SQL reads."""
    if default is None:
        return None
    value = json.loads(default)
    return value if isinstance(value, str) else default
