"""The command: ``python -m benchmarks.crashes``.

Exit code 1 if anything that must hold was violated, 2 if too little happened for that to mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from importlib import metadata

from benchmarks.crashes.campaign import Options, Report, campaign
from benchmarks.crashes.faults import KINDS
from benchmarks.crashes.invariants import INVARIANTS
from benchmarks.crashes.world import DOORS
from benchmarks.crashes.wrong import CACHES

COLUMNS = ("campaign", "faults", "runs", "effects", "repeats", "doubts (happened / not)", "late", "outages", "violations")

SHOWN = 3
"""Violations of one kind that are printed."""


def row(report: Report) -> tuple[str, ...]:
    """Return the cells of one campaign."""
    return (
        f"{report.title} (PostgreSQL {report.version})", f"{report.faults:,}", f"{report.runs:,}", f"{report.effects:,}",
        f"{report.repeats:,}", f"{report.happened + report.not_happened:,} ({report.happened:,} / {report.not_happened:,})",
        f"{report.late:,}", f"{report.outages.total():,}", f"{len(report.violations):,}",
    )  # fmt: skip


def table(reports: list[Report]) -> str:
    """Return the campaigns as a table in Markdown."""
    lines = [COLUMNS, tuple("---" if column == "campaign" else "---:" for column in COLUMNS), *map(row, reports)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def remarks(report: Report) -> list[str]:
    """Return what there is to say about a campaign, in lines: reasons of doubts, errors, and what is wrong."""
    lines = [f"{report.name}: {count} doubts: {why}" for why, count in report.reasons.most_common(SHOWN)]
    lines += [f"{report.name}: {count} errors: {what}" for what, count in report.outages.most_common(SHOWN)]
    lines += [f"{report.name}: too little happened: {text}" for text in report.too_little]
    for invariant, promise in INVARIANTS.items():
        found = [text for name, text in report.violations if name == invariant]
        if found:
            lines.append(f"{report.name}: {invariant} ({promise}): {len(found)} violations")
            lines += [f"    {text}" for text in found[:SHOWN]]
    return lines


async def main(arguments: argparse.Namespace) -> int:
    """Run the campaigns one after the other and print the table; return the exit code."""
    names = arguments.only or list(KINDS)
    options = Options(arguments.seconds, arguments.seed, arguments.workers, arguments.lease, arguments.cache, arguments.door)
    reports: list[Report] = []
    for name in names:
        reports.append(await campaign(name, options))
        print(f"{row(reports[-1])}", file=sys.stderr, flush=True)
    print(f"python -m benchmarks.crashes {' '.join(sys.argv[1:])}".rstrip())
    print(
        f"Python {platform.python_version()}, asyncpg {metadata.version('asyncpg')}, {os.cpu_count()} cores, "
        f"{arguments.seconds:g} s of faults for each campaign, {arguments.workers} workers, lease {arguments.lease:g} s, "
        f"seed {arguments.seed}, cache {arguments.cache}, door {arguments.door}\n"
    )
    print(table(reports))
    print()
    for line in (line for report in reports for line in remarks(report)):
        print(line)
    if any(report.violations for report in reports):
        return 1
    return 2 if any(report.too_little for report in reports) else 0


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=__doc__)
    made.add_argument("--seconds", type=float, default=60.0, help="of faults, for each campaign")
    made.add_argument("--only", action="append", choices=[*KINDS], help="this campaign; may be given again")
    made.add_argument("--seed", type=int, default=1, help="of what is decided by chance; the timing is the machine's")
    made.add_argument("--workers", type=int, default=4)
    made.add_argument("--lease", type=float, default=0.5, help="seconds")
    made.add_argument("--cache", choices=[*CACHES], default="right", help="a wrong one must be found out")
    made.add_argument("--door", choices=DOORS, default="direct", help="through PgBouncer, or to hash-partitioned tables")
    return made


if __name__ == "__main__":
    sys.exit(asyncio.run(main(parser().parse_args())))
