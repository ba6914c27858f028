"""When an input counts as the same: by what it says, not by its bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import docket
from docket import Docket, InputsChanged
from docket._core.record import Records, Stored, digest_of
from docket.cache import MemoryCache
from tests.messages_pb2 import Shapes


@dataclass
class Made:
    """Kept."""

    n: int = 1


@dataclass
class Order:
    """An input as a dataclass."""

    amount: int
    tags: dict[str, int] = field(default_factory=dict[str, int])
    names: frozenset[str] = frozenset()
    later: str | None = None


@dataclass
class Nested:
    """An input with another one inside."""

    order: Order
    rate: float = 1.0


class Rewritten(MemoryCache):
    """A cache whose inputs were written by another program: the same values, other bytes."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.body = body

    async def load(self, run_id: str, /) -> Records:
        """Return everything known about a run, with the input's bytes replaced everywhere."""
        found = await super().load(run_id)
        for (name, digest), stored in found.inputs.items():
            other = Stored(stored.serializer, stored.type, self.body)
            for record in found.results.values():
                record.made_from.inputs[name] = digest_of(other)  # type: ignore[index]
            assert digest != digest_of(other)
            return Records(found.results, {(name, digest_of(other)): other}, {name: digest_of(other)})
        return found


def making(cache: MemoryCache, input_: Any) -> Docket:
    """Return a Docket that makes something kept from *input_*."""
    d = Docket(cache=cache)

    async def make(value: Any) -> Made:
        return Made()

    make.__annotations__["value"] = input_
    d.step(cache_result="at_least_once")(make)
    return d


def shapes(**fields: Any) -> Shapes:
    """Return a message with two entries in a map."""
    made = Shapes(words=["x"], **fields)
    made.counts["a"] = 1
    made.counts["b"] = 2
    return made


def in_another_order() -> bytes:
    """Return the same message as another runtime may write it: its map entries and fields in another order."""
    one, two = Shapes(words=["x"]), Shapes()
    two.counts["b"] = 2
    only_a = Shapes()
    only_a.counts["a"] = 1
    return two.SerializeToString() + only_a.SerializeToString() + one.SerializeToString()


@pytest.mark.parametrize(
    ("value", "body"),
    [
        pytest.param(shapes(), in_another_order(), id="protobuf bytes of another runtime"),
        pytest.param(Order(1, {"a": 1, "b": 2}), b'{"tags": {"b": 2, "a": 1}, "amount": 1}', id="order of a map"),
        pytest.param(Order(1), b'{"amount":1,"tags":{},"names":[]}', id="a field that was added since, at its default"),
        pytest.param(Order(1, names=frozenset("ab")), b'{"amount":1,"names":["b","a"]}', id="order of a set"),
    ],
)
async def test_equal_values_are_the_same_input_whatever_their_bytes(value: object, body: bytes) -> None:
    """The stored bytes are compared first, then what they say."""
    cache = Rewritten(body)
    d = making(cache, type(value))
    await d.run("r", Made, value)

    assert await d.run("r", Made, value) == Made()


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        (Order(1, {"a": 1}), Order(1, {"a": 2}), ["Order.tags: {'a': 1} -> {'a': 2}"]),
        (Order(1), Order(1, later="x"), ["Order.later: None -> 'x'"]),
        (Nested(Order(1), 1.0), Nested(Order(2), 1.5), ["Nested.order.amount: 1 -> 2", "Nested.rate: 1.0 -> 1.5"]),
        (shapes(note="x"), shapes(note=""), ["Shapes.note: 'x' -> ''"]),
        (shapes(), shapes(note=""), ["Shapes.note: absent -> ''"]),
        (Shapes(inner={"name": "a"}), Shapes(inner={"name": "b"}), ["Shapes.inner.name: 'a' -> 'b'"]),
        (Shapes(words=["a"] * 99), Shapes(words=[]), ["Shapes.words: ['a'" + ", 'a'" * 14 + ", '... -> []"]),
    ],
)
async def test_a_change_names_the_field_with_its_old_and_new_value(old: object, new: object, changes: list[str]) -> None:
    """For dataclasses and messages, also nested ones; long values are cut."""
    d = making(MemoryCache(), type(old))
    await d.run("r", Made, old)

    with pytest.raises(InputsChanged) as caught:
        await d.run("r", Made, new)

    assert [str(change) for change in caught.value.changes] == changes


async def test_a_recorded_input_that_cannot_be_read_any_more_is_another_one() -> None:
    """It is said as far as it is known, and nothing runs."""
    cache = Rewritten(b"not json")
    d = making(cache, Order)
    await d.run("r", Made, Order(1))

    with pytest.raises(InputsChanged, match=r"Order: unreadable -> Order\(amount=1"):
        await d.run("r", Made, Order(1))


HASHED = """
from dataclasses import dataclass
from docket.serializers import Serializers

@dataclass
class Order:
    names: frozenset[str]

print(Serializers().pack(Order, Order(frozenset("abcdefgh")), run_id="r", key="k").plain)
"""


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    """A set is written in one order in every process, so that the bytes alone usually decide."""
    said = {
        subprocess.run(
            [sys.executable, "-c", HASHED],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(docket.__file__).parents[1])},
        ).stdout
        for seed in ("1", "2", "3")
    }

    assert len(said) == 1
