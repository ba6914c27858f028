"""A proxy before PostgreSQL that stops the world at one boundary between two statements.

It speaks just enough of the wire protocol to number the places where the client gives the server something to do (Sync and
simple Query), over all connections. At one of them it acts: before the server sees it, after the server has executed but not
committed it, or after it was committed and before the client hears of it. The library under test has no hook for this.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Awaitable, Callable
from typing import Literal, Self, TypeAlias
from urllib.parse import unquote, urlsplit

When: TypeAlias = Literal["before", "executed", "committed"]
MOMENTS: tuple[When, ...] = ("before", "executed", "committed")

_SSL_REQUEST = 80877103
_READY = b"Z\x00\x00\x00\x05"


class Boundary:
    """The proxy.

    Args:
        dsn: The server behind it.
        at: The boundary at which to act, counted from 1; 0 never acts.
        when: On which side of the statement.
        act: What to do there; the connection is cut afterwards if it returns False, and goes on if True.

    Attributes:
        seen: How many boundaries were passed.
        acted: Whether the one was reached.
    """

    def __init__(self, dsn: str, at: int = 0, when: When = "before", act: Callable[[], Awaitable[bool]] | None = None) -> None:
        self._parts = urlsplit(dsn)
        self.at, self.when, self.act = at, when, act
        self.seen, self.acted = 0, False
        self._tasks: set[asyncio.Task[None]] = set()

    def arm(self, at: int, when: When, act: Callable[[], Awaitable[bool]] | None) -> None:
        """Count from here, and act at that boundary."""
        self.at, self.when, self.act = at, when, act
        self.seen, self.acted = 0, False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        user = f"{self._parts.username}@" if self._parts.username else ""
        self.dsn = f"postgresql://{user}127.0.0.1:{port}{self._parts.path}?sslmode=disable"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port, host = self._parts.port or 5432, unquote(self._parts.netloc.rpartition("@")[2].rpartition(":")[0])
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(self._parts.hostname, port)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        # Cancelled only when the proxy ends. On the way to the server too, the client must not be left with an open line.
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            there, to = await self._reach()
            await _Pipe(self, reader, writer, there, to).run()
        writer.transport.abort()
        self._tasks.discard(task)


class _Pipe:
    def __init__(
        self,
        boundary: Boundary,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        to: asyncio.StreamWriter,
    ) -> None:
        self._boundary, self._reader, self._writer, self._there, self._to = boundary, reader, writer, there, to
        self._open = asyncio.Event()
        self._open.set()
        self._answered: asyncio.Future[None] | None = None

    async def run(self) -> None:
        back = asyncio.create_task(self._back())
        try:
            await self._forward()
        finally:
            back.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await back
            self._cut()

    def _cut(self) -> None:
        for writer in (self._writer, self._to):
            writer.transport.abort()

    async def _forward(self) -> None:
        await self._greet()
        batch = b""
        while True:
            kind = await self._reader.readexactly(1)
            size = await self._reader.readexactly(4)
            batch += kind + size + await self._reader.readexactly(struct.unpack("!I", size)[0] - 4)
            if kind in b"SQ":
                if not await self._passed(batch, kind):
                    return
                batch = b""
            elif kind in b"HX":
                self._to.write(batch)
                batch = b""

    async def _greet(self) -> None:
        while True:
            size = await self._reader.readexactly(4)
            body = await self._reader.readexactly(struct.unpack("!I", size)[0] - 4)
            if struct.unpack("!I", body[:4])[0] != _SSL_REQUEST:
                self._to.write(size + body)
                return
            self._writer.write(b"N")

    async def _passed(self, batch: bytes, kind: bytes) -> bool:
        boundary = self._boundary
        boundary.seen += 1
        if boundary.act is None or boundary.acted or boundary.seen != boundary.at:
            self._to.write(batch)
            return True
        boundary.acted = True
        if boundary.when == "before" or kind == b"Q":
            rest = batch
        elif boundary.when == "executed":
            self._to.write(batch[:-5])  # all but the Sync that commits it
            await asyncio.sleep(0.02)
            rest = batch[-5:]
        else:
            self._open.clear()
            self._answered = asyncio.get_running_loop().create_future()
            self._to.write(batch)
            await asyncio.wait((self._answered,), timeout=5)
            rest = b""
        go_on = await boundary.act()
        self._open.set()
        if go_on:
            self._to.write(rest)
        return go_on

    async def _back(self) -> None:
        while data := await self._there.read(65536):
            if self._answered is not None and not self._answered.done() and _READY in data:
                self._answered.set_result(None)
            await self._open.wait()
            self._writer.write(data)
        self._cut()
