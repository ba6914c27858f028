"""The caches that a queued run may keep its results in."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from docket.cache import Cache, MemoryCache
from docket.postgres import PostgresCache


@pytest.fixture(params=["memory", "postgres"])
async def cache(request: pytest.FixtureRequest, dsn: str) -> AsyncGenerator[Cache]:
    """Each cache in turn."""
    made: Cache = MemoryCache() if request.param == "memory" else PostgresCache(dsn)
    yield made
    await made.close()
