"""What is written about one certified step: its result, its failure, and a result that came too late.

Every write here is idempotent by its nonce and is made to its end, whatever is cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import logging
import os
import socket
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from docket._certify.writing import finished, made_again
from docket._core.immutable import immutable
from docket._core.names import storable
from docket._core.record import Blob, MadeFrom, Record, State, Stored, digest_of
from docket._core.step import Run, Step
from docket._core.types import Key, label
from docket.cache import Cache, Certificate, Claim, Input, Move
from docket.errors import InDoubt, NewerCertificate, NotCertified, Purged, Refused, Undecodable, Unstorable
from docket.serializers import Packed, Serializers, error_text

LIMIT = 1_048_576
"""Bytes of a result, or of an input, that go into a row. Our choice: above it a row costs PostgreSQL more than an object store
does, and every load of the run pays for it."""

ERROR_TYPE = 200
"""Characters of an exception's class name that are kept."""

_log = logging.getLogger("docket")


class Blobs(Protocol):
    """Where results live that are too large for a row. `docket.blobs.BlobStore` is one."""

    async def put(self, run_id: str, key: str, body: bytes, /) -> Blob:
        """Store bytes under a name made of the run, the key and their hash, unless they are there; return where."""
        ...

    async def get(self, blob: Blob, /) -> bytes:
        """Return the bytes, verified against size and hash.

        Raises:
            ValueError: They are not what was stored.
        """
        ...


@immutable(frozen=True, slots=True)
class CertifiedStep:
    """One certified step of one run, ready to be carried out.

    Attributes:
        run_id: The run.
        step: The step.
        call: Calls the step's function with its needs; takes the `Run` for it.
        made_from: What its result is made from.
        inputs: The inputs named in it.
        record: What stood in the cache when the run was loaded; None if nothing.
        values: The values of its needs, for its reconcile function.
        replace: Whether ``record`` is final and no longer valid, so that the step is to be run again.
        wait: Seconds to wait for somebody else who is at it; the certifier's own limit if None.
    """

    run_id: str
    step: Step
    call: Callable[[Run], Awaitable[object]]
    made_from: MadeFrom
    inputs: tuple[Input, ...]
    record: Record | None
    values: tuple[object, ...] = ()
    replace: bool = False
    wait: float | None = None


