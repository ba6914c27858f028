"""What an application says about serializers, where it makes its Docket."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest

from docket import Docket, InputsChanged
from docket.cache import MemoryCache
from docket.errors import Undecodable
from docket.inprocess import InProcessQueue
from docket.serializers import Encrypted, Json, Serializer, Serializers


@dataclass(frozen=True)
class Request:
    """What a run is given."""

    amount: int


@dataclass(frozen=True)
class Charge:
    """What was kept yesterday."""

    amount: int


@dataclass(frozen=True)
class Payment:
    """What it is called today."""

    amount: int


async def charge(request: Request) -> Charge:
    """Charge."""
    return Charge(request.amount)


async def pay(request: Request) -> Payment:
    """Charge, by another name."""
    raise AssertionError(request)


async def test_old_types_are_read_by_the_upcasts_of_the_applications_own_serializers() -> None:
    """Without the upcast the row is undecodable, and nothing is made in its place."""
    cache = MemoryCache()
    yesterday = Docket(cache=cache)
    yesterday.step(cache_result="at_most_once", key="charge")(charge)
    await yesterday.run("r-1", Charge, Request(5))

    today = Docket(cache=cache, serializers=Serializers(upcast={f"{__name__}.Charge": Payment}))
    careless = Docket(cache=cache)
    for d in (today, careless):
        d.step(cache_result="at_most_once", key="charge")(pay)

    assert await today.run("r-1", Payment, Request(5)) == Payment(5)
    with pytest.raises(Undecodable, match="register an upcast"):
        await careless.run("r-1", Payment, Request(5))


async def test_a_certified_none_is_not_given_to_who_must_have_a_value() -> None:
    """A step that may give None no longer: its old None is undecodable, for its own run and for who needs it."""
    cache = MemoryCache()

    async def perhaps(request: Request) -> Charge | None:
        return None

    async def surely(payment: Charge) -> Payment:
        return Payment(payment.amount)

    yesterday, today = Docket(cache=cache), Docket(cache=cache)
    yesterday.step(cache_result="at_most_once", key="charge")(perhaps)
    today.step(cache_result="at_most_once", key="charge")(charge)
    today.step(surely)

    assert await yesterday.run("r-1", Charge | None, Request(5)) is None
    assert await yesterday.run("r-1", Charge | None, Request(5)) is None
    for target in (Charge, Payment):
        with pytest.raises(Undecodable, match="it is None"):
            await today.run("r-1", target, Request(5))


async def test_results_inputs_and_jobs_are_sealed() -> None:
    """A run goes through the queue encrypted, and another request under its id is still noticed."""
    cache, queue = MemoryCache(), InProcessQueue()
    d = Docket(cache=cache, queue=queue, serializers=Serializers(sealer=Encrypted({"k": os.urandom(32)}, current="k")))
    d.step(cache_result="at_least_once", key="charge")(charge)

    named = await d.enqueue("charges", Charge, Request(5))
    (job,) = [entry.job for entry in queue._waiting]
    await queue.drain()

    records = await cache.load(named)
    kept = [*job.inputs, *records.inputs.values(), *(record.stored for record in records.results.values())]
    assert await d.fetch(named, Charge) == Charge(5)
    assert [stored.serializer for stored in kept if stored] == ["json+aesgcm:k"] * 3
    assert all(b"amount" not in stored.body and stored.view is None for stored in kept if stored)
    with pytest.raises(InputsChanged, match="5 -> 6"):
        await d.run(named, Charge, Request(6))


async def test_serializers_of_types_may_be_given_alone() -> None:
    """They are asked before the built-in ones."""

    class Own(Json):
        name = "own"

    own: Serializer = Own()
    cache = MemoryCache()
    d = Docket(cache=cache, serializers=[own])
    d.step(cache_result="at_least_once", key="charge")(charge)
    await d.run("r-1", Charge, Request(5))

    stored = (await cache.load("r-1")).results["charge"].stored
    assert stored is not None
    assert stored.serializer == "own"
