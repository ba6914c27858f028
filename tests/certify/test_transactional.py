"""Transactional steps: the step's own SQL and its certificate commit together, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from docket import ConfigurationError, Docket, InDoubt, Refused, Run, Transaction
from docket._record import MadeFrom
from docket._storing import CertifiedStep
from docket.cache import MemoryCache
from docket.errors import BrokenTransaction, Busy
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import OrderRequest, Reservation
from tests.certify.boundary import MOMENTS, Boundary, When
from tests.certify.records import Records
from tests.certify.steps import REQUEST
from tests.database import connected

Body = Callable[[Any], Awaitable[None]]


@pytest.fixture
async def shop(dsn: str) -> AsyncGenerator[str]:
    """The database with a table of the application's own."""
    async with connected(dsn) as db:
        await db.execute("CREATE TABLE public.sale (run_id text, attempt int)")
    yield dsn
    async with connected(dsn) as db:
        await db.execute("DROP TABLE public.sale")


class Selling:
    """A Docket whose step writes into the application's table."""

    def __init__(self, dsn: str, then: Body | None = None, **options: Any) -> None:
        self.d = Docket(cache=PostgresCache(dsn, **options))
        self.calls = 0
        self._then = then
        self.d.step(cache_result="transactional")(self.reserve)

    async def reserve(self, request: OrderRequest, db: Transaction, run: Run) -> Reservation:
        """Write a row."""
        self.calls += 1
        await db.execute("INSERT INTO public.sale VALUES ($1, $2)", run.run_id, run.attempt)
        if self._then is not None:
            await self._then(db)
        return Reservation(reservation_id=request.order_id)

    async def run(self, run_id: str = "order-1") -> Reservation:
        """Ask for it."""
        return await self.d.run(run_id, Reservation, REQUEST)


async def sales(dsn: str, run_id: str = "order-1") -> int:
    """Count the rows that the application sees."""
    async with connected(dsn) as db:
        count: int = await db.fetchval("SELECT count(*) FROM public.sale WHERE run_id = $1", run_id)
    return count


async def test_both_commit(shop: str) -> None:
    """One row of the application's, one certificate; a second run fetches."""
    selling = Selling(shop)

    assert await selling.run() == await selling.run() == Reservation(reservation_id="order-1")
    await selling.d.close()
    assert (selling.calls, await sales(shop)) == (1, 1)
    assert (await Records.of(shop, "order-1")).states == ["certified"]


async def test_a_failure_rolls_both_back(shop: str) -> None:
    """What the step wrote before it raised is gone, its error passes through unchanged, and the next attempt runs it."""

    async def fail(db: Any) -> None:
        raise OSError("gone")

    failing, selling = Selling(shop, fail), Selling(shop)
    with pytest.raises(OSError, match="gone"):
        await failing.run()
    assert await sales(shop) == 0

    await selling.run()
    await failing.d.close()
    await selling.d.close()
    assert await sales(shop) == 1


async def test_an_error_of_the_database_passes_through(shop: str) -> None:
    """A constraint the step violates is its own error, and the connection is whole afterwards."""

    async def violate(db: Any) -> None:
        await db.execute("SELECT 1 / 0")

    selling = Selling(shop, violate, max_size=1)
    for _ in range(2):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await selling.run()
    await selling.d.close()
    assert await sales(shop) == 0


async def test_savepoints_are_the_steps_own(shop: str) -> None:
    """A step may roll back a part of what it did."""

    async def save(db: Any) -> None:
        savepoint = db.transaction()
        await savepoint.start()
        await db.execute("INSERT INTO public.sale VALUES ('order-1', 2)")
        await savepoint.rollback()

    selling = Selling(shop, save)
    await selling.run()
    await selling.d.close()
    assert await sales(shop) == 1


async def test_a_refusal_rolls_back_and_is_certified(shop: str) -> None:
    """A final "no" leaves nothing of the step's SQL and is raised again without asking."""

    async def refuse(db: Any) -> None:
        raise Refused("sold out")

    selling = Selling(shop, refuse)
    for _ in range(2):
        with pytest.raises(Refused, match="sold out"):
            await selling.run()
    await selling.d.close()
    assert (selling.calls, await sales(shop)) == (1, 0)


async def test_rivals_wait_for_the_outcome(shop: str) -> None:
    """Five processes at once: the claim waits at the index for the first, and one row is written."""

    async def dawdle(db: Any) -> None:
        await asyncio.sleep(0.1)

    all_of_them = [Selling(shop, dawdle) for _ in range(5)]

    answers = await asyncio.gather(*(each.run() for each in all_of_them))
    for each in all_of_them:
        await each.d.close()
    assert len(answers) == 5
    assert (sum(each.calls for each in all_of_them), await sales(shop)) == (1, 1)


