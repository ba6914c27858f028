"""Transactional steps: the step's own SQL and its certificate commit together, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg
import pytest

from docket import ConfigurationError, Docket, InDoubt, Refused, Retry, Run, Transaction
from docket._certify.storing import CertifiedStep
from docket._core.record import MadeFrom
from docket.cache import MemoryCache
from docket.errors import BrokenTransaction, Busy, StepTimeout
from docket.postgres import PostgresCache
from docket.serializers import Protobuf
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation
from tests.certify.doors import Door
from tests.certify.records import Records
from tests.certify.steps import REQUEST, Selling, sales


async def test_both_commit(shop: Door) -> None:
    """One row of the application's, one certificate; a second run fetches."""
    selling = Selling(shop.cache())

    assert await selling.run() == await selling.run() == Reservation(reservation_id="order-1")
    await selling.d.close()
    assert (selling.calls, await sales(shop.straight)) == (1, 1)
    assert (await Records.of(shop.straight, "order-1")).states == ["certified"]


async def test_a_failure_rolls_both_back(shop: Door) -> None:
    """What the step wrote before it raised is gone, its error passes through unchanged, and the next attempt runs it."""

    async def fail(db: Any) -> None:
        raise OSError("gone")

    failing, selling = Selling(shop.cache(), fail), Selling(shop.cache())
    with pytest.raises(OSError, match="gone"):
        await failing.run()
    assert await sales(shop.straight) == 0

    await selling.run()
    await failing.d.close()
    await selling.d.close()
    assert await sales(shop.straight) == 1


async def test_an_error_of_the_database_passes_through(shop: Door) -> None:
    """A constraint the step violates is its own error, and the connection is whole afterwards."""

    async def violate(db: Any) -> None:
        await db.execute("SELECT 1 / 0")

    selling = Selling(shop.cache(max_size=1), violate)
    for _ in range(2):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await selling.run()
    await selling.d.close()
    assert await sales(shop.straight) == 0


async def test_a_try_that_failed_leaves_nothing_to_the_next(shop: Door) -> None:
    """With retry=, only what the last try wrote commits, though the tries before it failed after their writes or in SQL."""
    failures: list[str | None] = ["hiccup", "SELECT 1 / 0", None]

    async def fail(db: Any) -> None:
        failure = failures.pop(0)
        if failure == "hiccup":
            raise ConnectionError(failure)
        if failure is not None:
            await db.execute(failure)

    selling = Selling(shop.cache(), fail, retry=Retry(3, wait=0.0))
    await selling.run()
    await selling.d.close()
    assert (selling.calls, await sales(shop.straight)) == (3, 1)
    assert (await Records.of(shop.straight, "order-1")).states == ["certified"]


async def test_the_last_failure_is_the_steps_own(shop: Door) -> None:
    """An error of the database that every try meets comes through as it was, and leaves nothing."""

    async def violate(db: Any) -> None:
        await db.execute("SELECT 1 / 0")

    selling = Selling(shop.cache(), violate, retry=Retry(3, wait=0.0))
    with pytest.raises(asyncpg.DivisionByZeroError):
        await selling.run()
    await selling.d.close()
    assert (selling.calls, await sales(shop.straight)) == (3, 0)


async def test_a_try_that_is_left_behind_is_the_last(shop: Door) -> None:
    """A call that goes on after its timeout still has the connection: nothing else is done through it."""
    go = asyncio.Event()

    async def stubborn(db: Any) -> None:
        while not go.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go.wait()

    selling = Selling(shop.cache(), stubborn, grace=0.05, timeout=0.1, retry=Retry(3, wait=0.0))
    with pytest.raises(StepTimeout):
        await selling.run()
    go.set()
    await selling.d.close()
    assert (selling.calls, await sales(shop.straight)) == (1, 0)


@pytest.mark.parametrize("ending", ["COMMIT", "COMMIT; BEGIN", "COMMIT AND CHAIN"])
@pytest.mark.parametrize("fails", [False, True])
async def test_a_try_that_commits_by_itself_is_the_last(shop: Door, ending: str, fails: bool) -> None:
    """Whether it fails then or not: what it wrote stands without a certificate, so the step is in doubt."""

    async def end(db: Any) -> None:
        await db.execute(ending)
        if fails:
            raise ConnectionError("hiccup")

    selling = Selling(shop.cache(), end, retry=Retry(3, wait=0.0))
    with pytest.raises(BrokenTransaction):
        await selling.run()
    with pytest.raises(InDoubt, match="step_committed"):
        await selling.run()
    await selling.d.close()
    assert (selling.calls, await sales(shop.straight)) == (1, 1)


