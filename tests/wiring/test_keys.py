"""Which annotations are keys, and what is said of those that are not."""

from __future__ import annotations

import functools
import typing
from typing import Annotated, Any, ForwardRef, Generic, NewType, Optional, TypeVar

import pytest

from docket import Graph, IfCertified
from docket._core.types import Refusal, is_instance, label, place, read, storage_key
from tests.messages_pb2 import Shapes
from tests.wiring.parts import Charge, OrderId, Page, Request, Shipment, Stock, at, graph, said

T = TypeVar("T")
ChargeId = NewType("ChargeId", Charge)


@pytest.fixture(autouse=True)
def at_the_root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Places are written relative to the working directory."""
    monkeypatch.chdir(request.config.rootpath)


@pytest.mark.parametrize(
    ("annotation", "what"),
    [
        (Annotated[Charge, IfCertified], "IfCertified on Charge which may not be None"),
        (ForwardRef("Charge"), "ForwardRef('Charge') is a name that was not resolved"),
        ("Charge", "'Charge' is a name that was not resolved"),
        (5, "5 is not a type"),
        (T, "T has a type variable in it"),
        (Page[list[T]], "Page[list[T]] has a type variable in it"),  # type: ignore[valid-type]
        (Any, "Any says nothing about what the value is"),
        (type(None), "None says nothing about what the value is"),
        (Charge | Stock | None, "Charge | Stock | None is a union"),
        (Annotated[bytes, 1], "bytes says nothing about what the value is"),
    ],
)
def test_what_is_no_key_is_refused(annotation: Any, what: str) -> None:
    """Each with a sentence and a way out."""
    with pytest.raises(Refusal) as caught:
        read(annotation)

    assert (caught.value.what, bool(caught.value.fix)) == (what, True)


@pytest.mark.parametrize(
    ("annotation", "key", "optional", "if_certified"),
    [
        (Charge, Charge, False, False),
        (Optional[Charge], Charge, True, False),  # noqa: UP045 - the older spelling
        (Annotated[Charge, "anything"], Charge, False, False),
        (Annotated[Charge | None, IfCertified], Charge, True, True),
        (Optional[Annotated[Charge, IfCertified()]], Charge, True, True),  # noqa: UP045 - Annotated knows no | in 3.11
        (OrderId, OrderId, False, False),
        (Page[Stock] | None, Page[Stock], True, False),
        (list[Stock], list[Stock], False, False),
    ],
)
def test_a_key_is_the_exact_type(annotation: Any, key: Any, optional: bool, if_certified: bool) -> None:
    """Without None and marks; a generic keeps its parameters, a NewType is itself."""
    found = read(annotation)

    assert (found.key, found.optional, found.if_certified) == (key, optional, if_certified)


def test_keys_are_named_as_they_were_written_and_stored_for_ever() -> None:
    """A message by its full name, anything else by module and name."""
    assert [label(key) for key in (Page[Stock], OrderId, Charge | None)] == ["Page[Stock]", "OrderId", "Charge | None"]
    assert storage_key(Shapes) == "docket.tests.Shapes"
    assert storage_key(Page[Stock]) == "tests.wiring.parts.Page[tests.wiring.parts.Stock]"
    assert storage_key(list[Stock]) == "list[tests.wiring.parts.Stock]"
    assert storage_key(OrderId) == "tests.wiring.parts.OrderId"


class Clock(typing.Protocol):
    """A Protocol that cannot be judged at run time."""

    def now(self) -> float:
        """Tell the time."""
        ...


def test_a_value_is_judged_by_what_can_be_seen_of_it() -> None:
    """A NewType by what it wraps, a generic by its origin, a Protocol not at all."""
    assert is_instance("x", OrderId)
    assert not is_instance(5, OrderId)
    assert is_instance(Page[Stock](), Page[Charge])
    assert is_instance(5, Clock)


def test_a_place_that_cannot_be_known_is_the_module() -> None:
    """Of what was made by C, or at run time."""
    assert place(functools.reduce) == "_functools"
    assert place(Charge).startswith("tests/wiring/parts.py:")


@pytest.mark.parametrize(
    ("wanted", "given", "near"),
    [
        (OrderId, type("OrderIds", (), {}), "OrderIds, a similar name"),
        (Charge, ChargeId, "ChargeId, a NewType of it"),
        (ChargeId, Charge, "Charge, the type it wraps"),
        (type("CardCharge", (Charge,), {}), Charge, "Charge, a base class of it"),
        (Page, Page[Stock], "Page[Stock], the same generic with other parameters"),
        (Shipment, Stock, ""),
    ],
)
def test_what_is_almost_right_is_said(wanted: Any, given: Any, near: str) -> None:
    """Relatives, namesakes and close names; nothing for strangers."""

    async def give(request: Request) -> Any:
        raise NotImplementedError

    async def take(value: Any) -> Generic[T]:  # type: ignore[valid-type] # pyright: ignore[reportGeneralTypeIssues]
        raise NotImplementedError

    give.__annotations__["return"] = given
    take.__annotations__ = {"value": wanted, "return": type("Result", (), {})}
    text = said(graph(give, take, inputs=[Request]))

    assert [line.strip() for line in text.splitlines() if "near:" in line] == (
        [f"near: {near}, is given by {at(give)}"] if near else []
    )


def test_a_function_without_a_signature_is_refused() -> None:
    """Nothing can be read off it."""
    made = Graph()
    made.register(getattr)

    assert "the signature of getattr cannot be read: no signature found for builtin" in said(made)
