"""Statements that are not Procrastinate's own: what psycopg does for them, done over asyncpg.

Procrastinate's are known one by one, with the types of their arguments and their JSON columns. For any other, psycopg
declares the type of a value, lets a text become what its place calls for, and tells JSON by the column's type. asyncpg does
none of it, so it is done here, for a round trip or two more.
"""

import datetime as dt
import decimal
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import asyncpg

from docket_procrastinate._defer import AsyncpgConnection
from docket_procrastinate._translate import JsonDumps, JsonLoads, Statement, given, json_text, numbered, sendable

# Types for which asyncpg does not take a text.
_NOT_TEXT = frozenset(
    {
        "bool",
        "bytea",
        "date",
        "float4",
        "float8",
        "int2",
        "int4",
        "int8",
        "interval",
        "numeric",
        "oid",
        "time",
        "timestamp",
        "timestamptz",
        "timetz",
    }
)

_DECLARED: Mapping[type, str] = {
    bool: "bool",
    bytes: "bytea",
    decimal.Decimal: "numeric",
    dict: "jsonb",
    dt.date: "date",
    dt.timedelta: "interval",
    float: "float8",
    uuid.UUID: "uuid",
}


async def foreign_rows(
    connection: AsyncpgConnection, query: str, arguments: Mapping[str, Any], dumps: JsonDumps, loads: JsonLoads, timeout: float
) -> list[dict[str, Any]]:
    """Run *query* on *connection* and return the rows by column name, their JSON decoded by *loads*.

    Raises:
        procrastinate.exceptions.ConnectorException: The query names an argument that is not given.
        asyncpg.PostgresError: As the database raised it, and as asyncpg does for a value that does not fit its place.
    """
    casts = {name: _cast(value) for name, value in arguments.items()}
    text, names = _translate(query, casts)
    values = [_sendable(value, dumps) for value in given(names, arguments)]
    # Unnamed: kept by nobody, so nothing has to be closed afterwards.
    statement = await connection.prepare(text, name="", timeout=timeout)
    elsewhere = {
        name: f"::text::{_quoted(place)}"
        for name, value, place in zip(names, values, statement.get_parameters(), strict=True)
        if isinstance(value, str) and (place.name in _NOT_TEXT or place.kind == "array")
    }
    if elsewhere:
        text, _ = _translate(query, casts | elsewhere)
        statement = await connection.prepare(text, name="", timeout=timeout)
    json = [column for column in statement.get_attributes() if column.type.name.removesuffix("[]") in ("json", "jsonb")]
    rows = [dict(record) for record in await statement.fetch(*values, timeout=timeout)]
    if json and rows:
        await _decode(connection, rows, json, loads, timeout)
    return rows


def _translate(query: str, casts: Mapping[str, str]) -> Statement:
    return numbered(query, lambda placeholder: casts.get(placeholder["name"], ""))


def _cast(value: Any) -> str:
    declared = _declared(value)
    if declared is None:
        return ""
    # asyncpg sees a text, whatever codec the connection has for JSON.
    return f"::{declared.replace('jsonb', 'text')}::{declared}" if declared.startswith("jsonb") else f"::{declared}"


def _declared(value: Any) -> str | None:
    """Return the type that psycopg declares for *value*, None for one that becomes what its place calls for.

    Source: psycopg's manual, "Adapting basic Python types".
    """
    if isinstance(value, int) and not isinstance(value, bool):
        for bits, name in ((15, "int2"), (31, "int4"), (63, "int8")):
            if -(2**bits) <= value < 2**bits:
                return name
        return "numeric"
    if isinstance(value, dt.datetime):
        return "timestamp" if value.tzinfo is None else "timestamptz"
    if isinstance(value, dt.time):
        return "time" if value.tzinfo is None else "timetz"
    if _is_list(value):
        # Only integers of several sizes may stand together, and their names sort by size.
        found = max(filter(None, map(_declared, value)), default=None)
        return found and found.removesuffix("[]") + "[]"
    return next((name for kind, name in _DECLARED.items() if isinstance(value, kind)), None)


def _sendable(value: Any, dumps: JsonDumps) -> Any:
    if _is_list(value):
        return [json_text(item, dumps) if isinstance(item, dict) else item for item in value]
    return sendable(value, dumps)


def _quoted(place: asyncpg.Type) -> str:
    name = place.name.removesuffix("[]")
    return f'"{place.schema}"."{name}"' + "[]" * (place.kind == "array")


async def _decode(
    connection: AsyncpgConnection,
    rows: Sequence[dict[str, Any]],
    columns: Sequence[asyncpg.Attribute],
    loads: JsonLoads,
    timeout: float,
) -> None:
    # The connection's owner may have set codecs that decode JSON; a text is then a value, and no more JSON.
    raw = await connection.fetchrow("SELECT 'null'::json AS json, 'null'::jsonb AS jsonb", timeout=timeout)
    for column in columns:
        if raw is not None and raw[column.type.name.removesuffix("[]")] == "null":
            for row in rows:
                row[column.name] = _loaded(row[column.name], loads)


def _loaded(value: Any, loads: JsonLoads) -> Any:
    if _is_list(value):
        return [_loaded(item, loads) for item in value]
    return value if value is None else loads(value)


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
