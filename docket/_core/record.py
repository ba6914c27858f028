"""What is known about a run: one record for each result that was claimed or certified, and the inputs they were made from.

These are facts as the cache hands them over, without opinions: what follows from them is decided in `docket._core.plan`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import Literal
from uuid import UUID

from docket._core.immutable import immutable, nothing

State = Literal["certified", "running", "ready", "doubt", "refused", "superseded", "purged"]
"""``certified``, ``refused`` and ``purged`` are final; ``doubt`` is left by a person or by the holder that has the answer;
``ready`` and ``superseded`` may be claimed."""


@immutable(frozen=True, slots=True)
class MadeFrom:
    """What a result was made from.

    Attributes:
        inputs: By storage key, the digest of each input that was consumed since the nearest certified results; None for
            an optional input that was absent.
        above: By storage key, the digest of the nearest certified results that were used.
        versions: By storage key, the declared version of every step that ran in between, its own included; those of
            version 1 may be left out.
        deep: By storage key, the digest of each input that the results in ``above`` were made from, theirs included:
            what is left to compare when one of them is gone.
    """

    inputs: Mapping[str, str | None] = field(default_factory=nothing)
    above: Mapping[str, str] = field(default_factory=nothing)
    versions: Mapping[str, int] = field(default_factory=nothing)
    deep: Mapping[str, str | None] = field(default_factory=nothing)

    def joined(self, other: MadeFrom) -> MadeFrom:
        """Return what something is made from that is made from both."""
        return MadeFrom(
            {**self.inputs, **other.inputs},
            {**self.above, **other.above},
            {**self.versions, **other.versions},
            {**self.deep, **other.deep},
        )


@immutable(frozen=True, slots=True)
class Blob:
    """Where the bytes of a large value are, if not in its row.

    Attributes:
        uri: The object's address.
        sha256: Of its bytes, hexadecimal.
        size: Its bytes.
    """

    uri: str
    sha256: str
    size: int


@immutable(frozen=True, slots=True)
class Stored:
    """A value as it is kept.

    Attributes:
        serializer: The name of the serializer that wrote it.
        type: The storage key of its type.
        body: The exact bytes; empty if they are in ``blob``.
        view: The same as JSON text for people and SQL; None if there is none. Never read back.
        blob: Where the bytes are; None if they are in ``body``.
    """

    serializer: str
    type: str
    body: bytes
    view: str | None = None
    blob: Blob | None = None


@immutable(frozen=True, slots=True)
class Record:
    """What stands in the cache for one result of one run.

    Attributes:
        key: The storage key.
        mode: The semantics it was claimed or certified under.
        state: Where it stands.
        token: The fencing token; it only grows.
        claim: The nonce of the claim that owns the token.
        owner: Who claimed it, for people.
        attempt: How often it was claimed since it was last released.
        since: Seconds since the state last changed, on the cache's clock.
        lease_left: Seconds until the lease ends, on the cache's clock; negative when it has; 0 when nothing is running.
        made_from: What it was or is being made from.
        stored: The certified value; None unless certified.
        reason: Why it is in doubt or refused; empty if neither.
        error_type: The class of the error that led here; empty if none.
        error_text: Its redacted text; empty if none.
    """

    key: str
    mode: str
    state: State
    token: int
    claim: UUID
    owner: str = ""
    attempt: int = 1
    since: float = 0.0
    lease_left: float = 0.0
    made_from: MadeFrom = MadeFrom()
    stored: Stored | None = None
    reason: str = ""
    error_type: str = ""
    error_text: str = ""


@immutable(frozen=True, slots=True)
class Records:
    """Everything known about one run.

    Attributes:
        results: By storage key.
        inputs: By storage key and digest, each input that a result was made from.
        latest: By storage key, the digest of the input that was used last: what stands for it where a caller leaves it out.
    """

    results: Mapping[str, Record] = field(default_factory=nothing)
    inputs: Mapping[tuple[str, str], Stored] = field(default_factory=nothing)
    latest: Mapping[str, str] = field(default_factory=nothing)


NOTHING = Records()


def used_last(key: str, results: Iterable[Record]) -> str | None:
    """Return the digest of the input *key* that the youngest of *results* was made from; None if none was made from one."""
    used = [record for record in results if record.made_from.inputs.get(key)]
    return min(used, key=lambda record: record.since).made_from.inputs[key] if used else None


def digest_of(stored: Stored) -> str:
    """Return the digest of a stored value: sha256 of its bytes, hexadecimal."""
    if stored.blob is not None:
        return stored.blob.sha256
    return hashlib.sha256(stored.body).hexdigest()
