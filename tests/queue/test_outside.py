"""What comes from outside a run: values that are supplied to it, and results that others wait for."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass

import pytest

from docket import Docket, InDoubt, InputsChanged, MissingInput, Refused
from docket._core.record import Records
from docket._core.step import Semantics
from docket.cache import Cache, Claim, MemoryCache
from docket.errors import ConfigurationError, NotYet, UnexpectedInput, UnknownTarget, WaitingFor
from docket.inprocess import InProcessQueue
from docket.postgres import PostgresCache
from docket.queue import Policy, verdict
from tests.procrastinate.wire import Proxy


@dataclass(frozen=True)
class Request:
    """What a customer sends."""

    amount: int


@dataclass(frozen=True)
class Offer:
    """What is made of it, and is to be approved."""

    amount: int


@dataclass(frozen=True)
class Approval:
    """What only a person can give."""

    by: str


@dataclass(frozen=True)
class Contract:
    """What comes of an offer that was approved."""

    amount: int
    by: str


class Sales:
    """A Docket in which a contract waits for a person."""

    def __init__(self, cache: Cache | None) -> None:
        self.queue = InProcessQueue(policy=Policy(2, 0.01, 0.01))
        self.d = Docket(cache=cache, queue=self.queue)
        self.calls: list[str] = []
        kept: Semantics | None = None if cache is None else "at_least_once"
        self.d.step(cache_result=kept)(self.offer)
        self.d.step(cache_result=kept)(self.sign)

    async def offer(self, request: Request) -> Offer:
        """Make an offer."""
        self.calls.append("offer")
        return Offer(request.amount)

    async def sign(self, offer: Offer, approval: Approval | None) -> Contract:
        """Sign what was approved."""
        self.calls.append("sign")
        if approval is None:
            raise WaitingFor(Approval)
        if approval.by == "nobody":
            raise Refused("nobody approves of it")
        return Contract(offer.amount, approval.by)


async def test_a_run_stops_at_a_person_and_goes_on_from_there(cache: Cache) -> None:
    """What was certified before stays; the job ends; a supplied value and a new job finish the run, without the request."""
    sales = Sales(cache)
    await sales.d.enqueue("sales", Contract, Request(7), run_id="r-1")
    await sales.queue.drain()
    assert [ended.why for ended in sales.queue.ended] == ["waiting for Approval; supply it and enqueue the run again"]

    await sales.d.supply("r-1", Approval("ada"))
    await sales.d.enqueue("sales", Contract, run_id="r-1")
    await sales.queue.drain()

    assert await sales.d.wait("r-1", Contract) == Contract(7, "ada")
    assert sales.calls == ["offer", "sign", "sign"]


async def test_a_direct_run_says_what_it_waits_for(cache: Cache) -> None:
    """Without a queue the step's own exception comes through."""
    sales = Sales(cache)
    with pytest.raises(WaitingFor, match="waiting for Approval") as caught:
        await sales.d.run("r-1", Contract, Request(7))
    await sales.d.supply("r-1", Approval("ada"))

    assert caught.value.needed == "Approval"
    assert await sales.d.run("r-1", Contract) == Contract(7, "ada")


async def test_the_first_supplied_value_stands(cache: Cache) -> None:
    """The same again changes nothing; another one is refused and changes nothing either."""
    sales = Sales(cache)
    await sales.d.supply("r-1", Approval("ada"))
    await sales.d.supply("r-1", Approval("ada"))
    with pytest.raises(InputsChanged, match="'ada' -> 'bob'"):
        await sales.d.supply("r-1", Approval("bob"))

    assert await sales.d.run("r-1", Contract, Request(7)) == Contract(7, "ada")


async def test_of_two_people_who_supply_at_once_one_is_refused(cache: Cache) -> None:
    """The run goes on with the value of the other."""
    sales = Sales(cache)
    supplied = [sales.d.supply("r-1", Approval(name)) for name in ("ada", "bob")]
    refused = [one for one in await asyncio.gather(*supplied, return_exceptions=True) if one is not None]
    contract = await sales.d.run("r-1", Contract, Request(7))

    assert [type(one) for one in refused] == [InputsChanged]
    assert repr(contract.by) + " ->" in str(refused[0])


