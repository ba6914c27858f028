"""How a transactional step ends that gives no result: refused whole or not at all, and not believed once it has committed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg
import pytest

from docket import Docket, InDoubt, NotApplied, Refused, Transaction
from docket.cache import Certificate, Claim, Make, Move, Record
from docket.errors import BrokenTransaction
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult, OrderRequest, Reservation
from tests.certify.doors import Door
from tests.certify.records import Records
from tests.certify.steps import REQUEST, Selling, sales
from tests.database import connected


class Dying(PostgresCache):
    """A cache whose process dies when a step's refusal is to be written."""

    async def transact(self, claim: Claim, make: Make, /) -> Record:
        """Let the first pass, which runs the step, and fail before the second has committed."""

        async def die(connection: object, claimed: Record) -> Certificate | Move:
            made = await make(connection, claimed)
            if isinstance(made, Move):
                raise OSError("killed")
            return made

        return await super().transact(claim, die)


async def test_a_refusal_is_written_whole_or_not_at_all(shop: Door) -> None:
    """A process that dies before it is certified leaves nothing: what the step did was rolled back, so it may run again."""

    async def refuse(db: Any) -> None:
        raise Refused("sold out")

    dying = Selling(Dying(shop.dsn, **shop.options), refuse)
    with pytest.raises(OSError, match="killed"):
        await dying.run()
    await dying.d.close()
    assert (await Records.of(shop.straight, "order-1")).states == []

    selling = Selling(shop.cache())
    await selling.run()
    await selling.d.close()
    assert await sales(shop.straight) == 1


async def test_who_looks_while_a_refusal_is_written_waits_for_it(shop: Door) -> None:
    """A rival finds the refusal, or is first; it never finds a doubt."""
    async def refuse(db: Any) -> None:
        raise Refused("sold out")

    sellings = [Selling(shop.cache(), refuse) for _ in range(4)]
    answers = await asyncio.gather(*(selling.run() for selling in sellings for _ in range(3)), return_exceptions=True)
    for selling in sellings:
        await selling.d.close()
    assert {type(answer) for answer in answers} == {Refused}
    assert (await sales(shop.straight), (await Records.of(shop.straight, "order-1")).states) == (0, ["refused"])


@pytest.mark.parametrize("ending", ["COMMIT", "COMMIT; BEGIN", "COMMIT; BEGIN; SELECT 1 / 0"])
@pytest.mark.parametrize("failure", [Refused("sold out"), ValueError("later"), NotApplied("not now")], ids=repr)
async def test_what_a_step_raises_after_it_has_committed_is_not_believed(shop: Door, ending: str, failure: Exception) -> None:
    """What it wrote stands: it is in doubt, and neither refused nor run again."""

    async def end(db: Any) -> None:
        with contextlib.suppress(asyncpg.DivisionByZeroError):
            await db.execute(ending.partition("SELECT")[0])
            if "SELECT" in ending:
                await db.execute("SELECT 1 / 0")
        raise failure

    selling = Selling(shop.cache(), end)
    with pytest.raises(BrokenTransaction) as broken:
        await selling.run()
    assert broken.value.__cause__ is failure
    with pytest.raises(InDoubt, match="step_committed"):
        await selling.run()
    await selling.d.close()
    assert (selling.calls, await sales(shop.straight)) == (1, 1)


@pytest.mark.parametrize("clause", ["FOR UPDATE", "FOR UPDATE NOWAIT"])
async def test_a_lock_that_a_step_does_not_get_is_its_own_error(shop: Door, clause: str) -> None:
    """It is not mistaken for a rival of the claim, and the step waits for its locks as long as its session says."""
    timeouts: list[str] = []

    async def take(db: Any) -> None:
        timeouts.append(await db.fetchval("SHOW lock_timeout"))
        await db.execute(f"SET LOCAL lock_timeout = '99ms'; SELECT FROM public.sale WHERE run_id = 'held' {clause}")

    selling = Selling(shop.cache(), take)
    async with connected(shop.straight) as other:
        await other.execute("INSERT INTO public.sale VALUES ('held', 1)")
        async with other.transaction():
            await other.execute("SELECT FROM public.sale FOR UPDATE")
            with pytest.raises(asyncpg.LockNotAvailableError):
                await selling.run()
    await selling.run()
    await selling.d.close()
    assert timeouts == ["0", "0"]


async def test_the_lock_timeout_of_a_pool_holds_for_its_steps(dsn: str) -> None:
    """Ours is for the claim alone, with one input and with none."""
    d, timeouts = Docket(cache=PostgresCache(dsn, server_settings={"lock_timeout": "1234ms"})), list[str]()

    @d.step(cache_result="transactional")
    async def reserve(db: Transaction) -> Reservation:
        timeouts.append(await db.fetchval("SHOW lock_timeout"))
        return Reservation(reservation_id="p-1")

    @d.step(cache_result="transactional")
    async def charge(request: OrderRequest, db: Transaction) -> ChargeResult:
        timeouts.append(await db.fetchval("SHOW lock_timeout"))
        return ChargeResult(charge_id="ch-1")

    await d.run("order-1", Reservation)
    await d.run("order-1", ChargeResult, REQUEST)
    await d.close()
    assert timeouts == ["1234ms", "1234ms"]
