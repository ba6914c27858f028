"""What a cache promises, as code: `exercise_cache` runs every rule against one."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

from docket._core.record import Blob, MadeFrom, Record, Stored
from docket.cache import Cache, Certificate, Held, Input
from docket.testing import optional
from docket.testing.rows import BODY, KEY, MADE_FROM, OTHER, certificate, claim, doubted, insert, superseded, verdict

Rule: TypeAlias = Callable[[Cache, Cache, str], Awaitable[None]]
"""Takes two caches over the same storage and a fresh run id; raises AssertionError if the promise is broken."""


async def exercise_cache(make: Callable[[], Cache]) -> None:
    """Hold a cache to every promise of `docket.cache.Cache`, and of those beyond it that it has the methods for.

    Give it a storage of its own: a cache with ``purge()`` is made to purge whatever is finished in it.

    Args:
        make: Makes a cache. Called twice; both must see the same storage, as two processes do.

    Raises:
        AssertionError: It breaks some; the message has one line for each.
    """
    one, two = make(), make()
    broken: list[str] = []
    try:
        for rule in RULES:
            try:
                await rule(one, two, f"{rule.__name__}-{uuid.uuid4()}")
            except Exception as error:
                broken.append(f"{(rule.__doc__ or '').strip()} ({rule.__name__}: {error!r})")
    finally:
        await one.close()
        await two.close()
    if broken:
        raise AssertionError(f"{len(broken)} of {len(RULES)} promises are broken:\n" + "\n".join(broken))


async def unknown_runs_are_empty(one: Cache, two: Cache, run_id: str) -> None:
    """A run nobody worked on has no records."""
    found = await one.load(run_id)
    assert not found.results
    assert not found.inputs


async def a_claim_is_seen_by_others(one: Cache, two: Cache, run_id: str) -> None:
    """A granted claim is running under its nonce with token 1, and everybody sees it with its inputs."""
    mine = claim(run_id)
    granted = await one.claim(mine)
    found = await two.load(run_id)
    seen = found.results[KEY]
    assert (granted.state, granted.claim, granted.token, granted.attempt) == ("running", mine.nonce, 1, 1), granted
    assert (seen.state, seen.claim, seen.token, seen.owner, seen.mode) == (
        "running",
        mine.nonce,
        1,
        "tester",
        "at_most_once",
    ), seen
    assert 0 < seen.lease_left <= 60, seen.lease_left
    assert seen.made_from == MADE_FROM, seen.made_from
    assert found.inputs["shop.Order", "d1"].body == b"order"
    assert found.latest == {"shop.Order": "d1"}


async def only_one_of_many_claims_is_granted(one: Cache, two: Cache, run_id: str) -> None:
    """Of claims made at the same time exactly one is granted, and the others are told who holds it."""
    claims = [claim(run_id) for _ in range(8)]
    answers = await asyncio.gather(*((one if number % 2 else two).claim(each) for number, each in enumerate(claims)))
    winners = [each for each, answer in zip(claims, answers, strict=True) if answer.claim == each.nonce]
    assert len(winners) == 1, len(winners)
    assert {answer.claim for answer in answers} == {winners[0].nonce}


async def a_repeated_claim_is_one_claim(one: Cache, two: Cache, run_id: str) -> None:
    """A claim sent twice, as after a lost answer, is granted once and answered alike."""
    mine = claim(run_id)
    first, again = await one.claim(mine), await two.claim(mine)
    assert (again.claim, again.token, again.attempt) == (first.claim, 1, 1), again


async def a_live_claim_is_not_taken(one: Cache, two: Cache, run_id: str) -> None:
    """A claim whose lease has not ended is not granted to anyone else, whatever the mode."""
    held = await one.claim(claim(run_id, "at_least_once"))
    answer = await two.claim(claim(run_id, "at_least_once", seen=held.token))
    assert answer.claim == held.claim


async def a_lost_at_least_once_claim_is_taken_over(one: Cache, two: Cache, run_id: str) -> None:
    """When the lease of an at-least-once claim has ended, the next claim gets it with a larger token."""
    held = await one.claim(claim(run_id, "at_least_once", lease=0.02))
    await asyncio.sleep(0.05)
    mine = claim(run_id, "at_least_once", seen=held.token)
    answer = await two.claim(mine)
    assert (answer.claim, answer.token, answer.attempt) == (mine.nonce, 2, 2), answer


async def a_lost_at_most_once_claim_is_never_taken_over(one: Cache, two: Cache, run_id: str) -> None:
    """When the lease of an at-most-once claim has ended, no claim of either mode gets it."""
    held = await one.claim(claim(run_id, lease=0.02))
    await asyncio.sleep(0.05)
    for mode in ("at_most_once", "at_least_once"):
        answer = await two.claim(claim(run_id, mode, seen=held.token))
        assert (answer.claim, answer.state) == (held.claim, "running"), answer
        assert answer.lease_left < 0, answer


async def a_stricter_claim_does_not_take_over(one: Cache, two: Cache, run_id: str) -> None:
    """An at-most-once claim does not take over a lost at-least-once one: the stricter rules hold."""
    held = await one.claim(claim(run_id, "at_least_once", lease=0.02))
    await asyncio.sleep(0.05)
    answer = await two.claim(claim(run_id, "at_most_once", seen=held.token))
    assert answer.claim == held.claim


async def a_claim_on_another_row_than_was_seen_is_void(one: Cache, two: Cache, run_id: str) -> None:
    """A claim names the token of the row it was judged on, and is void on any other."""
    held = await one.claim(claim(run_id))
    doubt = await one.move(doubted(run_id, held, "error"))
    assert doubt is not None
    ready = await one.move(verdict(run_id, doubt, None))
    assert ready is not None
    stale = claim(run_id, seen=held.token)
    answer = await two.claim(stale)
    assert (answer.state, answer.token) == ("ready", ready.token), answer
    fresh = claim(run_id, seen=ready.token)
    granted = await two.claim(fresh)
    assert (granted.claim, granted.token) == (fresh.nonce, ready.token + 1), granted


async def the_first_certificate_wins(one: Cache, two: Cache, run_id: str) -> None:
    """Of several results of an unclaimed step the first one written stands, and all are told it."""
    writes = [insert(run_id, replace(BODY, body=bytes([number]))) for number in range(8)]
    answers = await asyncio.gather(*((one if number % 2 else two).certify(each) for number, each in enumerate(writes)))
    assert len({answer.claim for answer in answers}) == 1
    assert len({answer.stored.body for answer in answers if answer.stored}) == 1
    assert all(answer.state == "certified" for answer in answers)


async def the_latest_input_is_the_one_that_was_used(one: Cache, two: Cache, run_id: str) -> None:
    """What a refused request brings is not the latest input of its run, and what comes back after another one is."""

    def made_from(run: str, digest: str, seen: int = 0) -> Certificate:
        used = Input(digest, Stored("protobuf", "shop.Order", digest.encode()))
        return replace(insert(run, seen=seen), made_from=MadeFrom({"shop.Order": digest}), inputs=(used,))

    refused, back = f"{run_id}-refused", f"{run_id}-back"
    await one.certify(made_from(refused, "d1"))
    await two.certify(made_from(refused, "d2"))
    assert (await one.load(refused)).latest == {"shop.Order": "d1"}
    standing = await one.certify(made_from(back, "d1"))
    for digest in ("d2", "d1"):
        gone = await two.move(superseded(back, standing))
        assert gone is not None
        standing = await one.certify(made_from(back, digest, gone.token))
        assert (await two.load(back)).latest == {"shop.Order": digest}


async def bytes_come_back_as_they_were(one: Cache, two: Cache, run_id: str) -> None:
    """A certified value comes back byte for byte, with its serializer, its type and what it was made from."""
    await one.certify(insert(run_id))
    found = (await two.load(run_id)).results[KEY]
    assert found.stored is not None
    assert found.stored == replace(BODY, view=found.stored.view)
    assert found.made_from == MADE_FROM
    assert found.since >= 0


async def a_projection_that_cannot_be_stored_is_left_out(one: Cache, two: Cache, run_id: str) -> None:
    """A view that is no JSON, or holds what the storage refuses, never costs the certificate."""
    for number, view in enumerate(('{"a": "\\u0000"}', '{"a": "\\ud800"}', "NaN")):
        answer = await one.certify(insert(f"{run_id}-{number}", replace(BODY, view=view)))
        assert answer.state == "certified", answer
        assert answer.stored is not None
        assert answer.stored.body == BODY.body


async def a_bad_value_fails_alone(one: Cache, two: Cache, run_id: str) -> None:
    """What one run sends and the storage refuses does not fail another run that sends at the same time."""
    writes = [insert(f"{run_id}-{number}") for number in range(6)]
    writes[3] = replace(writes[3], stored=replace(BODY, view="{"))
    answers = await asyncio.gather(*(one.certify(each) for each in writes))
    assert all(answer.claim == each.nonce for answer, each in zip(answers, writes, strict=True))


async def an_empty_and_a_large_value_are_kept(one: Cache, two: Cache, run_id: str) -> None:
    """No bytes at all, and a megabyte, come back as they were."""
    for number, body in enumerate((b"", bytes(1_000_000))):
        await one.certify(insert(f"{run_id}-{number}", replace(BODY, body=body, view=None)))
        found = (await two.load(f"{run_id}-{number}")).results[KEY].stored
        assert found is not None
        assert found.body == body


async def a_blob_is_kept_by_reference(one: Cache, two: Cache, run_id: str) -> None:
    """A value whose bytes are elsewhere comes back as where they are."""
    blob = Blob("s3://bucket/key", hashlib.sha256(b"x").hexdigest(), 1)
    await one.certify(insert(run_id, Stored("protobuf", KEY, b"", None, blob)))
    found = (await two.load(run_id)).results[KEY].stored
    assert found is not None
    assert (found.blob, found.body) == (blob, b""), found


async def a_holder_certifies_its_claim(one: Cache, two: Cache, run_id: str) -> None:
    """The holder's certificate stands under its nonce and token."""
    held = await one.claim(claim(run_id))
    answer = await one.certify(certificate(run_id, held))
    assert (answer.state, answer.claim, answer.token) == ("certified", held.claim, 1), answer
    assert (await two.load(run_id)).results[KEY].state == "certified"


