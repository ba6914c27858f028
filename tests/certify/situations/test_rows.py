"""What a row is, for whom: read by other code, asked for under other names, purged, shared with others."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from docket import Docket, InDoubt, InputsChanged, WiringError
from docket.errors import BadRunId, NewerCertificate, Purged, Undecodable
from docket.postgres.schema import apply
from docket.queue import verdict
from docket.serializers import Serializers
from examples.orders.orders_pb2 import ChargeResult, OrderRequest
from tests.certify.doors import PARTS, Door
from tests.certify.records import Records
from tests.certify.situations.processes import EXCLUSIVE, LEASE, ONCE, UNCLAIMED, Ledger, process
from tests.certify.steps import CHARGE, REQUEST, Charging, charged
from tests.database import connected


@dataclass(frozen=True)
class Old:
    """What yesterday's code gives."""

    id: str


@dataclass(frozen=True)
class New:
    """What today's code gives: the amount is not to be had from the bytes of yesterday."""

    id: str
    amount_cents: int


def new_of_old(body: bytes) -> New:
    """Read the bytes of yesterday."""
    return New(json.loads(body)["id"], 0)


class Deployed:
    """One day's code for the same result.

    Args:
        door: To the database.
        gives: The type it has for it.
        version: Of the step.
        upcast: How older bytes are read.
    """

    def __init__(self, door: Door, gives: Any, version: int = 1, upcast: dict[str, Any] | None = None) -> None:
        self.d = Docket(cache=door.cache(), serializers=Serializers(upcast=upcast))
        self.gives = gives
        self.calls = 0

        async def charge(request: OrderRequest) -> Any:
            self.calls += 1
            return gives("ch-1", *[1999] * (gives is New))

        charge.__annotations__["return"] = gives
        self.d.step(cache_result="at_most_once", key="shop.Charge", version=version)(charge)

    async def run(self) -> Any:
        """Ask for it."""
        return await self.d.run("order-1", self.gives, REQUEST)


async def test_r17_certificate_that_cannot_be_read(door: Door) -> None:
    """Nothing is done in its place and the bytes stay; an upcast reads it; what newer code wrote is worth another try."""
    old = Deployed(door, Old)
    await old.run()
    before = (await Records.of(door.straight, "order-1")).results
    new, reading = Deployed(door, New), Deployed(door, New, upcast={f"{__name__}.Old": new_of_old})
    with pytest.raises(Undecodable, match=r"written by json as .*Old") as unread:
        await new.run()
    assert not isinstance(unread.value, NewerCertificate)
    assert await reading.run() == New("ch-1", 0)
    assert (await Records.of(door.straight, "order-1")).results == before

    async with connected(door.straight) as connection:
        await connection.execute("DELETE FROM docket.result")
    newer = Deployed(door, New, version=2)
    await newer.run()
    before = (await Records.of(door.straight, "order-1")).results
    with pytest.raises(NewerCertificate) as behind:
        await old.run()

    assert (behind.value.written, behind.value.version) == (2, 1)
    assert (verdict(unread.value).what, verdict(behind.value).what) == ("fail", "again")
    assert (old.calls, new.calls, reading.calls, newer.calls) == (1, 0, 0, 1)
    assert (await Records.of(door.straight, "order-1")).results == before


@pytest.mark.parametrize("state", ["running", "doubt", "ready", "certified"])
async def test_r18_same_run_id_with_other_inputs(door: Door, ledger: Ledger, state: str) -> None:
    """Refused before anything runs, however it stands with the first; nothing is changed by asking."""
    other = OrderRequest(order_id="order-1", amount_cents=1)
    first = Charging(door.cache(), lease=LEASE)
    if state in ("running", "doubt", "ready"):
        async with process(door, ledger, lease=60.0 if state == "running" else LEASE) as holder:
            await holder.called()
            if state == "running":
                await _refuses(door, other)
            holder.kill()
        if state != "running":
            with pytest.raises(InDoubt):
                await first.run()
        if state == "ready":
            await first.d.release("order-1", ChargeResult)
    else:
        await first.run()
    await _refuses(door, other)
    records = await Records.of(door.straight, "order-1")

    assert records.states == [state]


async def _refuses(door: Door, request: OrderRequest) -> None:
    before = await Records.of(door.straight, "order-1")
    second = Charging(door.cache())
    with pytest.raises(InputsChanged, match=r"OrderRequest.amount_cents: 1999 -> 1\b"):
        await second.run(request=request)
    assert second.runs == []
    assert await Records.of(door.straight, "order-1") == before


