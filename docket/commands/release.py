"""``python -m docket release shop.app:d order-1042 ChargeResult --token 3``: it did not happen, and may run again."""

from __future__ import annotations

import argparse
from typing import Any

from docket._core.record import Record
from docket._core.standing import ago
from docket._core.step import Step
from docket.commands._run import arguments_of_a_run, decided, is_doubtful, undecided, who
from docket.docket import Docket

FORGOTTEN = 86_400
"""Seconds after which a provider may forget an idempotency key (https://docs.stripe.com/api/idempotent_requests: 24 h)."""


def add(subparsers: Any) -> None:
    """Add the command."""
    told = "decide a doubt: the step took no effect, and may run again"
    parser = subparsers.add_parser("release", help=told, description=f"{told}.")
    arguments_of_a_run(parser)
    parser.add_argument("--token", type=int, help="the token you saw with the doubt; without it you are only shown what stands")
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Let the step run again and return 0; 1 if there is no such doubt, 2 if no token was said."""

    async def release(d: Docket, step: Step, before: Record | None) -> int:
        if before is not None and is_doubtful(before):
            print(_warning(before))
        if arguments.token is None and (code := undecided(before, "if you know that it did not happen, say so")) is not None:
            return code
        await d.release(arguments.run_id, step.fn, token=arguments.token, note=arguments.note, by=who())
        return 0

    return await decided(arguments, release)


def _warning(doubt: Record) -> str:
    told = f"its effect may have happened {ago(doubt.since)} or earlier, and will happen again if it did"
    if doubt.since < FORGOTTEN:
        return f"{told}, unless the other side knows the idempotency key"
    return f"{told}: the other side may have forgotten the idempotency key since (many keep it for 24 h)"