async def test_a_connection_that_is_lost_between_tries_takes_the_transaction_along(shop: Door) -> None:
    """It is not mistaken for a step that ended its transaction: all of it is done again on another connection."""
    lost: list[bool] = []

    async def lose(db: Any) -> None:
        if not lost:
            lost.append(True)
            db.terminate()
            raise ConnectionError("hiccup")

    selling = Selling(shop.cache(), lose, retry=Retry(2, wait=0.0))
    await selling.run()
    await selling.d.close()
    assert await sales(shop.straight) == 1


async def test_savepoints_are_the_steps_own(shop: Door) -> None:
    """A step may roll back a part of what it did."""

    async def save(db: Any) -> None:
        savepoint = db.transaction()
        await savepoint.start()
        await db.execute("INSERT INTO public.sale VALUES ('order-1', 2)")
        await savepoint.rollback()

    selling = Selling(shop.cache(), save)
    await selling.run()
    await selling.d.close()
    assert await sales(shop.straight) == 1


async def test_a_refusal_rolls_back_and_is_certified(shop: Door) -> None:
    """A final "no" leaves nothing of the step's SQL and is raised again without asking."""

    async def refuse(db: Any) -> None:
        raise Refused("sold out")

    selling = Selling(shop.cache(), refuse)
    for _ in range(2):
        with pytest.raises(Refused, match="sold out"):
            await selling.run()
    await selling.d.close()
    assert (selling.calls, await sales(shop.straight)) == (1, 0)


SESSION = """SELECT current_setting('statement_timeout'), current_setting('application_name'),
(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), to_regclass('pg_temp.draft')"""


async def test_what_a_step_does_to_its_session_ends_with_it(dsn: str) -> None:
    """Settings, locks and temporary tables of the session are gone for whoever has the connection next; those of init stay."""

    async def init(connection: Any) -> None:
        await connection.execute("SET application_name = 'shop'")

    async def occupy(db: Any) -> None:
        await db.execute("SET statement_timeout = '777ms'; SET application_name = 'step'; CREATE TEMP TABLE draft ()")
        await db.execute("SELECT pg_advisory_lock(7)")

    cache = PostgresCache(dsn, max_size=1, init=init)
    d, fail = Docket(cache=cache), [OSError("gone")]

    @d.step(cache_result="transactional")
    async def reserve(request: OrderRequest, db: Transaction) -> Reservation:
        await occupy(db)
        if fail:
            raise fail.pop()
        return Reservation(reservation_id="p-1")

    with pytest.raises(OSError, match="gone"):
        await d.run("order-1", Reservation, REQUEST)
    await d.run("order-1", Reservation, REQUEST)
    ((timeout, name, locks, table),) = await cache._line.database.fetch(SESSION)
    await d.close()

    assert (timeout, name, locks, table) == ("0", "shop", 0, None)


async def test_a_connection_that_cannot_be_cleaned_is_not_used_again(dsn: str) -> None:
    """It is ended, and the next one is a new one."""
    inits: list[Any] = []

    async def init(connection: Any) -> None:
        inits.append(connection)
        if len(inits) == 2:
            raise OSError("gone")

    cache = PostgresCache(dsn, max_size=1, init=init)
    d, pids = Docket(cache=cache), list[int]()

    @d.step(cache_result="transactional")
    async def reserve(request: OrderRequest, db: Transaction) -> Reservation:
        pids.append(await db.fetchval("SELECT pg_backend_pid()"))
        return Reservation(reservation_id="p-1")

    for number in range(2):
        await d.run(f"order-{number}", Reservation, REQUEST)
    await d.close()

    assert len(set(pids)) == 2


async def test_rivals_wait_for_the_outcome(shop: Door) -> None:
    """Five processes at once: the claim waits at the index for the first, and one row is written."""

    async def dawdle(db: Any) -> None:
        await asyncio.sleep(0.1)

    all_of_them = [Selling(shop.cache(), dawdle) for _ in range(5)]

    answers = await asyncio.gather(*(each.run() for each in all_of_them))
    for each in all_of_them:
        await each.d.close()
    assert len(answers) == 5
    assert (sum(each.calls for each in all_of_them), await sales(shop.straight)) == (1, 1)


