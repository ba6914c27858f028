"""Concurrent runs share round trips without waiting for each other.

What arrives while a statement is in flight goes out together in the next one. Nobody waits for company longer than one turn
of the loop: with nothing in flight a statement leaves at once. At 64 runs in flight this is worth a factor of eight, because
the cost is round trips and wake-ups, not the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from docket._certify.writing import begin

Item = TypeVar("Item")
Answer = TypeVar("Answer")

IN_FLIGHT = 2
"""Statements of one kind under way at once. With one, the next batch waits for a whole round trip; more than two made the
batches smaller and the whole slower when measured on two cores."""

MOST = 256
"""Rows in one statement: bounds its size, and how much one bad row can hold up."""


class Coalescer(Generic[Item, Answer]):
    """Sends what gathers while earlier statements of the same kind are under way.

    Args:
        send: Sends several items as one statement; returns one answer per item, or raises for all.
        name: What identifies an item's row; two items of one name never share a statement.
        alone: Whether an error of a statement may be one item's fault, so that each is to be sent again by itself.
        company: Whether more usually follows in the next turn of the loop, such as the results of steps of one run that were
            ready together; then a statement leaves one turn later, with them.
    """

    def __init__(
        self,
        send: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        name: Callable[[Item], Hashable],
        alone: Callable[[Exception], bool],
        *,
        company: bool = False,
    ) -> None:
        self._send, self._name, self._alone, self._company = send, name, alone, company
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._senders: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._starting = False  # a sender has not looked yet at what waits

    def __call__(self, item: Item, /) -> Awaitable[Answer]:
        """Send *item* with the next statement; await the answer.

        A caller that is cancelled stops waiting; its item may be sent all the same.
        """
        if self._in_flight < IN_FLIGHT and not self._waiting and not self._company:
            return self._sent_alone(item)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._in_flight < IN_FLIGHT and not self._starting:
            self._start()
        return future

    async def _sent_alone(self, item: Item) -> Answer:
        # Alone on the road: no task, no future, no further turn of the loop.
        self._in_flight += 1
        try:
            (answer,) = await self._send([item])
        finally:
            self._in_flight -= 1
            if self._waiting:
                self._start()
        return answer

    def _start(self) -> None:
        # A task that nobody's cancellation reaches, since it works for several callers.
        self._in_flight += 1
        self._starting = True
        sender = begin(self._run(), "docket statement")
        self._senders.add(sender)
        sender.add_done_callback(self._senders.discard)

    async def _run(self) -> None:
        try:
            if self._company:
                await asyncio.sleep(0)
            self._starting = False
            while self._waiting:
                batch = self._take()
                if not batch:
                    continue
                try:
                    answers = await self._send([item for item, _ in batch])
                except Exception as error:
                    await self._fail(batch, error)
                except BaseException:
                    for _, future in batch:
                        future.cancel()
                    raise
                else:
                    for (_, future), answer in zip(batch, answers, strict=True):
                        if not future.done():
                            future.set_result(answer)
        finally:
            self._in_flight -= 1

    def _take(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        batch: dict[Hashable, tuple[Item, asyncio.Future[Answer]]] = {}
        later: list[tuple[Item, asyncio.Future[Answer]]] = []
        for waiting in self._waiting:
            if waiting[1].done():  # its caller was cancelled before anything was sent
                continue
            name = self._name(waiting[0])
            if name in batch or len(batch) >= MOST:
                later.append(waiting)
            else:
                batch[name] = waiting
        self._waiting = later
        return list(batch.values())

    async def _fail(self, batch: list[tuple[Item, asyncio.Future[Answer]]], error: Exception) -> None:
        if len(batch) == 1 or not self._alone(error):
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for item, future in batch:
            try:
                (answer,) = await self._send([item])
            except Exception as own:
                if not future.done():
                    future.set_exception(own)
            else:
                if not future.done():
                    future.set_result(answer)
