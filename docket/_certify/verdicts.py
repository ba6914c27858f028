"""A person's verdict on a doubt: it happened and this was the result, or it did not and may run again."""

from __future__ import annotations

import uuid

from docket._certify.storing import Storing
from docket._certify.writing import finished
from docket._core.names import storable
from docket._core.record import Record
from docket._core.step import Step
from docket._core.types import label
from docket._engine.calls import declared, wrong_result
from docket.cache import Claim, Move
from docket.errors import NotInDoubt, Refused, UnexpectedInput

SETTLING = 10.0
"""Seconds for the second write of a verdict on what nothing is recorded of. If its author dies before that, it is in doubt."""


async def settle(
    storing: Storing, run_id: str, step: Step, value: object, token: int | None = None, note: str = "", by: str = ""
) -> Record:
    """Certify *value* as what became of a step in doubt, or of one that took effect and of which nothing is recorded.

    Args:
        storing: Where.
        run_id: The run.
        step: The step.
        value: The result, as the step would have returned it; or a `Refused`, if the other side gave its final "no".
        token: The token seen with the doubt, 0 if nothing was seen; the present one if None.
        note: Why, for the journal.
        by: Who decides, for the journal; this process if empty.

    Raises:
        NotInDoubt: There is no such doubt (any more), or something is recorded by now.
        UnexpectedInput: The value is not what the step gives. Nothing was changed.
        NotCertified: The value cannot be stored.
    """
    if not isinstance(value, Refused) and wrong_result(run_id, step, value) is not None:
        kind = "None" if value is None else label(type(value))
        raise UnexpectedInput(run_id, kind, f"{step.name} ({step.where}) gives {declared(step)}; settle it with one")
    answer = value if isinstance(value, Refused) else await storing.pack(run_id, step, value)
    now = await _standing(storing, run_id, step)
    claimed = await _claimed(storing, run_id, step, by) if token == 0 and now is None else None
    doubt = claimed or _doubt(run_id, step, now, token)
    return await _decide(storing, step, storing.verdict(run_id, step, doubt, answer, by=by, note=note))


async def release(storing: Storing, run_id: str, step: Step, token: int | None = None, note: str = "", by: str = "") -> Record:
    """Let a step in doubt run again: it took no effect.

    Args:
        storing: Where.
        run_id: The run.
        step: The step.
        token: The token seen with the doubt; the present one if None.
        note: Why, for the journal.
        by: Who decides, for the journal; this process if empty.

    Raises:
        NotInDoubt: There is no such doubt (any more).
    """
    doubt = _doubt(run_id, step, await _standing(storing, run_id, step), token)
    return await _decide(storing, step, storing.verdict(run_id, step, doubt, None, by=by, note=note))


async def _standing(storing: Storing, run_id: str, step: Step) -> Record | None:
    """Look, and put a step in doubt first whose holder was silent for longer than its lease."""
    now = (await storing.cache.load(run_id)).results.get(step.key)
    if now is None or now.state != "running" or now.lease_left >= 0:
        return now
    reason = "step_committed" if now.mode == "transactional" else "holder_lost"
    move = Move(
        run_id, step.key, now.token, None, ("running",), "doubt", "doubted", uuid.uuid4(), expired=True, reason=reason,
        error_text=f"{now.owner} was last heard of before its lease ended",
    )  # fmt: skip
    return await finished(lambda: storing.cache.move(move))


async def _claimed(storing: Storing, run_id: str, step: Step, by: str) -> Record:
    """Claim a step of which nothing is recorded, as whoever runs it would: one of them is first."""
    mode, nonce = step.options.cache_result or "at_most_once", uuid.uuid4()
    claim = Claim(run_id, step.key, mode, nonce, storable(by) or storing.owner, SETTLING)
    claimed = await finished(lambda: storing.cache.claim(claim))
    if claimed.claim != nonce:
        raise NotInDoubt(run_id, step.key, label(step.gives), f"it is {claimed.state} with token {claimed.token}")
    return claimed


def _doubt(run_id: str, step: Step, now: Record | None, token: int | None) -> Record:
    if now is None or now.state != "doubt" or token not in (None, now.token):
        found = "nothing is recorded" if now is None else f"it is {now.state} with token {now.token}"
        raise NotInDoubt(run_id, step.key, label(step.gives), found)
    return now


async def _decide(storing: Storing, step: Step, move: Move) -> Record:
    after = await finished(lambda: storing.cache.move(move))
    if after is None or after.claim != move.id:
        raise NotInDoubt(move.run_id, step.key, label(step.gives), "somebody else decided it in the meantime")
    return after
