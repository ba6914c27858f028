"""A connection to look at the queue with, and an open connector."""

from collections.abc import AsyncGenerator

import asyncpg
import pytest

from docket_procrastinate import AsyncpgConnector
from tests.procrastinate.wire import Proxy


@pytest.fixture
async def database(dsn: str) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to look at the queue's tables with."""
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def connector(dsn: str) -> AsyncGenerator[AsyncpgConnector]:
    """An open connector with a pool of its own."""
    connector = AsyncpgConnector(dsn)
    await connector.open_async()
    yield connector
    await connector.close_async()


@pytest.fixture
async def proxy(dsn: str) -> AsyncGenerator[Proxy]:
    """A proxy before the queue's server."""
    proxy = Proxy(dsn)
    await proxy.arrive()
    yield proxy
    await proxy.leave()
