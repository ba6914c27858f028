"""A small graph to plan with: every step says in ``calls`` that it ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from docket import Docket
from docket._core.record import Records
from docket.cache import MemoryCache


@dataclass
class Request:
    """An input: an amount, and a label that nothing depends on."""

    amount: int
    label: str = ""


@dataclass
class Coupon:
    """An input that may be absent."""

    off: int


@dataclass
class Other:
    """An input that only the last step takes."""

    z: int


@dataclass
class A:
    """Made from the request."""

    v: int


@dataclass
class B:
    """Made from A."""

    v: int


@dataclass
class C:
    """Made from A and B; kept."""

    v: int


@dataclass
class D:
    """Made from C and the other input."""

    v: int


@dataclass
class P:
    """Made from the request; kept."""

    v: int


@dataclass
class U:
    """Made from P."""

    v: int


@dataclass
class Q:
    """Made from U; kept."""

    v: int


class Kept(MemoryCache):
    """A cache in memory that retention can be played on.

    Attributes:
        forgotten: Storage keys of results that are gone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.forgotten: set[str] = set()

    async def load(self, run_id: str, /) -> Records:
        """Return everything known about a run, without what was forgotten."""
        found = await super().load(run_id)
        kept = {key: record for key, record in found.results.items() if key not in self.forgotten}
        return Records(kept, found.inputs, found.latest)


class Shop:
    """A Docket and a record of what ran.

    Args:
        cache: Where results are kept; a new one in memory if absent. Another shop with the same one is a later deploy.
    """

    def __init__(self, cache: Kept | None = None) -> None:
        self.cache = cache or Kept()
        self.d = Docket(cache=self.cache)
        self.calls: list[str] = []

    def said(self) -> list[str]:
        """Return what ran since this was asked last."""
        calls, self.calls = self.calls, []
        return calls

    def step(self, fn: Callable[..., Any], **options: Any) -> None:
        """Register a step that notes its name when it runs."""
        self.d.step(**options)(fn)


def lazy(cache: Kept | None = None, version: int = 1, **kept: Any) -> Shop:
    """Return Request -> A -> B -> C (kept) -> D, which also takes Other."""
    shop = Shop(cache)
    kept = {"cache_result": "at_least_once", **kept}

    async def a(request: Request) -> A:
        shop.calls.append("A")
        return A(request.amount)

    async def b(one: A) -> B:
        shop.calls.append("B")
        return B(one.v + 1)

    async def c(one: A, two: B) -> C:
        shop.calls.append("C")
        return C(one.v + two.v)

    async def last(one: C, other: Other) -> D:
        shop.calls.append("D")
        return D(one.v * 2)

    shop.step(a, version=version)
    shop.step(b)
    shop.step(c, **kept)
    shop.step(last)
    return shop


def skeleton(cache: Kept | None = None, p: str = "recompute", q: str = "recompute") -> Shop:
    """Return Request -> P (kept: the last digit) -> U -> Q (kept)."""
    shop = Shop(cache)

    async def make_p(request: Request) -> P:
        shop.calls.append("P")
        return P(request.amount % 10)

    async def make_u(one: P) -> U:
        shop.calls.append("U")
        return U(one.v + 1)

    async def make_q(one: U) -> Q:
        shop.calls.append("Q")
        return Q(one.v * 100)

    shop.step(make_p, cache_result="at_least_once", on_change=p)
    shop.step(make_u)
    shop.step(make_q, cache_result="at_least_once", on_change=q)
    return shop
