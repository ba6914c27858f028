"""The demo on each queue: what its workers' command is, which tables it needs, how it is told of an order.

The steps and the scene are the same on all of them. A team has one of these, and it is three lines of its application.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Protocol, TypeAlias

import asyncpg
import procrastinate
from procrastinate.schema import SchemaManager

from docket import Docket
from examples.orders.app import DSN, QUEUE, CreateShipment, build

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Queue(Protocol):
    """A queue that the demo runs on.

    Attributes:
        d: The steps on this queue.
        worker: The command that starts a worker; it finds the database in ``DATABASE_URL``.
        called: How people call that command.
    """

    d: Docket
    worker: Sequence[str]
    called: str

    async def lay_tables(self, connection: Connection, /) -> None:
        """Create the queue's own tables."""
        ...

    async def enqueue(self, connection: Connection, order_id: str, /, *inputs: object) -> None:
        """Ask for an order's shipment, in the transaction of *connection*."""
        ...


class OnProcrastinate:
    """Procrastinate over asyncpg."""

    app = "examples.orders.app.procrastinate_app"

    def __init__(self, dsn: str) -> None:
        self.d, _ = build(dsn)
        self.worker = [sys.executable, "-m", "procrastinate", f"--app={self.app}", "worker", "-q", QUEUE, "-c", "1"]
        self.called = f"procrastinate --app={self.app} worker -q {QUEUE}"

    async def lay_tables(self, connection: Connection, /) -> None:
        """Do what ``procrastinate schema --apply`` does."""
        await connection.execute(SchemaManager.get_schema())

    async def enqueue(self, connection: Connection, order_id: str, /, *inputs: object) -> None:
        """Put a job into Procrastinate's table."""
        await self.d.enqueue(QUEUE, CreateShipment, *inputs, run_id=order_id, connection=connection)


class OnPsycopg(OnProcrastinate):
    """Procrastinate as it comes, over psycopg. Orders are handed over on the shop's asyncpg connection all the same."""

    app = "examples.orders.queues.psycopg_app"


_, psycopg_app = build(DSN, procrastinate.PsycopgConnector(conninfo=DSN))


QUEUES: Mapping[str, str] = {
    "procrastinate": "examples.orders.queues:OnProcrastinate",
    "procrastinate-psycopg": "examples.orders.queues:OnPsycopg",
    "pgqueuer": "examples.orders.on_pgqueuer:OnPgQueuer",
    "inprocess": "examples.orders.in_process:InProcess",
}
"""Where each is, by the name that ``--queue`` takes. Imported when it is asked for: nobody needs to install them all."""


def queue_named(name: str, dsn: str) -> Queue:
    """Put the demo on one of `QUEUES`, with the database at *dsn*."""
    module, _, called = QUEUES[name].partition(":")
    queue: Queue = getattr(import_module(module), called)(dsn)
    return queue
