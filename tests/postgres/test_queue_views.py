"""The views of both queues' packages: in any schema, in the same words, and readable by whoever may read how things stand."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from pgqueuer.db import AsyncpgDriver
from pgqueuer.queries import Queries

from docket.postgres.schema import ROLES
from docket.queue import Job
from docket_pgqueuer import PgQueuerQueue
from tests.database import NewDatabase, connected
from tests.postgres.roles import tables_with_roles
from tests.procrastinate.queueing import Shop

ROOT = Path(__file__).parents[2]
JOB = Job("orders", "order-1", "orders.Shipment", once=True)


async def printed(package: str, *arguments: str) -> tuple[int | None, str, str]:
    """Run the package's command; return the exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", package, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, error = await process.communicate()
    return process.returncode, out.decode(), error.decode()


@pytest.mark.parametrize("package", ["docket_procrastinate", "docket_pgqueuer"])
async def test_the_command_prints_the_file_that_is_shipped(package: str) -> None:
    """Unchanged by default; a name that is none is refused."""
    code, out, _ = await printed(package)
    assert (code, out) == (0, (ROOT / package / "views.sql").read_text())

    code, out, error = await printed(package, "--schema", "No")
    assert (code, out, "is not a plain identifier" in error) == (1, "", True)


@pytest.mark.parametrize("package", ["docket_procrastinate", "docket_pgqueuer"])
async def test_every_role_reads_them_in_a_schema_of_another_name(package: str, new_database: NewDatabase) -> None:
    """Applied after the roles, and twice; what a job waits for is told in the same words whichever the queue is."""
    dsn = await new_database()
    async with connected(dsn) as connection, tables_with_roles(connection) as schema:
        await connection.execute("DROP SCHEMA docket CASCADE")
        await Queries(AsyncpgDriver(connection)).install()
        _, views, _ = await printed(package, "--schema", schema)
        await connection.execute(views)
        await connection.execute(views)
        queue = PgQueuerQueue(dsn) if package == "docket_pgqueuer" else Shop(dsn).queue
        await queue.enqueue([JOB], None)
        await queue.close()
        view = "pgqueuer_run_status" if package == "docket_pgqueuer" else "run_status"
        for role in ROLES:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL ROLE {schema}_{role}")
                row = await connection.fetchrow(f"SELECT * FROM {schema}.{view}")
            assert row is not None
            assert row["since"] is not None
            assert [row[name] for name in ("run_id", "what", "key", "state", "attempt", "last_error", "waiting_for")] == [
                "order-1", "job 1 on orders", "orders.Shipment", "enqueued", 0, None, "a worker of queue orders",
            ]  # fmt: skip


LATER = [
    ("status = 'queued', execute_after = '2199-01-01'", "enqueued", "its time, 2199-01-01"),
    ("status = 'queued', attempts = 2", "to be tried again", "a worker of queue orders"),
    ("status = 'picked', queue_manager_id = gen_random_uuid()", "running", "its attempt, in worker "),
    ("status = 'picked', heartbeat = now() - interval '1 hour'", "worker lost", "the next worker of queue orders"),
    ("status = 'failed'", "failed", "a person: mend the cause and enqueue again"),
]


async def test_what_a_job_of_pgqueuers_waits_for(new_database: NewDatabase) -> None:
    """In the words of the view of Procrastinate's jobs."""
    dsn = await new_database()
    async with connected(dsn) as connection:
        await Queries(AsyncpgDriver(connection)).install()
        await connection.execute((ROOT / "docket_pgqueuer" / "views.sql").read_text())
        queue = PgQueuerQueue(dsn)
        await queue.enqueue([JOB], None)
        await queue.close()
        for change, state, waiting_for in LATER:
            await connection.execute(f"UPDATE pgqueuer SET {change}")
            row = await connection.fetchrow("SELECT state, waiting_for FROM docket.pgqueuer_job")
            await connection.execute("UPDATE pgqueuer SET attempts = 0, heartbeat = now(), execute_after = now()")

            assert row is not None
            assert row["state"] == state
            assert row["waiting_for"].startswith(waiting_for)
