"""``python -m docket explain shop.app:d order-1042 Shipment``: where a run is, why, and what would happen next."""

from __future__ import annotations

import argparse
from typing import Any

from docket.commands._load import step_named
from docket.commands._run import docket_named, reported
from docket.explain import dot, mermaid, text

_FORMATS = {"text": text, "mermaid": mermaid, "dot": dot}


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("explain", help="say where a run is and why; reads the cache once")
    parser.add_argument("object", help="the Docket, as package.module:attribute")
    parser.add_argument("run_id", help="the run")
    parser.add_argument("target", help="what it is asked for: a type or a step, by name")
    parser.add_argument("--format", choices=tuple(_FORMATS), default="text")
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Print the plan of a run and return 0; 1 if there is none."""

    async def explained() -> int:
        async with docket_named(arguments.object) as d:
            plan = await d.plan(arguments.run_id, step_named(d.check(), arguments.target).fn)
        print(_FORMATS[arguments.format](plan))
        return 0

    return await reported(explained)
