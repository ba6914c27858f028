"""One certified step's life: look, claim, call, certify; or doubt.

What may happen between any two writes is the whole subject of this file. The order is fixed: the claim is committed before
the step is called, and the result is certified before anyone sees it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import random
import uuid
from collections.abc import Coroutine
from typing import Any

from docket._certify.calling import Calling
from docket._certify.leases import Heart
from docket._certify.reconcile import NOT_APPLIED, ask
from docket._certify.storing import LIMIT, Blobs, CertifiedStep, Storing, in_doubt, is_cancelled, refusal
from docket._certify.transaction import transact
from docket._certify.writing import begin, finished
from docket._core.record import Record
from docket._core.step import Run
from docket._core.types import label
from docket._engine.calls import Calls
from docket._engine.sharing import is_stopping, pause
from docket.cache import Cache, Certificate, Claim, Held, Move
from docket.errors import (
    Busy,
    Change,
    InputsChanged,
    NotApplied,
    NotCertified,
    Refused,
    StepTimeout,
    WaitingFor,
    WrongResult,
)
from docket.serializers import Packed, Serializers, error_text

__all__ = ["CertifiedStep", "Certifier", "in_doubt", "refusal"]

LEASE = 60.0
"""Seconds until a silent holder may be presumed dead. Must outlast a failover of the database, during which
nobody can renew."""

ASK_AGAIN = 10.0
"""Seconds at least until the other side is asked again that could not answer. Our choice: an outage seldom ends sooner."""

POLL = (0.02, 1.0)
"""Shortest and longest pause, in seconds, between two looks at a claim that somebody else holds."""

_log = logging.getLogger("docket")


class Certifier(Storing):
    """Carries out certified steps against one cache.

    Args:
        cache: Where results are kept.
        serializers: Values to bytes and back.
        calls: How reconcile functions are called.
        lease: Seconds until a silent holder may be presumed dead.
        wait: Seconds to wait for a step that somebody else holds before raising `Busy`.
        blobs: Where results go that are too large for a row; None to refuse them.
    """

    def __init__(
        self,
        cache: Cache,
        serializers: Serializers,
        calls: Calls,
        lease: float = LEASE,
        wait: float = 10.0,
        blobs: Blobs | None = None,
    ) -> None:
        super().__init__(cache, serializers, blobs)
        self.lease, self._wait, self._calls = lease, wait, calls
        self._heart = Heart(cache, lease)
        self._late: set[asyncio.Task[tuple[object, Record]]] = set()

    def value(self, work: CertifiedStep) -> Coroutine[Any, Any, tuple[object, Record]]:
        """Return, awaited, the certified result of a step, making it if it is not there, and the record it stands in.

        Raises:
            Busy: Somebody else is at it and did not finish in time.
            InDoubt: An at-most-once step was started and nobody knows how it ended.
            InputsChanged: Somebody else made or is making it from other inputs.
            Refused: The step gave a final "no", now or earlier.
            NotCertified: It was made and could not be stored.
        """
        options = work.step.options
        unclaimed = options.cache_result == "at_least_once" and not options.exclusive
        if unclaimed and (work.replace or _is_free(work.record)):
            return self._unclaimed(work)
        return self._made(work, work.record)

    async def _made(self, work: CertifiedStep, standing: Record | None) -> tuple[object, Record]:
        """Look, and do what the row asks for, until there is a result or none can be had."""
        if work.replace and standing is work.record and standing is not None:
            standing = await self._supersede(work, standing)
        loop = asyncio.get_running_loop()
        look, end = POLL[0], loop.time() + (self._wait if work.wait is None else work.wait)
        while True:
            self.refuse_other_inputs(work, standing)
            if standing is not None and _is_lost(standing) and not _is_taken_over(work, standing):
                standing = await self.presume_dead(work.run_id, work.step.key, standing)
            elif _is_free(standing) or (standing is not None and _is_lost(standing)):
                made = await self._make(work, standing)
                if isinstance(made, tuple):
                    return made
                standing = made
            elif standing is not None and standing.state == "running":
                left = end - loop.time()
                if left <= 0:
                    raise Busy(
                        work.run_id, work.step.key, label(work.step.gives), max(standing.lease_left, 0.0), standing.owner
                    )
                if await pause(min(look * (0.5 + random.random()), left)):  # noqa: S311 - spreads several waiters' looks
                    raise asyncio.CancelledError
                look = min(look * 1.5, POLL[1])
                standing = (await self.cache.load(work.run_id)).results.get(work.step.key)
            elif standing is not None and standing.state == "doubt" and work.step.options.reconcile is not None:
                standing = await self._reconcile(work, standing)
            elif standing is not None:
                return await self.judged(work, standing), standing

    async def _make(self, work: CertifiedStep, standing: Record | None) -> tuple[object, Record] | Record | None:
        """Claim the step and run it; return its value and record, or what stands if it was not granted."""
        if work.step.options.cache_result == "transactional":
            # No lease: nobody sees the row before it is certified, unless the step commits it.
            return await transact(self, work, self.claim_of(work, standing, uuid.uuid4(), 0.0))
        if standing is not None and _is_lost(standing) and standing.attempt >= work.step.options.max_attempts:
            return await self.presume_dead(work.run_id, work.step.key, standing, "attempts")
        claim = self.claim_of(work, standing, uuid.uuid4(), self.lease)
        claimed = await self._claim(claim)
        if claimed is None or claimed.claim != claim.nonce or claimed.state != "running":
            return claimed
        if is_stopping():  # the run failed, or its last caller went, while the claim was under way
            await self.give_back(claim)
            raise asyncio.CancelledError
        return await self._hold(work, claimed)

    def claim_of(self, work: CertifiedStep, standing: Record | None, nonce: uuid.UUID, lease: float) -> Claim:
        """Return the claim of a step on what *standing* is the judged record of."""
        return Claim(
            work.run_id, work.step.key, work.step.options.cache_result or "at_least_once", nonce, self.owner, lease,
            standing.token if standing else 0, work.made_from, work.inputs,
        )  # fmt: skip

    async def _claim(self, claim: Claim) -> Record | None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            standing = await finished(lambda: self.cache.claim(claim))
        except asyncio.CancelledError:
            await self.give_back(claim)
            raise
        if standing.claim != claim.nonce or (standing.state == "running" and loop.time() - begun <= self.lease / 2):
            return standing
        # The answer was slow, or this process was frozen: the lease may be over, and the step must not be called then.
        held = Held(claim.run_id, claim.key, standing.token, claim.nonce)
        if standing.state == "running":
            try:
                if claim.nonce in await self.cache.renew((held,), self.lease):
                    return standing
            except Exception as error:
                _log.warning("run %r: the claim of %s is given back: %r", claim.run_id, claim.key, error)
        return await self.give_back(claim)

    async def _hold(self, work: CertifiedStep, claimed: Record) -> tuple[object, Record] | Record | None:
        """Run a claimed step under its lease. Returns what stands if an exclusive step's claim passed to somebody else."""
        held = Held(work.run_id, work.step.key, claimed.token, claimed.claim)
        run = Run(work.run_id, work.step.name, work.step.key, claimed.attempt, claimed.token)
        calling = Calling(work, run, stoppable=claimed.mode == "at_least_once")
        self._heart.hold(held, calling.lose)
        try:
            value = await calling.answer()
        except BaseException as error:
            if calling.lost and is_cancelled(error) and not _is_being_cancelled():
                return (await self.cache.load(work.run_id)).results.get(work.step.key)
            await self._fail(work, claimed, error)
            raise
        else:
            return await self._finish(work, claimed, value)
        finally:
            self._heart.drop(held)

    async def _finish(self, work: CertifiedStep, claimed: Record, value: object) -> tuple[object, Record]:
        try:
            packed = self.packed(work.run_id, work.step, value)
            if len(packed.stored.body) > LIMIT:
                packed = await self.put_away(work, claimed, packed)
        except NotCertified as error:
            await self.leave(work, claimed, "doubt", "doubted", "unstorable", error)
            raise
        standing = await self.certify(work, self.certificate(work, claimed, packed), packed)
        if standing.claim == claimed.claim and standing.state == "certified":
            return packed.value, standing
        if standing.state in ("ready", "superseded"):
            raise NotCertified(
                work.run_id, work.step.key, label(work.step.gives), packed.value,
                "it came after the step had been released, and is kept in the journal (event stray); nothing has run it again",
            )  # fmt: skip
        return await self.judged(work, standing), standing

    async def _fail(self, work: CertifiedStep, claimed: Record, error: BaseException) -> None:
        """Write down what the failure of a claimed step means; raise `InDoubt` if that is what it means."""
        if isinstance(error, NotApplied):
            reason = "waiting" if isinstance(error, WaitingFor) else "not_applied"
            await self.leave(work, claimed, "ready", "failed", reason, error)
        elif isinstance(error, Refused):
            await self.leave(work, claimed, "refused", "refused", "refused", error)
        elif claimed.mode == "at_least_once":
            await self.leave(work, claimed, "ready", "failed", "cancelled" if is_cancelled(error) else "error", error)
        elif is_cancelled(error):
            await self.leave(work, claimed, "doubt", "doubted", "cancelled", error)
        else:
            reason = "timeout" if isinstance(error, StepTimeout) else "error"
            standing = await self.leave(work, claimed, "doubt", "doubted", reason, error)
            if isinstance(error, StepTimeout) and isinstance(error.unfinished, asyncio.Future):
                self._await_late(work, claimed, error.unfinished)
            if standing is not None and standing.state == "doubt":
                wait = self._reconcile_after(work) if work.step.options.reconcile is not None else None
                raise in_doubt(work.run_id, work.step, standing, wait) from error

    def _await_late(self, work: CertifiedStep, claimed: Record, call: asyncio.Future[object]) -> None:
        """Let a call that was left behind after its timeout end its own doubt, should it return after all."""

        def certify(call: asyncio.Future[object]) -> None:
            if not call.cancelled() and call.exception() is None:
                finishing = begin(self._finish(work, claimed, call.result()), "docket late answer")
                self._late.add(finishing)
                finishing.add_done_callback(certified)

        def certified(finishing: asyncio.Task[tuple[object, Record]]) -> None:
            self._late.discard(finishing)
            if (error := finishing.exception()) is not None:
                _log.error("an answer that came after its step's timeout was not certified: %r", error)

        call.add_done_callback(certify)

    async def _unclaimed(self, work: CertifiedStep) -> tuple[object, Record]:
        """Run an at-least-once step that nobody holds; the first of several writers wins."""
        try:
            value = await work.call(Run(work.run_id, work.step.name, work.step.key))
            packed = self.packed(work.run_id, work.step, value)
            if len(packed.stored.body) > LIMIT:
                packed = await finished(functools.partial(self.put, work.run_id, work.step, packed))
        except (Refused, NotCertified) as error:
            standing = await self._leave_unclaimed(work, error)
            if standing is not None and standing.state == "certified":  # somebody else was first, with a result
                return await self.judged(work, standing), standing
            raise
        standing = work.record
        if work.replace and standing is not None:
            standing = await self._supersede(work, standing)
        nonce = uuid.uuid4()
        while True:
            certificate = Certificate(
                work.run_id, work.step.key, "at_least_once", nonce, 0, self.owner, packed.stored,
                standing.token if standing else 0, work.made_from, work.inputs,
            )  # fmt: skip
            standing = await self.certify(work, certificate, packed)
            if standing.claim == nonce:
                return packed.value, standing
            self.refuse_other_inputs(work, standing)
            if not _is_free(standing) and not (standing.state == "running" and standing.mode == "at_least_once"):
                break
        if standing.state not in ("certified", "refused"):  # a stricter mode was deployed meanwhile
            await self.keep_aside(certificate, uuid.uuid4())
        return await self._made(work, standing)

    async def _leave_unclaimed(self, work: CertifiedStep, error: Refused | NotCertified) -> Record | None:
        """Write down a final failure of a step that holds no claim, if nobody else has decided; return what stands."""
        standing = work.record
        if work.replace and standing is not None:
            standing = await self._supersede(work, standing)
        claim = self.claim_of(work, standing, uuid.uuid4(), self.lease)
        claimed = await finished(lambda: self.cache.claim(claim))
        if claimed.claim != claim.nonce:
            return claimed
        if isinstance(error, Refused):
            return await self.leave(work, claimed, "refused", "refused", "refused", error)
        return await self.leave(work, claimed, "doubt", "doubted", "unstorable", error)

    async def judged(self, work: CertifiedStep, standing: Record) -> object:
        """Return the value of a final record, or raise what it means."""
        if standing.state == "certified":
            return await self.decode(work.run_id, work.step, standing)
        if standing.state == "refused":
            raise refusal(work.run_id, standing)
        raise in_doubt(work.run_id, work.step, standing)

    def refuse_other_inputs(self, work: CertifiedStep, standing: Record | None) -> None:
        """Refuse to go on with a row that another request under this run id has made or is making.

        Raises:
            InputsChanged: It was made from other inputs.
        """
        judged = standing is None or standing is work.record  # by the plan
        if standing is None or judged or standing.state == "superseded" or work.step.options.on_change != "raise":
            return
        made, mine = standing.made_from.inputs, work.made_from.inputs
        changed = [key for key in made.keys() & mine.keys() if made[key] != mine[key]]
        if changed:
            changes = tuple(Change(name, "", "another value", "the value passed now") for name in changed)
            recomputable = work.step.options.cache_result == "at_least_once"
            raise InputsChanged(work.run_id, work.step.name, changes, recomputable=recomputable)

    async def presume_dead(self, run_id: str, key: str, standing: Record, reason: str = "holder_lost") -> Record | None:
        """Put a step in doubt whose holder was silent for longer than its lease; return what stands."""
        if standing.mode == "transactional":  # a running row of this mode is only ever seen when its step has committed it
            reason = "step_committed"
        move = Move(
            run_id, key, standing.token, None, ("running",), "doubt", "doubted", uuid.uuid4(),
            expired=True, reason=reason, error_text=f"{standing.owner} was last heard of before its lease ended",
        )  # fmt: skip
        return await finished(lambda: self.cache.move(move))

    async def _supersede(self, work: CertifiedStep, standing: Record) -> Record | None:
        move = Move(
            work.run_id, work.step.key, standing.token, standing.claim, ("certified", "refused"), "superseded", "superseded",
            uuid.uuid4(), owner=self.owner, fences=True, reason="made from other inputs or by another version",
            stored=standing.stored,
        )  # fmt: skip
        return await finished(lambda: self.cache.move(move))

    def _reconcile_after(self, work: CertifiedStep) -> float:
        options = work.step.options
        if options.reconcile_after is not None:
            return options.reconcile_after
        return max(options.timeout or 0.0, self.lease)

    async def _reconcile(self, work: CertifiedStep, standing: Record) -> Record | None:
        """Ask the step's reconcile function how a doubt ended, carry out what it says, and return what stands.

        Not before the call can be over: the other side would say that nothing happened, and then it would.
        """
        silent = standing.since + (self.lease if standing.reason == "holder_lost" else 0.0)
        left = self._reconcile_after(work) - silent
        if left > 0:
            raise in_doubt(work.run_id, work.step, standing, left)
        try:
            run = Run(work.run_id, work.step.name, work.step.key, standing.attempt, standing.token)
            answer = await ask(self._calls, work.step, run, work.values)
            packed = None if answer is NOT_APPLIED else await self.pack(work.run_id, work.step, answer)
        except Refused as refused:
            return await self._decided(work, standing, refused)
        except Exception as error:
            why = f"{type(error).__name__}: {error_text(error, work.step.key, self.serializers.redact)}"
            told = f"{standing.error_text}; its reconcile function gave no answer: {why}"
            # The outage that left the doubt may last; a function that is wrong stays so.
            again = None if isinstance(error, WrongResult | NotCertified) else max(self._reconcile_after(work), ASK_AGAIN)
            raise in_doubt(work.run_id, work.step, dataclasses.replace(standing, error_text=told), again) from error
        return await self._decided(work, standing, packed)

    async def _decided(self, work: CertifiedStep, standing: Record, answer: Packed | Refused | None) -> Record | None:
        move = self.verdict(work.run_id, work.step, standing, answer, by=f"{self.owner} (reconcile)")
        return await finished(lambda: self.cache.move(move))


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_free(record: Record | None) -> bool:
    return record is None or record.state in ("ready", "superseded")


def _is_lost(record: Record) -> bool:
    return record.state == "running" and record.lease_left < 0


def _is_taken_over(work: CertifiedStep, record: Record) -> bool:
    """Whether a lost holder's step may simply be run again: the stricter of the stored and the registered mode rules."""
    return record.mode == work.step.options.cache_result == "at_least_once"
