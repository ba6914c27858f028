"""Processes that ask for a charge, to be killed, stopped and cut off.

They are forked from a server that has everything loaded, so that a test may afford many.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from examples.orders.orders_pb2 import ChargeResult
from tests.certify.doors import Door
from tests.certify.steps import Charging, Selling

EXCLUSIVE: dict[str, Any] = {"cache_result": "at_least_once", "exclusive": True}
ONCE: dict[str, Any] = {"cache_result": "at_most_once"}
UNCLAIMED: dict[str, Any] = {"cache_result": "at_least_once"}
TRANSACTIONAL: dict[str, Any] = {"cache_result": "transactional"}

LEASE = 0.4
"""Seconds of a process's lease: long enough to be renewed on a busy machine, or what is not to be lost would be."""

PATIENCE = 30.0
"""Seconds that a process is waited for."""

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


class Ledger:
    """What took effect outside: a file that no kill leaves half written, with a line for each effect.

    Args:
        path: Where.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch()

    def write(self, run_id: str, effect: str) -> None:
        """Take effect."""
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        os.write(file, f"{run_id}\t{effect}\n".encode())
        os.close(file)

    def effects(self, run_id: str = "order-1") -> list[str]:
        """Return the effects of a run, in order."""
        lines = [line.split("\t") for line in self._path.read_text().splitlines()]
        return [effect for run, effect in lines if run == run_id]


@dataclass(frozen=True, slots=True)
class Errand:
    """What a process is to do.

    Attributes:
        door: How it comes to the database.
        ledger: Where its effects go.
        options: Of the step; a transactional one is a `Selling`, and has no further say.
        run_id: The run it asks for.
        lease: Seconds.
        wait: Seconds to wait for another holder.
        does: What its step does once it took effect: ``wait`` until it is told to go on, the same with its event loop
            ``blocked``, ``return``, or ``die``.
        skew: Seconds that its clocks are ahead.
    """

    door: Door
    ledger: Ledger
    options: dict[str, Any]
    run_id: str = "order-1"
    lease: float = LEASE
    wait: float = 10.0
    does: Literal["wait", "blocked", "return", "die"] = "wait"
    skew: float = 0.0


class Process:
    """One process.

    Attributes:
        effect: What its step does to the world, if it is called: the id of its charge.
    """

    def __init__(self, process: BaseProcess, pipe: Connection) -> None:
        self._process, self._pipe = process, pipe
        assert process.pid is not None
        self.pid: int = process.pid
        self.effect = f"ch-{self.pid}"

    async def said(self) -> tuple[str, str]:
        """Return the next thing it says: ``called``, ``stopped``, or how it ended."""
        loop = asyncio.get_running_loop()
        while not self._pipe.poll():
            readable = asyncio.Event()
            loop.add_reader(self._pipe.fileno(), readable.set)
            try:
                await asyncio.wait_for(readable.wait(), PATIENCE)
            finally:
                loop.remove_reader(self._pipe.fileno())
        said: tuple[str, str] = self._pipe.recv()
        return said

    async def called(self) -> None:
        """Wait until its step has been called and took effect."""
        assert (await self.said())[0] == "called"

    async def stopped(self) -> None:
        """Wait until its step was told to stop."""
        assert (await self.said())[0] == "stopped"

    async def answer(self) -> str:
        """Return the charge that it was told of in the end."""
        while (said := await self.said())[0] in ("called", "stopped"):
            pass
        assert said[0] == "answer", said
        return said[1]

    async def error(self) -> str:
        """Return the name of the error that it ended with."""
        while (said := await self.said())[0] in ("called", "stopped"):
            pass
        assert said[0] == "error", said
        return said[1]

    def go_on(self) -> None:
        """Let its step return."""
        self._pipe.send("go on")

    def pause(self) -> None:
        """Stop it where it is."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it wake up."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it, with no chance to say anything."""
        # One that ends by itself is reaped by the server that forked it, a moment before it counts as ended here.
        with contextlib.suppress(ProcessLookupError):
            if self._process.is_alive():
                os.kill(self.pid, signal.SIGKILL)
        self._process.join()

    async def ended(self) -> None:
        """Wait until it was told the answer, or died."""
        with contextlib.suppress(EOFError, ConnectionResetError):
            await self.answer()

    async def died(self) -> None:
        """Wait until it has died of itself."""
        await asyncio.to_thread(self._process.join, PATIENCE)
        assert self._process.exitcode == -signal.SIGKILL


@asynccontextmanager
async def process(
    door: Door, ledger: Ledger, options: dict[str, Any] = ONCE, **errand: Any
) -> AsyncGenerator[Process]:
    """Start a process on an `Errand`; when left, kill it if it is still there."""
    ours, theirs = _CONTEXT.Pipe()
    made = _CONTEXT.Process(target=_main, args=(theirs, Errand(door, ledger, options, **errand)), daemon=True)
    made.start()
    theirs.close()
    started = Process(made, ours)
    try:
        yield started
    finally:
        started.kill()
        ours.close()


def _main(pipe: Connection, errand: Errand) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started this decides when it ends
    logging.disable(logging.CRITICAL)
    _turn_clocks(errand.skew)
    asyncio.run(_Worker(pipe, errand).run())


def _turn_clocks(seconds: float) -> None:
    """Set what this process believes to be the time."""
    now, now_ns = time.time, time.time_ns

    def turned() -> float:
        return now() + seconds

    def turned_ns() -> int:
        return now_ns() + int(seconds * 1e9)

    time.time, time.time_ns = turned, turned_ns


class _Worker:
    def __init__(self, pipe: Connection, errand: Errand) -> None:
        self._pipe, self._errand = pipe, errand
        self._charge = ChargeResult(charge_id=f"ch-{os.getpid()}")
        self._told = asyncio.Event()

    async def run(self) -> None:
        if self._errand.does != "blocked":
            asyncio.get_running_loop().add_reader(self._pipe.fileno(), self._listen)
        try:
            self._pipe.send(("answer", await self._asked()))
        except Exception as error:
            self._pipe.send(("error", type(error).__name__))

    async def _asked(self) -> str:
        errand = self._errand
        if errand.options == TRANSACTIONAL:
            return (await Selling(errand.door.cache()).run(errand.run_id)).reservation_id
        charging = Charging(errand.door.cache(), self._body, lease=errand.lease, wait=errand.wait, **errand.options)
        return (await charging.run(errand.run_id)).charge_id

    def _listen(self) -> None:
        try:
            self._pipe.recv()
        except (EOFError, OSError):
            os._exit(0)  # whoever started this is gone
        self._told.set()

    async def _body(self) -> ChargeResult:
        errand = self._errand
        errand.ledger.write(errand.run_id, self._charge.charge_id)
        if errand.does == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        self._pipe.send(("called", ""))
        if errand.does == "blocked":
            self._pipe.recv()
        elif errand.does == "wait":
            try:
                await self._told.wait()
            except asyncio.CancelledError:
                self._pipe.send(("stopped", ""))
                raise
        return self._charge
