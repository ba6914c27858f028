"""No test of the engine may block the loop."""

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture(scope="package", autouse=True)
def never_blocked() -> Iterator[None]:
    """Raise in whatever calls something that blocks while the loop waits."""
    with blockbuster_ctx() as watched:
        # Asked once for each step when a wiring is built, to write places as the user does; the kernel answers from memory.
        watched.functions["os.getcwd"].deactivate()
        yield
