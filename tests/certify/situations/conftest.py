"""What the tests of situations share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.certify.situations.processes import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An account of what took effect."""
    return Ledger(tmp_path / "ledger")
