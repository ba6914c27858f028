"""Print the SQL of the views that join results and jobs: ``python -m docket_pgqueuer | psql "$DATABASE_URL"``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from docket.errors import ConfigurationError
from docket.postgres.schema import renamed


def main() -> int:
    """Print the views for a schema; return the exit code."""
    told = "Print the SQL of the views that join results and jobs."
    parser = argparse.ArgumentParser("python -m docket_pgqueuer", description=told)
    parser.add_argument("--schema", default="docket", help="the schema of Docket's tables (docket)")
    try:
        print(renamed(Path(__file__).with_name("views.sql").read_text(), parser.parse_args().schema), end="")
    except ConfigurationError as error:
        print(f"docket: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
