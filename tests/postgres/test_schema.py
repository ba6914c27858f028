"""The tables: made, compared, migrated, under any name, from a checkout and from a wheel."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zipfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from docket.errors import ConfigurationError, SchemaMissing
from docket.postgres import PostgresCache
from docket.postgres._catalog import differences, shape
from docket.postgres.schema import apply, check, migrate, migrations, newest, sql, version
from docket.testing import exercise_cache
from tests.database import NewDatabase, connected

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def bare(new_database: NewDatabase) -> AsyncGenerator[Any]:
    """A connection to a database without tables."""
    async with connected(await new_database(tables=False)) as connection:
        yield connection


async def command(*arguments: str, cwd: Path = ROOT, path: Path = ROOT) -> tuple[int, str, str]:
    """Run ``python -m docket schema`` from *cwd*, with the package in *path*; return exit code, output, errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "docket", "schema", *arguments, cwd=cwd, env={"PYTHONPATH": str(path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_what_is_made_is_what_migrations_lead_to(bare: Any) -> None:
    """1..N and schema.sql give the same columns, constraints, indexes and views; so either way in is as good."""
    made = await apply(bare, "made")
    migrated = await migrate(bare, "migrated")

    assert (made.after, migrated.after) == (newest(), newest())
    assert await shape(bare, "made") == await shape(bare, "migrated")


@pytest.mark.parametrize("start", range(1, newest()))
async def test_migrating_goes_on_from_the_version_that_is_there(start: int, bare: Any) -> None:
    """From every earlier version, with rows in the tables, which stay."""
    for number, text in list(migrations().items())[:start]:
        assert number <= start
        await bare.execute(text)
    await bare.execute(
        "INSERT INTO docket.result (run_id, key, mode, state, claim, serializer, type, body, view, certified_at) "
        "VALUES ('r', 'k', 'at_most_once', 'certified', gen_random_uuid(), 'json', 'k', '{}', '{}', now())"
    )
    done = await migrate(bare)

    assert str(done) == f"schema docket: migrated from version {start} to {newest()}"
    assert await check(bare) == []
    assert await bare.fetchval("SELECT state FROM docket.status") == "certified"


async def test_applying_again_changes_nothing(bare: Any) -> None:
    """It says so, and the rows stay."""
    first = await apply(bare)
    await bare.execute("INSERT INTO docket.input (run_id, key, digest, serializer, body) VALUES ('r', 'k', 'd', 's', '')")
    second = await apply(bare)

    assert (str(first), str(second)) == (
        f"schema docket: version {newest()} was made",
        f"schema docket: version {newest()} is there; nothing was changed",
    )
    assert await bare.fetchval("SELECT count(*) FROM docket.input") == 1


async def test_two_machines_may_apply_at_once(new_database: NewDatabase) -> None:
    """As two containers do that start together: one makes the tables, the other finds them."""
    dsn = await new_database(tables=False)
    async with connected(dsn) as one, connected(dsn) as two:
        done = await asyncio.gather(apply(one), apply(two))

    assert sorted(each.before for each in done) == [0, newest()]


async def test_applying_over_an_older_version_is_refused(bare: Any) -> None:
    """What it says to do instead works."""
    await bare.execute(migrations()[1])

    with pytest.raises(match=r"of version 1 .*; run: python -m docket schema migrate --schema docket"):
        await apply(bare)
    assert await version(bare) == 1
    await migrate(bare)
    assert await check(bare) == []


async def test_a_newer_release_s_tables_are_left_alone(bare: Any) -> None:
    """An old process that is still being deployed must not touch what it does not know."""
    await apply(bare)
    await bare.execute("INSERT INTO docket.version (version) VALUES (9000)")

    for action in (apply, migrate):
        with pytest.raises(match=r"of version 9000 .*; upgrade docket-resolver"):
            await action(bare)
    (found,) = await check(bare)
    assert "upgrade docket-resolver" in found


async def test_a_migration_that_fails_leaves_everything_as_it_was(bare: Any) -> None:
    """One transaction: what an early step did is undone when a later one fails."""
    await bare.execute(migrations()[1])
    await bare.execute("ALTER TABLE docket.journal ADD COLUMN login text")

    with pytest.raises(asyncpg.DuplicateColumnError):
        await migrate(bare)
    assert await version(bare) == 1
    assert not await bare.fetchval("SELECT EXISTS (SELECT FROM pg_attribute WHERE attname = 'blob')")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE docket.result DROP CONSTRAINT result_state", "constraint result.result_state is missing"),
        ("DROP INDEX docket.result_over", "index result.result_over is missing"),
        ("ALTER TABLE docket.input ALTER recorded_at DROP NOT NULL", "column input.recorded_at is 'timestamp with time zone"),
        ('ALTER TABLE docket.input ALTER key TYPE text COLLATE "POSIX"', "column input.key is 'text COLLATE POSIX NOT NULL'"),
        ("ALTER TABLE docket.result ADD CHECK (attempt < 3)", "constraint result.result_attempt_check is none of Docket's"),
        ("ALTER TABLE docket.journal ADD COLUMN mine text", "column journal.mine is none of Docket's"),
        ("DROP VIEW docket.status", "view status is missing"),
    ],
)
async def test_check_says_what_differs(change: str, said: str, bare: Any) -> None:
    """Each thing by name; what rests on the keys' collation among them."""
    await apply(bare)
    await bare.execute(change)

    found = await check(bare)

    assert any(line.startswith(said) for line in found), found


