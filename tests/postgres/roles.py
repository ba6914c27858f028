"""Roles for the tests: those of ``roles.sql`` under a schema's own name, gone at the end."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from docket.postgres.schema import ROLES, apply, roles_sql


@asynccontextmanager
async def tables_with_roles(connection: Any, *, partitions: int = 0) -> AsyncGenerator[str]:
    """Make tables and roles in a new schema of the connection's database, and yield its name.

    Roles belong to the whole server, so each test has its own.
    """
    schema = f"test_{uuid.uuid4().hex[:12]}"
    await apply(connection, schema, partitions=partitions)
    await connection.execute(roles_sql(schema))
    try:
        yield schema
    finally:
        for role in ROLES:
            await connection.execute(f"DROP OWNED BY {schema}_{role}; DROP ROLE {schema}_{role}")
