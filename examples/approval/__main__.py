"""An expense claim that waits for a person: ``python -m examples.approval``.

The claim's run is worked on twice, by two workers that know nothing of each other: once until it needs an approval, and once
from there on. In between nothing runs, nothing sleeps, and the tables say what is waited for.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from docket import Docket, WaitingFor
from docket.inprocess import InProcessQueue
from docket.postgres import PostgresCache
from docket.postgres.embedded import fresh_database, postgres_server

SCHEMA = Path(__file__).parents[2] / "schema.sql"


@dataclass(frozen=True)
class Claim:
    """What an employee hands in."""

    employee: str
    amount_cents: int


@dataclass(frozen=True)
class Receipts:
    """What the receipts add up to."""

    total_cents: int


@dataclass(frozen=True)
class Approval:
    """What only a person can give."""

    by: str


@dataclass(frozen=True)
class Payment:
    """The money, on its way."""

    amount_cents: int
    approved_by: str


def build(dsn: str) -> tuple[Docket, InProcessQueue]:
    """Wire the steps, as each process does for itself."""
    queue = InProcessQueue()
    d = Docket(cache=PostgresCache(dsn), queue=queue)

    @d.step(cache_result="at_least_once")
    async def read_receipts(claim: Claim) -> Receipts:
        say(f"  reading the receipts of {claim.employee}")
        return Receipts(claim.amount_cents)

    @d.step(cache_result="at_most_once")
    async def pay(receipts: Receipts, approval: Approval | None) -> Payment:
        if approval is None:
            raise WaitingFor(Approval)
        say(f"  paying {receipts.total_cents} cents")
        return Payment(receipts.total_cents, approval.by)

    return d, queue


def say(text: str) -> None:
    """Tell what happens."""
    print(text)


async def main() -> int:
    """Play both halves on a fresh database."""
    async with postgres_server() as server, fresh_database(server, prefix="docket_approval") as dsn:
        d, queue = build(dsn)
        async with d:
            await _lay_tables(dsn)
            await d.enqueue("claims", Payment, Claim("ada", 4200), run_id="claim-7")
            say("a worker takes the claim")
            await queue.drain()
            say(f"  its job is over: {queue.ended[0].why}")
            say(await d.explain("claim-7", Payment))
        say("weeks later, in another process, a button is pressed")
        d, queue = build(dsn)
        async with d:
            await d.supply("claim-7", Approval(by="grace"))
            await d.enqueue("claims", Payment, run_id="claim-7")
            await queue.drain()
            payment = await d.fetch("claim-7", Payment)
            say(f"  {payment}")
    return 0 if payment == Payment(4200, "grace") else 1


async def _lay_tables(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(SCHEMA.read_text())
    await connection.close()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
