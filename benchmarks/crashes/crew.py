"""The processes that run orders, and who works on which."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import multiprocessing
import os
import random
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from benchmarks.crashes.worker import Answer, Setting, main

WIDTH = 4
"""Orders that a worker runs at once, so that statements of several runs travel together."""

AT_ONCE = 24
"""Orders that are open at once."""


class Worker:
    """One process.

    Attributes:
        process: The process.
        orders: Where it takes orders and answers.
        working: The orders it has not answered.
        paused: Whether it is stopped now.
    """

    def __init__(self, process: BaseProcess, orders: Connection) -> None:
        self.process, self.orders = process, orders
        self.working: set[str] = set()
        self.paused = False

    def signal(self, number: int) -> None:
        """Send a signal to this process and no other."""
        # One that has just died is reaped by the server that forked it, a moment before it counts as dead here.
        with contextlib.suppress(ProcessLookupError):
            if self.process.pid is not None and self.process.is_alive():
                os.kill(self.process.pid, number)


class Crew:
    """Workers that are replaced when they die, and orders that are handed out until they are done.

    Args:
        setting: What workers are told.
        size: How many there are.
        contention: The share of hand-outs that go to an order which another worker has too.
        chance: Decides what is handed to whom.

    Attributes:
        done: Orders that were answered.
        answers: The effects that callers were told, by order and key.
        errors: How often each error was the answer; `errors` are none of the database's.
        contended: Orders handed to a worker while another had them.
        filling: Whether there are always new orders.
    """

    def __init__(self, setting: Setting, size: int, contention: float, chance: random.Random) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["benchmarks.crashes.worker"])
        self._setting, self._size, self._contention, self._chance = setting, size, contention, chance
        self._made = 0
        self._waiting: collections.deque[str] = collections.deque()
        self._open: set[str] = set()
        self._some_answer = asyncio.Event()
        self.workers: list[Worker] = []
        self.done: set[str] = set()
        self.doubtful: set[str] = set()
        self.answers: dict[tuple[str, str], set[str]] = collections.defaultdict(set)
        self.errors: collections.Counter[str] = collections.Counter()
        self.outages: collections.Counter[str] = collections.Counter()
        self.contended = 0
        self.filling = True

    @property
    def open(self) -> frozenset[str]:
        """The orders that are not done."""
        return frozenset(self._open | self.doubtful)

    async def tend(self) -> None:
        """Replace the dead and hand out orders, for ever."""
        while True:
            while len(self.workers) < self._size:
                self._start()
            self._hand_out()
            await asyncio.sleep(0.005)

    async def started(self, patience: float) -> None:
        """Wait for the first answer of these workers, or for *patience* seconds."""
        self._some_answer.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._some_answer.wait(), patience)

    async def drained(self, patience: float) -> None:
        """Wait until nobody works any more, or for *patience* seconds; then end the workers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while any(worker.working for worker in self.workers):
                    self._some_answer.clear()
                    await self._some_answer.wait()
        self.end()

    def end(self) -> None:
        """Kill every worker, and put what they had back."""
        for worker in list(self.workers):
            worker.signal(signal.SIGKILL)
            worker.process.join()
            self._receive(worker)
            self._lose(worker)

    def reopen(self) -> None:
        """Hand out again what was in doubt."""
        self._open |= self.doubtful
        self._waiting.extend(sorted(self.doubtful))
        self.doubtful.clear()

    def busy(self) -> list[Worker]:
        """Return the workers that have something to do and are not paused."""
        return [worker for worker in self.workers if worker.working and not worker.paused]

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=main, args=(theirs, self._setting), daemon=True)
        process.start()
        theirs.close()
        worker = Worker(process, ours)
        self.workers.append(worker)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._receive, worker)

    def _receive(self, worker: Worker) -> None:
        try:
            while worker.orders.poll():
                self._answered(worker, worker.orders.recv())
        except (EOFError, OSError):
            self._lose(worker)

    def _lose(self, worker: Worker) -> None:
        if worker in self.workers:
            self.workers.remove(worker)
            asyncio.get_running_loop().remove_reader(worker.orders.fileno())
            worker.orders.close()
            worker.process.join()
            self._waiting.extend(sorted(worker.working))
            self._some_answer.set()

    def _answered(self, worker: Worker, answer: Answer) -> None:
        run_id = answer.run_id
        worker.working.discard(run_id)
        self._some_answer.set()
        for key, effect in answer.effects.items():
            self.answers[run_id, key].add(effect)
        if answer.how == "ok":
            self.done.add(run_id)
            self._open.discard(run_id)
            self.doubtful.discard(run_id)
        elif answer.how == "doubt" and run_id in self._open:
            self._open.discard(run_id)
            self.doubtful.add(run_id)
        elif answer.how in ("error", "database"):
            (self.errors if answer.how == "error" else self.outages)[answer.error[:200]] += 1
        if run_id in self._open:
            pause = min(answer.retry_after, self._setting.lease / 4) + 0.02
            asyncio.get_running_loop().call_later(pause, self._waiting.append, run_id)

    def _hand_out(self) -> None:
        while self.filling and len(self._open) < AT_ONCE:
            self._made += 1
            run_id = f"order-{self._made:07}"
            self._open.add(run_id)
            self._waiting.append(run_id)
        for worker in self.workers:
            while not worker.paused and len(worker.working) < WIDTH:
                order = self._next(worker)
                if order is None:
                    break
                worker.working.add(order)
                try:
                    worker.orders.send(order)
                except OSError:  # it has just died, which is noticed elsewhere
                    break

    def _next(self, worker: Worker) -> str | None:
        if self._chance.random() < self._contention:
            others = sorted(self._elsewhere(worker))
            if others:
                self.contended += 1
                return self._chance.choice(others)
        for _ in range(len(self._waiting)):
            candidate = self._waiting.popleft()
            if candidate in self._open and candidate not in worker.working:
                return candidate
        return None

    def _elsewhere(self, worker: Worker) -> Iterator[str]:
        for other in self.workers:
            if other is not worker:
                yield from (run_id for run_id in other.working - worker.working if run_id in self._open)