async def test_check_leaves_no_trace_and_what_is_yours_alone(bare: Any) -> None:
    """Indexes, tables and views of the user's own are no difference; the copy it compares with is gone."""
    await apply(bare)
    await bare.execute("CREATE INDEX mine ON docket.result ((view ->> 'customer')); CREATE TABLE docket.own (id int)")

    assert await check(bare) == []
    assert await check(bare) == []
    assert await bare.fetchval("SELECT count(*) FROM pg_class WHERE relname = 'result'") == 1


@pytest.mark.parametrize("schema", ["shop", "user", "s" * 63])
async def test_two_apps_have_two_schemas_in_one_database(schema: str, new_database: NewDatabase) -> None:
    """Any plain name, reserved words too; each cache keeps every promise and sees its own rows only."""
    dsn = await new_database()
    async with connected(dsn) as connection:
        await apply(connection, schema)
        assert await check(connection, schema) == []
    await exercise_cache(lambda: PostgresCache(dsn, schema=schema))
    async with connected(dsn) as connection:
        own = await connection.fetchval(f'SELECT count(*) FROM "{schema}".result')
        other = await connection.fetchval("SELECT count(*) FROM docket.result")

    assert own > 0
    assert other == 0


@pytest.mark.parametrize("schema", ['a"b', "Shop", "", "s" * 64, "a; DROP TABLE x", "ä"])
async def test_another_kind_of_name_is_refused(schema: str) -> None:
    """Before any SQL is made of it."""
    with pytest.raises(ConfigurationError, match="is not a plain identifier"):
        sql(schema)


async def test_a_schema_that_is_there_needs_no_right_to_make_one(new_database: NewDatabase) -> None:
    """The owner of a schema that was made by an administrator may make the tables in it."""
    dsn = await new_database(tables=False)
    async with connected(dsn) as connection:
        await connection.execute("CREATE ROLE docket_owner_test")
        try:
            await connection.execute("CREATE SCHEMA docket AUTHORIZATION docket_owner_test; SET ROLE docket_owner_test")
            await apply(connection)
            assert await check(connection) == []
        finally:
            await connection.execute("RESET ROLE; DROP SCHEMA docket CASCADE; DROP ROLE docket_owner_test")


async def test_the_command_makes_compares_and_migrates(new_database: NewDatabase) -> None:
    """Each says what it did; the exit code is what a deployment fails by."""
    dsn = await new_database(tables=False)

    before = await command("check", "--dsn", dsn)
    made = await command("apply", "--dsn", dsn)
    again = await command("migrate", "--dsn", dsn)
    after = await command("check", "--dsn", dsn)

    absent = "docket: there are no tables in schema 'docket'; run: python -m docket schema apply --schema docket\n"
    assert before == (1, "", absent)
    assert made == (0, f"schema docket: version {newest()} was made\n", "")
    assert again == (0, f"schema docket: version {newest()} is there; nothing was changed\n", "")
    assert after == (0, f"schema docket: version {newest()}, as it should be\n", "")