async def a_repeated_certificate_is_one(one: Cache, two: Cache, run_id: str) -> None:
    """A certificate sent twice is written once, and both answers carry its nonce."""
    held = await one.claim(claim(run_id))
    first, again = await one.certify(certificate(run_id, held)), await two.certify(certificate(run_id, held, OTHER))
    assert again.claim == first.claim == held.claim
    assert again.stored is not None
    assert again.stored.body == BODY.body


async def a_certified_row_is_final(one: Cache, two: Cache, run_id: str) -> None:
    """Nothing but an explicit invalidation changes a certified row: no claim, no certificate, no doubt."""
    held = await one.claim(claim(run_id))
    await one.certify(certificate(run_id, held))
    await two.claim(claim(run_id, "at_least_once", seen=1))
    await two.certify(insert(run_id, OTHER, seen=1))
    await two.move(doubted(run_id, held))
    seen = (await two.load(run_id)).results[KEY]
    assert (seen.state, seen.token, seen.stored and seen.stored.body) == ("certified", 1, BODY.body), seen


async def an_unclaimed_result_does_not_override_a_stricter_claim(one: Cache, two: Cache, run_id: str) -> None:
    """While an at-most-once claim is held, an unclaimed result is not written over it."""
    held = await one.claim(claim(run_id))
    answer = await two.certify(insert(run_id, seen=held.token))
    assert (answer.state, answer.claim) == ("running", held.claim), answer


