"""``python -m docket schema``: print, make, compare and migrate the tables; print the roles and the typed views."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from docket.commands._load import load
from docket.commands._run import reported
from docket.errors import ConfigurationError, DocketError
from docket.postgres import schema as tables
from docket.postgres.views import script, typed_views
from docket.serializers import Serializers


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser("schema", help="the tables: print their SQL, make them, compare them, migrate them")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    printing = _action(actions, "print", "print the SQL that makes the tables, for psql or a migration tool", _print)
    applying = _action(actions, "apply", "make the tables, in one transaction; harmless when repeated", _apply, dsn=True)
    for each in (printing, applying):
        each.add_argument("--partitions", type=int, default=0, metavar="N", help="split each table into N, by run id")
    _action(actions, "check", "say how the tables differ from this release's; exit code 1 if they do", _check, dsn=True)
    _action(actions, "migrate", "bring the tables to this release's version, in one transaction", _migrate, dsn=True)
    _action(actions, "roles", "print the SQL that makes roles with no more rights than they need", _roles)
    views = _action(actions, "views", "print the SQL that makes a typed view for each kept result", _views)
    views.add_argument("object", help="the Docket or Graph, as package.module:attribute")
    views.add_argument("--drop", action="store_true", help="drop each view first, for fields that were removed or retyped")


def _action(actions: Any, name: str, told: str, run: Any, *, dsn: bool = False) -> Any:
    parser = actions.add_parser(name, help=told, description=told)
    parser.add_argument("--schema", default="docket", help="the schema they are in (docket)")
    if dsn:
        parser.add_argument("--dsn", default=os.environ.get("DATABASE_URL"), help="the database; DATABASE_URL if absent")
    parser.set_defaults(run=run)
    return parser


def _print(arguments: argparse.Namespace) -> int:
    return _said(lambda: tables.sql(arguments.schema, partitions=arguments.partitions))


def _roles(arguments: argparse.Namespace) -> int:
    return _said(lambda: tables.roles_sql(arguments.schema))


def _views(arguments: argparse.Namespace) -> int:
    def text() -> str:
        graph = load(arguments.object)
        kept = {step.key: step.gives for step in graph.check().steps.values() if step.certifies}
        serializers = getattr(graph, "serializers", None) or Serializers()
        return script(typed_views(kept, serializers, schema=arguments.schema), drop=arguments.drop)

    return _said(text)


async def _apply(arguments: argparse.Namespace) -> int:
    async def made(connection: Any) -> str:
        return str(await tables.apply(connection, arguments.schema, partitions=arguments.partitions))

    return await _done(arguments, made)


async def _migrate(arguments: argparse.Namespace) -> int:
    async def brought(connection: Any) -> str:
        return str(await tables.migrate(connection, arguments.schema))

    return await _done(arguments, brought)


async def _check(arguments: argparse.Namespace) -> int:
    async def compared(connection: Any) -> str:
        found = await tables.check(connection, arguments.schema)
        if found:
            raise ConfigurationError("\n".join(found))
        return f"schema {arguments.schema}: version {tables.newest()}, as it should be"

    return await _done(arguments, compared)


async def _done(arguments: argparse.Namespace, work: Any) -> int:
    async def connected() -> int:
        async with _connected(arguments.dsn) as connection:
            print(await work(connection))
        return 0

    return await reported(connected)


@asynccontextmanager
async def _connected(dsn: str | None) -> AsyncGenerator[Any]:
    if not dsn:
        raise ConfigurationError("no database is named; set DATABASE_URL or pass --dsn postgresql://...")
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def _said(text: Any) -> int:
    try:
        print(text().rstrip("\n"))
    except DocketError as error:
        print(f"docket: {error}", file=sys.stderr)
        return 1
    return 0
