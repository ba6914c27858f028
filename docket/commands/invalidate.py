"""``python -m docket invalidate shop.app:d order-1042 Reservation``: take a result back; the next run makes it again."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from docket._core.record import Record
from docket._core.step import Step
from docket.commands._run import arguments_of_a_run, decided, who
from docket.docket import Docket


def add(subparsers: Any) -> None:
    """Add the command."""
    told = "take back a certified result and all that was made from it; the next run makes them again"
    parser = subparsers.add_parser("invalidate", help=told, description=f"{told}.")
    arguments_of_a_run(parser)
    parser.add_argument("--force", action="store_true", help="also if an effect is among them that would happen again")
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Take the results back and return 0; 1 if there are none, or an effect is among them and force was not said."""

    async def take_back(d: Docket, step: Step, _: Record | None) -> int:
        taken = await d.invalidate(arguments.run_id, step.fn, force=arguments.force, note=arguments.note, by=who())
        if not taken:
            print("docket: nothing is certified there; nothing was changed", file=sys.stderr)
            return 1
        print(f"taken back: {', '.join(taken)}")
        return 0

    return await decided(arguments, take_back)
