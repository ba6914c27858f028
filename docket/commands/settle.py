"""``python -m docket settle shop.app:d order-1042 ChargeResult --value charge.json --token 3``: it happened."""

from __future__ import annotations

import argparse
from typing import Any

from docket._core.record import Record
from docket._core.step import Step
from docket.commands._run import arguments_of_a_run, decided, undecided, value_of, who
from docket.docket import Docket
from docket.errors import Refused


def add(subparsers: Any) -> None:
    """Add the command."""
    told = "decide a doubt: the step took effect, and this is its result; or it was refused for good"
    parser = subparsers.add_parser("settle", help=told, description=f"{told}.")
    arguments_of_a_run(parser)
    happened = parser.add_mutually_exclusive_group(required=True)
    happened.add_argument("--value", help="the result: JSON, a file, or - for standard input")
    happened.add_argument("--refused", metavar="REASON", help="the other side gave its final no, and this is why")
    parser.add_argument("--token", type=int, help="the token you saw with the doubt, 0 if nothing was recorded")
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Certify the value and return 0; 1 if there is no such doubt, 2 if no token was said."""

    async def settle(d: Docket, step: Step, before: Record | None) -> int:
        value = Refused(arguments.refused) if arguments.value is None else value_of(d, step, arguments.value)
        if arguments.token is None and (code := undecided(before, "if that is the doubt you mean, say so")) is not None:
            return code
        await d.settle(arguments.run_id, step.fn, value, token=arguments.token, note=arguments.note, by=who())
        return 0

    return await decided(arguments, settle)
