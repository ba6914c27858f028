"""``python -m docket graph shop.app:d``: draw a wiring. Needs no database."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from docket.commands._load import load
from docket.errors import DocketError
from docket.explain import dot, mermaid


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("graph", help="draw a wiring as a Mermaid flowchart or for Graphviz")
    parser.add_argument("object", help="the Docket or Graph, as package.module:attribute")
    parser.add_argument("--format", choices=("mermaid", "dot"), default="mermaid")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the picture and return 0; 1 if the wiring does not close."""
    try:
        wiring = load(arguments.object).check()
    except DocketError as error:
        print(f"docket: {error}", file=sys.stderr)
        return 1
    print(dot(wiring) if arguments.format == "dot" else mermaid(wiring))
    return 0
