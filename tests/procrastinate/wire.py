"""A proxy before PostgreSQL: counts round trips, loses answers, freezes, goes away."""

import asyncio
import contextlib
from urllib.parse import unquote, urlsplit, urlunsplit

_COMMAND_COMPLETE = ord("C")
_READY_FOR_QUERY = ord("Z")


class Proxy:
    """Forwards connections to PostgreSQL and reads the server's side of the protocol (manual, "Message Formats").

    Args:
        dsn: The server behind it, as a URL.

    Attributes:
        round_trips: How often the server said that it is ready for a query.
        lost: Set when an answer was lost.
    """

    def __init__(self, dsn: str) -> None:
        self._parts = urlsplit(dsn)
        self._listener: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._clients: set[asyncio.StreamWriter] = set()
        self._frozen: set[asyncio.Task[None] | None] = set()
        self._port = 0
        self._answers_to_lose = 0
        self._leaves = False
        self.round_trips = 0
        self.lost = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()

    @property
    def dsn(self) -> str:
        """Where to connect to go through the proxy; without TLS, or there would be nothing to read."""
        user, _, _ = self._parts.netloc.rpartition("@")
        return urlunsplit((self._parts.scheme, f"{user}@127.0.0.1:{self._port}", self._parts.path, "sslmode=disable", ""))

    async def arrive(self) -> None:
        """Accept connections, on the same port each time."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        self._port = self._listener.sockets[0].getsockname()[1]

    async def leave(self) -> None:
        """Cut every connection and refuse new ones."""
        if self._listener is not None:
            self._listener.close()
        for client in self._clients:
            client.transport.abort()
        await asyncio.gather(*self._connections)

    def turn_to(self, dsn: str) -> None:
        """Lead new connections to another server, as a name or an address does after a failover."""
        self._parts = urlsplit(dsn)

    def lose_answers(self, count: int, *, and_leave: bool = False) -> None:
        """Let the next *count* statements take effect, and cut the connection instead of passing the answer on.

        With *and_leave* refuse new connections from the first of them on.
        """
        self._answers_to_lose = count
        self._leaves = and_leave

    def hold(self) -> None:
        """Keep back the end of every answer, counted already, until `resume`."""
        self._flowing.clear()

    def resume(self) -> None:
        """Pass on what was kept back."""
        self._flowing.set()

    def freeze(self) -> None:
        """Pass nothing more over the connections there are: a host that is gone without a goodbye."""
        self._frozen.update(self._connections)

    def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(client, to_client))
        self._connections.add(task)
        self._clients.add(to_client)
        task.add_done_callback(self._connections.discard)
        task.add_done_callback(lambda _: self._clients.discard(to_client))

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await self._connect()
        this = asyncio.current_task()
        up = asyncio.create_task(self._up(this, client, to_server))
        down = asyncio.create_task(self._down(this, server, to_client))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)
            to_server.transport.abort()
            to_client.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = unquote(self._parts.hostname or "localhost"), self._parts.port or 5432
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{unquote(self._directory())}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    def _directory(self) -> str:
        """Return the socket's directory as the URL has it; ``hostname`` would be in lower case."""
        return self._parts.netloc.rpartition("@")[2].rpartition(":")[0]

    async def _up(
        self, connection: asyncio.Task[None] | None, client: asyncio.StreamReader, to_server: asyncio.StreamWriter
    ) -> None:
        while data := await client.read(65536):
            if connection not in self._frozen:
                to_server.write(data)

    async def _down(
        self, connection: asyncio.Task[None] | None, server: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        lost = False
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                head = await server.readexactly(5)
                message = head + await server.readexactly(int.from_bytes(head[1:], "big") - 4)
                lost = lost or (head[0] == _COMMAND_COMPLETE and self._answers_to_lose > 0)
                if head[0] == _READY_FOR_QUERY:
                    self.round_trips += 1
                    await self._flowing.wait()
                    if lost:
                        # Not before: a statement outside a transaction is committed when the server is ready again.
                        self._answers_to_lose -= 1
                        self.lost.set()
                        if self._leaves and self._listener is not None:
                            self._listener.close()
                        return
                if not lost and connection not in self._frozen:
                    to_client.write(message)
