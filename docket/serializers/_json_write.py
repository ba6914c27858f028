"""Values into JSON values (dict, list, str, int, float, bool, None), by the class each value has at run time."""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

from docket._core.types import label
from docket.serializers import _json_text
from docket.serializers._json_sets import in_order, may_hold_sets
from docket.serializers._shapes import is_namedtuple, library_of, library_of_class

Write: TypeAlias = Callable[[Any], object]


class Writers(dict[type, Write]):
    """The writer of each class, made when the first value of the class is met."""

    def __missing__(self, cls: type) -> Write:
        write = self[cls] = self._make(cls)
        return write

    def write(self, value: object) -> object:
        """Return the JSON value of *value*.

        Raises:
            TypeError: If something in it has no JSON.
            ValueError: If something in it cannot be written faithfully.
        """
        return self[type(value)](value)

    def _make(self, cls: Any) -> Write:
        if issubclass(cls, enum.Enum):
            return lambda member: self.write(member.value)
        if (library := library_of_class(cls)) is not None:
            return _pydantic(cls) if library == "pydantic" else _msgspec(cls)
        if dataclasses.is_dataclass(cls):
            return self._dataclass(cls)
        if is_namedtuple(cls):
            return lambda row: self._mapping(row._asdict())
        for base, write in self._plain():
            if issubclass(cls, base):
                return write
        raise TypeError(f"{label(cls)} has no JSON")

    def _plain(self) -> tuple[tuple[type | tuple[type, ...], Write], ...]:
        return (
            ((str, int, float, bool, type(None)), _same),
            ((bytes, bytearray), lambda value: base64.b64encode(value).decode()),
            (Decimal, _decimal),
            (UUID, str),
            # isoformat() of a datetime is read by PostgreSQL as timestamptz; datetime is a subclass of date.
            ((dt.date, dt.time), lambda value: value.isoformat()),
            (dt.timedelta, duration),
            ((list, tuple), lambda items: [self.write(item) for item in items]),
            # Sorted, so that equal sets have equal bytes.
            ((set, frozenset), lambda items: sorted((self.write(item) for item in items), key=_json_text.encode)),
            (dict, self._mapping),
        )

    def _dataclass(self, cls: Any) -> Write:
        library = library_of(cls)
        if library is not None:
            return _pydantic(cls) if library == "pydantic" else _msgspec(cls)
        names = [field.name for field in dataclasses.fields(cls) if field.init]
        get = operator.attrgetter(*names) if len(names) > 1 else None

        def write(value: object) -> object:
            items = get(value) if get else [getattr(value, name) for name in names]
            return {name: self[type(item)](item) for name, item in zip(names, items, strict=True)}

        return write

    def _mapping(self, entries: dict[Any, Any]) -> object:
        written = {self._key(key): self.write(item) for key, item in entries.items()}
        if len(written) != len(entries):
            raise ValueError("two of its dict keys are written alike")
        return written

    def _key(self, key: object) -> str:
        plain = self.write(key)
        if isinstance(plain, bool) or not isinstance(plain, str | int | float):
            raise TypeError(f"a dict key of type {label(type(key))} has no JSON")
        return plain if isinstance(plain, str) else repr(plain)


def duration(value: dt.timedelta) -> str:
    """Write a timedelta exactly, as ISO 8601 that PostgreSQL reads (the sign inside: ``PT-1.500000S``)."""
    microseconds = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    seconds, rest = divmod(abs(microseconds), 1_000_000)
    return f"PT{'-' if microseconds < 0 else ''}{seconds}.{rest:06d}S"


def _same(value: object) -> object:
    return value


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(f"a Decimal is {value}")
    return str(value)


def _pydantic(cls: Any) -> Write:
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(cls)

    def write(value: object) -> object:
        # round_trip leaves out computed fields; a value of another type than declared is an error, not a warning.
        return adapter.dump_python(value, mode="json", by_alias=True, round_trip=True, warnings="error")

    return _ordered(cls, write)


def _msgspec(cls: Any) -> Write:
    import msgspec

    return _ordered(cls, lambda value: msgspec.to_builtins(value, str_keys=True))


def _ordered(cls: Any, write: Write) -> Write:
    return (lambda value: in_order(value, write(value))) if may_hold_sets(cls) else write
