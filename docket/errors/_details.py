"""What errors hold: one thing that is wrong, one thing that changed. `docket.errors` holds these names."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_SHOWN = 200
"""Characters of a value's text in a message. Our choice: two lines of a terminal say what it is."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a wiring.

    Attributes:
        what: What is wrong, one sentence without a full stop.
        where: Lines that show it: the path from the target, or each place concerned as ``name  file:line``.
        fix: What to do, one line.
        near: Types that are almost the one that is missing; empty if none.
    """

    what: str
    where: tuple[str, ...]
    fix: str
    near: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [self.what, *(f"  {line}" for line in self.where), *(f"  near: {line}" for line in self.near)]
        return "\n".join([*lines, f"  fix: {self.fix}"])


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between a recorded input and the one supplied now.

    Attributes:
        type: The input's type.
        field: The field that differs; empty if the whole value does (or came to be or went away).
        old: The recorded value, as text.
        new: The value supplied now, as text.
    """

    type: str
    field: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.type}{'.' if self.field else ''}{self.field}: {self.old} -> {self.new}"


def shown(value: object, longest: int = LONGEST_SHOWN) -> str:
    """Return ``repr(value)``, cut off after *longest* characters, or a text in its place if that raises.

    What goes wrong while a failure is described must not take the place of the failure.
    """
    try:
        return repr(value)[:longest]
    except Exception:
        return f"<{type(value).__qualname__} whose repr raises>"
