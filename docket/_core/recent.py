"""A mapping that does not grow without end. Pure."""

from __future__ import annotations

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST = 512
"""Entries that are kept. Our choice: the runs of one target take a handful of programs, unless they fail in ever new
places; a program of two dozen steps takes some 8 kB with all that is known of it, so this stays at a few megabytes; and
what was pushed out is compiled again in a tenth of a millisecond."""


class Recent(dict[K, V]):
    """A dict of what was added last: beyond `MOST` entries, each new one pushes out the oldest.

    What is asked for does not become younger by it, so that asking costs what it costs with any dict.
    """

    __slots__ = ()

    def __setitem__(self, key: K, value: V) -> None:
        super().__setitem__(key, value)
        if len(self) > MOST:
            self.pop(next(iter(self)), None)
