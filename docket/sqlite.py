"""Certified results in a SQLite file: for one machine without a server.

The standard library's sqlite3 in one thread of its own. Several processes on the machine may share the file.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

from docket._core.record import Blob, MadeFrom, Record, Records, Stored
from docket.cache import Certificate, Claim, Held, Input, Move, certified, claimed, moved
from docket.errors import ConfigurationError

T = TypeVar("T")

BUSY = 10.0
"""Seconds to wait for another process that is writing. Each of our writes takes milliseconds."""

_TABLES = """
CREATE TABLE IF NOT EXISTS result (
    run_id TEXT NOT NULL, key TEXT NOT NULL, mode TEXT NOT NULL, state TEXT NOT NULL, token INTEGER NOT NULL,
    claim TEXT NOT NULL, owner TEXT NOT NULL, attempt INTEGER NOT NULL, lease_until REAL, made_from TEXT NOT NULL,
    serializer TEXT, type TEXT, body BLOB, view TEXT, blob TEXT, reason TEXT NOT NULL, error_type TEXT NOT NULL,
    error_text TEXT NOT NULL, changed_at REAL NOT NULL, PRIMARY KEY (run_id, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS input (
    run_id TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL, serializer TEXT NOT NULL, body BLOB NOT NULL, view TEXT,
    recorded_at REAL NOT NULL, PRIMARY KEY (run_id, key, digest)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (
    run_id TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, key TEXT NOT NULL, event TEXT NOT NULL, token INTEGER NOT NULL,
    owner TEXT NOT NULL, detail TEXT NOT NULL, serializer TEXT, type TEXT, body BLOB, blob TEXT,
    PRIMARY KEY (run_id, id)) WITHOUT ROWID;
"""

_RESULT = (
    "run_id, key, mode, state, token, claim, owner, attempt, lease_until, made_from, serializer, type, body, view, blob, "
    "reason, error_type, error_text, changed_at"
)


class SqliteCache:
    """Certified results in a SQLite file.

    Args:
        path: The file; made when it is not there. The same tables as in PostgreSQL, in SQLite's types: open it with
            ``sqlite3`` and look.

    Each method is one transaction, on disk when it returns. Leases are on this machine's clock.

    Raises:
        ConfigurationError: It was used before a fork, and is used again by the child.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._process = 0

    async def load(self, run_id: str, /) -> Records:
        """Return everything known about a run."""
        return await self._do(lambda db: _load(db, run_id))

    async def claim(self, claim: Claim, /) -> Record:
        """Claim a result if it may be claimed; return what stands."""

        def do(db: sqlite3.Connection) -> Record:
            row, lost = _row(db, claim.run_id, claim.key)
            record = claimed(row, lost, claim)
            if record is not None:
                _put(db, claim.run_id, record, time.time() + claim.lease)
                _put_inputs(db, claim.run_id, claim.inputs)
            return _standing(db, claim.run_id, claim.key)

        return await self._do(do)

    async def certify(self, certificate: Certificate, /) -> Record:
        """Store a result unless one stands; return what stands."""

        def do(db: sqlite3.Connection) -> Record:
            row, _ = _row(db, certificate.run_id, certificate.key)
            record = certified(row, certificate)
            if record is not None:
                _put(db, certificate.run_id, record, None)
                _put_inputs(db, certificate.run_id, certificate.inputs)
            return _standing(db, certificate.run_id, certificate.key)

        return await self._do(do)

    async def move(self, move: Move, /) -> Record | None:
        """Change a row's state and write the journal; return what stands."""

        def do(db: sqlite3.Connection) -> Record | None:
            row, lost = _row(db, move.run_id, move.key)
            record = moved(row, lost, move) if row is not None else None
            if record is not None:
                _put(db, move.run_id, record, None)
            if record is not None or not move.states:
                _put_journal(db, move, move.stored or (row.stored if row is not None and record is not None else None))
            return _row(db, move.run_id, move.key)[0]

        return await self._do(do)

    async def renew(self, held: Sequence[Held], lease: float, /) -> frozenset[UUID]:
        """Extend the leases of running claims; return the nonces that are still held."""

        def do(db: sqlite3.Connection) -> frozenset[UUID]:
            until = time.time() + lease
            kept = [
                one.nonce
                for one in held
                if db.execute(
                    "UPDATE result SET lease_until = ? "
                    "WHERE run_id = ? AND key = ? AND token = ? AND claim = ? AND state = 'running'",
                    (until, one.run_id, one.key, one.token, str(one.nonce)),
                ).rowcount
            ]
            return frozenset(kept)

        return await self._do(do)

    async def close(self) -> None:
        """Close the file and end the thread. Using the cache again opens it again. A forked child leaves its parent's alone."""
        if self._thread is not None and self._process != os.getpid():
            return
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._shut)
            thread.shutdown(wait=False)

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        if self._thread is None:
            self._process, self._thread = os.getpid(), ThreadPoolExecutor(1, "docket sqlite")
        elif self._process != os.getpid():  # the thread is not there, and SQLite forbids to use the connection
            raise ConfigurationError(
                f"the file {self._path} was opened by process {self._process} and is used by process {os.getpid()}: a forked "
                "child must not use its parent's connection; construct the cache after the fork"
            )
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transaction, work)

    def _transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        db = self._opened()
        db.execute("BEGIN IMMEDIATE")
        try:
            answer = work(db)
        except BaseException:
            db.rollback()
            raise
        db.commit()
        return answer

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            db = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None)
            _use_log(db)
            db.execute("PRAGMA synchronous = FULL")  # what a claim or a certificate promises must be on disk when it returns
            db.executescript(_TABLES)
            self._connection = db
        return self._connection

    def _shut(self) -> None:
        db, self._connection = self._connection, None
        if db is not None:
            db.close()


