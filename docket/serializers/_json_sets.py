"""Sets in what pydantic and msgspec wrote, put in order: theirs is that of hashes, which differ from process to process."""

from __future__ import annotations

import collections.abc
import dataclasses
import typing
from collections.abc import Iterator
from typing import Any, ForwardRef, TypeVar, get_args, get_origin

from docket.serializers import _json_text
from docket.serializers._shapes import has_members, is_class, library_of_class, stripped

_ANY_KIND: tuple[Any, ...] = (collections.abc.Iterable, collections.abc.Collection)
_BARE: tuple[Any, ...] = (list, tuple, dict, collections.abc.Sequence, collections.abc.Mapping)


def may_hold_sets(type_: Any) -> bool:
    """Tell whether there may be a set in a value of *type_*, by its annotations; also if they do not say."""
    seen: set[Any] = set()
    waiting = [type_]
    try:
        while waiting:
            part = stripped(waiting.pop())
            if part in seen:
                continue
            seen.add(part)
            origin: Any = get_origin(part) or part
            arguments = get_args(part)
            if origin in (Any, object) or isinstance(origin, TypeVar | ForwardRef | str):
                return True
            if origin in _ANY_KIND or (origin in _BARE and not arguments):
                return True
            if is_class(origin):
                if issubclass(origin, collections.abc.Set):
                    return True
                if getattr(origin, "model_config", {}).get("extra") == "allow":
                    return True
                if library_of_class(origin) is not None or has_members(origin):
                    waiting += typing.get_type_hints(origin).values()
            waiting += [inner for inner in arguments if inner is not Ellipsis and not isinstance(inner, str | int | bytes)]
    except Exception:  # what cannot be read may hold anything
        return True
    return False


def in_order(value: Any, tree: Any) -> Any:
    """Return *tree*, which is the JSON value of *value*, with the items of every set sorted by their text.

    Both are walked side by side. Where they part, because a class has a way of its own to be written, the tree stays as it is.
    """
    if _is(dict, tree):
        entries: dict[str, Any] = tree
        for name, held in _members(value, entries):
            if name in entries:
                entries[name] = in_order(held, entries[name])
        return entries
    if not (_is(list, tree) or _is(tuple, tree)):
        return tree
    if getattr(value, "__pydantic_root_model__", False):
        return in_order(value.root, tree)
    fields: tuple[str, ...] = getattr(value, "__struct_fields__", ())
    if fields and len(tree) >= len(fields):  # array_like, perhaps with a tag before its members
        first = len(tree) - len(fields)
        return [*tree[:first], *map(in_order, (getattr(value, name) for name in fields), tree[first:])]
    is_set = _is(collections.abc.Set, value)
    if not (is_set or _is(list, value) or _is(tuple, value)) or len(value) != len(tree):
        return tree
    items = [in_order(one, written) for one, written in zip(value, tree, strict=True)]
    return sorted(items, key=_json_text.encode) if is_set else items


def _members(value: Any, tree: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds, each by its name in JSON."""
    cls = _class(value)
    if _is(dict, value):
        if len(value) == len(tree):
            yield from zip(list(tree), value.values(), strict=True)
    elif getattr(cls, "__pydantic_root_model__", False):
        yield from _members(value.root, tree)
    elif hasattr(cls, "__pydantic_fields__"):
        for name, field in cls.__pydantic_fields__.items():
            yield field.serialization_alias or field.alias or name, getattr(value, name, None)
        yield from (getattr(value, "__pydantic_extra__", None) or {}).items()
    elif hasattr(cls, "__struct_fields__"):
        for name, written in zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True):
            yield written, getattr(value, name)
    elif hasattr(cls, "__attrs_attrs__"):
        yield from ((attribute.name, getattr(value, attribute.name, None)) for attribute in cls.__attrs_attrs__)
    elif dataclasses.is_dataclass(cls):
        yield from ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(cls))


def _class(value: object) -> Any:
    return type(value)


def _is(kind: type, value: Any) -> bool:
    # A function, so that no checker narrows what it knows about the value to a collection of unknown things.
    return isinstance(value, kind)
