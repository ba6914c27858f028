"""Where certified results live: the Cache protocol, and one in memory.

A cache keeps rows and moves them between states; each move is one atomic operation, fenced by the token and the nonce that
its author saw. What the rows mean, and who may do what, is decided above it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, runtime_checkable
from uuid import UUID

from docket._core.immutable import immutable
from docket._core.record import MadeFrom as MadeFrom
from docket._core.record import Record as Record
from docket._core.record import Records as Records
from docket._core.record import State as State
from docket._core.record import Stored as Stored

_NOTHING = MadeFrom()


@immutable(frozen=True, slots=True)
class Input:
    """A value that a result is made from, as it is recorded.

    Attributes:
        digest: sha256 of the bytes, hexadecimal.
        stored: The value; its ``type`` is the storage key.
    """

    digest: str
    stored: Stored


@immutable(frozen=True, slots=True)
class Claim:
    """The written intention to run a step.

    Attributes:
        run_id: The run.
        key: The storage key of what will be made.
        mode: The semantics it is claimed under.
        nonce: Chosen by the claimer, new for every claim: whoever finds it in the row knows the claim is theirs.
        owner: Who claims, for people.
        lease: Seconds until others may presume the holder dead, on the cache's clock.
        seen: The token of the record that the claimer has judged and takes over; 0 if it saw none. The claim is void if the row
            has another.
        made_from: What it will be made from.
        inputs: The inputs named in ``made_from``.
    """

    run_id: str
    key: str
    mode: str
    nonce: UUID
    owner: str
    lease: float
    seen: int = 0
    made_from: MadeFrom = _NOTHING
    inputs: tuple[Input, ...] = ()


@immutable(frozen=True, slots=True)
class Certificate:
    """A result to be kept.

    Attributes:
        run_id: The run.
        key: The storage key.
        mode: The semantics of the step.
        nonce: The claim's nonce, or a new one if nothing was claimed.
        token: The claim's token; 0 if nothing was claimed.
        owner: Who made it, for people.
        stored: The value.
        seen: Where nothing was claimed, the token of the record that its maker has judged; 0 if it saw none.
        made_from: What it was made from.
        inputs: The inputs named in ``made_from``.
    """

    run_id: str
    key: str
    mode: str
    nonce: UUID
    token: int
    owner: str
    stored: Stored
    seen: int = 0
    made_from: MadeFrom = _NOTHING
    inputs: tuple[Input, ...] = ()


@immutable(frozen=True, slots=True)
class Move:
    """A change of state other than a claim or a certificate.

    Attributes:
        run_id: The run.
        key: The storage key.
        token: The token its author saw; the move is void if the row has another.
        nonce: The nonce its author holds; None for whoever does not hold the claim (a person, a waiter).
        states: The states it may start from; none for what is only written into the journal.
        to: The state it leads to.
        event: What the journal calls it.
        id: The journal row's id, so that the same move sent twice is written once.
        owner: Who does it, for people.
        fences: Whether the token grows and ``id`` becomes the row's nonce, so that whoever held the claim is shut out.
        expired: Whether the lease must have ended.
        reason: Why, in one word; kept in the row.
        error_type: The class of the error that led here.
        error_text: Its redacted text, or a person's note.
        stored: The result, when one is settled; or one that came too late and is only kept in the journal.
    """

    run_id: str
    key: str
    token: int
    nonce: UUID | None
    states: tuple[State, ...]
    to: State
    event: str
    id: UUID
    owner: str = ""
    fences: bool = False
    expired: bool = False
    reason: str = ""
    error_type: str = ""
    error_text: str = ""
    stored: Stored | None = None


@immutable(frozen=True, slots=True)
class Held:
    """A claim whose lease is to be renewed."""

    run_id: str
    key: str
    token: int
    nonce: UUID


class Cache(Protocol):
    """Where certified results live.

    Every method is one atomic operation and may be called again with the same argument: a repetition finds its own
    nonce and changes nothing. So a caller who was cancelled, or lost the answer, asks again. Implementations retry until the
    outcome is known; a method that raises an error of the database has told the caller all that can be known.

    `docket.testing.exercise_cache` holds an implementation to this.
    """

    async def load(self, run_id: str, /) -> Records:
        """Return everything known about a run, in one read."""
        ...

    async def claim(self, claim: Claim, /) -> Record:
        """Claim a result that is absent, ready or superseded (or whose at-least-once holder is lost); return what stands.

        The claim was granted exactly if the returned record carries its nonce.
        """
        ...

    async def certify(self, certificate: Certificate, /) -> Record:
        """Store a result unless one stands; return what stands.

        With a token: if the row still carries token and nonce, or somebody has deleted it. Without: if the row is absent,
        or is the one that was seen and holds nothing. The first writer wins, and the caller must go on with what is
        returned, not with what it brought.
        """
        ...

    async def move(self, move: Move, /) -> Record | None:
        """Change a row's state and append to the journal; return what stands, None if there is no row."""
        ...

    async def renew(self, held: Sequence[Held], lease: float, /) -> frozenset[UUID]:
        """Extend the leases of running claims by *lease* seconds from now; return the nonces that are still held."""
        ...

    async def close(self) -> None:
        """Let go of connections. Using the cache again opens them again."""
        ...


