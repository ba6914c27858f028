"""Types and helpers for graphs that are right and graphs that are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NewType, TypeVar

import pytest

from docket import Graph, WiringError

Item = TypeVar("Item")
OrderId = NewType("OrderId", str)


@dataclass
class Request:
    """An input."""

    id: str = "1"


class Charge:
    """Given by a step."""


class CardCharge(Charge):
    """A relative of Charge."""


class Stock:
    """Given by a step."""


class Shipment:
    """A target."""


class Page(Generic[Item]):
    """A generic."""


class Other:
    """Holds a namesake of Stock."""

    Stock = type("Stock", (), {"__module__": "tests.elsewhere", "__qualname__": "Stock"})


def graph(*functions: Callable[..., Any], inputs: list[Any] | None = None) -> Graph:
    """Return a graph of *functions*."""
    made = Graph(inputs=inputs)
    made.register(*functions)
    return made


def said(made: Graph) -> str:
    """Return what is wrong with a graph, without the places of its functions."""
    with pytest.raises(WiringError) as caught:
        made.check()
    return str(caught.value)


def at(fn: Callable[..., Any]) -> str:
    """Name a function and its place as errors do."""
    code = fn.__code__
    file = code.co_filename
    return f"{fn.__qualname__.rpartition('<locals>.')[2]}  {file[file.index('tests/wiring') :]}:{code.co_firstlineno}"
