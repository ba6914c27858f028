"""``python -m docket purge shop.app:d --older-than 90d``: delete the values of finished runs."""

from __future__ import annotations

import argparse
import re
from typing import Any

from docket.cache import Retention
from docket.commands._run import docket_named, reported
from docket.errors import ConfigurationError

_UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def add(subparsers: Any) -> None:
    """Add the command."""
    told = "delete the values of finished runs; effects that must not repeat leave a row without a value"
    parser = subparsers.add_parser("purge", help=told, description=f"{told}.")
    parser.add_argument("object", help="the Docket, as package.module:attribute")
    parser.add_argument("--older-than", type=_seconds, required=True, metavar="AGE", help="such as 90d; units: s, min, h, d, w")
    parser.add_argument("--batch", type=int, default=1000, help="how many runs to purge in one transaction (1000)")
    parser.set_defaults(run=run)


async def run(arguments: argparse.Namespace) -> int:
    """Purge batch after batch until nothing is left to purge, and return 0; 1 if the cache keeps everything."""

    async def work() -> int:
        async with docket_named(arguments.object) as d:
            cache: object = d.cache
            if not isinstance(cache, Retention):
                raise ConfigurationError(f"{type(cache).__name__} purges nothing; use docket.postgres.PostgresCache")
            whole = 0
            while done := await cache.purge(arguments.older_than, arguments.batch):
                whole += done
                print(f"purged so far: {whole:,}", flush=True)
            print(f"runs purged: {whole:,}; no other is over and older")
            return 0

    return await reported(work)


def _seconds(written: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w)", written)
    if found is None:
        raise argparse.ArgumentTypeError(f"{written!r} is no age; write a number and s, min, h, d or w, such as 90d")
    return float(found[1]) * _UNITS[found[2]]
