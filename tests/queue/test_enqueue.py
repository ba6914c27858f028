"""What is enqueued while a job of the same run waits: the same is welcome, anything else is refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from docket import Docket, InputsChanged
from docket.cache import MemoryCache
from docket.errors import WaitingFor
from docket.inprocess import InProcessQueue


@dataclass(frozen=True)
class Order:
    """What is always needed."""

    cents: int


@dataclass(frozen=True)
class Hint:
    """What may be absent."""

    text: str


@dataclass(frozen=True)
class Approval:
    """What a person gives later."""

    by: str


@dataclass(frozen=True)
class Charge:
    """What comes of it."""

    cents: int


@dataclass(frozen=True)
class Receipt:
    """What is asked for."""

    cents: int


class Shop:
    """A charge that is kept, and a receipt that may wait for a person."""

    def __init__(self, *, asks: bool = False) -> None:
        self.queue, self.asks = InProcessQueue(), asks
        self.d = Docket(cache=MemoryCache(), queue=self.queue)
        self.d.step(cache_result="at_most_once")(self.charge)
        self.d.step(cache_result="at_least_once")(self.receipt)

    async def charge(self, order: Order, hint: Hint | None) -> Charge:
        """Take the money."""
        return Charge(order.cents)

    async def receipt(self, charge: Charge, approval: Approval | None) -> Receipt:
        """Ask a person, if that is to be."""
        if self.asks and approval is None:
            raise WaitingFor(Approval)
        return Receipt(charge.cents)

    async def enqueue(self, *inputs: object) -> str:
        """Enqueue the one run of these tests."""
        return await self.d.enqueue("orders", Receipt, *inputs, run_id="order-1")


async def test_other_inputs_are_refused_while_the_first_wait() -> None:
    """By the names of the fields; the first job stays, and there is no other."""
    shop = Shop()
    await shop.enqueue(Order(100))
    await shop.enqueue(Order(100))
    with pytest.raises(InputsChanged, match=r"a job with other inputs waits, .*Order\.cents: 100 -> 999") as refused:
        await shop.enqueue(Order(999))
    await shop.queue.drain()

    assert (refused.value.waiting, refused.value.step) == (True, "")
    assert await shop.d.fetch("order-1", Receipt) == Receipt(100)
    assert shop.queue.ended == []


async def test_what_is_left_out_is_no_other_input() -> None:
    """As for a run: what was brought before need not be brought again, but what comes new is something else."""
    shop = Shop()
    await shop.enqueue(Order(100), Hint("ring twice"))
    await shop.enqueue(Order(100))
    await shop.queue.drain()
    assert await shop.d.fetch("order-1", Receipt) == Receipt(100)

    shop = Shop()
    await shop.enqueue(Order(100))
    with pytest.raises(InputsChanged, match=r"Hint: absent -> Hint\(text='ring twice'\)"):
        await shop.enqueue(Order(100), Hint("ring twice"))


@pytest.mark.parametrize("supplied", [True, False])
async def test_a_job_that_brings_nothing_stands_for_what_is_on_record(supplied: bool) -> None:
    """A run that goes on is enqueued without its inputs; a client that sends its request again must not be refused."""
    shop = Shop(asks=True)
    await shop.enqueue(Order(100))
    await shop.queue.drain()
    if supplied:
        await shop.d.supply("order-1", Approval("ada"))
    await shop.enqueue()
    await shop.enqueue(Order(100))
    with pytest.raises(InputsChanged, match=r"Order\.cents: 100 -> 999"):
        await shop.enqueue(Order(999))
    if supplied:
        await shop.enqueue(Order(100), Approval("ada"))
    others: list[Any] = [Approval("eve")]
    with pytest.raises(InputsChanged, match=r"Approval\.by: 'ada' -> 'eve'" if supplied else "Approval: absent -> "):
        await shop.enqueue(*others)