async def test_the_command_says_what_is_wrong_without_a_traceback() -> None:
    """No database named, none there, a bad name, a bad number."""
    unnamed = await command("apply")
    absent = await command("apply", "--dsn", "postgresql://nobody@127.0.0.1:9/none")
    wrong = await command("check", "--dsn", "foo")
    named = await command("print", "--schema", "No")
    parted = await command("print", "--partitions", "1")

    assert unnamed == (1, "", "docket: no database is named; set DATABASE_URL or pass --dsn postgresql://...\n")
    assert (absent[0], absent[1], "Traceback" in absent[2]) == (1, "", False)
    assert (wrong[0], wrong[1], wrong[2].count("\n"), wrong[2].startswith("docket: ")) == (1, "", 1, True)
    assert "is not a plain identifier" in named[2]
    assert parted[2] == "docket: tables cannot be split into 1 parts; use 2 to 1024, such as 16\n"


async def test_what_is_printed_is_the_file() -> None:
    """Under its own name not a byte is changed, so that it may be reviewed once."""
    code, out, _ = await command("print")

    assert (code, out) == (0, (ROOT / "schema.sql").read_text())


APP = """
from dataclasses import dataclass
from docket import Docket, Graph
from docket.cache import MemoryCache

@dataclass
class Request:
    amount: int
@dataclass
class Charge:
    charge_id: str
    amount_cents: int
@dataclass
class Note:
    text: str

async def charge(request: Request) -> Charge: return Charge("ch", request.amount)
async def note(charge: Charge) -> Note: return Note("n")

d = Docket(cache=MemoryCache())
g = Graph()
for each in (d, g):
    each.step(cache_result="at_most_once", key="shop.Charge", timeout=5)(charge)
    each.register(note)
"""


@pytest.mark.parametrize("name", ["d", "g"])
async def test_the_command_prints_a_view_for_each_kept_result(name: str, new_database: NewDatabase, tmp_path: Path) -> None:
    """What it prints makes them, again too; what is not kept has none."""
    (tmp_path / "shop_views.py").write_text(APP)
    code, out, err = await command("views", f"shop_views:{name}", cwd=tmp_path)
    assert (code, err) == (0, "")
    async with connected(await new_database()) as connection:
        await connection.execute(
            "INSERT INTO docket.result (run_id, key, mode, state, claim, serializer, type, body, view, certified_at) VALUES "
            "('r', 'shop.Charge', 'at_most_once', 'certified', gen_random_uuid(), 'json', 'shop_views.Charge', '{}', "
            """'{"charge_id": "ch-1", "amount_cents": 5}', now())"""
        )
        for _ in range(2):
            await connection.execute(out)
        row = await connection.fetchrow("SELECT charge_id, amount_cents FROM docket.charge WHERE run_id = 'r'")

    assert tuple(row or ()) == ("ch-1", 5)
    assert out.count("CREATE OR REPLACE VIEW") == 1
    assert "DROP VIEW" in (await command("views", f"shop_views:{name}", "--drop", cwd=tmp_path))[1]


async def test_a_wheel_holds_the_sql(new_database: NewDatabase, tmp_path: Path) -> None:
    """As it is installed by a stranger: the files are beside the package, and the command finds them there."""
    wheel = await asyncio.to_thread(_built, tmp_path)
    home = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(home)
    dsn = await new_database(tables=False)

    made = await command("migrate", "--dsn", dsn, cwd=tmp_path, path=home)
    checked = await command("check", "--dsn", dsn, cwd=tmp_path, path=home)
    roles = await command("roles", cwd=tmp_path, path=home)

    assert made == (0, f"schema docket: version {newest()} was made\n", "")
    assert checked[0] == 0
    assert roles == (0, (ROOT / "roles.sql").read_text(), "")
    assert (home / "docket" / "schema.sql").read_bytes() == (ROOT / "schema.sql").read_bytes()
    async with connected(dsn) as connection:
        await apply(connection, "here")
        assert differences(await shape(connection, "here"), await shape(connection, "docket")) == []


def _built(directory: Path) -> Path:
    """Build a wheel of this checkout with what is installed."""
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*pip, "-w", str(directory), str(ROOT)], check=True, capture_output=True)
    (wheel,) = directory.glob("*.whl")
    return wheel


async def test_tables_of_an_older_version_are_not_called_missing(new_database: NewDatabase) -> None:
    """The advice is the command that mends it."""
    dsn = await new_database(tables=False)
    async with connected(dsn) as connection:
        await connection.execute(migrations()[1])
    cache = PostgresCache(dsn)
    with pytest.raises(SchemaMissing, match=r"older version .*; run: python -m docket schema migrate") as caught:
        await cache.load("order-1")
    await cache.close()

    assert caught.value.outdated
    async with connected(dsn) as connection:
        assert (await migrate(connection)).after == newest()