async def test_a_rival_that_waits_too_long_is_told(shop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another transaction that does not end in time makes this one busy."""
    monkeypatch.setattr("docket.postgres.transaction.RIVAL", 0.1)
    reached, go = asyncio.Event(), asyncio.Event()

    async def wait(db: Any) -> None:
        reached.set()
        await go.wait()

    slow, quick = Selling(shop, wait), Selling(shop)
    running = asyncio.create_task(slow.run())
    await reached.wait()
    with pytest.raises(Busy, match="another transaction"):
        await quick.run()
    go.set()
    await running
    await slow.d.close()
    await quick.d.close()
    assert await sales(shop) == 1


@pytest.mark.parametrize("ending", ["COMMIT", "COMMIT; BEGIN"])
async def test_a_step_that_commits_by_itself_is_caught(shop: str, ending: str) -> None:
    """Its error says so; since its SQL stands without a certificate, the step is in doubt and not run again (R33, F44)."""

    async def end(db: Any) -> None:
        await db.execute(ending)

    selling = Selling(shop, end)
    with pytest.raises(BrokenTransaction, match="leave BEGIN, COMMIT"):
        await selling.run()
    with pytest.raises(InDoubt, match="step_committed"):
        await selling.run()
    await selling.d.close()
    assert (selling.calls, await sales(shop)) == (1, 1)


async def test_a_step_that_rolls_back_by_itself_is_caught(shop: str) -> None:
    """Nothing of it stands, and its result is not certified."""

    async def end(db: Any) -> None:
        await db.execute("ROLLBACK")

    selling = Selling(shop, end)
    with pytest.raises(BrokenTransaction):
        await selling.run()
    await selling.d.close()
    assert (await sales(shop), (await Records.of(shop, "order-1")).states) == (0, [])


@pytest.mark.parametrize("when", MOMENTS)
async def test_a_cut_connection_at_every_boundary_gives_one_row(shop: str, when: When) -> None:
    """Also when COMMIT was executed and its answer lost: the server's outcome is waited for, never guessed (R14, F05)."""
    at = 0
    while True:
        at += 1
        run_id = f"{when}-{at}"
        async with Boundary(shop) as boundary:
            selling = Selling(boundary.dsn)
            await selling.d.fetch("open", Reservation)
            boundary.arm(at, when, _cut)
            await selling.run(run_id)
            await selling.d.close()
        assert await sales(shop, run_id) == 1, at
        assert (await Records.of(shop, run_id)).states == ["certified"]
        if not boundary.acted:
            break
    assert at > 7


async def _cut() -> bool:
    return False


async def test_a_cancelled_step_is_rolled_back(shop: str) -> None:
    """Cancelled inside its SQL: nothing stands, and the connection goes back whole."""
    reached = asyncio.Event()

    async def wait(db: Any) -> None:
        reached.set()
        await asyncio.sleep(10)

    selling = Selling(shop, wait, max_size=1)
    certifier: Any = selling.d._certifier
    (step,) = selling.d.check().steps.values()

    async def call(run: Run) -> Reservation:
        assert run.transaction is not None
        return await selling.reserve(REQUEST, run.transaction, run)

    running = asyncio.create_task(certifier.value(CertifiedStep("order-1", step, call, MadeFrom(), (), None)))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await sales(shop) == 0

    selling._then = None
    await selling.run()
    await selling.d.close()
    assert await sales(shop) == 1


async def test_steps_leave_connections_for_the_rest(shop: str) -> None:
    """Twenty long transactions at once on a pool of two: each gets its turn, and reads go on meanwhile."""
    reached = asyncio.Event()

    async def dawdle(db: Any) -> None:
        reached.set()
        await asyncio.sleep(0.02)

    selling = Selling(shop, dawdle, max_size=2)
    running = [asyncio.create_task(selling.run(f"order-{number}")) for number in range(20)]
    await reached.wait()

    assert await asyncio.wait_for(selling.d.fetch("other", Reservation), 5) is None
    await asyncio.gather(*running)
    await selling.d.close()
    assert selling.calls == 20


def test_a_cache_without_transactions_is_refused() -> None:
    """Said when the wiring is checked."""
    d = Docket(cache=MemoryCache())

    @d.step(cache_result="transactional")
    async def reserve(request: OrderRequest, db: Transaction) -> Reservation:
        return Reservation()

    with pytest.raises(ConfigurationError, match="MemoryCache has no transactions"):
        d.check()
