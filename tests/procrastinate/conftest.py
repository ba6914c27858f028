"""A connection to look at the queue with, and an open connector: ours, or each of Procrastinate's in turn."""

from collections.abc import AsyncGenerator

import asyncpg
import pytest
from procrastinate.connector import BaseAsyncConnector
from procrastinate.manager import JobManager

from docket_procrastinate import AsyncpgConnector
from tests.procrastinate.drivers import DRIVERS, Driver, opened
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


@pytest.fixture(params=DRIVERS.values(), ids=list(DRIVERS))
def driver(request: pytest.FixtureRequest) -> Driver:
    """Our connector, and then the stock one, for the rules that both keep."""
    driver: Driver = request.param
    return driver


@pytest.fixture
async def either(driver: Driver, dsn: str) -> AsyncGenerator[BaseAsyncConnector]:
    """An open connector of either kind."""
    async with opened(driver.make(dsn)) as connector:
        yield connector


@pytest.fixture
def manager(either: BaseAsyncConnector) -> JobManager:
    """Procrastinate's manager of jobs on either connector."""
    return JobManager(either)
