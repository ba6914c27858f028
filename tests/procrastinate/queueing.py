"""What the tests of the driver share: an app on a database, its worker in this process, and a look at its jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import procrastinate

from docket_procrastinate import AsyncpgConnector, ProcrastinateQueue
from tests.database import connected

QUEUE = "orders"


@dataclass(frozen=True)
class Row:
    """A job as it stands in the table."""

    id: int
    status: str
    attempts: int
    outcome: dict[str, Any]


class Shop:
    """The driver on an app of its own.

    Args:
        dsn: Where the queue is.
        connector: The app's connector; asyncpg's if absent.
        options: For the driver. By default no worker of this process counts as dead, however busy the machine is.
    """

    def __init__(self, dsn: str, connector: procrastinate.BaseConnector | None = None, **options: Any) -> None:
        self.dsn = dsn
        self.app = procrastinate.App(connector=connector or AsyncpgConnector(dsn))
        defaults: dict[str, Any] = {
            "attempts": 3, "backoff": 0.05, "longest": 0.1, "rescue_after": 60.0, "rescue_cron": "* * * * * */1",
        }  # fmt: skip
        self.queue = ProcrastinateQueue(self.app, **{**defaults, **options})

    @asynccontextmanager
    async def working(self, grace: float = 0.1, **options: Any) -> AsyncGenerator[None]:
        """Run a worker of Procrastinate's until left, then stop it as SIGTERM does."""
        defaults: dict[str, Any] = {
            "queues": [QUEUE], "install_signal_handlers": False, "shutdown_graceful_timeout": grace,
            "fetch_job_polling_interval": 0.05, "update_heartbeat_interval": 0.2,
        }  # fmt: skip
        async with self.app.open_async():
            worker = asyncio.create_task(self.app.run_worker_async(**{**defaults, **options}))
            try:
                yield
            finally:
                worker.cancel()
                await asyncio.wait((worker,))

    async def rows(self) -> list[Row]:
        """Return all jobs, oldest first."""
        async with connected(self.dsn) as connection:
            rows = await connection.fetch(
                "SELECT id, status::text, attempts, (args -> 'outcome')::text AS outcome FROM procrastinate_jobs ORDER BY id"
            )
        return [Row(row["id"], row["status"], row["attempts"], json.loads(row["outcome"] or "{}")) for row in rows]

    async def become(self, *statuses: str) -> list[Row]:
        """Wait until the jobs have these statuses, oldest first, and return them."""
        rows: list[Row] = []

        async def there() -> bool:
            rows[:] = await self.rows()
            return [row.status for row in rows] == list(statuses)

        await until(there)
        return rows

    async def execute(self, sql: str, *values: object) -> None:
        """Do something to the tables."""
        async with connected(self.dsn) as connection:
            await connection.execute(sql, *values)


async def until(happened: Callable[[], Awaitable[object]], patience: float = 30.0) -> None:
    """Wait until *happened* gives something true; fail after *patience* seconds."""
    end = asyncio.get_running_loop().time() + patience
    while not await happened():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.02)
