"""The shop over HTTP.

Three ways to make an order: wait for it in the request; hand it to the queue in the transaction that records it; or both:
hand it over and wait a little. A client that goes away, or a server that is stopped, loses no charge.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Annotated, Protocol

import asyncpg
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse

from docket import (
    Busy,
    DeadlineExceeded,
    InDoubt,
    InputsChanged,
    NotCertified,
    NotYet,
    Plan,
    Refused,
    RetryLater,
    StepTimeout,
    WaitingFor,
)
from docket.errors import BadRunId, Purged
from examples.fastapi_app.shop import DSN, QUEUE, TABLES, OrderRequest, OutOfStock, Shipment, d

log = logging.getLogger("shop")

Seconds = Annotated[float, Query(ge=0, le=20, allow_inf_nan=False)]
"""How long a client may wait for an answer."""

UNKNOWN = {"missing", "would run", "blocked"}
"""The states of what a plan looked at if nothing was ever begun."""

STATUS: dict[type[Exception], int] = {
    InputsChanged: 422,  # the id stands for another request: the client takes a new one
    BadRunId: 422,  # no id that a run can have: too long, or with characters that nobody can see
    Busy: 409,  # somebody is at it: come back
    InDoubt: 409,  # nobody knows whether the money was taken: a person must look, and trying again does not help
    Refused: 402,  # final
    WaitingFor: 202,  # something must come from outside first
    RetryLater: 503,
    Purged: 410,  # made, and deleted since
    NotCertified: 503,  # made, and could not be stored: a person must look
    StepTimeout: 504,
    DeadlineExceeded: 504,
    OutOfStock: 410,  # the shop's own error, mapped as the shop likes
}


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


@app.post("/orders/{order_id}", status_code=202, response_model=None)
async def make_later(
    order_id: str, order: OrderRequest, request: Request, response: Response
) -> dict[str, str] | JSONResponse:
    """Record the order and hand its run to the queue, in one transaction: both or neither."""
    plan = await d.plan(order_id, Shipment, order)
    if plan.changes:  # enqueueing compares with the jobs that wait, the plan with what was begun
        return said(422, "InputsChanged", order_id)
    state: State = request.app.state
    async with state.pool.acquire() as connection, connection.transaction():
        await d.enqueue(QUEUE, Shipment, order, run_id=order_id, connection=connection)
        await connection.execute(
            "INSERT INTO shop_order VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", order_id, order.sku, order.amount_cents
        )
        if order.sku == "bad-luck":
            raise RuntimeError("something after the insert fails")
    response.headers["Location"] = f"/orders/{order_id}"
    return {"order_id": order_id}


@app.get("/orders/{order_id}")
async def look(order_id: str, request: Request, wait: Seconds = 0.0) -> JSONResponse:
    """Return the shipment if it is made; else say which steps are done.

    A charge that was refused or is in doubt ends the wait with that error, which is answered as any other.
    """
    try:
        shipment = await d.wait(order_id, Shipment, timeout=wait)
    except NotYet:
        state: State = request.app.state
        recorded = await state.pool.fetchval("SELECT EXISTS (SELECT FROM shop_order WHERE id = $1)", order_id)
        return not_yet(order_id, await d.plan(order_id, Shipment), recorded=recorded)
    return JSONResponse({"tracking_number": shipment.tracking_number, "charge_id": shipment.charge_id})


def not_yet(order_id: str, plan: Plan, *, recorded: bool) -> JSONResponse:
    """Return what the plan says of an order that is not shipped.

    Args:
        order_id: The order.
        plan: The plan of its shipment.
        recorded: Whether the shop has taken the order. A job that nobody has worked on yet leaves no trace in the plan.
    """
    states = {step.state for step in plan.steps}
    if "purged" in states:
        return said(410, "Purged", order_id)
    if not recorded and states <= UNKNOWN:
        return said(404, "NotFound", order_id)
    done = [one.step.name for one in plan.steps if one.step is not None and one.state == "certified"]
    return JSONResponse({"order_id": order_id, "done": done}, 202, {"Retry-After": "1"})


def said(status: int, error: str, order_id: str, **headers: str) -> JSONResponse:
    """Return what a client is told: which error, about which order. The text is for operators, and in the log."""
    return JSONResponse({"error": error, "order_id": order_id}, status, headers)


async def failed(request: Request, error: Exception) -> JSONResponse:
    """Log an error's text, and answer by its class. A subclass is mapped as the nearest class in the table."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    order_id = request.path_params["order_id"]
    log.warning("order %r: %s: %s", order_id, type(error).__name__, error)
    headers: dict[str, str] = {}
    if isinstance(error, Busy):
        headers["Retry-After"] = str(math.ceil(max(error.retry_after, 1.0)))
    elif isinstance(error, RetryLater) and math.isfinite(error.delay):  # WaitingFor has no time
        headers["Retry-After"] = str(math.ceil(max(error.delay, 1.0)))
    return said(status, error.kind if isinstance(error, Refused) else type(error).__name__, order_id, **headers)


for mapped in STATUS:
    app.add_exception_handler(mapped, failed)
