"""The tables: where their SQL is found, and what is done with it.

The SQL is the product, and any migration tool can apply it. What stands here saves those who have none: each function is
one transaction on a connection of the caller's, and safe to call again and from two machines at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docket.errors import ConfigurationError
from docket.postgres._catalog import differences, shape
from docket.postgres.statements import validated

_PACKAGE = Path(__file__).parents[1]

ROLES = ("worker", "reader", "operator", "janitor")
"""What a login may be allowed to do; with the schema's name before them, the roles that ``roles.sql`` makes."""

# The name as it stands in the files: before a dot (but not in a literal, as the task 'docket.run' is), after SCHEMA, and at
# the head of a role's name.
_NAMED = re.compile(
    rf"(?<!')\bdocket(?=\.[a-z])|(?<=\bSCHEMA )docket\b|(?<=\bEXISTS )docket\b|\bdocket(?=_(?:{'|'.join(ROLES)})\b)"
)

_CREATE_SCHEMA = re.compile(r"^CREATE SCHEMA IF NOT EXISTS .*;$", re.MULTILINE)

_TABLE = re.compile(
    r"(?P<head>^CREATE TABLE \S+\.(?P<name>result|input|journal) \(.*?^\))(?P<options>[^;]*);", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done to the tables.

    Attributes:
        schema: The schema.
        before: The version found; 0 if there were no tables.
        after: The version left.
    """

    schema: str
    before: int
    after: int

    def __str__(self) -> str:
        if self.before == self.after:
            return f"schema {self.schema}: version {self.after} is there; nothing was changed"
        if self.before:
            return f"schema {self.schema}: migrated from version {self.before} to {self.after}"
        return f"schema {self.schema}: version {self.after} was made"


def sql(schema: str = "docket", *, partitions: int = 0) -> str:
    """Return the SQL that makes the tables.

    Args:
        schema: The schema to make them in.
        partitions: Into how many parts each table is split, by hash of the run id; 0 for plain tables.

    Raises:
        ConfigurationError: The name is no plain identifier, *partitions* is not 0 or 2 to 1024, or the file is not there.
    """
    whole = renamed(_shipped("schema.sql").read_text(encoding="utf-8"), schema)
    return _partitioned(whole, schema, partitions) if partitions else whole


def roles_sql(schema: str = "docket") -> str:
    """Return the SQL that makes the roles: the schema's name and ``_worker``, ``_reader``, ``_operator``, ``_janitor``.

    Raises:
        ConfigurationError: The name is no plain identifier, leaves no room for a role's, or the file is not there.
    """
    longest = max(map(len, ROLES)) + 1
    if len(schema) + longest > 63:
        raise ConfigurationError(f"the schema name {schema!r:.80} is too long for roles: use at most {63 - longest} bytes")
    return renamed(_shipped("roles.sql").read_text(encoding="utf-8"), schema)


def migrations(schema: str = "docket") -> Mapping[int, str]:
    """Return the SQL of each step forward, by the version that it leads to, in order from 1.

    Raises:
        ConfigurationError: The name is no plain identifier, or the files are not there.
    """
    files = sorted(_shipped("migrations").glob("[0-9][0-9][0-9][0-9].sql"))
    return {int(file.stem): renamed(file.read_text(encoding="utf-8"), schema) for file in files}


def newest() -> int:
    """Return the version of the tables that this release works with."""
    return max(migrations())


async def version(connection: Any, schema: str = "docket") -> int | None:
    """Return the version of the tables in *schema*; None if there are none."""
    if await connection.fetchval("SELECT to_regclass($1)", f"{validated(schema)}.version") is None:
        return None
    found: int | None = await connection.fetchval(f"SELECT max(version) FROM {validated(schema)}.version")
    return found


async def apply(connection: Any, schema: str = "docket", *, partitions: int = 0) -> Applied:
    """Make the tables unless they are there, in one transaction.

    Args:
        connection: Of asyncpg, outside any transaction.
        schema: The schema; it is made too, if it is not there.
        partitions: As for `sql`.

    Raises:
        ConfigurationError: There are tables of another version.
    """
    text = sql(schema, partitions=partitions)
    async with connection.transaction():
        await _alone(connection, schema)
        before = await version(connection, schema)
        if before is None:
            await connection.execute(await _in_schema(connection, schema, text))
            return Applied(schema, 0, newest())
        _refuse_newer(schema, before)
        if before < newest():
            raise ConfigurationError(
                f"the tables of schema {schema!r} are of version {before} and this release has {newest()}; "
                f"run: python -m docket schema migrate --schema {schema}",
            )
        return Applied(schema, before, before)


async def migrate(connection: Any, schema: str = "docket") -> Applied:
    """Bring the tables to the newest version, in one transaction; make them if there are none.

    Raises:
        ConfigurationError: They are of a newer release than this one.
    """
    async with connection.transaction():
        await _alone(connection, schema)
        before = await version(connection, schema) or 0
        _refuse_newer(schema, before)
        for number, text in migrations(schema).items():
            if number > before:
                await connection.execute(await _in_schema(connection, schema, text))
        return Applied(schema, before, newest())


async def check(connection: Any, schema: str = "docket") -> list[str]:
    """Say how the tables differ from what this release expects; an empty list if they do not.

    Compares with a copy in the session's temporary schema, which is rolled back. Indexes, tables and views of your own are
    left alone, and so are partitions.

    Raises:
        asyncpg.PostgresError: The login may make no temporary tables (it then only has `version`).
    """
    found = await version(connection, schema)
    if found is None:
        return [f"there are no tables in schema {schema!r}; run: python -m docket schema apply --schema {schema}"]
    if found != newest():
        advice = f"run: python -m docket schema migrate --schema {schema}" if found < newest() else "upgrade docket-resolver"
        return [f"the tables of schema {schema!r} are of version {found} and this release has {newest()}; {advice}"]
    transaction = connection.transaction()
    await transaction.start()
    try:
        present = await shape(connection, validated(schema))
        await connection.execute(_CREATE_SCHEMA.sub("", sql("pg_temp")))
        expected = await shape(connection, "pg_temp")
    finally:
        await transaction.rollback()
    return differences(expected, present)


def _shipped(name: str) -> Path:
    """Return a file that is shipped: beside the package's modules in a wheel, one directory up where it is developed."""
    for directory in (_PACKAGE, _PACKAGE.parent):
        if (directory / name).exists():
            return directory / name
    raise ConfigurationError(f"{name} is neither in {_PACKAGE} nor beside it; install docket-resolver again")


def renamed(text: str, schema: str) -> str:
    """Return SQL about the schema ``docket`` as SQL about *schema*, its roles' names included.

    Raises:
        ConfigurationError: The name is no plain identifier.
    """
    quoted = validated(schema)
    if schema == "docket":
        return text
    # In a role's name it is a part of the identifier, which needs no quotes: no reserved word ends so.
    return _NAMED.sub(lambda found: schema if text[found.end()] == "_" else quoted, text)


def _partitioned(text: str, schema: str, partitions: int) -> str:
    if not 2 <= partitions <= 1024:
        raise ConfigurationError(f"tables cannot be split into {partitions} parts; use 2 to 1024, such as 16")

    def split(found: re.Match[str]) -> str:
        parts = [
            f"CREATE TABLE {validated(schema)}.{found['name']}_{number} PARTITION OF {validated(schema)}.{found['name']}\n"
            f"    FOR VALUES WITH (MODULUS {partitions}, REMAINDER {number}){found['options']};"
            for number in range(partitions)
        ]
        return "\n".join([f"{found['head']} PARTITION BY HASH (run_id);", *parts])

    return _TABLE.sub(split, text)


async def _in_schema(connection: Any, schema: str, text: str) -> str:
    """Return *text* without the making of a schema that is there: it takes a right that its owner need not have."""
    there = await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", schema)
    return _CREATE_SCHEMA.sub("", text) if there else text


async def _alone(connection: Any, schema: str) -> None:
    """Wait until nobody else is making or migrating the same tables; ends with the transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"docket schema {schema}")


def _refuse_newer(schema: str, found: int) -> None:
    if found > newest():
        raise ConfigurationError(
            f"the tables of schema {schema!r} are of version {found} and this release knows {newest()}; upgrade docket-resolver"
        )
