"""What differs between two values of one type, field by field, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from docket.errors import Change
from docket.serializers import same
from docket.serializers._same import member_names

SHOWN = 80
"""Most characters of a value that are shown. Our choice: enough to recognise it, too little to fill a log."""

FIELDS = 8
"""Most fields that are listed."""

ABSENT = object()
"""Stands for a value that was not there."""

UNREADABLE = object()
"""Stands for a recorded value that cannot be read any more."""


def changes(name: str, old: object, new: object) -> tuple[Change, ...]:
    """Return how *new* differs from *old*: each field of a message or an object that does, or else the whole.

    Args:
        name: The type, as the user wrote it.
        old: The recorded value; `ABSENT` or `UNREADABLE` if there is none.
        new: The value supplied now; `ABSENT` if there is none.
    """
    if old is ABSENT or old is UNREADABLE or new is ABSENT:
        return (Change(name, "", _text(old), _text(new)),)
    found = [Change(name, field, _text(was), _text(now)) for field, was, now in _differing(old, new)]
    if len(found) > FIELDS:
        more = f"{len(found) - FIELDS} more fields"
        found = [*found[:FIELDS], Change(name, more, "...", "...")]
    return tuple(found) or (Change(name, "", _text(old), _text(new)),)


def _differing(old: Any, new: Any) -> Iterator[tuple[str, object, object]]:
    """Yield the path of each field that differs, with both values. Nested ones are compared field by field."""
    pending: list[tuple[str, Any, Any]] = [("", old, new)]
    while pending:
        path, was, now = pending.pop()
        names = member_names(was) if isinstance(now, type(was)) else ()
        if not names and path:
            yield path, was, now
        for name in reversed(names):
            one, other = _member(was, name), _member(now, name)
            if not same(one, other):
                pending.append((f"{path}.{name}" if path else name, one, other))


def _member(value: Any, name: str) -> object:
    try:
        if hasattr(value, "ListFields") and not value.HasField(name):
            return ABSENT
    except ValueError:  # a field without presence: repeated, or a plain proto3 scalar
        pass
    return getattr(value, name, ABSENT)


def _text(value: object) -> str:
    if value is ABSENT:
        return "absent"
    if value is UNREADABLE:
        return "unreadable"
    text = " ".join((str(value) if hasattr(value, "ListFields") else repr(value)).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
