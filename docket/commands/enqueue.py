"""``python -m docket enqueue shop.app:d orders order-1042 Shipment``: hand a run that is on record to its queue again."""

from __future__ import annotations

import argparse
from typing import Any

from docket.commands._load import step_named
from docket.commands._run import docket_named, reported


def add(subparsers: Any) -> None:
    """Add the command."""
    told = "hand a run to a queue, with the inputs that are on record: after a verdict, or when a job is gone"
    parser = subparsers.add_parser("enqueue", help=told, description=f"{told}.")
    parser.add_argument("object", help="the Docket, as package.module:attribute")
    parser.add_argument("queue", help="the queue")
    parser.add_argument("run_id", metavar="RUN", help="the run")
    parser.add_argument("target", metavar="TYPE", help="what to ask for: a type or a step, by name")
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Enqueue the run and return 0; 1 if it could never succeed, or its inputs are not on record."""

    async def enqueued() -> int:
        async with docket_named(arguments.object) as d:
            target = step_named(d.check(), arguments.target)
            added = await d.enqueue_many(arguments.queue, target.fn, {arguments.run_id: []})
        told = "enqueued" if added else "a job for it waits already; nothing was added"
        print(f"{arguments.run_id}: {told}")
        return 0

    return await reported(enqueued)
