"""An onlooker who reads the rows again and again, and remembers."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg

from benchmarks.crashes.worker import DATABASE

EVERY = 0.1
"""Seconds between two looks."""

LOOK = """
SELECT run_id, key, state, token, claim::text AS claim, md5(body) AS body, changed_at FROM docket.result
WHERE changed_at >= coalesce((SELECT max(changed_at) FROM docket.result), '-infinity') - make_interval(secs => $1)
"""

LATE = "SELECT count(*) FROM docket.journal WHERE event = 'stray'"


class Watch:
    """Notices rows that go back: tokens that shrink, certificates that change or vanish.

    Args:
        dsn: The database.

    Attributes:
        found: What was wrong, in sentences.
        late: Results that came too late and were kept aside.
        version: The server's.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._seen: dict[tuple[str, str], tuple[int, str, str, str | None]] = {}
        self.found: list[str] = []
        self.late, self.version = 0, ""

    async def go_on(self) -> None:
        """Look for ever; a connection that is lost is opened again."""
        while True:
            with contextlib.suppress(*DATABASE):
                connection = await asyncpg.connect(self._dsn)
                try:
                    while True:
                        self._look(await connection.fetch(LOOK, 2.0))
                        await asyncio.sleep(EVERY)
                finally:
                    connection.terminate()
            await asyncio.sleep(EVERY)

    async def finish(self, connection: Any) -> None:
        """Look at every row once more."""
        rows = await connection.fetch(LOOK, 1e9)
        self._look(rows)
        gone = self._seen.keys() - {(row["run_id"], row["key"]) for row in rows}
        self.found += [f"{run_id} {key}: the row, seen {self._seen[run_id, key][1]}, is gone" for run_id, key in sorted(gone)]
        self.late = await connection.fetchval(LATE)
        self.version = (await connection.fetchval("SHOW server_version")).partition(" ")[0]

    def _look(self, rows: list[Any]) -> None:
        for row in rows:
            name = row["run_id"], row["key"]
            now = row["token"], row["state"], row["claim"], row["body"]
            before = self._seen.get(name)
            self._seen[name] = now
            if before is None or before == now:
                continue
            if now[0] < before[0]:
                self.found.append(f"{' '.join(name)}: the token shrank from {before[0]} to {now[0]}")
            elif before[1] == "certified":
                self.found.append(f"{' '.join(name)}: was certified and is {now[1]}, another than it was")