class Storing:
    """Values into rows and back, through one cache.

    Args:
        cache: Where results are kept.
        serializers: Values to bytes and back.
        blobs: Where results go that are too large for a row; None to refuse them.
    """

    def __init__(self, cache: Cache, serializers: Serializers, blobs: Blobs | None = None) -> None:
        self.cache, self.serializers, self.blobs = cache, serializers, blobs
        self._host = socket.gethostname()

    @property
    def owner(self) -> str:
        """Who writes, for people: host and process, also of a process that was forked after this was made."""
        return f"{self._host}:{os.getpid()}"

    async def decode(self, run_id: str, step: Step, record: Record) -> object:
        """Return the value of a certified record, its bytes fetched from where they are.

        Raises:
            NewerCertificate: It cannot be read, and a newer version of the step wrote it.
            Undecodable: It can no longer be read.
        """
        stored = record.stored
        if stored is not None and stored.blob is not None:
            stored = await self.fetched(run_id, step.key, stored)
        return self.decoded(run_id, step, record, stored)

    def decoded(self, run_id: str, step: Step, record: Record, stored: Stored | None) -> object:
        """Return the value of a certified record from its bytes; raise as `decode` does."""
        if stored is None:
            raise Undecodable(run_id, step.key, "", "", f"the record is {record.state} and holds no value")
        try:
            return self.decode_stored(run_id, step.gives, step.key, stored, step.gives_none)
        except Undecodable as error:
            written, version = record.made_from.versions.get(step.key, 1), step.options.version
            if written <= version:
                raise
            raise NewerCertificate(
                run_id, step.key, stored.serializer, stored.type, str(error.__cause__), written=written, version=version
            ) from error

    def decode_stored(self, run_id: str, type_: object, key: str, stored: Stored, none: bool = False) -> object:
        """Return a stored value as *type_*, or as None if that is what was stored and *none* says that it may be.

        Raises:
            Undecodable: It can no longer be read.
        """
        value: object = self.serializers.unpack(type_, stored, run_id=run_id, key=key, none=none)
        return value

    async def pack(self, run_id: str, step: Step, value: object) -> Packed:
        """Return a step's result as it is stored, its bytes in the blob store if they are many.

        Raises:
            NotCertified: It cannot be stored.
        """
        packed = self.packed(run_id, step, value)
        return packed if len(packed.stored.body) <= LIMIT else await self.put(run_id, step, packed)

    def packed(self, run_id: str, step: Step, value: object) -> Packed:
        """Return a step's result as it is stored; if it has more bytes than `LIMIT`, they are still to be `put`.

        Raises:
            NotCertified: It cannot be stored.
        """
        try:
            packed = self.serializers.pack(step.gives, value, run_id=run_id, key=step.key)
            if len(packed.stored.body) > LIMIT and self.blobs is None:
                raise ValueError(
                    f"it has {len(packed.stored.body):,} bytes, and a row takes {LIMIT:,}; give Docket(blobs=BlobStore(...)) "
                    "somewhere to put it, or return a reference"
                )
        except Exception as error:
            raise self._not_certified(run_id, step, value, error) from error
        return packed

    async def put(self, run_id: str, step: Step, packed: Packed) -> Packed:
        """Put the bytes of a large result into the blob store; return it with their address in their place.

        Raises:
            NotCertified: The store did not take them.
        """
        assert self.blobs is not None  # noqa: S101 - `packed` has refused what is too large without one
        try:
            blob = await self.blobs.put(run_id, step.key, packed.stored.body)
        except Exception as error:
            raise self._not_certified(run_id, step, packed.value, error) from error
        return Packed(Stored(packed.stored.serializer, packed.stored.type, b"", None, blob), packed.plain, packed.value)

    def certificate(self, work: CertifiedStep, claimed: Record, packed: Packed) -> Certificate:
        """Return the certificate of a claimed step."""
        return Certificate(
            work.run_id, work.step.key, claimed.mode, claimed.claim, claimed.token, self.owner, packed.stored,
            0, work.made_from,
        )  # fmt: skip

    async def put_away(self, work: CertifiedStep, claimed: Record, packed: Packed) -> Packed:
        """Put a large result where those go. If this is cancelled, it is certified all the same: the effect happened."""

        async def kept() -> None:
            certificate = self.certificate(work, claimed, await self.put(work.run_id, work.step, packed))
            await self.certify(work, certificate, packed)

        try:
            return await self.put(work.run_id, work.step, packed)
        except asyncio.CancelledError as error:
            await made_again(error, kept())
            raise

    def recorded(
        self, run_id: str, key: Key, name: str, value: object, known: Mapping[tuple[str, str], Stored]
    ) -> Input:
        """Return an input as it is recorded beside what is made from it.

        Args:
            run_id: The run.
            key: The input's type.
            name: What it is called in the cache.
            value: The input.
            known: What is recorded already, by storage key and digest.

        Raises:
            Unstorable: It has no bytes, more than `LIMIT`, or would not come back the same. Nothing has run.
        """
        plain = self.serializers.plain(key, value)
        digest = hashlib.sha256(plain).hexdigest()
        stored = known.get((name, digest)) if known else None
        if stored is None:
            if len(plain) > LIMIT:
                reason = f"it is an input of {len(plain):,} bytes, and a row takes {LIMIT:,}"
                raise Unstorable(label(key), reason, "keep it elsewhere, and pass a reference to it")
            stored = self.serializers.pack(key, value, run_id=run_id, key=name, plain=plain).stored
        return Input(digest, stored)

    async def certify(self, work: CertifiedStep, certificate: Certificate, packed: Packed) -> Record:
        """Store a result and return what stands; one that came too late for its claim is kept aside.

        Raises:
            NotCertified: It could not be stored. It is logged, without the value.
        """
        try:
            return await self._certified(certificate)
        except asyncio.CancelledError as error:
            await made_again(error, self._certified(certificate))
            raise
        except Exception as error:
            raise self._not_certified(work.run_id, work.step, packed.value, error, certificate) from error

    async def _certified(self, certificate: Certificate) -> Record:
        standing = await self.cache.certify(certificate)
        if certificate.token and standing.claim != certificate.nonce:
            await self.keep_aside(certificate, uuid.uuid5(certificate.nonce, "stray"))  # the same in every repetition
        return standing

    async def keep_aside(self, certificate: Certificate, id_: uuid.UUID) -> None:
        """Keep a result that came too late: the effect happened, so its answer must not be lost."""
        _log.error(
            "run %r: a result of %s came too late and is kept in the journal (event stray): its claim %d had passed to "
            "somebody else; compare the two effects",
            certificate.run_id, certificate.key, certificate.token,
        )  # fmt: skip
        await self.cache.move(
            Move(
                certificate.run_id, certificate.key, certificate.token, certificate.nonce, (), "certified", "stray", id_,
                owner=self.owner, reason="came too late", stored=certificate.stored,
            )
        )  # fmt: skip

    async def leave(
        self, work: CertifiedStep, claimed: Record, to: State, event: str, reason: str, error: BaseException
    ) -> Record | None:
        """Write down what a holder's failure means, and return what stands."""
        move = self.ending(work, claimed, to, event, reason, error)
        return await finished(lambda: self.cache.move(move))

    def ending(
        self, work: CertifiedStep, claimed: Record, to: State, event: str, reason: str, error: BaseException
    ) -> Move:
        """Return what a holder's failure means, as it is written down.

        A holder who knows that nothing happened, or what the final answer was, may say so even after it was presumed lost.
        """
        known: tuple[State, ...] = ("running",) if to == "doubt" else ("running", "doubt")
        return Move(
            work.run_id, work.step.key, claimed.token, claimed.claim, known, to, event, uuid.uuid4(),
            owner=self.owner, reason=reason, error_type=type(error).__name__[:ERROR_TYPE],
            error_text=error_text(error, work.step.key, self.serializers.redact),
        )  # fmt: skip

    def verdict(
        self, run_id: str, step: Step, seen: Record, answer: Packed | Refused | None, *, by: str = "", note: str = ""
    ) -> Move:
        """Return what decides a doubt: it happened and this came of it, it was refused, or (None) it did not happen."""
        move = Move(
            run_id, step.key, seen.token, None, (seen.state,), "ready", "released", uuid.uuid4(),
            owner=storable(by) or self.owner, fences=True, reason="released", error_text=storable(note),
        )  # fmt: skip
        if answer is None:
            return move
        if isinstance(answer, Packed):
            return dataclasses.replace(move, to="certified", event="settled", reason="", stored=answer.stored)
        text = error_text(answer, step.key, self.serializers.redact)
        name = type(answer).__name__[:ERROR_TYPE]
        return dataclasses.replace(move, to="refused", event="settled", reason="refused", error_type=name, error_text=text)

    async def give_back(self, claim: Claim) -> Record | None:
        """Give back a claim whose step was certainly never called; return what stands."""
        id_ = uuid.uuid4()

        async def write() -> Record | None:
            standing = (await self.cache.load(claim.run_id)).results.get(claim.key)
            if standing is None or standing.claim != claim.nonce:
                return standing
            move = Move(
                claim.run_id, claim.key, standing.token, claim.nonce, ("running", "doubt"), "ready", "given_back", id_,
                owner=self.owner, reason="not_called",
            )  # fmt: skip
            return await self.cache.move(move)

        return await finished(write)

    async def fetched(self, run_id: str, key: str, stored: Stored) -> Stored:
        """Return a value whose bytes are in the blob store, with its bytes.

        Raises:
            Undecodable: They are not there, or not what was stored.
        """
        blob = stored.blob
        if blob is None:
            return stored
        if self.blobs is None:
            reason = f"its {blob.size:,} bytes are at {blob.uri}, and there is no blob store: Docket(blobs=BlobStore(...))"
            raise Undecodable(run_id, key, stored.serializer, stored.type, reason)
        try:
            return Stored(stored.serializer, stored.type, await self.blobs.get(blob))
        except (ValueError, FileNotFoundError) as error:
            raise Undecodable(run_id, key, stored.serializer, stored.type, str(error)) from error

    def _not_certified(
        self, run_id: str, step: Step, value: object, error: Exception, certificate: Certificate | None = None
    ) -> NotCertified:
        token = certificate.token if certificate else None
        known = digest_of(certificate.stored) if certificate else "unknown"
        _log.error(
            "run %r: the result of %s (%s) could not be certified (claim %s, sha256 %s): %r; the error's .result holds it",
            run_id, step.name, step.key, token, known, error,
        )  # fmt: skip
        return NotCertified(run_id, step.key, label(step.gives), value, f"{type(error).__name__}: {error}", token)


def in_doubt(run_id: str, step: Step, record: Record, retry_after: float | None = None) -> InDoubt | Purged:
    """Return the error for a record in doubt, or for one that was purged."""
    if record.state == "purged":
        return Purged(run_id, step.key, label(step.gives))
    detail = ": ".join(part for part in (record.error_type, record.error_text) if part)
    reason = record.reason or record.state
    return InDoubt(run_id, step.key, label(step.gives), record.token, reason, record.since, detail, retry_after)


def refusal(run_id: str, record: Record) -> Refused:
    """Return a certified refusal as the error it is raised as again."""
    return Refused(record.error_text, run_id=run_id, kind=record.error_type)


def is_cancelled(error: BaseException) -> bool:
    """Whether *error* is a cancellation, of whichever kind."""
    return isinstance(error, asyncio.CancelledError)
