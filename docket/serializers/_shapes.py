"""What the annotations of a data type say: its members, and which library's types are among them."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ForwardRef, Literal, NewType, TypeVar, Union, get_args, get_origin

from docket._core.types import label

Library = Literal["pydantic", "msgspec"]


class Unsupported(Exception):
    """A type has no faithful JSON."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member of an object.

    Attributes:
        name: Its name in JSON, and as a parameter of the constructor.
        type: Its type, without type variables.
        required: Whether the JSON must have it.
    """

    name: str
    type: Any
    required: bool


def stripped(type_: Any) -> Any:
    """Return what *type_* stands for: a NewType's base, an Annotated's type, an alias's value."""
    while True:
        if isinstance(type_, NewType):
            type_ = type_.__supertype__
        elif get_origin(type_) in (Annotated, typing.Required, typing.NotRequired):
            type_ = get_args(type_)[0]
        elif type(type_).__name__ == "TypeAliasType":
            type_ = type_.__value__
        else:
            return type_


def is_union(type_: Any) -> bool:
    """Tell whether *type_* is ``A | B`` in either spelling."""
    return get_origin(type_) in (Union, types.UnionType)


def is_class(type_: Any) -> bool:
    """Tell whether *type_* is a class. A function, so that no checker takes it for a class of unknown things."""
    return isinstance(type_, type)


def is_namedtuple(cls: Any) -> bool:
    """Tell whether *cls* is a NamedTuple class."""
    return is_class(cls) and hasattr(cls, "_fields") and issubclass(cls, tuple)


def library_of_class(cls: Any) -> Library | None:
    """Return whose class *cls* is: pydantic's, msgspec's (attrs classes too), or nobody's. Imports nothing."""
    if hasattr(cls, "__pydantic_validator__"):
        return "pydantic"
    if hasattr(cls, "__struct_fields__") or hasattr(cls, "__attrs_attrs__"):
        return "msgspec"
    return None


def library_of(type_: Any) -> Library | None:
    """Return the library that must write *type_*, because its classes are in it or below it.

    Raises:
        Unsupported: If classes of both are.
    """
    found: set[Library] = set()
    seen: set[Any] = set()
    waiting = [type_]
    while waiting:
        part = stripped(waiting.pop())
        if part in seen:
            continue
        seen.add(part)
        if (library := library_of_class(get_origin(part) or part)) is not None:
            found.add(library)
        elif has_members(part):
            waiting += [member.type for member in members_of(part)]
        waiting += [inner for inner in get_args(part) if _is_type(inner)]
    if len(found) > 1:
        raise Unsupported("it mixes pydantic and msgspec types, and neither library reads the other's")
    return found.pop() if found else None


def has_members(type_: Any) -> bool:
    """Tell whether *type_* is a dataclass, NamedTuple or TypedDict, whose JSON is an object."""
    cls = get_origin(type_) or type_
    return is_class(cls) and (dataclasses.is_dataclass(cls) or is_namedtuple(cls) or typing.is_typeddict(cls))


def members_of(type_: Any) -> list[Member]:
    """Return the members of a dataclass, NamedTuple or TypedDict, in the order of declaration.

    Raises:
        Unsupported: If an annotation cannot be resolved, or a parameter of the constructor is not kept.
    """
    cls = get_origin(type_) or type_
    try:
        hints = typing.get_type_hints(cls)
    except NameError as error:
        raise Unsupported(f"an annotation of {label(cls)} cannot be resolved: {error}") from error
    variables = dict(_variables(type_))
    return [Member(name, _filled(hints[name], variables), required) for name, required in _names(cls) if name in hints]


def _names(cls: Any) -> Iterator[tuple[str, bool]]:
    if typing.is_typeddict(cls):
        hints = typing.get_type_hints(cls, include_extras=True)
        yield from ((name, _is_required(hints[name], name in cls.__required_keys__)) for name in cls.__annotations__)
    elif is_namedtuple(cls):
        yield from ((name, name not in cls._field_defaults) for name in cls._fields)
    else:
        fields = dataclasses.fields(cls)
        # Pseudo-fields are InitVars and ClassVars, and only the former are parameters.
        for name in cls.__dataclass_fields__.keys() - {field.name for field in fields}:
            if name in inspect.signature(cls).parameters:
                raise Unsupported(f"{label(cls)}.{name} is an InitVar, which the object does not keep")
        for field in fields:
            if field.init:
                missing = dataclasses.MISSING
                yield field.name, field.default is missing and field.default_factory is missing


def _is_required(annotation: Any, declared: bool) -> bool:
    # Python (3.11 to 3.13) does not look into annotations that are text when it makes __required_keys__.
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    marker = get_origin(annotation)
    return marker is typing.Required if marker in (typing.Required, typing.NotRequired) else declared


def _variables(type_: Any) -> Iterator[tuple[Any, Any]]:
    """Yield what stands for each type variable of *type_* and of its generic bases."""
    cls = get_origin(type_) or type_
    own = dict(zip(getattr(cls, "__parameters__", ()), get_args(type_), strict=False))
    yield from own.items()
    for base in getattr(cls, "__orig_bases__", ()):
        if get_origin(base) not in (None, typing.Generic, typing.Protocol):
            yield from _variables(_filled(base, own))


def _filled(type_: Any, variables: dict[Any, Any]) -> Any:
    if isinstance(type_, TypeVar):
        return variables.get(type_, type_)
    parameters = getattr(type_, "__parameters__", ())
    if not parameters or isinstance(type_, type):
        return type_
    return type_[tuple(variables.get(each, each) for each in parameters)]


def _is_type(part: Any) -> bool:
    return part is not Ellipsis and not isinstance(part, str | int | bytes | ForwardRef | list)
