"""What is recorded about the inputs of a run."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from docket import Docket
from docket._certify.storing import LIMIT
from docket.cache import Cache
from docket.errors import Unstorable


@dataclass(frozen=True)
class Scan:
    """An input that may be large."""

    text: str


@dataclass(frozen=True)
class Words:
    """What is made from it."""

    count: int


ROOM = LIMIT - len('{"text":""}')
"""Characters of a scan that fits."""


def reading(cache: Cache) -> tuple[Docket, list[int]]:
    """Return a Docket whose step is kept, and what it was called with."""
    d, calls = Docket(cache=cache), list[int]()

    @d.step(cache_result="at_least_once")
    async def read(scan: Scan) -> Words:
        calls.append(len(scan.text))
        return Words(len(scan.text))

    return d, calls


async def test_an_input_has_room_in_its_row_or_is_refused(cache: Cache) -> None:
    """One of 1 MiB is recorded; one byte more is refused before anything runs, with advice, and leaves nothing."""
    d, calls = reading(cache)
    advice = "this Scan cannot be stored: it is an input of 1,048,577 bytes, and a row takes 1,048,576; keep it elsewhere"

    assert await d.run("fits", Words, Scan("x" * ROOM)) == Words(ROOM)
    with pytest.raises(Unstorable, match=advice):
        await d.run("larger", Words, Scan("x" * (ROOM + 1)))
    with pytest.raises(Unstorable, match=advice):
        await d.supply("larger", Scan("x" * (ROOM + 1)))

    assert calls == [ROOM]
    assert not (await cache.load("larger")).results


async def test_an_input_that_is_recorded_already_is_no_larger_for_it(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run from before the limit goes on."""
    d, calls = reading(cache)
    await d.run("before", Words, Scan("x" * 100))
    await d.invalidate("before", Words)
    monkeypatch.setattr("docket._certify.storing.LIMIT", 50)

    for inputs in ((Scan("x" * 100),), ()):
        assert await d.run("before", Words, *inputs) == Words(100)

    assert calls == [100, 100]


async def test_an_input_that_nothing_kept_is_made_from_has_any_size() -> None:
    """It is not recorded."""
    d = Docket()

    @d.step
    async def read(scan: Scan) -> Words:
        return Words(len(scan.text))

    assert await d.run("run-1", Words, Scan("x" * (LIMIT + 1))) == Words(LIMIT + 1)
