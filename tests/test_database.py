"""The fixtures themselves: each test finds empty tables, and one that leaves something behind is caught."""

import asyncio

import asyncpg
import pytest

from tests.database import NewDatabase, connected, empty_tables, left_open, tasks_left

COUNT = "SELECT (SELECT count(*) FROM docket.input), (SELECT count(*) FROM procrastinate_jobs)"


@pytest.mark.parametrize("turn", [1, 2])
async def test_tables_are_empty_at_the_start(turn: int, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """What the first turn writes, the second does not see; numbering starts again."""
    before = tuple(await pool.fetchrow(COUNT) or ())
    await pool.execute(
        "INSERT INTO docket.input (run_id, key, digest, serializer, body) VALUES ('a', 'b', 'c', 'd', '')"
    )
    job = await pool.fetchval(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, lock) VALUES ('q', 't', 'l') RETURNING id"
    )

    assert before == (0, 0)
    assert job == 1


async def test_emptying_leaves_the_version_of_the_tables(dsn: str) -> None:
    """The row that says which schema is applied is part of the schema, not of a test."""
    await empty_tables(dsn)
    async with connected(dsn) as connection:
        version = await connection.fetchval("SELECT version FROM docket.version")

    assert version is not None


@pytest.mark.parametrize(
    ("statement", "state"),
    [("BEGIN", "idle in transaction"), ("SELECT pg_advisory_lock(1)", "idle")],
)
async def test_an_open_transaction_or_lock_is_found_and_ended(dsn: str, statement: str, state: str) -> None:
    """The finding names what the connection did last, and the next test is not blocked by it."""
    async with connected(dsn) as connection:
        await connection.execute(statement)
        found = await left_open(dsn, grace=0.0)
        after = await left_open(dsn)

    assert found == [f"A connection was left {state} after: {statement}"]
    assert after == []


async def test_a_task_left_running_is_found_and_ended() -> None:
    """A forgotten task is named; one that a test's end has just cancelled is not held against it."""

    async def forgotten() -> None:
        await asyncio.sleep(600)

    before = asyncio.all_tasks()
    cancelled = asyncio.create_task(forgotten())
    task = asyncio.create_task(forgotten())
    cancelled.cancel()
    found = await tasks_left(before)

    assert len(found) == 1
    assert "forgotten" in found[0]
    assert task.cancelled()


async def test_a_new_database_is_another_one(dsn: str, new_database: NewDatabase) -> None:
    """A test may have several databases, with tables or bare."""
    own, bare = await new_database(), await new_database(tables=False)
    async with connected(own) as connection:
        tables = await connection.fetchval("SELECT to_regclass('docket.result') IS NOT NULL")
    async with connected(bare) as connection:
        bare_tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE tablename LIKE 'procrastinate%'")

    assert len({dsn, own, bare}) == 3
    assert tables is True
    assert bare_tables == 0
