"""One statement on a connection of the caller's, whichever of the two drivers it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, cast

import asyncpg
import asyncpg.pool
import psycopg
from psycopg.rows import dict_row

from docket_procrastinate._translate import bind

_ASYNCPG = (asyncpg.Connection, asyncpg.pool.PoolConnectionProxy)


async def rows_on(connection: object, query: LiteralString, arguments: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Run *query* on *connection*, in its transaction if one is open, and return the rows by column name.

    Args:
        connection: asyncpg's (its own, or one lent by a pool) or psycopg's async one.
        query: With parameters written ``%(name)s``.
        arguments: By name; lists, texts and numbers.

    Raises:
        TypeError: It is another driver's. Nothing is sent.
    """
    if isinstance(connection, _ASYNCPG):
        text, values = bind(query, arguments, json.dumps)
        return cast("Sequence[Any]", await connection.fetch(text, *values))
    if isinstance(connection, psycopg.AsyncConnection):
        async with connection.cursor(row_factory=dict_row) as cursor:
            await cursor.execute(query, arguments)
            return await cursor.fetchall()
    found = f"{type(connection).__module__}.{type(connection).__qualname__}"
    raise TypeError(
        f"connection= must be asyncpg's or psycopg's async connection, not {found}; from SQLAlchemy pass the driver's: "
        "(await (await session.connection()).get_raw_connection()).driver_connection"
    )
