"""Annotations into keys.

A key is what identifies a value in a wiring: the exact type as it stands in an annotation. No I/O here, and no
guessing: whatever is not one clear type is refused with a line that says what to write instead.
"""

from __future__ import annotations

import inspect
import os
import types
import typing
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Annotated, Any, NewType, TypeAlias, TypeVar, Union, get_args, get_origin

Key: TypeAlias = Hashable
"""A class, a ``NewType`` or a parameterised generic: whatever identifies a value."""

_PLAIN = (
    bool, int, float, complex, str, bytes, bytearray, memoryview,
    list, tuple, dict, set, frozenset, object, type, type(None), Any,
)  # fmt: skip


class IfCertified:
    """Marks a need as "use it if it is already there": ``Annotated[Quote | None, IfCertified]``.

    The step gets the value if it is certified or supplied, else None. It is never computed for this.
    """


class Refusal(Exception):
    """An annotation that cannot be a key.

    Attributes:
        what: What is wrong with it.
        fix: What to write instead.
    """

    def __init__(self, what: str, fix: str) -> None:
        self.what, self.fix = what, fix
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class Read:
    """An annotation, read.

    Attributes:
        key: The type without ``None`` and without markers.
        optional: Whether None is allowed.
        if_certified: Whether it carries the ``IfCertified`` marker.
    """

    key: Key
    optional: bool
    if_certified: bool


def read(annotation: Any, *, optional: bool = False) -> Read:
    """Read one annotation, the inside of an optional one if *optional*.

    Raises:
        Refusal: It is not one exact type, or a plain builtin that says nothing about its role.
    """
    marked = False
    if get_origin(annotation) is Annotated:
        annotation, *marks = get_args(annotation)
        marked = any(mark is IfCertified or isinstance(mark, IfCertified) for mark in marks)
    members = get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
    kept = [member for member in members if member is not type(None)]
    kept = kept or [type(None)]
    optional = optional or len(kept) < len(members)
    if len(kept) != 1:
        raise Refusal(f"{label(annotation)} is a union", "give each case its own type, or one type that holds the cases")
    key = kept[0]
    if get_origin(key) is Annotated:
        inner = read(key, optional=optional)
        return Read(inner.key, inner.optional, marked or inner.if_certified)
    if marked and not optional:
        raise Refusal(f"IfCertified on {label(key)} which may not be None", f"write {label(key)} | None inside it")
    return Read(_checked(key), optional, marked)


def _checked(key: Any) -> Key:
    if isinstance(key, str | typing.ForwardRef):
        raise Refusal(f"{key!r} is a name that was not resolved", "import the type at run time")
    if isinstance(key, TypeVar) or (get_origin(key) is not None and _open(key)):
        raise Refusal(f"{label(key)} has a type variable in it", "write the exact type, such as Page[User]")
    if any(key is plain for plain in _PLAIN):
        raise Refusal(
            f"{label(key)} says nothing about what the value is",
            f"wrap it in a type of its own: a dataclass, a message, or NewType('OrderId', {label(key)})",
        )
    if not (isinstance(key, type | NewType) or get_origin(key) is not None):
        raise Refusal(f"{key!r} is not a type", "annotate with a class, a NewType or a parameterised generic")
    try:
        hash(key)
    except TypeError:
        raise Refusal(f"{label(key)} is not hashable", "use an exact type") from None
    return typing.cast(Key, key)


def _open(key: Any) -> bool:
    return any(isinstance(part, TypeVar) or _open(part) for part in get_args(key))


def label(key: Any) -> str:
    """Name a key as the user wrote it: ``Shipment``, ``Page[User]``, ``Quote | None``."""
    if type(key) is type and key is not type(None):  # most are, and this is asked for every value that is stored
        return str(key.__qualname__)
    if get_origin(key) in (Union, types.UnionType):
        return " | ".join(label(part) for part in get_args(key))
    if (origin := get_origin(key)) is not None:
        return f"{label(origin)}[{', '.join(label(part) for part in get_args(key))}]"
    if key is type(None):
        return "None"
    return str(getattr(key, "__qualname__", None) or getattr(key, "__name__", None) or repr(key))


def storage_key(key: Any) -> str:
    """Name a key in the database, for ever.

    A protobuf message is named by its full name, which survives a move between modules; anything else by module and
    qualified name. Renaming a step function changes neither.
    """
    descriptor = getattr(key, "DESCRIPTOR", None)
    if descriptor is not None and isinstance(getattr(descriptor, "full_name", None), str):
        return str(descriptor.full_name)
    if type(key) is not type and (origin := get_origin(key)) is not None:
        return f"{storage_key(origin)}[{', '.join(storage_key(part) for part in get_args(key))}]"
    module = getattr(key, "__module__", "")
    return label(key) if module == "builtins" else f"{module}.{label(key)}"


def place(subject: Any) -> str:
    """Say where a function or class stands, as ``file:line``; its module if that cannot be known."""
    code = getattr(inspect.unwrap(subject), "__code__", None) if callable(subject) else None
    if code is not None:
        return placed(code.co_filename, code.co_firstlineno)
    try:
        return placed(inspect.getsourcefile(subject) or "?", inspect.getsourcelines(subject)[1])
    except (TypeError, OSError):
        return str(getattr(subject, "__module__", "?"))


def placed(file: str, line: int) -> str:
    """Write a place as ``file:line``, relative to the working directory for what lies below it."""
    here = os.getcwd() + os.sep
    return f"{file.removeprefix(here)}:{line}"


def class_of(key: Any) -> type | None:
    """Return the class whose instances *key* promises: a generic's origin, what a NewType wraps, or None."""
    while isinstance(key, NewType):
        key = key.__supertype__
    origin = get_origin(key) or key
    return origin if isinstance(origin, type) else None


def is_below(one: Any, other: Any) -> bool:
    """Say whether the class *one* inherits from the class *other*, which is neither it nor object."""
    return isinstance(one, type) and isinstance(other, type) and other in one.__mro__[1:-1]


def is_instance(value: object, key: Any) -> bool:
    """Say whether *value* can be what *key* promises. Generics are judged by origin, NewTypes by what they wrap."""
    expected = class_of(key)
    if expected is None:
        return True
    try:
        return isinstance(value, expected)
    except TypeError:  # a Protocol that is not runtime-checkable
        return True
