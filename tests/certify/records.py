"""What stands in the database about one run, as rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.database import connected


@dataclass(frozen=True)
class Records:
    """The rows of one run.

    Attributes:
        results: By key.
        journal: In the order they were written.
    """

    results: list[Any]
    journal: list[Any]

    @classmethod
    async def of(cls, dsn: str, run_id: str) -> Records:
        """Read them."""
        async with connected(dsn) as db:
            results = await db.fetch("SELECT * FROM docket.result WHERE run_id = $1 ORDER BY key", run_id)
            journal = await db.fetch("SELECT * FROM docket.journal WHERE run_id = $1 ORDER BY at", run_id)
        return cls(results, journal)

    @property
    def states(self) -> list[str]:
        """The states, by key."""
        return [row["state"] for row in self.results]

    @property
    def events(self) -> list[str]:
        """What the journal says."""
        return [row["event"] for row in self.journal]
