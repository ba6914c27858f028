"""Which run ids and storage keys are accepted, and what becomes of other text that people write.

A run id is a key in a database, a line in a log and part of an idempotency key at somebody else's API, so two ids that look
alike must be alike. Values always travel as parameters; this is not about SQL.
"""

from __future__ import annotations

import unicodedata

from docket.errors import BadRunId

LONGEST = 255
"""Bytes in UTF-8: what Stripe accepts as an idempotency key (https://docs.stripe.com/idempotency)."""

SHARED = "docket.global/"
"""Begins the name under which a result lives that all runs share, so that it is told apart from a run at a glance; see
`docket._core.shared`. No run may have such a name: it would read and write what belongs to all."""

_FORBIDDEN = ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")  # control, surrogate, private, unassigned, line and paragraph separators


def checked_run_id(run_id: object) -> str:
    """Return *run_id* if it is one.

    Raises:
        BadRunId: It is not text of 1 to 255 bytes, is not NFC-normalised, has control characters or blanks around it, or is
            kept for results that all runs share.
    """
    if not isinstance(run_id, str):
        raise BadRunId(run_id, "is not a str")
    if run_id.startswith(SHARED):
        raise BadRunId(run_id, f"begins with {SHARED!r}, which is kept for results that all runs share")
    if run_id.isascii() and run_id.isprintable() and 0 < len(run_id) <= LONGEST and run_id[0] != " " != run_id[-1]:
        return run_id
    if len(run_id) > LONGEST:  # before every character is looked at
        raise BadRunId(run_id, f"has {len(run_id)} characters")
    fault = fault_of(run_id)
    if fault is None and not 0 < (size := len(run_id.encode())) <= LONGEST:
        fault = f"has {size} bytes"
    if fault is not None:
        raise BadRunId(run_id, fault)
    return run_id


def fault_of(name: str) -> str | None:
    """Return what keeps *name* from being a key in a database that is like no other; None if nothing does."""
    if any(unicodedata.category(character) in _FORBIDDEN for character in name):
        return "has control, surrogate or unassigned characters"
    if unicodedata.normalize("NFC", name) != name:
        return "is not NFC-normalised"
    if name != name.strip():
        return "has blanks around it"
    return None


def storable(text: str) -> str:
    """Return *text* as PostgreSQL takes it: without NUL, and with a question mark for each half of a surrogate pair."""
    return text.replace("\x00", "").encode(errors="replace").decode()
