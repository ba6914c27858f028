"""A connection of the test's own."""

from collections.abc import AsyncGenerator

import asyncpg
import pytest

from tests.database import NewDatabase


@pytest.fixture
async def connection(new_database: NewDatabase) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to a new database with Docket's tables, where anything may be created; its clock is at UTC."""
    connection = await asyncpg.connect(await new_database(), server_settings={"timezone": "UTC"})
    yield connection
    await connection.close()
