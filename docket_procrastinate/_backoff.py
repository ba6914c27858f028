"""Pauses between attempts to reach a database that is away."""

import random


class Backoff:
    """Growing pauses, with jitter so that the workers of a whole fleet do not return in the same instant.

    Args:
        longest: The longest pause, in seconds, before jitter.
    """

    # A restart of a small server takes about a second, so the first tries come quickly. Our choice.
    _FIRST = 0.05

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._next = self._FIRST

    def pause(self) -> float:
        """Return the seconds to wait now: each twice the one before, at random between half and all of it."""
        seconds = self._next
        self._next = min(seconds * 2, self._longest)
        return seconds * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing

    def reset(self) -> None:
        """Begin again with the shortest pause."""
        self._next = self._FIRST
