"""Worker processes: the queue's own command, started and killed."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


class Workers:
    """The worker processes of the demo.

    Args:
        dsn: The database that the workers find in ``DATABASE_URL``.
        command: What starts one.
    """

    def __init__(self, dsn: str, command: Sequence[str]) -> None:
        self._command = command
        self._environment = {**os.environ, "DATABASE_URL": dsn}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._log = Path(tempfile.mkstemp(prefix="docket-orders-", suffix=".log")[1])

    def start(self) -> int:
        """Start one worker; return its process id."""
        # Should this process be killed, its workers must not stay behind. The signal is set by the child: if we died before
        # that, the child has another parent by now and must not begin at all.
        begins = ["sh", "-c", 'test "$PPID" = "$0" && exec "$@"', str(os.getpid())]
        with_us = ["setpriv", "--pdeathsig", "KILL", *begins] if shutil.which("setpriv") else []
        with self._log.open("ab") as log:
            process = subprocess.Popen([*with_us, *self._command], env=self._environment, stdout=log, stderr=log)
        self._processes[process.pid] = process
        return process.pid

    @property
    def alive(self) -> list[int]:
        """The process ids of the workers that run."""
        return [pid for pid, process in self._processes.items() if process.poll() is None]

    @property
    def log(self) -> str:
        """What the workers wrote."""
        return self._log.read_text(errors="replace")

    def kill(self, pid: int) -> bool:
        """Kill a worker the hard way, if it is one of ours and runs."""
        process = self._processes.get(pid)
        if process is None or process.poll() is not None:
            return False
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True

    async def stop(self) -> None:
        """Ask every worker to finish what it has in hand, and wait for them."""
        for pid in self.alive:
            self._processes[pid].terminate()
        for process in self._processes.values():
            try:
                await asyncio.to_thread(process.wait, 15)
            except subprocess.TimeoutExpired:
                process.kill()
        self._log.unlink(missing_ok=True)
