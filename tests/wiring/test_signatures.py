"""What is wrong with one function: every mistake in a signature has one sentence, its place, and one line of what to do."""

# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeArgument=false, reportMissingParameterType=false, reportUndefinedVariable=false
# pyright: reportArgumentType=false
from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from docket import Run, Transaction, WiringError
from docket.errors import Problem
from tests.wiring.parts import Charge, Item, Page, Request, Stock, at, graph, said

if TYPE_CHECKING:
    from decimal import Decimal as Money


@pytest.fixture(autouse=True)
def at_the_root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are written relative to the working directory."""
    monkeypatch.chdir(request.config.rootpath)


def test_builtins_say_nothing_about_their_role() -> None:
    """All that is wrong with one function is said at once."""

    async def price(amount: int, tags: list[str], name: str) -> dict:  # type: ignore[type-arg]
        raise NotImplementedError

    assert (
        said(graph(price))
        == f"""\
the wiring does not close (3 problems)
  1. the parameter 'amount' of price: int says nothing about what the value is
     {at(price)}
     fix: wrap it in a type of its own: a dataclass, a message, or NewType('OrderId', int)
  2. the parameter 'name' of price: str says nothing about what the value is
     {at(price)}
     fix: wrap it in a type of its own: a dataclass, a message, or NewType('OrderId', str)
  3. the result of price: dict says nothing about what the value is
     {at(price)}
     fix: wrap it in a type of its own: a dataclass, a message, or NewType('OrderId', dict)"""
    )


def _unannotated(request):  # type: ignore[no-untyped-def]
    raise NotImplementedError


async def _star(*requests: Request) -> Charge:
    raise NotImplementedError


async def _union(request: Request | Stock) -> Charge:
    raise NotImplementedError


async def _variable(items: Page[Item]) -> Charge:
    raise NotImplementedError


async def _nothing(request: Request) -> None:
    raise NotImplementedError


async def _default(request: Request = Request()) -> Charge:  # noqa: B008
    raise NotImplementedError


async def _not_none(request: Request = None) -> Charge:  # type: ignore[assignment]
    raise NotImplementedError


async def _gives_run(request: Request) -> Run:
    raise NotImplementedError


async def _yields(request: Request) -> AsyncIterator[Charge]:
    yield Charge()


async def _checking(price: Money) -> Charge:
    raise NotImplementedError


async def _unknown(price: "Nowhere") -> Charge:  # type: ignore[name-defined] # noqa: F821, UP037
    raise NotImplementedError


async def _takes_transaction(transaction: Transaction) -> Charge:
    raise NotImplementedError


WRONG = [
    (_unannotated, ["the parameter 'request' of _unannotated has no type", "_unannotated does not say what it returns"],
     ["annotate it: request: TheTypeItNeeds", "annotate the result with a type of its own: -> TheTypeItGives"]),
    (_star, ["_star takes *requests, which names no types"], ["name each value it needs as a parameter with a type"]),
    (_union, ["the parameter 'request' of _union: Request | Stock is a union"],
     ["give each case its own type, or one type that holds the cases"]),
    (_variable, ["the parameter 'items' of _variable: Page[Item] has a type variable in it"],
     ["write the exact type, such as Page[User]"]),
    (_nothing, ["_nothing returns None"], ["annotate the result with a type of its own: -> TheTypeItGives"]),
    (_default, ["the parameter 'request' of _default has a default, so it is unclear whether the wiring fills it"],
     ["put it after a * to make it configuration, or drop the default to make it a need"]),
    (_not_none, ["the parameter 'request' of _not_none has a default, so it is unclear whether the wiring fills it"],
     ["put it after a * to make it configuration, or drop the default to make it a need"]),
    (_gives_run, ["_gives_run returns Run, which Docket makes"], ["return a type of your own"]),
    (_yields, ["_yields yields, and a step gives one result"], ["return it; for many, return one type that holds them"]),
    (_checking, ["the annotation 'Money' of _checking cannot be resolved"],
     ["Money is imported under TYPE_CHECKING: import it at run time. For the rule that moves such imports, set "
      'lint.flake8-type-checking.runtime-evaluated-decorators = ["shop.app.d.step"] in ruff']),
    (_unknown, ["the annotation 'Nowhere' of _unknown cannot be resolved"],
     ["define or import Nowhere at the top of the module; a class inside a function cannot be found by its name"]),
    (_takes_transaction, ["_takes_transaction takes a Transaction and is not transactional"],
     ['mark it cache_result="transactional", or take a pool that you provide']),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "whats", "fixes"), WRONG, ids=[case[0].__name__ for case in WRONG])
def test_what_cannot_be_read_is_said(fn: Any, whats: list[str], fixes: list[str]) -> None:
    """Each mistake in a signature has one sentence, the place of the function, and one line of what to do."""
    with pytest.raises(WiringError) as caught:
        graph(fn).check()

    assert caught.value.problems == tuple(Problem(what, (at(fn),), fix) for what, fix in zip(whats, fixes, strict=True))


def test_a_method_without_its_object() -> None:
    """Registered inside the class body, there is no ``self`` to call it with."""

    class Payments:
        async def charge(self, request: Request) -> Charge:
            raise NotImplementedError

    assert (
        said(graph(Payments.charge))
        == f"""\
the wiring does not close (1 problem)
  1. Payments.charge is a method without its object
     {at(Payments.charge)}
     fix: register it bound: d.register(Payments(...).charge)"""
    )