Make: TypeAlias = Callable[[object, Record], Awaitable[Certificate | Move]]
"""Runs a step on the connection it is lent, under the claim in the record, and returns what to certify; or, where a step had
refused and is not run again, how the claim ends in its place."""


@runtime_checkable
class Transactional(Protocol):
    """What a cache offers beyond `Cache` so that steps can be ``transactional``."""

    async def transact(self, claim: Claim, make: Make, /) -> Record:
        """Claim, *make* and certify (or move) in one transaction of the database; return what stands.

        *make* may be called again when the transaction was lost, and what it did through the connection counts once. The
        connection has the methods of `docket.Transaction`; a step with ``retry=`` sets savepoints through it. If
        somebody else holds the row, nothing is made and that is returned.

        Raises:
            BrokenTransaction: *make* ended the transaction it was lent.
        """
        ...


Place: TypeAlias = tuple[str, str]
"""A run id and a key: where a result stands, or would."""


@runtime_checkable
class Glances(Protocol):
    """A cache that can say how results stand without reading them. Optional; `Docket.wait` is cheaper with it."""

    async def states(self, places: Sequence[Place], /) -> Mapping[Place, State]:
        """Return the states of the results at *places*, however many there are, in one read; nothing for those without one.

        One that is running, whose lease has ended and that is not at least once, is in ``doubt``, though no row says so yet.
        """
        ...


@runtime_checkable
class Retention(Protocol):
    """What a cache offers beyond `Cache` so that finished runs can be purged."""

    async def purge(self, older_than: float, most: int, /) -> int:
        """Delete the values of at most *most* finished runs that nothing has changed for *older_than* seconds.

        Rows of effects that must not be repeated stay, as tombstones without a value.

        Returns:
            How many runs were purged; call again until it is 0.
        """
        ...


LATE_REASONS = ("holder_lost", "timeout", "cancelled")
"""Doubts that the holder itself may end by certifying: it was presumed lost, and nobody else has run the step since."""


def lost_for_good(record: Record) -> bool:
    """Whether the holder is lost and nobody may take over from it, so that only a person can tell how it ended."""
    return record.state == "running" and record.lease_left < 0 and record.mode != "at_least_once"


def claimed(row: Record | None, lost: bool, claim: Claim) -> Record | None:
    """Return the row that *claim* makes of *row*, None if it is not granted. *lost*: whether the row's lease has ended."""
    if row is not None:
        free = row.state in ("ready", "superseded") or (
            row.state == "running" and lost and row.mode == claim.mode == "at_least_once"
        )
        if not free or row.token != claim.seen or row.claim == claim.nonce:
            return None
    return Record(
        key=claim.key, mode=claim.mode, state="running", token=claim.seen + 1, claim=claim.nonce, owner=claim.owner,
        attempt=row.attempt + 1 if row else 1, made_from=claim.made_from,
    )  # fmt: skip


def certified(row: Record | None, certificate: Certificate) -> Record | None:
    """Return the row that *certificate* makes of *row*, None if it is not written."""
    token = certificate.token or certificate.seen + 1
    if certificate.token:
        ours = row is not None and row.token == certificate.token and row.claim == certificate.nonce
        if row is not None and not (
            ours and (row.state == "running" or (row.state == "doubt" and row.reason in LATE_REASONS))
        ):
            return None
    elif row is not None:
        free = row.state in ("ready", "superseded") or (row.state == "running" and row.mode == "at_least_once")
        if not free or row.token != certificate.seen or row.claim == certificate.nonce:
            return None
    return Record(
        key=certificate.key, mode=row.mode if row and certificate.token else certificate.mode, state="certified", token=token,
        claim=certificate.nonce, owner=certificate.owner, attempt=row.attempt if row else 1,
        made_from=row.made_from if row and certificate.token else certificate.made_from, stored=certificate.stored,
    )  # fmt: skip