async def an_unclaimed_result_ends_an_at_least_once_claim(one: Cache, two: Cache, run_id: str) -> None:
    """While an at-least-once claim is held, an unclaimed result wins, and the holder is told it."""
    held = await one.claim(claim(run_id, "at_least_once"))
    answer = await two.certify(insert(run_id, OTHER, seen=held.token))
    late = await one.certify(certificate(run_id, held))
    assert answer.state == "certified"
    assert (late.claim, late.stored and late.stored.body) == (answer.claim, b"another"), late


async def a_fenced_holder_cannot_certify(one: Cache, two: Cache, run_id: str) -> None:
    """A holder whose claim was taken over changes nothing and is told what stands."""
    held = await one.claim(claim(run_id, "at_least_once", lease=0.02))
    await asyncio.sleep(0.05)
    second = await two.claim(claim(run_id, "at_least_once", seen=held.token))
    answer = await one.certify(certificate(run_id, held))
    assert (answer.state, answer.claim) == ("running", second.claim), answer


async def a_lost_holder_may_end_its_own_doubt(one: Cache, two: Cache, run_id: str) -> None:
    """A holder that was presumed lost, timed out or was cancelled may still certify while nobody else has decided."""
    for reason in ("holder_lost", "timeout", "cancelled"):
        run = f"{run_id}-{reason}"
        held = await one.claim(claim(run))
        await two.move(doubted(run, held, reason))
        answer = await one.certify(certificate(run, held))
        assert (answer.state, answer.claim) == ("certified", held.claim), answer


