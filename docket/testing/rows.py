"""What the rules of a cache put into it: claims, certificates and moves as an engine makes them."""

from __future__ import annotations

import uuid

from docket._core.record import MadeFrom, Record, Stored
from docket.cache import Certificate, Claim, Input, Move

KEY = "shop.ChargeResult"
BODY = Stored("protobuf", KEY, b"\x00\xff body", '{"amount_cents": 1999}')
OTHER = Stored("protobuf", KEY, b"another", None)
MADE_FROM = MadeFrom({"shop.Order": "d1", "shop.Hint": None}, {"shop.ValidOrder": "d2"}, {KEY: 2}, {"shop.Deep": "d3"})
ORDER = Input("d1", Stored("protobuf", "shop.Order", b"order", '{"id": 1}'))


def claim(run_id: str, mode: str = "at_most_once", *, lease: float = 60.0, seen: int = 0) -> Claim:
    """Return a claim as an engine makes it."""
    return Claim(run_id, KEY, mode, uuid.uuid4(), "tester", lease, seen, MADE_FROM, (ORDER,))


def insert(run_id: str, stored: Stored = BODY, *, seen: int = 0) -> Certificate:
    """Return the certificate of an at-least-once step that claimed nothing."""
    return Certificate(run_id, KEY, "at_least_once", uuid.uuid4(), 0, "tester", stored, seen, MADE_FROM, (ORDER,))


def certificate(run_id: str, held: Record, stored: Stored = BODY) -> Certificate:
    """Return the certificate of a claimed step."""
    return Certificate(
        run_id, KEY, held.mode, held.claim, held.token, "tester", stored, 0, MADE_FROM, (ORDER,)
    )  # fmt: skip


def doubted(run_id: str, held: Record, reason: str = "holder_lost", *, expired: bool = False) -> Move:
    """Return the move of a running claim into doubt."""
    nonce = None if expired else held.claim
    return Move(
        run_id, KEY, held.token, nonce, ("running",), "doubt", "doubted", uuid.uuid4(), "tester", expired=expired,
        reason=reason, error_type="OSError", error_text="gone",
    )  # fmt: skip


def superseded(run_id: str, seen: Record) -> Move:
    """Return the move by which a person takes a certified result back."""
    return Move(run_id, KEY, seen.token, None, ("certified",), "superseded", "invalidated", uuid.uuid4(), "ann", fences=True)


def verdict(run_id: str, seen: Record, stored: Stored | None) -> Move:
    """Return a person's verdict on a doubt: settled with a value, released without."""
    return Move(
        run_id, KEY, seen.token, None, ("doubt",), "certified" if stored else "ready", "settled" if stored else "released",
        uuid.uuid4(), "ann", fences=True, stored=stored,
    )  # fmt: skip
