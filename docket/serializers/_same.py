"""Whether a value that was read back is the one that was written."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import Any

from docket.serializers._shapes import is_namedtuple


class Items(list[Any]):
    """A list that was read where any sequence may stand: a tuple with the same items holds the same."""


def same(one: Any, other: Any) -> bool:
    """Tell whether two values of one type hold the same, also where ``==`` cannot say so.

    ``==`` comes first. Where it says no: NaN is itself, times are compared as they are written (PEP 495 makes the
    repeated hour of autumn unequal to itself across time zones), and objects without ``__eq__`` are compared member by
    member.
    """
    if one is other or _equal(one, other):
        return True
    if _is(Items, one) or _is(Items, other):
        return _is_row(one) and _is_row(other) and _same_items(one, other)
    if type(one) is not type(other):
        return False
    if _is(float, one):
        return bool(one != one and other != other)  # only NaN differs from itself
    if _is(dt.datetime, one):
        return bool(one.isoformat() == other.isoformat())
    if _is(dict, one):
        return bool(one.keys() == other.keys()) and all(same(item, other[key]) for key, item in one.items())
    if _is(list, one) or _is(tuple, one):
        return _same_items(one, other)
    if hasattr(one, "SerializeToString"):
        return bool(one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True))
    names = member_names(one)
    return bool(names) and all(same(getattr(one, name), getattr(other, name)) for name in names)


def _same_items(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(same, one, other))


def _is_row(value: Any) -> bool:
    return type(value) in (list, tuple, Items)


def _is(kind: type, value: Any) -> bool:
    # A function, so that no checker narrows what it knows about the value to a dict of unknown things.
    return isinstance(value, kind)


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # an array answers with an array, and some classes raise
        return False


def member_names(value: Any) -> tuple[str, ...]:
    """Return what the members of a message or object are called, in the order of declaration; nothing for plain values.

    For whatever the serializers of this package take: protobuf, dataclasses, NamedTuples, msgspec, attrs and pydantic.
    """
    kind: Any = value.__class__
    if hasattr(value, "ListFields"):
        return tuple(field.name for field in kind.DESCRIPTOR.fields)
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    if hasattr(kind, "__attrs_attrs__"):
        return tuple(attribute.name for attribute in kind.__attrs_attrs__)
    if is_namedtuple(kind):
        return tuple(kind._fields)
    return tuple(getattr(kind, "__struct_fields__", ()) or getattr(kind, "__pydantic_fields__", ()))
