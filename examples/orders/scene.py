"""What happens in the demo, and what is to be seen of it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import asyncpg
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from examples.orders.orders_pb2 import ChargeResult, OrderRequest
from examples.orders.provider import LEDGER, PaymentProvider
from examples.orders.queues import Queue
from examples.orders.workers import Workers

ORDERS = 20
WORKERS = 4
PATIENCE = 90.0
"""Seconds after which the demo gives up; it takes about ten."""

SCHEMA = Path(__file__).parents[2] / "schema.sql"

SALES = """
CREATE SCHEMA shop;
CREATE TABLE shop.sale (order_id text PRIMARY KEY, request bytea NOT NULL);
"""

STATES = """
SELECT count(*) FILTER (WHERE key = 'orders.Reservation' AND state = 'certified') AS reserved,
       count(*) FILTER (WHERE key = 'orders.ChargeResult' AND state = 'certified') AS charged,
       count(*) FILTER (WHERE key = 'orders.Shipment' AND state = 'certified') AS shipped,
       count(*) FILTER (WHERE state = 'in doubt') AS doubtful
FROM docket.status
"""

CHARGED_NOT_SHIPPED = """
SELECT c.run_id, c.owner FROM docket.result c
WHERE c.key = 'orders.ChargeResult' AND c.state = 'certified'
  AND NOT EXISTS (SELECT FROM docket.result s WHERE s.run_id = c.run_id AND s.key = 'orders.Shipment')
ORDER BY c.certified_at DESC LIMIT 1
"""

BOOKED_NOT_CERTIFIED = """
SELECT c.run_id, c.owner FROM docket.result c JOIN provider.ledger l ON l.order_id = c.run_id
WHERE c.key = 'orders.ChargeResult' AND c.state = 'running' LIMIT 1
"""

OUTCOME = """
SELECT o.run_id AS order_id, o.view ->> 'amount_cents' AS amount_cents,
       (SELECT count(*) FROM provider.ledger l WHERE l.order_id = o.run_id) AS booked,
       c.attempt, c.view ->> 'charge_id' AS charge_id, s.view ->> 'tracking_number' AS tracking_number,
       t.state AS charge_state, t.last_error, t.waiting_for