def moved(row: Record, lost: bool, move: Move) -> Record | None:
    """Return the row that *move* makes of *row*, None if it is void. *lost*: whether the row's lease has ended."""
    fenced = row.token == move.token and move.nonce in (None, row.claim) and row.state in move.states
    if not fenced or (move.expired and not lost):
        return None
    return dataclasses.replace(
        row,
        state=move.to,
        token=row.token + move.fences,
        claim=move.id if move.fences else row.claim,
        attempt=0 if move.fences and move.to == "ready" else row.attempt,
        stored=move.stored if move.to == "certified" else None,
        reason=move.reason,
        error_type=move.error_type,
        error_text=move.error_text,
    )


@dataclass(slots=True)
class _Row:
    record: Record
    changed: float
    lease_until: float | None = None

    def lost(self) -> bool:
        return self.lease_until is not None and self.lease_until < time.monotonic()

    def seen(self) -> Record:
        now = time.monotonic()
        left = self.lease_until - now if self.lease_until is not None else 0.0
        return dataclasses.replace(self.record, since=now - self.changed, lease_left=left)


@dataclass(slots=True)
class _Rows:
    results: dict[str, _Row] = field(default_factory=dict[str, _Row])
    inputs: dict[tuple[str, str], Stored] = field(default_factory=dict[tuple[str, str], Stored])
    latest: dict[str, str] = field(default_factory=dict[str, str])

    def record(self, inputs: Iterable[Input]) -> None:
        for one in inputs:
            self.inputs.setdefault((one.stored.type, one.digest), one.stored)
            self.latest[one.stored.type] = one.digest


class MemoryCache:
    """A cache in this process's memory, for tests and first steps: everything is gone with it.

    It keeps the same rows as PostgreSQL does, and values pass through their serializer, so a test sees what production sees.

    Attributes:
        journal: Every move that was made, in order.
    """

    def __init__(self) -> None:
        self._runs: dict[str, _Rows] = {}
        self.journal: list[Move] = []

    async def load(self, run_id: str, /) -> Records:
        """Return everything known about a run."""
        rows = self._runs.get(run_id)
        if rows is None:
            return Records()
        return Records({key: row.seen() for key, row in rows.results.items()}, dict(rows.inputs), dict(rows.latest))

    async def claim(self, claim: Claim, /) -> Record:
        """Claim a result if it may be claimed; return what stands."""
        rows = self._runs.setdefault(claim.run_id, _Rows())
        row = rows.results.get(claim.key)
        record = claimed(row.record if row else None, row is not None and row.lost(), claim)
        if record is not None:
            row = rows.results[claim.key] = _Row(record, time.monotonic(), time.monotonic() + claim.lease)
            rows.record(claim.inputs)
        assert row is not None  # noqa: S101 - what is absent is claimed
        return row.seen()

    async def certify(self, certificate: Certificate, /) -> Record:
        """Store a result unless one stands; return what stands."""
        rows = self._runs.setdefault(certificate.run_id, _Rows())
        row = rows.results.get(certificate.key)
        record = certified(row.record if row else None, certificate)
        if record is not None:
            row = rows.results[certificate.key] = _Row(record, time.monotonic())
            rows.record(certificate.inputs)
        assert row is not None  # noqa: S101 - what is absent is written
        return row.seen()

    async def move(self, move: Move, /) -> Record | None:
        """Change a row's state; return what stands."""
        rows = self._runs.get(move.run_id)
        row = rows.results.get(move.key) if rows else None
        before = row.record if row else None
        record = moved(row.record, row.lost(), move) if row else None
        if rows is not None and record is not None:
            row = rows.results[move.key] = _Row(record, time.monotonic())
        if (record is not None or not move.states) and all(one.id != move.id for one in self.journal):
            self.journal.append(move if move.stored or before is None else dataclasses.replace(move, stored=before.stored))
        return row.seen() if row else None

    async def renew(self, held: Sequence[Held], lease: float, /) -> frozenset[UUID]:
        """Extend the leases of running claims; return the nonces that are still held."""
        kept: set[UUID] = set()
        for one in held:
            rows = self._runs.get(one.run_id)
            row = rows.results.get(one.key) if rows else None
            if row is not None and row.record.state == "running" and row.record.claim == one.nonce:
                row.lease_until = time.monotonic() + lease
                kept.add(one.nonce)
        return frozenset(kept)

    async def close(self) -> None:
        """Do nothing: the rows stay."""
