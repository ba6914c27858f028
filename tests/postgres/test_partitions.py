"""Tables that are split by a hash of the run id. That a cache on them keeps its promises is shown in tests/certify."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from docket.errors import ConfigurationError
from docket.postgres import PostgresCache
from docket.postgres.schema import apply, check, sql
from examples.orders.orders_pb2 import Shipment
from tests.database import NewDatabase, connected
from tests.orders import Orders, request
from tests.postgres.roles import tables_with_roles

PARTS = 4


@pytest.fixture
async def split(new_database: NewDatabase) -> str:
    """A database whose tables are split, as docs/howto/partition.md says."""
    dsn = await new_database(tables=False)
    async with connected(dsn) as connection:
        await apply(connection, partitions=PARTS)
    return dsn


async def test_rows_are_in_the_parts(split: str) -> None:
    """Spread over all of them, and the table itself is empty."""
    orders = Orders(PostgresCache(split))
    names = [f"order-{number}" for number in range(40)]
    await asyncio.gather(*(orders.d.run(name, Shipment, request(name)) for name in names))
    await orders.d.close()
    async with connected(split) as connection:
        filled = await connection.fetchval("SELECT count(DISTINCT tableoid) FROM docket.result")
        whole = await connection.fetchval("SELECT count(*) FROM ONLY docket.result")

    assert filled == PARTS
    assert whole == 0


async def test_split_tables_are_no_difference(split: str) -> None:
    """Columns, constraints, indexes and views are those of plain tables."""
    async with connected(split) as connection:
        found = await check(connection)

    assert found == []


async def test_runs_and_purges_on_split_tables(split: str) -> None:
    """Certified, resumed, purged: across all parts, with the roles applied."""
    async with connected(split) as connection, tables_with_roles(connection, partitions=PARTS) as schema:
        cache = PostgresCache(split, schema=schema, server_settings={"role": f"{schema}_worker"})
        orders = Orders(cache)
        names = [f"order-{number}" for number in range(20)]
        for _ in range(2):
            await asyncio.gather(*(orders.d.run(name, Shipment, request(name)) for name in names))
        await cache.close()
        owners = PostgresCache(split, schema=schema)
        purged = await owners.purge(0.0)
        await owners.close()

    assert (orders.calls["charge"], orders.calls["reserve"]) == (20, 20)
    assert purged == 20


async def test_a_statement_by_run_looks_into_one_part(split: str) -> None:
    """The server leaves the others out when it plans, so splitting costs a run nothing."""
    async with connected(split) as connection:
        plan: list[Any] = await connection.fetch("EXPLAIN SELECT * FROM docket.result WHERE run_id = 'order-1'")

    assert sum("result_" in row[0] and " on " in row[0] for row in plan) == 1


@pytest.mark.parametrize("partitions", [-1, 1, 1025])
async def test_a_senseless_number_of_parts_is_refused(partitions: int) -> None:
    """Before any SQL is made of it."""
    with pytest.raises(ConfigurationError, match=f"tables cannot be split into {partitions} parts"):
        sql(partitions=partitions)
