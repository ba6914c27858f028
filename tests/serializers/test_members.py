"""What differs between two values is named by the member, whichever library their class is of."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from docket import Docket
from docket._certify.changes import changes
from docket.cache import MemoryCache
from docket.errors import InputsChanged
from docket.serializers._same import member_names, same
from tests.serializers.messages import Money


@dataclasses.dataclass
class Plain:
    """A dataclass, with what is no member of its objects."""

    LIMIT: ClassVar[int] = 5
    name: str
    cents: int
    scale: dataclasses.InitVar[int] = 1


class Row(NamedTuple):
    """A NamedTuple."""

    name: str
    cents: int


class Struct(msgspec.Struct):
    """A msgspec struct."""

    name: str
    cents: int


@attrs.define
class Defined:
    """An attrs class."""

    name: str
    cents: int


@attrs.define(eq=False)
class Unequal:
    """An attrs class whose objects are equal to themselves alone."""

    name: str
    cents: int


class Model(pydantic.BaseModel):
    """A pydantic model."""

    name: str
    cents: int


@pydantic.dataclasses.dataclass
class Checked:
    """A dataclass of pydantic."""

    name: str
    cents: int


KINDS: list[Any] = [Plain, Row, Struct, Defined, Unequal, Model, Checked]


@pytest.mark.parametrize("kind", KINDS)
def test_the_member_that_differs_is_named(kind: Any) -> None:
    """And only that one."""
    one, other = kind(name="Ada", cents=1), kind(name="Ada", cents=2)

    assert member_names(one) == ("name", "cents")
    assert [str(change) for change in changes("Order", one, other)] == ["Order.cents: 1 -> 2"]
    assert same(one, kind(name="Ada", cents=1))
    assert not same(one, other)


def test_a_message_has_the_names_of_its_proto_file() -> None:
    """Those that are not set as well."""
    assert member_names(Money()) == tuple(field.name for field in Money.DESCRIPTOR.fields)


@pytest.mark.parametrize("value", [None, 5, "text", b"", (1, 2), [1], {"name": 1}, object()])
def test_a_plain_value_has_no_members(value: object) -> None:
    """It is shown as a whole."""
    assert member_names(value) == ()


async def test_a_run_with_another_attrs_object_is_refused_by_its_field() -> None:
    """What a user reads when a run id is used again for another order."""
    d = Docket(cache=MemoryCache())

    @d.step(cache_result="at_least_once")
    async def pack(order: Defined) -> Row:
        return Row(order.name, order.cents)

    await d.run("order-1", Row, Defined("Ada", 1))
    with pytest.raises(InputsChanged, match=r"Defined\.cents: 1 -> 2"):
        await d.run("order-1", Row, Defined("Ada", 2))