HOSTILE = [
    "'; DROP TABLE docket.result; --", "$1", "%s", "{}", "\\", '"', "../../etc/passwd", "a\u202eb", "0", "null", "tenant/7",
    "é" * 127, "x" * 255, "🎈", "docket.global", "order 1", "\u00a0x"[1:],
]  # fmt: skip
REFUSED: list[Any] = [
    "", " order-1", "order-1 ", "a\nb", "a\x00b", "\ud800", "e\u0301", "x" * 256, "é" * 128, "\u2028", "\ue000", b"order-1", 7,
    None, "x" * 10_000_000, "docket.global/" + "0" * 64,
]  # fmt: skip


async def test_r19_run_id_from_a_hostile_user(door: Door) -> None:
    """What is accepted is stored as it is and found under no other name; what is not is refused before any statement."""
    charging = Charging(door.cache())
    for run_id in HOSTILE:
        assert await charging.run(run_id) == CHARGE
    async with connected(door.straight) as connection:
        stored = [row[0] for row in await connection.fetch("SELECT run_id FROM docket.result")]
        assert sorted(stored) == sorted(HOSTILE)
        for run_id in REFUSED:
            with pytest.raises(BadRunId):
                await charging.run(run_id)
        assert await connection.fetchval("SELECT count(*) FROM docket.result") == len(HOSTILE)

    assert len(charging.runs) == len(HOSTILE)


async def test_r20_step_renamed_or_moved(door: Door) -> None:
    """The row is the type's, or the step's ``key=``: the function's name and module play no part, and keys are unique."""
    before = Charging(door.cache())
    assert await before.run() == CHARGE
    d, calls = Docket(cache=door.cache()), list[str]()

    async def take_payment(order: OrderRequest) -> ChargeResult:
        calls.append("again")
        return ChargeResult()

    take_payment.__module__ = "billing.steps"
    d.step(cache_result="at_most_once")(take_payment)
    twice = Docket(cache=door.cache())
    twice.step(cache_result="at_most_once")(take_payment)

    @twice.step(cache_result="at_most_once", key="orders.ChargeResult")
    async def pay_again(order: OrderRequest) -> Old:
        return Old("ch-2")

    assert await d.run("order-1", ChargeResult, REQUEST) == CHARGE
    with pytest.raises(WiringError, match=r"orders\.ChargeResult"):
        twice.check()
    assert (calls, (await Records.of(door.straight, "order-1")).states) == ([], ["certified"])


async def test_r21_retention_and_a_run_that_comes_back(door: Door, ledger: Ledger) -> None:
    """A run with anything open is passed over; one that is over leaves a tombstone, and an old job does not charge."""
    cache = door.cache()
    async with process(door, ledger, lease=60.0) as holder:
        await holder.called()
        assert await cache.purge(0.0) == 0
        holder.go_on()
        await holder.answer()
    while not await cache.purge(0.0):  # the database's clock must have passed the moment of the certificate
        assert (await Records.of(door.straight, "order-1")).states == ["certified"]
    later = Charging(cache)
    for _ in range(2):
        with pytest.raises(Purged):
            await later.run()

    assert (later.runs, ledger.effects()) == ([], [holder.effect])
    assert (await Records.of(door.straight, "order-1")).states == ["purged"]


async def test_r22_two_applications_in_one_database(door: Door) -> None:
    """Each has a schema: the same run id and key mean something else in the other."""
    partitioned = "split" in door.straight
    async with connected(door.straight) as connection:
        await apply(connection, "other", partitions=PARTS if partitioned else 0)

        async def charged_elsewhere() -> ChargeResult:
            return ChargeResult(charge_id="elsewhere")

        one, other = Charging(door.cache()), Charging(door.cache(schema="other"), charged_elsewhere)
        assert await one.run() == CHARGE
        assert (await other.run(request=OrderRequest(order_id="another"))).charge_id == "elsewhere"
        assert await one.run() == CHARGE
        await other.d.close()
        await connection.execute("DROP SCHEMA other CASCADE")

    assert (len(one.runs), len(other.runs)) == (1, 1)


@pytest.mark.parametrize(
    ("stored", "registered"), [(ONCE, UNCLAIMED), (ONCE, EXCLUSIVE), (EXCLUSIVE, ONCE)],
    ids=["once to least", "once to exclusive", "exclusive to once"],
)  # fmt: skip
async def test_r31_mode_changed_by_a_deployment(
    door: Door, ledger: Ledger, stored: dict[str, Any], registered: dict[str, Any]
) -> None:
    """A lost claim that was made under one mode and is met under the other is in doubt: the stricter rules hold."""
    async with process(door, ledger, stored) as holder:
        await holder.called()
        holder.kill()
    new = Charging(door.cache(), lease=LEASE, **registered)
    for _ in range(2):
        with pytest.raises(InDoubt, match="holder_lost"):
            await new.run()
    assert new.runs == []
    await new.d.release("order-1", ChargeResult)
    new.body = charged

    assert await new.run() == CHARGE