async def a_failed_holder_may_not_end_its_doubt(one: Cache, two: Cache, run_id: str) -> None:
    """A doubt that the holder's own error made is not ended by its certificate."""
    held = await one.claim(claim(run_id))
    await one.move(doubted(run_id, held, "error"))
    answer = await one.certify(certificate(run_id, held))
    assert answer.state == "doubt", answer


async def a_live_holder_is_not_presumed_dead(one: Cache, two: Cache, run_id: str) -> None:
    """Only a claim whose lease has ended, on the cache's clock, can be put in doubt by somebody else."""
    held = await one.claim(claim(run_id))
    early = await two.move(doubted(run_id, held, expired=True))
    assert early is not None
    assert early.state == "running", early
    lost = await one.claim(claim(f"{run_id}-lost", lease=0.02))
    await asyncio.sleep(0.05)
    late = await two.move(doubted(f"{run_id}-lost", lost, expired=True))
    assert late is not None
    assert (late.state, late.reason, late.error_text, late.error_type) == ("doubt", "holder_lost", "gone", "OSError"), late


async def a_renewed_lease_lasts(one: Cache, two: Cache, run_id: str) -> None:
    """A renewal moves the end of the lease and says who is still held."""
    held = await one.claim(claim(run_id, lease=0.05))
    stranger = Held(run_id, KEY, held.token, uuid.uuid4())
    kept = await one.renew((Held(run_id, KEY, held.token, held.claim), stranger), 60.0)
    seen = (await two.load(run_id)).results[KEY]
    assert kept == {held.claim}, kept
    assert seen.lease_left > 1, seen.lease_left


async def what_has_ended_is_not_renewed(one: Cache, two: Cache, run_id: str) -> None:
    """Neither a certified claim nor one in doubt is renewed."""
    held = await one.claim(claim(run_id))
    await two.move(doubted(run_id, held))
    kept = await one.renew((Held(run_id, KEY, held.token, held.claim),), 60.0)
    assert not kept, kept


async def a_verdict_fences_the_holder(one: Cache, two: Cache, run_id: str) -> None:
    """After a release the token has grown and the old holder can neither certify nor renew."""
    held = await one.claim(claim(run_id))
    doubt = await two.move(doubted(run_id, held))
    assert doubt is not None
    decision = verdict(run_id, doubt, None)
    ready = await two.move(decision)
    assert ready is not None
    late = await one.certify(certificate(run_id, held))
    assert (ready.state, ready.token, ready.claim, ready.attempt) == ("ready", 2, decision.id, 0), ready
    assert late.state == "ready", late


