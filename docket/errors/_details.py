"""What errors hold: one thing that is wrong, one thing that changed. `docket.errors` holds these names."""

from __future__ import annotations

from dataclasses import dataclass


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