def _use_log(db: sqlite3.Connection) -> None:
    # SQLite's own waiting does not cover this switch, which another process may be making at the same time.
    end = time.monotonic() + BUSY
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                db.close()
                raise
        time.sleep(0.01)


def _load(db: sqlite3.Connection, run_id: str) -> Records:
    rows = db.execute(f"SELECT {_RESULT} FROM result WHERE run_id = ?", (run_id,)).fetchall()  # noqa: S608 - constant
    results = {row[1]: _record(row)[0] for row in rows}
    inputs: dict[tuple[str, str], Stored] = {}
    latest: dict[str, str] = {}
    for key, digest, serializer, body in db.execute(
        "SELECT key, digest, serializer, body FROM input WHERE run_id = ? ORDER BY recorded_at", (run_id,)
    ):
        inputs[key, digest] = Stored(serializer, key, body)
        latest[key] = digest
    return Records(results, inputs, latest)


def _row(db: sqlite3.Connection, run_id: str, key: str) -> tuple[Record | None, bool]:
    query = f"SELECT {_RESULT} FROM result WHERE run_id = ? AND key = ?"  # noqa: S608 - constant
    row = db.execute(query, (run_id, key)).fetchone()
    return (None, False) if row is None else _record(row)


def _standing(db: sqlite3.Connection, run_id: str, key: str) -> Record:
    record = _row(db, run_id, key)[0]
    if record is None:
        raise LookupError(f"run {run_id!r}: the row of {key} was deleted while it was held")
    return record


def _record(row: Sequence[Any]) -> tuple[Record, bool]:
    (_, key, mode, state, token, claim, owner, attempt, lease_until, made_from, *payload, changed_at) = row
    serializer, type_, body, view, blob, reason, error_type, error_text = payload
    now = time.time()
    stored = None
    if state == "certified":
        stored = Stored(serializer, type_, body or b"", view, Blob(**json.loads(blob)) if blob else None)
    left = 0.0 if lease_until is None else lease_until - now
    record = Record(
        key, mode, state, token, UUID(claim), owner, attempt, max(now - changed_at, 0.0), left,
        MadeFrom(**json.loads(made_from)), stored, reason, error_type, error_text,
    )  # fmt: skip
    return record, lease_until is not None and left < 0


def _put(db: sqlite3.Connection, run_id: str, record: Record, lease_until: float | None) -> None:
    made = record.made_from
    made_from = {"inputs": made.inputs, "above": made.above, "versions": made.versions, "deep": made.deep}
    values = (
        run_id, record.key, record.mode, record.state, record.token, str(record.claim), record.owner, record.attempt,
        lease_until, json.dumps(made_from), *_payload(record.stored, view=True), record.reason, record.error_type,
        record.error_text, time.time(),
    )  # fmt: skip
    marks = ", ".join("?" * len(values))
    db.execute(f"INSERT OR REPLACE INTO result ({_RESULT}) VALUES ({marks})", values)  # noqa: S608 - constant


def _put_inputs(db: sqlite3.Connection, run_id: str, inputs: Iterable[Input]) -> None:
    for one in inputs:
        db.execute(
            "INSERT INTO input VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (run_id, key, digest) DO UPDATE SET recorded_at = excluded.recorded_at",  # it was used last
            (run_id, one.stored.type, one.digest, one.stored.serializer, one.stored.body, one.stored.view, time.time()),
        )


def _put_journal(db: sqlite3.Connection, move: Move, stored: Stored | None) -> None:
    detail = ": ".join(part for part in (move.reason, move.error_type, move.error_text) if part)
    db.execute(
        "INSERT OR IGNORE INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            move.run_id, str(move.id), time.time(), move.key, move.event, move.token, move.owner, detail,
            *_payload(stored, view=False),
        ),
    )  # fmt: skip


def _payload(stored: Stored | None, *, view: bool) -> tuple[Any, ...]:
    if stored is None:
        return (None,) * (5 if view else 4)
    blob = stored.blob
    text = None if blob is None else json.dumps({"uri": blob.uri, "sha256": blob.sha256, "size": blob.size})
    body = None if blob is not None else stored.body
    shown = (stored.view,) if view else ()
    return (stored.serializer, stored.type, body, *shown, text)
