"""A step whose own SQL and certificate commit together."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from docket._certify.storing import CertifiedStep, Storing
from docket._certify.writing import finished
from docket._core.record import Record
from docket._core.step import Run
from docket.cache import Certificate, Claim, Move, Transactional
from docket.errors import BrokenTransaction, Busy, Refused
from docket.serializers import Packed


async def transact(storing: Storing, work: CertifiedStep, claim: Claim) -> tuple[object, Record] | Record | None:
    """Claim, run and certify a step in one transaction; return its value and record, or what stands if it was not granted.

    The claim goes first: a rival, and a retry after a COMMIT whose answer was lost, wait at the row's unique index until the
    outcome of this transaction is known.

    Raises:
        BrokenTransaction: The step ended the transaction it was lent. If it committed the claim, that is put in doubt.
        Refused: The step's final answer. What it wrote is rolled back and the refusal is certified.
    """
    cache: object = storing.cache
    assert isinstance(cache, Transactional)  # noqa: S101 - checked when the wiring was
    made: list[Packed] = []

    async def make(connection: object, claimed: Record) -> Certificate:
        lent: Any = connection
        run = Run(work.run_id, work.step.name, work.step.key, claimed.attempt, claimed.token, transaction=lent)
        packed = await storing.pack(work.run_id, work.step, await work.call(run))
        made[:] = [packed]
        return Certificate(
            work.run_id, work.step.key, "transactional", claim.nonce, claimed.token, storing.owner, packed.stored,
            0, work.made_from,
        )  # fmt: skip

    try:
        after = await cache.transact(claim, make)
    except BrokenTransaction as error:
        left = (await storing.cache.load(work.run_id)).results.get(work.step.key)
        if left is not None and left.claim == claim.nonce:
            await storing.leave(work, left, "doubt", "doubted", "step_committed", error)
        raise BrokenTransaction(work.run_id, work.step.name) from (error.__cause__ or error)
    except Refused as error:
        await _refuse(storing, cache, work, claim, error)
        raise
    if after.claim == claim.nonce and after.state == "certified" and made:
        return made[0].value, after
    await asyncio.sleep(0)
    return after


async def _refuse(
    storing: Storing, cache: Transactional, work: CertifiedStep, claim: Claim, error: Refused
) -> None:
    """Certify a refusal whose transaction was rolled back, unless somebody else has claimed the step since.

    Claim and refusal are one transaction as well: between two of them a rival would find a claim that nobody works on, and if
    this process died there, it would stay.
    """

    async def refuse(_: object, claimed: Record) -> Move:
        return storing.ending(work, claimed, "refused", "refused", "refused", error)

    with contextlib.suppress(Busy):  # somebody else is at it, and will have an answer of their own
        await finished(lambda: cache.transact(claim, refuse))
