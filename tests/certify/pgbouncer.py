"""PgBouncer before the tests' server, in transaction mode."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from psycopg.conninfo import conninfo_to_dict

NOBODY = 65534

# Of the server connections: fewer than the tests have clients, or every client would keep the one it got first.
POOL = 3

CONFIGURATION = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = {pool}
server_login_retry = 0.1
max_client_conn = 100
logfile = {log}
"""


def installed() -> str:
    """Return where PgBouncer is, installing Debian's package if it is not there."""
    os.environ["PATH"] = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    if shutil.which("pgbouncer") is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            pytest.skip("pgbouncer is not here, and only root on a Debian system can install it")
        with (Path(tempfile.gettempdir()) / "docket-pgbouncer.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the tests may run in several processes
            if shutil.which("pgbouncer") is None:
                _install()
    found = shutil.which("pgbouncer")
    assert found is not None
    return found


def _install() -> None:
    for words in (["update"], ["install", "--yes", "--no-install-recommends", "pgbouncer"]):
        subprocess.run(["apt-get", "--quiet", *words], check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


@asynccontextmanager
async def pgbouncer(program: str, dsn: str, pool: int = POOL) -> AsyncGenerator[str]:
    """Put PgBouncer before the server of *dsn*, with *pool* connections to it; yield the same database's DSN through it."""
    server = conninfo_to_dict(dsn)
    with tempfile.TemporaryDirectory(prefix="docket-pgbouncer-") as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = probe.getsockname()[1]
        probe.close()
        users, settings, log = (Path(folder) / name for name in ("users", "settings", "log"))
        users.write_text(f'"{server["user"]}" "{server.get("password", "")}"\n')
        settings.write_text(
            CONFIGURATION.format(
                host=server["host"], port=server.get("port") or 5432, listen=listen, users=users, log=log, pool=pool
            )
        )
        process = await asyncio.create_subprocess_exec(*_as_somebody(folder), program, "--quiet", str(settings))
        try:
            through = f"postgresql://{server['user']}@127.0.0.1:{listen}/{server['dbname']}"
            await _until_up(through, log)
            yield through
        finally:
            process.kill()
            await process.wait()


def _as_somebody(folder: str) -> list[str]:
    """Return the words before a program that refuses to be run by root, and give that somebody the folder."""
    if os.geteuid() != 0:
        return []
    renamed = ["unshare", "--user", f"--map-user={NOBODY}", f"--map-group={NOBODY}"]
    if shutil.which("unshare") and subprocess.run([*renamed, "true"], capture_output=True).returncode == 0:
        return renamed
    for path in (Path(folder), *Path(folder).iterdir()):
        os.chown(path, NOBODY, NOBODY)
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


async def _until_up(dsn: str, log: Path) -> None:
    for _ in range(200):
        try:
            connection = await asyncpg.connect(dsn, statement_cache_size=0)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            await connection.close()
            return
    raise AssertionError(f"PgBouncer did not come up: {log.read_text() if log.exists() else 'it wrote nothing'}")
