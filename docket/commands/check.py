"""``python -m docket check shop.app:d``: check a wiring, for people and for CI. Needs no database."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from docket._core.lints import lints
from docket._core.types import label
from docket._core.wiring import Wiring
from docket.commands._load import load, step_named
from docket.errors import DocketError


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("check", help="check a wiring; exit code 1 if it does not close")
    parser.add_argument("object", help="the Docket or Graph, as package.module:attribute")
    parser.add_argument("--target", action="append", default=[], help="what is asked for: reports the steps nobody needs")
    parser.add_argument("--strict", action="store_true", help="exit code 1 also if there is something to look at")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the wiring and return 0, or everything that is wrong with it and return 1."""
    try:
        wiring = load(arguments.object).check()
        targets = [step_named(wiring, name) for name in arguments.target]
    except DocketError as error:
        print(f"docket: {error}", file=sys.stderr)
        return 1
    print(drawn(wiring))
    found = lints(wiring, targets)
    for number, problem in enumerate(found, 1):
        print(f"look at {number}. {problem}")
    return int(arguments.strict and bool(found))


def drawn(wiring: Wiring) -> str:
    """Return a wiring as text: a line for each step with what it gives, its name, its mark, its needs and its place."""
    rows = [
        (
            f"{label(step.gives)}{' | None' if step.gives_none else ''}",
            step.name,
            step.options.cache_result or "",
            ", ".join(f"{label(need.key)}{' | None' if need.optional else ''}" for need in step.needs) or "nothing",
            step.where,
        )
        for step in wiring.steps.values()
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    lines = ["  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]]) for row in rows]
    inputs = ", ".join(sorted(label(key) for key in wiring.inputs)) or "none"
    said = "" if wiring.declared is not None else " (whatever no step gives; name them to find holes: inputs=[...])"
    resources = ", ".join(sorted(label(key) for key in wiring.resources)) or "none"
    count = f"{len(rows)} step{'' if len(rows) == 1 else 's'}"
    return "\n".join([*lines, f"inputs: {inputs}{said}", f"resources: {resources}", f"{count}, the wiring closes"])