async def test_a_call_cannot_bring_another_value_than_was_supplied(cache: Cache) -> None:
    """What a person gave is not overruled by an argument."""
    sales = Sales(cache)
    await sales.d.supply("r-1", Approval("ada"))
    with pytest.raises(InputsChanged, match="another value is on record"):
        await sales.d.run("r-1", Contract, Request(7), Approval("bob"))


async def test_what_a_result_was_made_from_cannot_be_supplied_otherwise(cache: Cache) -> None:
    """An input that the run has used already stands as well."""
    sales = Sales(cache)
    await sales.d.run("r-1", Offer, Request(7))
    await sales.d.supply("r-1", Request(7))
    with pytest.raises(InputsChanged, match="7 -> 8"):
        await sales.d.supply("r-1", Request(8))


async def test_what_is_no_input_cannot_be_supplied(cache: Cache) -> None:
    """A step's result, and what no step takes."""
    sales = Sales(cache)
    with pytest.raises(UnexpectedInput):
        await sales.d.supply("r-1", Offer(7))
    with pytest.raises(UnexpectedInput):
        await sales.d.supply("r-1", "ada")


async def test_without_a_cache_nothing_can_be_supplied_or_waited_for() -> None:
    """There is nowhere to put it."""
    sales = Sales(None)
    with pytest.raises(ConfigurationError, match="nowhere to keep"):
        await sales.d.supply("r-1", Approval("ada"))
    with pytest.raises(UnknownTarget, match="a certified Contract"):
        await sales.d.wait("r-1", Contract)


async def test_a_run_that_keeps_nothing_sees_what_was_supplied_all_the_same() -> None:
    """It asks the cache only because an input was left out."""
    d = Docket(cache=MemoryCache())

    @d.step
    async def sign(approval: Approval) -> Contract:
        return Contract(1, approval.by)

    with pytest.raises(MissingInput):
        await d.run("r-1", sign)
    await d.supply("r-1", Approval("ada"))

    assert await d.run("r-1", sign) == Contract(1, "ada")


async def test_waiting_ends_with_what_the_step_ended_in(cache: Cache) -> None:
    """A refusal is raised to whoever waits; so is a doubt; nothing is computed."""
    sales = Sales(cache)
    await sales.d.supply("r-1", Approval("nobody"))
    waiting = asyncio.create_task(sales.d.wait("r-1", Contract, timeout=20))
    with pytest.raises(Refused):
        await sales.d.run("r-1", Contract, Request(7))

    with pytest.raises(Refused, match="nobody approves"):
        await waiting


async def test_a_doubt_is_told_to_who_waits(cache: Cache) -> None:
    """Only a person can end it."""
    d = Docket(cache=cache)

    @d.step(cache_result="at_most_once")
    async def offer(request: Request) -> Offer:
        raise RuntimeError("the line went dead")

    with pytest.raises(InDoubt):
        await d.run("r-1", offer, Request(7))
    with pytest.raises(InDoubt):
        await d.wait("r-1", Offer, timeout=20)


@pytest.mark.parametrize("mode", ["at_most_once", "transactional"])
async def test_a_lost_holder_is_told_to_who_waits(cache: Cache, mode: Semantics) -> None:
    """When the process that was at it is gone, nobody will write the result: the wait ends, and a verdict ends the doubt."""
    d = Docket(cache=cache)

    async def offer(request: Request) -> Offer:
        raise AssertionError

    d.step(cache_result="at_most_once")(offer)
    (step,) = d.check().steps.values()
    held = await cache.claim(Claim("r-1", step.key, mode, uuid.uuid4(), "worker-3:117", 0.3))
    waiting = asyncio.create_task(d.wait("r-1", Offer, timeout=20))
    with pytest.raises(NotYet, match="running"):
        await d.wait("r-1", Offer, timeout=0.0)

    reason = "step_committed" if mode == "transactional" else "holder_lost"
    with pytest.raises(InDoubt, match=f"{reason}: worker-3:117 was last heard of") as doubt:
        await waiting

    await d.settle("r-1", Offer, Offer(7), token=doubt.value.token)
    assert doubt.value.token == held.token
    assert await d.wait("r-1", Offer) == Offer(7)


