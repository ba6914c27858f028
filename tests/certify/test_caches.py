"""Every cache keeps every promise of the protocol."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from docket.cache import Cache, Certificate, Claim, Make, MemoryCache, Record
from docket.postgres import PostgresCache
from docket.sqlite import SqliteCache
from docket.testing import CACHE_RULES, CacheRule, exercise_cache
from tests.certify.doors import DOORS

KINDS = ("memory", "sqlite", "direct", "pgbouncer", "partitioned", "codecs")


async def _odd_codecs(connection: Any) -> None:
    """Set codecs as applications do: JSON as objects, uuid as text in capitals."""
    for kind in ("json", "jsonb"):
        await connection.set_type_codec(kind, encoder=repr, decoder=len, schema="pg_catalog")
    await connection.set_type_codec("uuid", encoder=str.upper, decoder=str.upper, schema="pg_catalog", format="text")


@pytest.fixture
async def lent(dsn: str) -> AsyncGenerator[asyncpg.Pool[asyncpg.Record]]:
    """An application's pool with codecs of its own."""
    async with asyncpg.create_pool(dsn, min_size=0, max_size=6, init=_odd_codecs) as pool:
        yield pool


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Cache]:
    """Make caches of one kind over one storage; PostgreSQL's through every door."""
    if request.param == "memory":
        memory = MemoryCache()
        return lambda: memory
    if request.param == "sqlite":
        return lambda: SqliteCache(str(tmp_path / "docket.db"))
    if request.param == "codecs":
        pool: Any = request.getfixturevalue("lent")
        return lambda: PostgresCache(pool)
    door: Any = request.getfixturevalue(DOORS[request.param])
    cache: Callable[[], Cache] = door.cache
    return cache


@pytest.mark.parametrize("rule", CACHE_RULES, ids=lambda rule: rule.__name__)
async def test_a_cache_keeps_its_promise(rule: CacheRule, make: Callable[[], Cache]) -> None:
    """Each promise by itself, with two caches over the same storage."""
    one, two = make(), make()
    try:
        await rule(one, two, "run-1")
    finally:
        await one.close()
        await two.close()


async def test_the_shipped_suite_runs_all_of_it(make: Callable[[], Cache]) -> None:
    """One call, as the author of another cache makes it."""
    await exercise_cache(make)


async def test_the_shipped_suite_notices_a_cache_that_lets_the_last_writer_win() -> None:
    """A cache that overwrites what is certified breaks promises, and each is named."""

    class Careless(MemoryCache):
        async def certify(self, certificate: Certificate, /) -> Any:
            if not certificate.token:
                self._runs.pop(certificate.run_id, None)
            return await super().certify(certificate)

    careless = Careless()

    with pytest.raises(AssertionError, match="the_first_certificate_wins") as broken:
        await exercise_cache(lambda: careless)

    assert "a_certified_row_is_final" in str(broken.value)


async def test_the_shipped_suite_notices_a_cache_that_forgets_what_it_offers() -> None:
    """A cache that makes before it claims, certifies on its own and purges all there is breaks what it offers."""

    class Careless(MemoryCache):
        async def transact(self, claim: Claim, make: Make, /) -> Record:
            await asyncio.sleep(0)
            made = await make(Lent(), await self.claim(claim))
            assert isinstance(made, Certificate)
            return await self.certify(made)

        async def purge(self, older_than: float, most: int, /) -> int:
            count = len(self._runs)
            self._runs.clear()
            return count

    class Lent:
        async def execute(self, query: str, *values: object) -> str:
            return query

    careless = Careless()

    with pytest.raises(AssertionError) as broken:
        await exercise_cache(lambda: careless)

    named = {rule.__name__ for rule in CACHE_RULES if rule.__name__ in str(broken.value)}
    assert named == {
        "the_claim_of_a_transaction_goes_first",
        "a_transaction_makes_nothing_where_something_stands",
        "a_repeated_transaction_is_one",
        "a_failed_transaction_leaves_nothing",
        "a_transaction_that_its_step_ended_is_broken",
        "a_purge_leaves_tombstones_of_effects",
        "a_purge_leaves_alone_what_is_young",
        "a_purge_leaves_alone_what_is_open",
    }


FORKING = """
import asyncio, os, sys
from docket.errors import ConfigurationError
from docket.sqlite import SqliteCache

cache = SqliteCache(sys.argv[1])
asyncio.run(cache.load("order-1"))
child = os.fork()
if not child:
    code = 1
    try:
        asyncio.run(asyncio.wait_for(cache.load("order-1"), 10))
    except ConfigurationError as error:
        asyncio.run(cache.close())
        code = 7 if "forked child" in str(error) else 1
    finally:
        os._exit(code)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert not asyncio.run(cache.load("order-1")).results
asyncio.run(cache.close())
sys.exit(code)
"""


def test_a_forked_child_refuses_its_parents_file(tmp_path: Path) -> None:
    """Its thread is not there and its connection must not be used: the child says so, closes nothing, the parent goes on."""
    forking = [sys.executable, "-W", "ignore", "-c", FORKING, str(tmp_path / "docket.db")]

    assert subprocess.run(forking, timeout=30, check=False).returncode == 7
