"""The statements of one loop, with what is waiting to travel in the next one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from operator import attrgetter
from typing import Any

from docket._core.record import NOTHING, Record, Records
from docket.cache import Certificate, Claim
from docket.errors import Busy
from docket.postgres.coalesce import Coalescer
from docket.postgres.connection import Database, Pool, PoolLender, is_bad_value
from docket.postgres.rows import records, write_values
from docket.postgres.statements import Statements
from docket.postgres.transaction import RIVAL

_inside: ContextVar[bool] = ContextVar("docket_inside_transaction", default=False)
"""Whether what runs here has been begun by a step that was lent a connection."""


class Line:
    """One way to the database, in one loop.

    Attributes:
        database: The pool.
        loads: Run ids into `Records`.
        writes: Claims and certificates into the record written; None if it was not.
    """

    def __init__(self, source: str | Pool | PoolLender, options: dict[str, Any], sql: Statements) -> None:
        self._sql = sql
        self.database = Database(source, options)
        self._transactions: asyncio.Semaphore | None = None
        self.loads: Coalescer[str, Records] = Coalescer(self._send_loads, lambda run_id: run_id, is_bad_value)
        self.writes: Coalescer[Claim | Certificate, Record | None] = Coalescer(
            self._send_writes, _row_of, is_bad_value, company=True
        )

    @asynccontextmanager
    async def transaction(self, claim: Claim) -> AsyncGenerator[None]:
        """Wait until a connection may be lent to one more step, which keeps its place for as long as this is open.

        Raises:
            Busy: This is asked for inside a step that has been lent one, and nobody gave one back in time. Steps that each wait
                for a run of their own would otherwise keep all places, and none would ever end.
        """
        turns = await self._turns()
        if not _inside.get():
            await turns.acquire()
        else:
            try:
                async with asyncio.timeout(RIVAL):
                    await turns.acquire()
            except TimeoutError:
                advice = (
                    f"is asked for inside a transactional step, and no connection became free for it in {RIVAL:g} s; give "
                    "the pool more connections (max_size=), or do not run one transactional step inside another"
                )
                raise Busy(claim.run_id, claim.key, claim.key, RIVAL, "", advice) from None
        inside = _inside.set(True)
        try:
            yield
        finally:
            _inside.reset(inside)
            turns.release()

    async def _turns(self) -> asyncio.Semaphore:
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

    async def _send_writes(self, items: Sequence[Claim | Certificate]) -> Sequence[Record | None]:
        shape, values = write_values(sorted(items, key=_row_of) if len(items) > 1 else items)
        rows = await self.database.fetch(self._sql.write[shape], *values)
        written = {(run_id, key): counts for run_id, key, *counts in rows}
        return [_written(item, written.get((item.run_id, item.key))) for item in items]


_row_of: Callable[[Claim | Certificate], tuple[str, str]] = attrgetter("run_id", "key")


def _written(item: Claim | Certificate, counts: list[int] | None) -> Record | None:
    if counts is None:
        return None
    token, attempt = counts
    if isinstance(item, Claim):
        return Record(item.key, item.mode, "running", token, item.nonce, item.owner, attempt, 0.0, item.lease, item.made_from)
    return Record(
        item.key, item.mode, "certified", token, item.nonce, item.owner, attempt, 0.0, 0.0, item.made_from, item.stored
    )