async def test_a_lost_holder_that_may_be_followed_is_waited_for(cache: Cache) -> None:
    """The next attempt does it, so the wait goes on."""
    d = Docket(cache=cache)

    @d.step(cache_result="at_least_once", exclusive=True)
    async def offer(request: Request) -> Offer:
        return Offer(request.amount)

    (step,) = d.check().steps.values()
    await cache.claim(Claim("r-1", step.key, "at_least_once", uuid.uuid4(), "worker-3:117", 0.01))
    waiting = asyncio.create_task(d.wait("r-1", Offer, timeout=20))
    with pytest.raises(NotYet, match="running"):
        await d.wait("r-1", Offer, timeout=0.1)

    assert await d.run("r-1", Offer, Request(7)) == await waiting == Offer(7)


async def test_waiting_has_an_end(cache: Cache) -> None:
    """The error says how far the result is, and is a TimeoutError."""
    sales = Sales(cache)
    with pytest.raises(TimeoutError) as caught:
        await sales.d.wait("r-1", Contract, timeout=0.1)

    assert isinstance(caught.value, NotYet)
    assert (caught.value.run_id, caught.value.key, caught.value.state) == ("r-1", Contract.__module__ + ".Contract", "nothing")


async def test_what_is_there_is_returned_to_who_has_no_time(cache: Cache) -> None:
    """A timeout of zero is one look."""
    sales = Sales(cache)
    await sales.d.run("r-1", Offer, Request(7))

    assert await sales.d.wait("r-1", Offer, timeout=0) == Offer(7)
    with pytest.raises(NotYet):
        await sales.d.wait("r-1", Contract, timeout=0)


class Counting(MemoryCache):
    """A cache that counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.loads = 0

    async def load(self, run_id: str, /) -> Records:
        """Count, and look."""
        self.loads += 1
        return await super().load(run_id)


class CountingPostgres(PostgresCache):
    """A cache in PostgreSQL that counts how often it is asked for a run."""

    loads = 0

    async def load(self, run_id: str, /) -> Records:
        """Count, and look."""
        self.loads += 1
        return await super().load(run_id)


async def test_all_who_wait_for_a_run_share_their_looks() -> None:
    """A hundred waiters ask no more often than one, and nobody asks when nobody waits."""
    cache = Counting()
    sales = Sales(cache)
    waiting = [asyncio.create_task(sales.d.wait("r-1", Contract, timeout=0.5)) for _ in range(100)]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    asked = cache.loads
    await asyncio.sleep(0.1)

    assert {type(one) for one in found} == {NotYet}
    assert asked < 60
    assert cache.loads == asked


async def test_however_many_wait_a_process_looks_twenty_times_a_second(dsn: str) -> None:
    """Five hundred who wait for five hundred runs share one statement, which reads no run; what is there is read once."""
    proxy = Proxy(dsn)
    await proxy.arrive()
    cache = CountingPostgres(proxy.dsn)
    sales, loop = Sales(cache), asyncio.get_running_loop()
    began = loop.time()
    waiting = [asyncio.create_task(sales.d.wait(f"r-{number}", Offer, timeout=1)) for number in range(500)]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    seconds = loop.time() - began

    assert {type(one) for one in found} == {NotYet}
    assert proxy.round_trips <= 20 * seconds + 10  # of which a few to connect
    assert cache.loads == 0
    await sales.d.run("r-1", Offer, Request(7))
    cache.loads = 0
    assert await asyncio.gather(*[sales.d.wait("r-1", Offer) for _ in range(10)]) == [Offer(7)] * 10
    assert cache.loads == 1
    await sales.d.close()
    await proxy.leave()


async def test_a_look_that_fails_is_told_to_who_waits() -> None:
    """The cache's own error, not a timeout."""

    class Broken(MemoryCache):
        async def load(self, run_id: str, /) -> Records:
            raise OSError("no route to the database")

    with pytest.raises(OSError, match="no route"):
        await Sales(Broken()).d.wait("r-1", Contract, timeout=5)


def test_what_waits_neither_fails_nor_is_tried_again() -> None:
    """The queue's job is over and well."""
    assert verdict(WaitingFor(Approval)).what == "wait"


async def test_a_job_that_waits_can_be_cancelled_by_its_run() -> None:
    """The driver is told the run and the storage key of the target."""
    sales = Sales(MemoryCache())
    await sales.d.enqueue("sales", Contract, Request(7), run_id="r-1")
    assert await sales.d.cancel("r-1", sales.sign) == 1

    await sales.queue.drain()
    assert [ended.job.target for ended in sales.queue.ended] == [f"{__name__}.Contract"]
    assert sales.calls == []
