"""Servers that crash, are failed over and restored: embedded ones, since it takes a server of one's own."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from docket.postgres.embedded import EmbeddedServer, embedded_server
from tests.certify.doors import Door, closing, lay_split_tables, pooled_door
from tests.certify.pgbouncer import installed, pgbouncer
from tests.database import connected, lay_tables
from tests.procrastinate.queueing import until


@asynccontextmanager
async def own_server() -> AsyncGenerator[EmbeddedServer]:
    """Start a server that may be stopped as by a crash, and forgets then whatever it was not told to keep.

    What it was told to keep is in files, which outlive the server as they would on a disk.
    """
    async with embedded_server(settings={"synchronous_commit": "off", "wal_writer_delay": "10s"}) as server:
        yield server


@asynccontextmanager
async def doors_to(server: EmbeddedServer, address: str = "") -> AsyncGenerator[list[Door]]:
    """Make a database for each door on *server*, and open the doors; at *address* if they are to lead elsewhere one day."""
    names = ("direct", "pooled", "split")
    direct, pooled, split = (urlsplit(address or server.dsn)._replace(path=f"/{name}").geturl() for name in names)
    async with connected(server.dsn) as connection:
        for name in names:
            await connection.execute(f"CREATE DATABASE {name}")
    await lay_tables(direct)
    await lay_tables(pooled)
    await lay_split_tables(split)
    async with connected(server.dsn) as connection:
        await connection.execute("CHECKPOINT")  # the tables at least are to stay
    async with AsyncExitStack() as stack:
        through = await stack.enter_async_context(pgbouncer(await asyncio.to_thread(installed), pooled))
        doors = [Door(direct), pooled_door(through, pooled), Door(split)]
        for door in doors:
            await stack.enter_async_context(closing(door))
        yield doors


def copy(server: EmbeddedServer, name: str) -> None:
    """Copy the data of a stopped server to a directory beside it."""
    _as_server(server, "mkdir", "-m", "700", "-p", str(server._home / name))
    _as_server(server, "cp", "-a", str(server._home / "data"), str(server._home / name))


def restore(server: EmbeddedServer, name: str) -> None:
    """Put what was copied in the place of a stopped server's data."""
    _as_server(server, "rm", "-r", str(server._home / "data"))
    _as_server(server, "mv", str(server._home / name / "data"), str(server._home / "data"))


def _as_server(server: EmbeddedServer, *command: str) -> None:
    subprocess.run([*server._prefix, *command], check=True, cwd=server._home)


@asynccontextmanager
async def standby_of(server: EmbeddedServer) -> AsyncGenerator[EmbeddedServer]:
    """Start a physical standby of *server*, which is stopped for a moment to be copied."""
    home = server._home / "standby"
    server.stop()
    copy(server, home.name)
    _as_server(server, "touch", str(home / "data" / "standby.signal"))
    await server.start()
    options = dict(word.split("=", 1) for word in server._words if word != "-c")
    primary = f"host={server._home} port={options['port']} user=postgres"
    options |= {"unix_socket_directories": str(home), "primary_conninfo": primary}
    standby = EmbeddedServer(home, server._prefix, server._program, options)
    try:
        await standby.start()
        yield standby
    finally:
        standby.stop()


async def replicate(server: EmbeddedServer, how: str) -> None:
    """Have *server* commit when its standby has it too (``sync``), or when it has it itself (``async``)."""
    names = "*" if how == "sync" else ""
    async with connected(server.dsn) as connection:
        await connection.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        await connection.execute("SELECT pg_reload_conf()")
        sql = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = $1"
        await until(lambda: connection.fetchval(sql, how))
