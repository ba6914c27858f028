"""Leases: what this process holds, renewed by one heartbeat."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from uuid import UUID

from docket._certify.writing import begin
from docket.cache import Cache, Held

BEATS = 3
"""Renewals in the time of one lease: two may fail before it ends."""

_log = logging.getLogger("docket")


class Heart:
    """Renews the leases of everything this process holds, in one statement; silent while it holds nothing.

    Args:
        cache: Where the claims are.
        lease: Seconds that a renewal lasts.
    """

    def __init__(self, cache: Cache, lease: float) -> None:
        self._cache, self._lease = cache, lease
        self._held: dict[UUID, tuple[Held, Callable[[], None], float]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None
        self._beat: asyncio.Task[None] | None = None

    def hold(self, held: Held, lost: Callable[[], None]) -> None:
        """Keep *held* alive until it is dropped.

        Args:
            held: The claim.
            lost: Called when the claim turns out to be another's, and when its lease has ended by this process's clock,
                whatever the renewal is waiting for: then it may be another's soon.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # a heart that stopped with its loop, or in the parent of this process
            self._loop, self._timer, self._end, self._beat = loop, None, None, None
            self._held.clear()
        self._held[held.nonce] = held, lost, loop.time()
        if self._timer is None and self._beat is None:
            self._timer = loop.call_later(self._lease / BEATS, self._start)
        if self._end is None:
            self._end = loop.call_later(self._lease, self._ended)

    def drop(self, held: Held) -> None:
        """Let go of a claim. The heartbeat notices by itself when nothing is left."""
        self._held.pop(held.nonce, None)

    def _ended(self) -> None:
        assert self._loop is not None  # noqa: S101 - set with the first claim
        now, soonest = self._loop.time(), None
        for nonce, (held, lost, last) in list(self._held.items()):
            end = last + self._lease
            if end <= now:
                self._held[nonce] = held, lost, now  # said again after another lease, should it still be held then
                lost()
                end = now + self._lease
            soonest = end if soonest is None else min(soonest, end)
        self._end = None if soonest is None else self._loop.call_at(soonest, self._ended)

    def _start(self) -> None:
        self._timer = None
        if self._held:
            self._beat = begin(self._renew(), "docket heartbeat")

    async def _renew(self) -> None:
        assert self._loop is not None  # noqa: S101 - set with the first claim
        pause = self._lease / BEATS
        asked = [held for held, _, _ in self._held.values()]
        begun = self._loop.time()
        try:
            kept = await self._cache.renew(asked, self._lease)
        except Exception as error:
            # The next beat tries again; the lease is there to bridge this.
            _log.warning("the leases of %d steps could not be renewed: %r", len(asked), error)
            pause /= BEATS
        else:
            for held in asked:
                if held.nonce in kept and (known := self._held.get(held.nonce)) is not None:
                    self._held[held.nonce] = *known[:2], begun
            for held in asked:
                if held.nonce not in kept and (gone := self._held.pop(held.nonce, None)) is not None:
                    gone[1]()
        self._beat = None
        if self._held:
            self._timer = self._loop.call_later(pause, self._start)
