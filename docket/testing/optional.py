"""What a cache promises beyond `docket.cache.Cache`: glances, transactions, retention. Those without pass untried."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeAlias

from docket.cache import Cache, Certificate, Claim, Glances, Make, Record, Retention, Stored, Transactional
from docket.errors import BrokenTransaction
from docket.testing.rows import BODY, KEY, MADE_FROM, OTHER, certificate, claim, doubted, insert, verdict

MODE = "transactional"
OPEN = "shop.Open"

Act: TypeAlias = Callable[[Any], Awaitable[object]]
"""What a step does on the connection it is lent."""


def _step(run_id: str, made: list[Record], stored: Stored = BODY, act: Act | None = None) -> Make:
    """Return what makes *stored*, after *act* on the connection it is lent; each call is noted in *made*."""

    async def make(connection: object, held: Record) -> Certificate:
        made.append(held)
        if act is not None:
            await act(connection)
        return certificate(run_id, held, stored)

    return make


def _claim(run_id: str, seen: int = 0) -> Claim:
    return claim(run_id, MODE, lease=0.0, seen=seen)


async def a_glance_tells_what_a_read_does(one: Cache, two: Cache, run_id: str) -> None:
    """A cache with states() says how rows stand as load() does; a lost holder that nobody may follow is in doubt by it."""
    if not isinstance(two, Glances):
        return
    for mode in ("at_most_once", "transactional", "at_least_once"):
        await one.claim(claim(f"{run_id}-{mode}", mode, lease=0.02))
    await one.claim(claim(f"{run_id}-alive"))
    await one.certify(insert(f"{run_id}-certified"))
    await asyncio.sleep(0.05)
    runs = ("at_most_once", "transactional", "at_least_once", "alive", "certified", "absent")
    found = await two.states([(f"{run_id}-{name}", KEY) for name in runs])
    told = [found.get((f"{run_id}-{name}", KEY)) for name in runs]
    assert told == ["doubt", "doubt", "running", "running", "certified", None], told


async def a_transaction_keeps_what_was_made(one: Cache, two: Cache, run_id: str) -> None:
    """A transaction claims first, lends its claim to the step, and certifies under it; nobody sees it half done."""
    if not isinstance(one, Transactional):
        return
    made: list[Record] = []
    seen: list[str] = []

    async def look(_connection: object) -> None:
        found = (await two.load(run_id)).results.get(KEY)
        seen.append("nothing" if found is None else found.state)

    mine = _claim(run_id)
    answer = await one.transact(mine, _step(run_id, made, act=look))
    kept = (await two.load(run_id)).results[KEY]
    assert [(held.state, held.claim, held.token, held.attempt) for held in made] == [("running", mine.nonce, 1, 1)], made
    assert seen in (["nothing"], ["running"]), seen
    for record in (answer, kept):
        assert (record.state, record.claim, record.token, record.mode) == ("certified", mine.nonce, 1, MODE), record
        assert record.stored is not None
        assert record.stored.body == BODY.body
    assert kept.made_from == MADE_FROM, kept.made_from


async def the_claim_of_a_transaction_goes_first(one: Cache, two: Cache, run_id: str) -> None:
    """Of transactions at the same time one makes its result, and all others are told it without making theirs."""
    if not isinstance(one, Transactional) or not isinstance(two, Transactional):
        return
    made: list[Record] = []

    async def last(_connection: object) -> None:
        await asyncio.sleep(0.05)

    claims = [_claim(run_id) for _ in range(4)]
    caches = (one, two, one, two)
    answers = await asyncio.gather(
        *(cache.transact(each, _step(run_id, made, act=last)) for cache, each in zip(caches, claims, strict=True))
    )
    assert len(made) == 1, f"{len(made)} were made"
    assert {(answer.state, answer.claim) for answer in answers} == {("certified", made[0].claim)}, answers


async def a_transaction_makes_nothing_where_something_stands(one: Cache, two: Cache, run_id: str) -> None:
    """Where a result stands, is being made, or is in doubt, nothing is made and what stands is returned."""
    if not isinstance(one, Transactional):
        return
    made: list[Record] = []
    kept = await two.certify(insert(f"{run_id}-certified"))
    held = await two.claim(claim(f"{run_id}-running"))
    lost = await two.claim(claim(f"{run_id}-doubt"))
    await two.move(doubted(f"{run_id}-doubt", lost))
    for name, standing in (("certified", kept), ("running", held), ("doubt", lost)):
        for seen in (0, standing.token):
            run = f"{run_id}-{name}"
            answer = await one.transact(_claim(run, seen), _step(run, made, OTHER))
            assert (answer.state, answer.claim) == (name, standing.claim), answer
    assert not made, made


async def a_repeated_transaction_is_one(one: Cache, two: Cache, run_id: str) -> None:
    """A transaction sent twice, as after a lost answer, makes its result once and is answered alike."""
    if not isinstance(one, Transactional) or not isinstance(two, Transactional):
        return
    made: list[Record] = []
    mine = _claim(run_id)
    first, again = await one.transact(mine, _step(run_id, made)), await two.transact(mine, _step(run_id, made, OTHER))
    assert len(made) == 1, f"{len(made)} were made"
    assert (again.state, again.claim, again.token) == (first.state, first.claim, first.token), again
    assert again.stored is not None
    assert again.stored.body == BODY.body


async def a_failed_transaction_leaves_nothing(one: Cache, two: Cache, run_id: str) -> None:
    """When the step fails, its error comes through, its claim is gone with what it wrote, and another may begin."""
    if not isinstance(one, Transactional):
        return
    made: list[Record] = []

    async def fail(connection: Any) -> None:
        await connection.execute("SAVEPOINT docket_rule")
        raise ZeroDivisionError

    async def again(connection: Any) -> None:
        await connection.execute("SAVEPOINT docket_rule")
        await connection.execute("ROLLBACK TO SAVEPOINT docket_rule")

    error = await _raised(one.transact(_claim(run_id), _step(run_id, made, act=fail)))
    assert isinstance(error, ZeroDivisionError), error
    assert not (await two.load(run_id)).results
    mine = _claim(run_id)
    answer = await one.transact(mine, _step(run_id, made, OTHER, again))
    assert (answer.state, answer.claim, answer.token) == ("certified", mine.nonce, 1), answer


async def a_transaction_that_its_step_ended_is_broken(one: Cache, two: Cache, run_id: str) -> None:
    """A step that ends the transaction it was lent gets no certificate: it could no longer stand or fall with its work."""
    if not isinstance(one, Transactional):
        return
    made: list[Record] = []

    async def end(connection: Any) -> None:
        await connection.execute("ROLLBACK")

    error = await _raised(one.transact(_claim(run_id), _step(run_id, made, act=end)))
    assert isinstance(error, BrokenTransaction), error
    assert not (await two.load(run_id)).results


async def _raised(work: Awaitable[object]) -> Exception | None:
    try:
        await work
    except Exception as error:
        return error
    return None


async def a_purge_leaves_tombstones_of_effects(one: Cache, two: Cache, run_id: str) -> None:
    """The value of an effect that must not be repeated goes, and its row stays: nobody may claim or certify it again."""
    if not isinstance(one, Retention):
        return
    for mode in ("at_most_once", MODE):
        run = f"{run_id}-{mode}"
        held = await two.claim(claim(run, mode))
        await two.certify(certificate(run, held))
        await _purge(one)
        stone = (await two.load(run)).results[KEY]
        assert (stone.state, stone.stored, stone.token) == ("purged", None, held.token), stone
        answers = [await two.claim(claim(run, mode, seen=stone.token)), await two.certify(insert(run, seen=stone.token))]
        assert [answer.state for answer in answers] == ["purged", "purged"], answers


async def a_purge_deletes_what_may_be_made_again(one: Cache, two: Cache, run_id: str) -> None:
    """Results that may be made again are deleted with their inputs, and the run may begin anew."""
    if not isinstance(one, Retention):
        return
    await two.certify(insert(run_id))
    purged = await _purge(one)
    found = await two.load(run_id)
    assert purged >= 1, purged
    assert not found.results
    assert not found.inputs
    assert (await two.certify(insert(run_id, OTHER))).token == 1


async def a_purge_leaves_alone_what_is_young(one: Cache, two: Cache, run_id: str) -> None:
    """What has changed since is not purged."""
    if not isinstance(one, Retention):
        return
    await two.certify(insert(run_id))
    await _purge(one, 3600.0)
    found = (await two.load(run_id)).results[KEY].stored
    assert found is not None
    assert found.body == BODY.body


async def a_purge_leaves_alone_what_is_open(one: Cache, two: Cache, run_id: str) -> None:
    """A run of which anything is running, in doubt or ready is not purged, what is certified of it included."""
    if not isinstance(one, Retention):
        return
    for state in ("running", "doubt", "ready"):
        run = f"{run_id}-{state}"
        await two.certify(insert(run))
        held = await two.claim(replace(claim(run), key=OPEN))
        if state != "running":
            doubt = await two.move(replace(doubted(run, held), key=OPEN))
            assert doubt is not None
            if state == "ready":
                await two.move(replace(verdict(run, doubt, None), key=OPEN))
    await _purge(one)
    for state in ("running", "doubt", "ready"):
        found = await two.load(f"{run_id}-{state}")
        states = {key: record.state for key, record in found.results.items()}
        assert states == {KEY: "certified", OPEN: state}, states
        assert found.inputs


async def _purge(cache: Retention, older_than: float = 0.01) -> int:
    """Purge until nothing is left to purge; return how many runs were."""
    await asyncio.sleep(0.05)
    purged = 0
    for _ in range(1000):
        found = await cache.purge(older_than, 1000)
        if found == 0:
            return purged
        purged += found
    raise AssertionError("purge() never says that nothing is left")


RULES: tuple[Callable[[Cache, Cache, str], Awaitable[None]], ...] = (
    a_glance_tells_what_a_read_does,
    a_transaction_keeps_what_was_made, the_claim_of_a_transaction_goes_first,
    a_transaction_makes_nothing_where_something_stands, a_repeated_transaction_is_one, a_failed_transaction_leaves_nothing,
    a_transaction_that_its_step_ended_is_broken, a_purge_leaves_tombstones_of_effects,
    a_purge_deletes_what_may_be_made_again, a_purge_leaves_alone_what_is_young, a_purge_leaves_alone_what_is_open,
)  # fmt: skip
"""What is asked of a cache that offers it."""
