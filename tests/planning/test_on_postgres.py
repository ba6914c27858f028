"""The same rules where the certificates are rows: what was made from what survives the way through the database."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from docket import InputsChanged
from docket.postgres import PostgresCache
from tests.planning.shop import P, Q, Request, skeleton


async def test_a_changed_input_is_followed_cut_off_and_refused(dsn: str) -> None:
    """Made again, found the same, made again with another value, and refused where it may not be."""
    cache: Any = PostgresCache(dsn)
    shop = skeleton(cache)
    assert await shop.d.run("r", Q, Request(3)) == Q(400)
    assert shop.said() == ["P", "U", "Q"]

    assert await shop.d.run("r", Q, Request(13)) == Q(400)
    assert shop.said() == ["P"]
    assert await shop.d.run("r", Q, Request(4)) == Q(500)
    assert shop.said() == ["P", "U", "Q"]
    assert await shop.d.run("r", Q) == Q(500)
    assert shop.said() == []

    with pytest.raises(InputsChanged, match=r"Request\.amount: 4 -> 5"):
        await skeleton(cache, p="raise", q="raise").d.run("r", Q, Request(5))
    await cache.close()


async def test_what_was_taken_back_is_in_the_journal(dsn: str) -> None:
    """With its value, and who took it back and why; a later run makes it again."""
    cache: Any = PostgresCache(dsn)
    shop = skeleton(cache)
    await shop.d.run("r", Q, Request(3))
    shop.said()

    taken = await shop.d.invalidate("r", P, note="wrong rate")

    connection: Any = await asyncpg.connect(dsn)
    rows = await connection.fetch("SELECT key, event, detail, body FROM docket.journal WHERE run_id = 'r' ORDER BY key")
    await connection.close()
    assert taken == ("tests.planning.shop.P", "tests.planning.shop.Q")
    assert [(row["key"], row["event"]) for row in rows] == [(key, "invalidated") for key in taken]
    assert all(b'"v":' in row["body"] and "wrong rate" in row["detail"] for row in rows)
    assert await shop.d.run("r", Q) == Q(400)
    assert shop.said() == ["P", "U", "Q"]
    await cache.close()


async def test_a_deleted_result_is_compared_by_what_lies_below_it(dsn: str) -> None:
    """The row of P is gone; Q remembers the request that P was made from."""
    cache: Any = PostgresCache(dsn)
    shop = skeleton(cache, q="raise")
    await shop.d.run("r", Q, Request(3))
    connection: Any = await asyncpg.connect(dsn)
    await connection.execute("DELETE FROM docket.result WHERE key = 'tests.planning.shop.P'")
    await connection.close()

    assert await shop.d.run("r", Q, Request(3)) == Q(400)
    with pytest.raises(InputsChanged, match=r"Request\.amount: 3 -> 4"):
        await shop.d.run("r", Q, Request(4))
    await cache.close()
