"""What happens to statements whose connection is lost."""

from __future__ import annotations

import pytest

from docket.postgres import PostgresCache
from tests.procrastinate.wire import Proxy


async def test_the_first_read_is_repeated_when_its_connection_is_lost(dsn: str) -> None:
    """A process whose very first statement loses its connection asks again, like any other."""
    proxy = Proxy(dsn)
    await proxy.arrive()
    proxy.lose_answers(1)
    cache = PostgresCache(proxy.dsn)

    found = await cache.load("a run")

    assert not found.results
    assert proxy.lost.is_set()
    await cache.close()
    await proxy.leave()


async def test_a_server_that_never_answered_is_told_at_once(unused_tcp_port: int) -> None:
    """A wrong address is not ridden out as an outage is: the first read raises what the system says."""
    cache = PostgresCache(f"postgresql://postgres@127.0.0.1:{unused_tcp_port}/postgres")
    with pytest.raises(OSError, match=r"refused|Connect call failed") as caught:
        await cache.load("a run")
    assert "cannot be used; start it, or mend the DSN" in str(caught.value.__notes__)
