"""Values that the type checkers hold to be frozen."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dataclasses import dataclass as immutable
else:

    def immutable(*, frozen: bool, slots: bool, **options: Any) -> Any:
        """Make a class what ``dataclass(frozen=True, slots=True)`` makes it, without the guard against assignment.

        For what every run makes by the dozen. mypy and pyright refuse the assignment as before; the guard at run time makes
        each construction five times as slow (3.2 instead of 0.6 us for fourteen fields on CPython 3.11), because it sets
        every field through ``object.__setattr__``.
        """
        assert frozen  # noqa: S101 - what is not meant to be frozen is a plain dataclass
        hashed = options.get("eq", True)
        return dataclasses.dataclass(slots=slots, unsafe_hash=hashed, **options)


def nothing() -> dict[Any, Any]:
    """Make an empty mapping. As a default factory a third of what ``dict[str, int]`` costs, which is a generic alias."""
    return {}


__all__ = ["immutable", "nothing"]
