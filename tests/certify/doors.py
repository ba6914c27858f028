"""The doors through which a cache reaches its tables: straight, through PgBouncer in transaction mode, or split by run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from procrastinate.schema import SchemaManager

from docket.postgres import PostgresCache
from docket.postgres.schema import apply
from tests.database import connected

DOORS = {"direct": "direct", "pgbouncer": "pooled", "partitioned": "split"}
"""By name, the fixture of each."""

PARTS = 4


class Door:
    """One database, and how an application comes to it.

    Args:
        dsn: As the application connects.
        straight: The same database without anything before it, for whoever looks on; *dsn* if absent.
        options: What the application tells asyncpg.

    Attributes:
        caches: What was made here, for whoever closes it.
    """

    def __init__(self, dsn: str, straight: str = "", **options: Any) -> None:
        self.dsn, self.straight, self.options = dsn, straight or dsn, options
        self.caches: list[PostgresCache] = []

    def __reduce__(self) -> tuple[Any, ...]:
        return _door, (self.dsn, self.straight, self.options)  # to another process, without what was made in this one

    def cache(self, **options: Any) -> PostgresCache:
        """Make a cache as an application does; with others, there are as many processes' worth of them."""
        made = PostgresCache(self.dsn, **self.options, **options)
        self.caches.append(made)
        return made

    def behind(self, dsn: str) -> Door:
        """Return the same door with something more before it."""
        door = Door(dsn, self.straight, **self.options)
        door.caches = self.caches
        return door

    async def close(self) -> None:
        """Close what was made here."""
        for cache in self.caches:
            await cache.close()


def _door(dsn: str, straight: str, options: dict[str, Any]) -> Door:
    return Door(dsn, straight, **options)


def pooled_door(through: str, straight: str) -> Door:
    """Return the door behind PgBouncer, whose sessions may be others from one statement to the next."""
    return Door(through, straight, statement_cache_size=0)


async def lay_split_tables(dsn: str) -> None:
    """Create Docket's tables split by a hash of the run id, as docs/howto/partition.md says, and Procrastinate's."""
    async with connected(dsn) as connection:
        await apply(connection, partitions=PARTS)
        await connection.execute(SchemaManager.get_schema())


@asynccontextmanager
async def closing(door: Door) -> AsyncGenerator[Door]:
    """Close the door's caches at the end."""
    try:
        yield door
    finally:
        await door.close()
