"""The statements of one loop, with what is waiting to travel in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
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
        granted = {(row["run_id"], row["key"]): row for row in rows}
        return [_granted(claim, granted.get(_row_of(claim))) for claim in claims]

    async def _send_certificates(self, certificates: Sequence[Certificate]) -> Sequence[Record | None]:
        shape, values = certificate_values(sorted(certificates, key=_row_of) if len(certificates) > 1 else certificates)
        rows = await self.database.fetch(self._sql.certify[shape], *values)
        written = {(row["run_id"], row["key"]): row for row in rows}
        return [_certified(certificate, written.get(_row_of(certificate))) for certificate in certificates]


def _row_of(item: Claim | Certificate) -> tuple[str, str]:
    return item.run_id, item.key


def _granted(claim: Claim, row: Any) -> Record | None:
    if row is None:
        return None
    return Record(
        key=claim.key, mode=claim.mode, state="running", token=row["token"], claim=claim.nonce, owner=claim.owner,
        attempt=row["attempt"], lease_left=claim.lease, made_from=claim.made_from,
    )  # fmt: skip


def _certified(certificate: Certificate, row: Any) -> Record | None:
    if row is None:
        return None
    return Record(
        key=certificate.key, mode=certificate.mode, state="certified", token=row["token"], claim=certificate.nonce,
        owner=certificate.owner, attempt=row["attempt"], made_from=certificate.made_from, stored=certificate.stored,
    )  # fmt: skip