async def test_a_rival_that_waits_too_long_is_told(shop: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another transaction that does not end in time makes this one busy."""
    monkeypatch.setattr("docket.postgres.transaction.RIVAL", 0.1)
    reached, go = asyncio.Event(), asyncio.Event()

    async def wait(db: Any) -> None:
        reached.set()
        await go.wait()

    slow, quick = Selling(shop.cache(), wait), Selling(shop.cache())
    running = asyncio.create_task(slow.run())
    await reached.wait()
    with pytest.raises(Busy, match="another transaction"):
        await quick.run()
    go.set()
    await running
    await slow.d.close()
    await quick.d.close()
    assert await sales(shop.straight) == 1


async def test_a_step_that_rolls_back_by_itself_is_caught(shop: Door) -> None:
    """Nothing of it stands, and its result is not certified."""

    async def end(db: Any) -> None:
        await db.execute("ROLLBACK")

    selling = Selling(shop.cache(), end)
    with pytest.raises(BrokenTransaction):
        await selling.run()
    await selling.d.close()
    assert (await sales(shop.straight), (await Records.of(shop.straight, "order-1")).states) == (0, [])


async def test_a_cancelled_step_is_rolled_back(shop: Door) -> None:
    """Cancelled inside its SQL: nothing stands, and the connection goes back whole."""
    reached = asyncio.Event()

    async def wait(db: Any) -> None:
        reached.set()
        await asyncio.sleep(10)

    selling = Selling(shop.cache(max_size=1), wait)
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
    assert await sales(shop.straight) == 0

    selling._then = None
    await selling.run()
    await selling.d.close()
    assert await sales(shop.straight) == 1


async def test_a_projection_that_is_refused_does_not_take_the_step_along(shop: Door) -> None:
    """A serializer of the application's own says NaN: the step commits, and nobody sees a projection."""

    class Careless(Protobuf):
        name = "careless"

        def view(self, value: Any, /) -> str | None:
            return "NaN"

    d = Docket(cache=shop.cache(), serializers=[Careless()])

    @d.step(cache_result="transactional")
    async def reserve(request: OrderRequest, db: Transaction) -> Reservation:
        await db.execute("INSERT INTO public.sale VALUES ('order-1', 1)")
        return Reservation(reservation_id="p-1")

    await d.run("order-1", Reservation, REQUEST)
    await d.close()
    assert (await sales(shop.straight), (await Records.of(shop.straight, "order-1")).states) == (1, ["certified"])


async def test_steps_leave_connections_for_the_rest(shop: Door) -> None:
    """Twenty long transactions at once on a pool of two: each gets its turn, and reads go on meanwhile."""
    reached = asyncio.Event()

    async def dawdle(db: Any) -> None:
        reached.set()
        await asyncio.sleep(0.02)

    selling = Selling(shop.cache(max_size=2), dawdle)
    running = [asyncio.create_task(selling.run(f"order-{number}")) for number in range(20)]
    await reached.wait()

    assert await asyncio.wait_for(selling.d.fetch("other", Reservation), 5) is None
    await asyncio.gather(*running)
    await selling.d.close()
    assert selling.calls == 20


async def test_steps_inside_steps_do_not_wait_for_each_other_for_ever(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every place is taken by a step that waits for one: each is told what to do, and nothing is left of it."""
    monkeypatch.setattr("docket.postgres.line.RIVAL", 0.2)
    cache = PostgresCache(dsn, max_size=4)
    d, begun = Docket(cache=cache), asyncio.Barrier(2)

    @d.step(cache_result="transactional")
    async def charge(request: OrderRequest, db: Transaction) -> ChargeResult:
        return ChargeResult(charge_id="ch-1")

    @d.step(cache_result="transactional")
    async def reserve(request: OrderRequest, run: Run, db: Transaction) -> Reservation:
        await begun.wait()
        await d.run(f"{run.run_id}/charge", ChargeResult, request)
        return Reservation(reservation_id="p-1")

    answers = await asyncio.gather(
        *(d.run(f"order-{number}", Reservation, REQUEST) for number in range(2)), return_exceptions=True
    )
    assert "Busy" in {type(answer).__name__ for answer in answers}
    for answer in answers:
        assert not isinstance(answer, BaseException) or "give the pool more connections" in str(answer)
    await d.run("order-2/charge", ChargeResult, REQUEST)
    await d.close()


def test_a_cache_without_transactions_is_refused() -> None:
    """Said when the wiring is checked."""
    d = Docket(cache=MemoryCache())

    @d.step(cache_result="transactional")
    async def reserve(request: OrderRequest, db: Transaction) -> Reservation:
        return Reservation()

    with pytest.raises(ConfigurationError, match="MemoryCache has no transactions"):
        d.check()
