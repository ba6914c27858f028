"""Taking a certified result back, with everything that was made from it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from docket._certify.certifier import Certifier
from docket._core.names import storable
from docket._core.record import Record, State
from docket._core.step import Step
from docket._core.types import label
from docket._core.wiring import Wiring
from docket.cache import Move
from docket.errors import NeedsForce

FACTS = ("at_most_once", "transactional")
"""What is recorded under these took effect outside Docket: making it again does it again."""

ENDED: tuple[State, ...] = ("certified", "refused")
"""What can be taken back: a result, and a final "no"."""


async def invalidate(
    certifier: Certifier, wiring: Wiring, run_id: str, step: Step, *, force: bool, note: str, by: str = ""
) -> tuple[str, ...]:
    """Supersede the result of *step*, or its refusal, and all that was made from it; return their storage keys.

    What was made from it goes first, so that a call which is cut short can be made again.

    Raises:
        NeedsForce: There is a fact among them, and *force* was not said. Nothing was changed.
    """
    results = (await certifier.cache.load(run_id)).results
    concerned = [results[key] for key in _made_from(results, step.key) if results[key].state in ENDED]
    facts = [record for record in concerned if record.mode in FACTS and record.state == "certified"]
    if facts and not force:
        names = tuple(_name(wiring, record) for record in facts)
        raise NeedsForce(run_id, step.key, label(step.gives), names)
    moved: list[str] = []
    for record in reversed(concerned):
        move = Move(
            run_id, record.key, record.token, record.claim, ENDED, "superseded", "invalidated", uuid.uuid4(),
            owner=storable(by) or certifier.owner, fences=True, reason="invalidated", error_text=storable(note),
            stored=record.stored,
        )  # fmt: skip
        after = await certifier.cache.move(move)
        if after is not None and after.claim == move.id:
            moved.append(record.key)
    return tuple(reversed(moved))


def _made_from(results: Mapping[str, Record], key: str) -> list[str]:
    """Return *key* and what was made from it, nearest first."""
    found = dict.fromkeys([key] if key in results else [])
    pending = [key]
    while pending:
        at = pending.pop(0)
        for other, record in results.items():
            if at in record.made_from.above and other not in found:
                found[other] = None
                pending.append(other)
    return list(found)


def _name(wiring: Wiring, record: Record) -> str:
    step = wiring.by_key.get(record.key)
    return record.key if step is None else label(step.gives)
