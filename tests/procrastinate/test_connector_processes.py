"""The asyncpg connector under Procrastinate's own command line, in processes of their own."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import asyncpg
import pytest

from tests.database import NewDatabase

APP = """
import os
import procrastinate
from docket_procrastinate import AsyncpgConnector

app = procrastinate.App(connector=AsyncpgConnector(os.environ["QUEUE_DSN"], outage_budget=30))

@app.task(name="note", queue="orders")
async def note(text):
    await app.connector.execute_query_async("INSERT INTO notes VALUES (%(text)s)", text=text)

@app.task(name="again", queue="orders")
def again(text):
    note.defer(text=text)

@app.periodic(cron="0 0 1 1 *")
@app.task(name="yearly")
async def yearly(timestamp): ...
"""


class CommandLine:
    """Runs ``procrastinate --app=queue_app.app …`` for a database."""

    def __init__(self, folder: Path, dsn: str) -> None:
        self._environment = {
            **os.environ,
            "QUEUE_DSN": dsn,
            "PYTHONPATH": os.pathsep.join([str(folder), *(entry for entry in sys.path if entry)]),
        }

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start a command and return its process."""
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "procrastinate", "--app=queue_app.app", *arguments),
            env=self._environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def run(self, *arguments: str) -> tuple[int | None, str]:
        """Run a command to its end and return its exit code and what it printed."""
        process = await self.start(*arguments)
        output, _ = await process.communicate()
        return process.returncode, output.decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module ``queue_app``."""
    (tmp_path / "queue_app.py").write_text(APP)
    return tmp_path


async def test_the_schema_is_applied_and_checked(folder: Path, new_database: NewDatabase) -> None:
    """``healthchecks`` says what is missing, ``schema --apply`` brings it."""
    procrastinate = CommandLine(folder, await new_database(tables=False))

    code, text = await procrastinate.run("healthchecks")
    assert code == 1
    assert "procrastinate_jobs table was not found" in text

    code, text = await procrastinate.run("schema", "--apply")
    assert code == 0, text

    code, text = await procrastinate.run("healthchecks")
    assert code == 0, text
    assert "Found procrastinate_jobs table: OK" in text


async def test_a_health_check_of_no_server_fails_at_once(folder: Path) -> None:
    """The budget for outages does not keep a health check waiting."""
    code, text = await CommandLine(folder, "postgresql://postgres@127.0.0.1:1/none").run("healthchecks")

    assert code == 1
    assert "could not be reached just now" in text


async def test_jobs_are_deferred_and_listed(folder: Path, dsn: str) -> None:
    """``defer`` enqueues, and refuses a duplicate; the shell lists and cancels."""
    procrastinate = CommandLine(folder, dsn)

    code, text = await procrastinate.run("defer", "--queueing-lock=a", "note", '{"text": "hello"}')
    assert code == 0, text
    code, text = await procrastinate.run("defer", "--queueing-lock=a", "note", '{"text": "hello"}')
    assert (code, "queueing lock a" in text) == (1, True)
    code, text = await procrastinate.run("shell", "list_jobs", "details")
    assert "#1 note on orders - [todo]" in text
    assert "'text': 'hello'" in text
    code, text = await procrastinate.run("shell", "cancel", "1")
    assert "[cancelled]" in text


async def test_a_worker_survives_what_kills_a_stock_worker(folder: Path, new_database: NewDatabase) -> None:
    """A worker with a periodic task takes jobs at once, also after all its connections are killed; SIGTERM stops it."""
    dsn = await new_database()
    database = await asyncpg.connect(dsn)
    await database.execute("CREATE TABLE notes (text text)")
    procrastinate = CommandLine(folder, dsn)
    worker = await procrastinate.start("worker", "--fetch-job-polling-interval=3600")
    try:
        for round_ in range(3):
            await _until(
                database,
                "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' AND state = 'idle'",
            )
            await procrastinate.run("defer", "again", f'{{"text": "{round_}"}}')
            await _until(database, f"SELECT 1 FROM notes WHERE text = '{round_}'")
            await database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        worker.send_signal(signal.SIGTERM)
        output, _ = await worker.communicate()
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()

    assert worker.returncode == 0, output.decode()
    assert await database.fetchval("SELECT count(*) FROM procrastinate_jobs WHERE status <> 'succeeded'") == 0
    assert await database.fetchval("SELECT count(*) FROM procrastinate_workers") == 0
    await database.close()


async def _until(database: asyncpg.Connection, query: str) -> None:
    while not await database.fetchval(query):  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.02)
