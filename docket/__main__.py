"""The command line: ``python -m docket``.

There is no console script, because the name ``docket`` belongs to another project (pydocket).
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import sys
from collections.abc import Sequence

from docket.commands import COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code.

    Each command is a module of `docket.commands` with ``add(subparsers)``, which sets ``run`` as a default: a function
    or coroutine function that takes the parsed arguments and returns the exit code.
    """
    parser = argparse.ArgumentParser("python -m docket", description="Check and draw a wiring; look at runs and repair them.")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(subparsers)
    parsed = parser.parse_args(arguments)
    code = parsed.run(parsed)
    return asyncio.run(code) if inspect.iscoroutine(code) else int(code)


if __name__ == "__main__":
    sys.exit(main())