async def a_doubt_is_settled_with_a_value(one: Cache, two: Cache, run_id: str) -> None:
    """A settled doubt is certified with the person's value."""
    held = await one.claim(claim(run_id))
    doubt = await two.move(doubted(run_id, held, "error"))
    assert doubt is not None
    settled = await two.move(verdict(run_id, doubt, OTHER))
    assert settled is not None
    assert (settled.state, settled.stored and settled.stored.body) == ("certified", b"another"), settled


async def one_of_two_verdicts_counts(one: Cache, two: Cache, run_id: str) -> None:
    """Two people decide on what they saw: one verdict counts, the other changes nothing; a repetition of it neither."""
    held = await one.claim(claim(run_id))
    doubt = await two.move(doubted(run_id, held, "error"))
    assert doubt is not None
    settle, release = verdict(run_id, doubt, OTHER), verdict(run_id, doubt, None)
    first, second, again = await one.move(settle), await two.move(release), await one.move(settle)
    assert first is not None
    assert second is not None
    assert again is not None
    assert first.claim == second.claim == again.claim == settle.id
    assert again.token == first.token == 2


async def a_superseded_row_is_made_again(one: Cache, two: Cache, run_id: str) -> None:
    """An invalidated result is made again by claim or by certificate, with a larger token."""
    first = await one.certify(insert(run_id))
    move = superseded(run_id, first)
    gone = await one.move(move)
    assert gone is not None
    assert (gone.state, gone.token, gone.stored) == ("superseded", 2, None), gone
    answer = await two.certify(insert(run_id, OTHER, seen=gone.token))
    assert (answer.state, answer.token, answer.stored and answer.stored.body) == ("certified", 3, b"another"), answer


async def a_move_of_nothing_is_nothing(one: Cache, two: Cache, run_id: str) -> None:
    """Moving a row that is not there returns None and makes none."""
    assert await one.move(doubted(run_id, Record(KEY, "at_most_once", "running", 1, uuid.uuid4()))) is None
    assert not (await two.load(run_id)).results


async def hostile_names_are_only_names(one: Cache, two: Cache, run_id: str) -> None:
    """A run id is a value: quotes, semicolons and percent signs name a run and do nothing."""
    for number, odd in enumerate(("'; DROP TABLE result; --", "$1 %s {} \\", "日本語/é", 'a"b')):
        run = f"{odd}{number}{run_id}"[:120]
        await one.certify(insert(run))
        assert KEY in (await two.load(run)).results


RULES: tuple[Rule, ...] = (
    unknown_runs_are_empty, a_claim_is_seen_by_others, only_one_of_many_claims_is_granted, a_repeated_claim_is_one_claim,
    a_live_claim_is_not_taken, a_lost_at_least_once_claim_is_taken_over, a_lost_at_most_once_claim_is_never_taken_over,
    a_stricter_claim_does_not_take_over,
    a_claim_on_another_row_than_was_seen_is_void, the_first_certificate_wins,
    the_latest_input_is_the_one_that_was_used,
    bytes_come_back_as_they_were, a_projection_that_cannot_be_stored_is_left_out, a_bad_value_fails_alone,
    an_empty_and_a_large_value_are_kept, a_blob_is_kept_by_reference, a_holder_certifies_its_claim,
    a_repeated_certificate_is_one, a_certified_row_is_final, an_unclaimed_result_does_not_override_a_stricter_claim,
    an_unclaimed_result_ends_an_at_least_once_claim, a_fenced_holder_cannot_certify, a_lost_holder_may_end_its_own_doubt,
    a_failed_holder_may_not_end_its_doubt, a_live_holder_is_not_presumed_dead, a_renewed_lease_lasts,
    what_has_ended_is_not_renewed, a_verdict_fences_the_holder, a_doubt_is_settled_with_a_value, one_of_two_verdicts_counts,
    a_superseded_row_is_made_again, a_move_of_nothing_is_nothing, hostile_names_are_only_names, *optional.RULES,
)  # fmt: skip
"""Every promise, in the order in which `exercise_cache` runs them. A test suite may run each by itself."""
