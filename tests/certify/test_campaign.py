"""A few seconds of each crash campaign; ``python -m benchmarks.crashes`` runs them for as long as one likes."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


async def run(server: str, *words: str) -> tuple[int, str]:
    """Run the program; return its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.crashes", *words,
        cwd=ROOT, env=os.environ | {"DATABASE_URL": server}, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        printed, _ = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, printed.decode()


@pytest.mark.timeout(240)
async def test_ledger_rows_and_answers_agree_after_faults(server: str) -> None:
    """Nothing is lost, nothing is done twice that must not be, and enough happened for that to mean something."""
    code, printed = await run(server, "--seconds", "2", "--only", "storm", "--only", "restart", "--only", "contend")
    assert code == 0, printed


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("cache", "name", "invariants"),
    [
        ("unfenced", "contend", ("I4", "I9")),
        ("takes-over", "kill", ("I1",)),
        ("forgetful", "restart", ("I8", "I9")),
    ],
)
async def test_a_cache_with_a_mistake_is_found_out(server: str, cache: str, name: str, invariants: tuple[str, ...]) -> None:
    """The same campaigns name what each of three plausible mistakes breaks: chance decides how soon, not whether."""
    printed = ""
    for seconds in ("2", "4", "8", "16"):
        code, printed = await run(server, "--seconds", seconds, "--only", name, "--cache", cache)
        if code == 1 and all(f"{name}: {invariant} (" in printed for invariant in invariants):
            return
    pytest.fail(printed)
