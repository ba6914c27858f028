"""``python -m docket enqueue``: a run goes on after a person has decided about it."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

from docket.__main__ import main
from examples.orders.orders_pb2 import Reservation
from tests.database import connected
from tests.orders import request

SHOP = """
import procrastinate
from docket import Docket
from docket.postgres import PostgresCache
from docket_procrastinate import AsyncpgConnector, ProcrastinateQueue
from tests.orders import Orders

orders = Orders(PostgresCache({dsn!r}), ProcrastinateQueue(procrastinate.App(connector=AsyncpgConnector({dsn!r}))))
d = orders.d
"""


def test_a_run_that_is_on_record_is_enqueued_once(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the inputs it had; a run of which nothing is recorded is refused, with what it lacks."""
    (tmp_path / "shop_of_enqueue.py").write_text(SHOP.format(dsn=dsn))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    shop: Any = importlib.import_module("shop_of_enqueue")

    async def begun() -> None:
        await shop.d.run("order-1", Reservation, request())
        await shop.d.close()

    asyncio.run(begun())
    for said in ("order-1: enqueued", "order-1: a job for it waits already; nothing was added"):
        assert main(["enqueue", "shop_of_enqueue:d", "orders", "order-1", "Shipment"]) == 0
        assert capsys.readouterr().out.strip() == said
    assert main(["enqueue", "shop_of_enqueue:d", "orders", "order-9", "Shipment"]) == 1
    assert "OrderRequest is needed" in capsys.readouterr().err

    async def jobs() -> int:
        async with connected(dsn) as connection:
            return int(await connection.fetchval("SELECT count(*) FROM procrastinate_jobs"))

    assert asyncio.run(jobs()) == 1
