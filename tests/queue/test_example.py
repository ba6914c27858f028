"""The example of a run that waits for a person."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


async def test_the_approval_example_ends_well() -> None:
    """It plays both halves and exits with 0; the receipts are read once."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.approval", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    said = output.decode()

    assert process.returncode == 0
    assert said.count("reading the receipts") == 1
    assert "waiting for Approval" in said
    assert "Payment(amount_cents=4200, approved_by='grace')" in said
