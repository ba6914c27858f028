"""What is to be kept has a serializer, or nothing runs."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from types import ModuleType

import pytest

from docket import Docket
from docket.cache import MemoryCache
from docket.errors import WiringError


class Socket:
    """A class without bytes."""


@dataclass(frozen=True)
class Order:
    """An input that has bytes."""

    amount: int


@dataclass(frozen=True)
class Charge:
    """A result that has bytes."""

    amount: int


async def test_a_result_that_cannot_be_stored_is_refused_before_anything_runs() -> None:
    """Not when the effect has happened: both the result and the input are named, at once."""
    called: list[object] = []
    d = Docket(cache=MemoryCache())

    @d.step(cache_result="at_most_once")
    async def connect(order: Order) -> Socket:
        called.append(order)
        return Socket()

    @d.step(cache_result="at_least_once")
    async def charge(broken: type[int]) -> Charge:
        called.append(broken)
        return Charge(1)

    with pytest.raises(WiringError) as caught:
        await d.run("order-1", Socket, Order(1))

    assert called == []
    assert [problem.what.split(" cannot be stored")[0] for problem in caught.value.problems] == ["Socket", "type[int]"]


async def test_what_is_not_kept_needs_no_bytes() -> None:
    """A connection may pass from step to step, as long as no result is made to last."""
    d = Docket(cache=MemoryCache())

    @d.step
    async def connect(order: Order) -> Socket:
        return Socket()

    assert isinstance(await d.run("order-1", Socket, Order(1)), Socket)


@pytest.mark.parametrize("script", [True, False], ids=["a script", "a prompt"])
def test_an_effect_of_a_script_is_warned_about(
    *, script: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that imports it would know the result by another name, and charge again."""
    main = ModuleType("__main__")
    if script:
        main.__file__ = "pay.py"
    monkeypatch.setitem(sys.modules, "__main__", main)
    d = Docket(cache=MemoryCache())

    async def charge(order: Order) -> Charge:
        return Charge(order.amount)

    d.step(cache_result="at_most_once", key="__main__.Charge")(charge)
    with caplog.at_level(logging.WARNING, logger="docket"):
        d.check()

    assert [record.levelname for record in caplog.records] == ["WARNING"] * script
    assert not script or "keeps its result as __main__.Charge" in caplog.text
