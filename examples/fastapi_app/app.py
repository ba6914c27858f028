"""The shop over HTTP.

Three ways to make an order: wait for it in the request; hand it to the queue in the transaction that records it; or both:
hand it over and wait a little. A client that goes away, or a server that is stopped, loses no charge.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Protocol

import asyncpg
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from docket import Busy, InDoubt, InputsChanged, NotYet, Refused
from docket.errors import BadRunId
from examples.fastapi_app.shop import DSN, QUEUE, TABLES, OrderRequest, OutOfStock, Shipment, d


class State(Protocol):
    """What handlers find in ``request.app.state``."""

    pool: asyncpg.Pool[asyncpg.Record]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Open what the application holds. Docket opens its pool by itself; at the end what is under way has finished."""
    async with asyncpg.create_pool(DSN, min_size=0, max_size=5) as pool, d:
        await pool.execute(TABLES)
        app.state.pool = pool
        yield


app = FastAPI(title="shop", lifespan=lifespan)


@app.put("/orders/{order_id}")
async def make_now(order_id: str, request: OrderRequest) -> Shipment:
    """Make the order within the request. PUT again and it is fetched; the order id is the idempotency key."""
    return await d.run(order_id, Shipment, request)


@app.post("/orders/{order_id}", status_code=202)
async def make_later(order_id: str, order: OrderRequest, request: Request, response: Response) -> dict[str, str]:
    """Record the order and hand its run to the queue, in one transaction: both or neither."""
    state: State = request.app.state
    async with state.pool.acquire() as connection, connection.transaction():
        # First, since it refuses an order id that is none before anything is written.
        await d.enqueue(QUEUE, Shipment, order, run_id=order_id, connection=connection)
        await connection.execute(
            "INSERT INTO shop_order VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", order_id, order.sku, order.amount_cents
        )
        if order.sku == "bad-luck":
            raise RuntimeError("something after the insert fails")
    response.headers["Location"] = f"/orders/{order_id}"
    return {"order_id": order_id}


@app.get("/orders/{order_id}")
async def look(order_id: str, wait: float = 0.0) -> JSONResponse:
    """Return the shipment if it is made, or else 202 and the plan: what is certified, and what is left to do."""
    try:
        shipment = await d.wait(order_id, Shipment, timeout=min(wait, 20.0))
    except NotYet:
        plan = await d.plan(order_id, Shipment)
        return JSONResponse({"order_id": order_id, "plan": [str(step) for step in plan.steps]}, 202, {"Retry-After": "1"})
    return JSONResponse({"tracking_number": shipment.tracking_number, "charge_id": shipment.charge_id})


def said(status: int, error: Exception, **headers: str) -> JSONResponse:
    """Return an error as a client is to see it."""
    return JSONResponse({"error": type(error).__name__, "detail": str(error)}, status, headers)


@app.exception_handler(InputsChanged)
async def other_inputs(_: Request, error: InputsChanged) -> JSONResponse:
    """The order id was used before, with another request."""
    return said(422, error)


@app.exception_handler(BadRunId)
async def no_order_id(_: Request, error: BadRunId) -> JSONResponse:
    """The order id is none that a run can have: too long, or with characters that nobody can see."""
    return said(422, error)


@app.exception_handler(Busy)
async def busy(_: Request, error: Busy) -> JSONResponse:
    """Somebody is at it: come back."""
    return said(409, error, **{"Retry-After": str(math.ceil(max(error.retry_after, 1.0)))})


@app.exception_handler(InDoubt)
async def in_doubt(_: Request, error: InDoubt) -> JSONResponse:
    """Nobody knows whether the money was taken. A person must look; trying again would not help, so no Retry-After."""
    return said(409, error)


@app.exception_handler(Refused)
async def refused(_: Request, error: Refused) -> JSONResponse:
    """A final answer of the business."""
    return said(402, error)


@app.exception_handler(OutOfStock)
async def out_of_stock(_: Request, error: OutOfStock) -> JSONResponse:
    """The shop's own error, mapped as the shop likes."""
    return said(410, error)