FROM docket.input o
LEFT JOIN docket.result c ON c.run_id = o.run_id AND c.key = 'orders.ChargeResult'
LEFT JOIN docket.result s ON s.run_id = o.run_id AND s.key = 'orders.Shipment'
LEFT JOIN docket.status t ON t.run_id = o.run_id AND t.key = 'orders.ChargeResult'
WHERE o.key = 'orders.OrderRequest' ORDER BY 1
"""

DOUBTS = "SELECT run_id FROM docket.status WHERE key = 'orders.ChargeResult' AND state = 'in doubt'"


class Scene:
    """The demo on one database.

    Args:
        dsn: An empty database.
        queue: What the orders are handed over by, on that database.
    """

    def __init__(self, dsn: str, queue: Queue) -> None:
        self._dsn, self._queue = dsn, queue
        self._workers = Workers(dsn, queue.worker)
        self._provider = PaymentProvider(dsn)
        self._console = Console()
        self._progress = Progress(TextColumn("{task.description:<9}"), BarColumn(30), MofNCompleteColumn())
        self._bars = {
            name: self._progress.add_task(name, total=ORDERS) for name in ("reserved", "charged", "shipped")
        }
        self._began = time.monotonic()

    async def __aenter__(self) -> Self:
        self._sql = await asyncpg.connect(self._dsn)
        await self._sql.execute(SCHEMA.read_text())
        await self._sql.execute(SALES)
        await self._sql.execute(LEDGER)
        await self._queue.lay_tables(self._sql)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._workers.stop()
        await self._queue.d.close()
        await self._sql.close()

    def say(self, text: str) -> None:
        """Print one line above the progress bars."""
        self._console.print(f"[dim]{time.monotonic() - self._began:5.1f} s[/]  {text}", highlight=False)

    async def play(self) -> bool:
        """Run the orders, kill two workers, settle what is in doubt; return whether all is well in the end."""
        with Live(self._progress, console=self._console, refresh_per_second=10, transient=True):
            await self._enqueue()
            for _ in range(WORKERS):
                self._workers.start()
            self.say(f"{WORKERS} workers started: [cyan]{self._queue.called}[/]")
            await self._kill_when(BOOKED_NOT_CERTIFIED, "in the middle of its charge: booked, answer not yet here")
            await self._kill_when(CHARGED_NOT_SHIPPED, "between charge and shipment")
            over = await self._until_nothing_moves(ORDERS)
        await self._show("What the certified results and the provider's ledger say")
        settled: list[str] = []
        while over and (decided := await self._settle()):
            settled += decided
            with Live(self._progress, console=self._console, refresh_per_second=10, transient=True):
                over = await self._until_nothing_moves(ORDERS)
        return over and await self._verdict(settled)

    async def _enqueue(self) -> None:
        for number in range(1, ORDERS + 1):
            order = OrderRequest(
                order_id=f"order-{number:02}", customer=f"customer-{number % 7}", sku=f"sku-{number % 5}",
                quantity=1 + number % 3, amount_cents=990 + 137 * number,
            )  # fmt: skip
            async with self._sql.transaction():
                await self._sql.execute("INSERT INTO shop.sale VALUES ($1, $2)", order.order_id, order.SerializeToString())
                await self._queue.enqueue(self._sql, order.order_id, order)
        self.say(f"{ORDERS} orders placed")

    async def _look(self) -> asyncpg.Record:
        row = await self._sql.fetchrow(STATES)
        assert row is not None
        for name, bar in self._bars.items():
            self._progress.update(bar, completed=row[name])
        return row

    async def _kill_when(self, condition: str, moment: str) -> None:
        """Wait for the moment, kill the worker that is in it, and start another."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            await self._look()
            found = await self._sql.fetchrow(condition)
            if found is not None:
                pid = int(found["owner"].rpartition(":")[2])
                if self._workers.kill(pid):
                    other = self._workers.start()
                    self.say(f"[red]worker {pid} killed[/] {moment} ({found['run_id']}); worker {other} started")
                    return
            if not self._workers.alive:
                break
            await asyncio.sleep(0.01)
        raise TimeoutError(f"no worker was caught {moment}; the workers said:\n{self._workers.log[-4000:]}")

    async def _until_nothing_moves(self, orders: int) -> bool:
        """Wait until every order is shipped or stands in doubt."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            row = await self._look()
            if row["shipped"] + row["doubtful"] >= orders:
                return True
            await asyncio.sleep(0.05)
        self.say(f"[red]gave up after {PATIENCE:g} s[/]; the workers said:\n{self._workers.log[-4000:]}")
        return False

    async def _settle(self) -> list[str]:
        """Decide every doubt as a person would: look at the provider's books, then tell Docket."""
        doubts = await self._sql.fetch(DOUBTS)
        for (run_id,) in doubts:
            booked = await self._provider.find(run_id)
            if booked is not None:
                self.say(f"{run_id}: the provider has booked {booked.charge_id}: [green]settle[/] with it")
                await self._queue.d.settle(run_id, ChargeResult, booked, note="found in the provider's ledger")
            else:
                self.say(f"{run_id}: the provider knows nothing of it: [green]release[/], it may run again")
                await self._queue.d.release(run_id, ChargeResult, note="not in the provider's ledger")
            await self._queue.enqueue(self._sql, run_id)
        return [run_id for (run_id,) in doubts]

    async def _rows(self) -> list[asyncpg.Record]:
        return await self._sql.fetch(OUTCOME)

    async def _show(self, title: str) -> None:
        self._console.rule(f"[bold]{title}")
        rows = await self._rows()
        self._console.print(table(rows))
        for row in rows:
            if row["waiting_for"]:
                self._console.print(f"[yellow]{row['order_id']} is {row['charge_state']}[/]: {row['last_error']}")
                self._console.print(f"  waits for {row['waiting_for']}")

    async def _verdict(self, settled: list[str]) -> bool:
        rows = await self._rows()
        if settled:
            self._console.print(table([row for row in rows if row["order_id"] in settled]))
        shipped = sum(row["tracking_number"] is not None for row in rows)
        twice = sum(row["booked"] > 1 for row in rows)
        self.say(f"[bold]{shipped} of {ORDERS} orders shipped, {twice} charged twice[/]")
        return shipped == ORDERS and not twice


def table(rows: list[asyncpg.Record]) -> Table:
    """Draw the orders."""
    drawn = Table("order", "cents", "booked", "charge", "certified charge", "shipment", box=None)
    for row in rows:
        state = row["charge_state"] or "not started"
        drawn.add_row(
            row["order_id"],
            row["amount_cents"],
            f"{row['booked']} x",
            state if state == "certified" else f"[yellow]{state}[/]",
            row["charge_id"] or "",
            row["tracking_number"] or "",
        )
    return drawn
