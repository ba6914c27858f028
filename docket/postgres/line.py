"""The statements of one loop, with what is waiting to travel in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from docket._core.record import NOTHING, Record, Records
from docket.cache import Certificate, Claim
from docket.postgres.coalesce import Coalescer
from docket.postgres.connection import Database, Pool, PoolLender, is_bad_value
from docket.postgres.rows import certificate_values, claim_values, records
from docket.postgres.statements import Statements


class Line:
    """One way to the database, in one loop.

    Attributes:
        database: The pool.
        loads: Run ids into `Records`.
        claims: Claims into the granted record; None if not granted.
        certificates: Certificates into the written record; None if not written.
    """

    def __init__(self, source: str | Pool | PoolLender, options: dict[str, Any], sql: Statements) -> None:
        self._sql = sql
        self.database = Database(source, options)
        self._transactions: asyncio.Semaphore | None = None
        self.loads: Coalescer[str, Records] = Coalescer(self._send_loads, lambda run_id: run_id, is_bad_value)
        self.claims: Coalescer[Claim, Record | None] = Coalescer(self._send_claims, _row_of, is_bad_value, company=True)
        self.certificates: Coalescer[Certificate, Record | None] = Coalescer(
            self._send_certificates, _row_of, is_bad_value, company=True
        )

    async def transactions(self) -> asyncio.Semaphore:
        """Return what bounds how many connections are lent to steps at once."""
        size = (await self.database.pool()).get_max_size()
        if self._transactions is None:
            # A lent connection is away for as long as a step takes: half of them stay for claims, certificates and renewals.
            self._transactions = asyncio.Semaphore(max(size // 2, 1))
        return self._transactions

    async def _send_loads(self, run_ids: Sequence[str]) -> Sequence[Records]:
        if len(run_ids) == 1:
            found = records(await self.database.fetch(self._sql.load_one, run_ids[0]))
        else:
            found = records(await self.database.fetch(self._sql.load, list(run_ids)))
        return [found.get(run_id, NOTHING) for run_id in run_ids]

    async def _send_claims(self, claims: Sequence[Claim]) -> Sequence[Record | None]:
        shape, values = claim_values(sorted(claims, key=_row_of) if len(claims) > 1 else claims)
        rows = await self.database.fetch(self._sql.claim[shape], *values)
        granted = {(run_id, key): counts for run_id, key, *counts in rows}
        return [_granted(claim, granted.get((claim.run_id, claim.key))) for claim in claims]

    async def _send_certificates(self, certificates: Sequence[Certificate]) -> Sequence[Record | None]:
        shape, values = certificate_values(sorted(certificates, key=_row_of) if len(certificates) > 1 else certificates)
        rows = await self.database.fetch(self._sql.certify[shape], *values)
        written = {(run_id, key): counts for run_id, key, *counts in rows}
        return [_certified(one, written.get((one.run_id, one.key))) for one in certificates]


_row_of: Callable[[Claim | Certificate], tuple[str, str]] = attrgetter("run_id", "key")


def _granted(claim: Claim, counts: list[int] | None) -> Record | None:
    if counts is None:
        return None
    token, attempt = counts
    return Record(
        claim.key, claim.mode, "running", token, claim.nonce, claim.owner, attempt, 0.0, claim.lease, claim.made_from
    )


def _certified(one: Certificate, counts: list[int] | None) -> Record | None:
    if counts is None:
        return None
    token, attempt = counts
    return Record(
        one.key, one.mode, "certified", token, one.nonce, one.owner, attempt, 0.0, 0.0, one.made_from, one.stored
    )
