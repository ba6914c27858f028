"""What is done when a run is asked again: the same, with other inputs, by other code, after retention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from docket import Docket, InputsChanged, MissingInput
from docket.cache import MemoryCache
from tests.planning.shop import A, C, Coupon, D, Kept, Other, P, Q, Request, Shop, lazy, skeleton

OTHER = Other(1)


async def test_what_lies_behind_a_certified_result_is_not_even_looked_at() -> None:
    """If C is certified and D only needs C, A and B do not run."""
    shop = lazy()
    await shop.d.run("r", D, Request(1), OTHER)
    assert shop.said() == ["A", "B", "C", "D"]

    await shop.d.run("r", D, Request(1), OTHER)

    assert shop.said() == ["D"]


async def test_an_input_that_is_left_out_counts_as_unchanged() -> None:
    """A later call need not repeat what the certified result was made from."""
    shop = lazy()
    await shop.d.run("r", D, Request(1), OTHER)
    shop.said()

    assert await shop.d.run("r", D, OTHER) == D(6)
    assert shop.said() == ["D"]


async def test_an_input_beside_the_cone_invalidates_nothing() -> None:
    """Other is not among what C is made from."""
    shop = lazy()
    await shop.d.run("r", D, Request(1), OTHER)
    shop.said()

    await shop.d.run("r", D, Request(1), Other(9))

    assert shop.said() == ["D"]


async def test_a_changed_input_is_refused_before_anything_runs() -> None:
    """A run id is an idempotency key: the error names the step, the field, the old and the new value."""
    shop = lazy()
    await shop.d.run("r", D, Request(1, "x"), OTHER)
    shop.said()

    with pytest.raises(InputsChanged) as caught:
        await shop.d.run("r", D, Request(2, "x"), OTHER)

    assert shop.said() == []
    assert [str(change) for change in caught.value.changes] == ["Request.amount: 1 -> 2"]
    assert str(caught.value) == (
        "run 'r': c was made from other inputs (Request.amount: 1 -> 2); use a new run id for a new request, "
        "or mark the step on_change='recompute' or 'keep'"
    )


async def test_what_a_refusal_advises_can_be_done() -> None:
    """An effect must not be made again, so ``on_change="recompute"``, which its step may not be marked, is not advised."""
    d = Docket(cache=MemoryCache())

    @d.step(cache_result="at_most_once")
    async def charge(request: Request) -> A:
        return A(request.amount)

    await d.run("r", A, Request(1))
    with pytest.raises(InputsChanged) as caught:
        await d.run("r", A, Request(2))

    assert not caught.value.recomputable
    assert str(caught.value).endswith("or mark the step on_change='keep' if what it gave is to stand")
    Docket(cache=MemoryCache()).step(cache_result="at_most_once", on_change="keep")(charge)


async def test_recompute_makes_a_changed_result_again() -> None:
    """A pure step marked so follows its inputs, and a later call sees the latest ones."""
    shop = lazy(on_change="recompute")
    await shop.d.run("r", D, Request(1), OTHER)
    shop.said()

    assert await shop.d.run("r", D, Request(2), OTHER) == D(10)
    assert shop.said() == ["A", "B", "C", "D"]
    assert await shop.d.run("r", D, OTHER) == D(10)
    assert shop.said() == ["D"]


async def test_keep_stays_with_what_was_made_first() -> None:
    """The result is a fact of the run, whatever is passed later."""
    shop = lazy(on_change="keep")
    await shop.d.run("r", D, Request(1), OTHER)
    shop.said()

    assert await shop.d.run("r", D, Request(2), OTHER) == D(6)
    assert shop.said() == ["D"]


async def test_a_new_version_makes_a_recomputed_result_again_from_recorded_inputs() -> None:
    """The version of any step since the last certified result counts, and the inputs need not be passed again."""
    shop = lazy(on_change="recompute")
    await shop.d.run("r", D, Request(1), OTHER)
    deployed = lazy(shop.cache, version=2, on_change="recompute")

    assert await deployed.d.run("r", D, OTHER) == D(6)
    assert deployed.said() == ["A", "B", "C", "D"]
    await deployed.d.run("r", D, OTHER)
    assert deployed.said() == ["D"]


async def test_a_fact_survives_a_deploy() -> None:
    """Versions do not invalidate what is not marked to be recomputed."""
    shop = lazy()
    await shop.d.run("r", D, Request(1), OTHER)
    deployed = lazy(shop.cache, version=3)

    await deployed.d.run("r", D, OTHER)

    assert deployed.said() == ["D"]


async def test_early_cutoff_at_a_certified_result() -> None:
    """P is made again and comes out the same, so Q stands and U does not run."""
    shop = skeleton()
    await shop.d.run("r", Q, Request(3))
    assert shop.said() == ["P", "U", "Q"]

    assert await shop.d.run("r", Q, Request(13)) == Q(400)
    assert shop.said() == ["P"]
    assert await shop.d.run("r", Q, Request(13)) == Q(400)
    assert shop.said() == []


async def test_a_result_that_came_out_differently_is_followed() -> None:
    """P is made again with another value, so Q is made again, and P only once."""
    shop = skeleton()
    await shop.d.run("r", Q, Request(3))
    shop.said()

    assert await shop.d.run("r", Q, Request(4)) == Q(500)
    assert shop.said() == ["P", "U", "Q"]


async def test_a_fact_above_a_recomputed_result_is_refused() -> None:
    """Q may not follow, so the change is named: P was made again with another value."""
    shop = skeleton(q="raise")
    await shop.d.run("r", Q, Request(3))
    shop.said()

    with pytest.raises(InputsChanged) as caught:
        await shop.d.run("r", Q, Request(4))

    assert shop.said() == ["P"]
    assert [str(change) for change in caught.value.changes] == ["P: as it was -> made again with another value"]


async def test_a_fact_outlives_a_younger_result_of_the_same_inputs() -> None:
    """A rate that was made again by a new version: the charge made from the older one stands, the first time and every time."""
    cache, rates, charged = MemoryCache(), [100], list[int]()

    def deployed(version: int) -> Docket:
        d = Docket(cache=cache)

        async def rate(request: Request) -> P:
            return P(rates[-1])

        async def charge(rate: P) -> Q:
            charged.append(rate.v)
            return Q(rate.v)

        async def receipt(rate: P, charge: Q) -> D:
            return D(rate.v - charge.v)

        d.step(cache_result="at_least_once", on_change="recompute", version=version)(rate)
        d.step(cache_result="at_most_once")(charge)
        d.register(receipt)
        return d

    assert await deployed(1).run("r", D, Request(1)) == D(0)
    rates.append(105)
    for _ in range(2):
        assert await deployed(2).run("r", D, Request(1)) == D(5)
    assert await deployed(2).run("r", Q) == Q(100)
    assert charged == [100]
    with pytest.raises(InputsChanged):
        await deployed(2).run("r", D, Request(2))


async def test_a_conflict_surfaces_at_the_step_that_forbids_it() -> None:
    """P may not be made again, so asking for Q names P."""
    shop = skeleton(p="raise")
    await shop.d.run("r", Q, Request(3))
    shop.said()

    with pytest.raises(InputsChanged) as caught:
        await shop.d.run("r", Q, Request(4))

    assert (caught.value.step, shop.said()) == ("make_p", [])


async def test_a_result_stands_when_what_it_was_made_from_was_deleted() -> None:
    """Retention took P: Q stands for the same request, and is compared by the inputs below P for another."""
    shop = skeleton(q="raise")
    await shop.d.run("r", Q, Request(3))
    shop.said()
    shop.cache.forgotten.add("tests.planning.shop.P")

    assert await shop.d.run("r", Q, Request(3)) == Q(400)
    assert shop.said() == []
    with pytest.raises(InputsChanged) as caught:
        await shop.d.run("r", Q, Request(4))
    assert [str(change) for change in caught.value.changes] == ["Request.amount: 3 -> 4"]


async def test_absence_counts() -> None:
    """An optional input that was absent and comes later is a change."""
    shop = Shop()

    async def price(request: Request, coupon: Coupon | None) -> P:
        return P(request.amount - (coupon.off if coupon else 0))

    shop.step(price, cache_result="at_least_once")
    assert await shop.d.run("r", P, Request(10)) == P(10)
    assert await shop.d.run("r", P, Request(10)) == P(10)

    with pytest.raises(InputsChanged) as caught:
        await shop.d.run("r", P, Request(10), Coupon(3))

    assert [str(change) for change in caught.value.changes] == ["Coupon: absent -> Coupon(off=3)"]


async def test_a_missing_input_is_drawn_with_its_path() -> None:
    """Nothing was recorded either, so the error shows who needs it."""
    shop = lazy()

    with pytest.raises(MissingInput) as caught:
        await shop.d.run("r", D, OTHER)

    assert caught.value.needed == "Request"
    assert [line.split("  ")[0] for line in caught.value.path] == ["D", "C", "A", "Request"]


async def test_an_input_is_used_as_recorded_when_the_certified_result_below_is_gone() -> None:
    """The retry after a crash sees what the first attempt saw, although nobody passes it again."""
    shop = lazy()
    await shop.d.run("r", C, Request(1))
    await shop.d.invalidate("r", C)
    shop.said()

    assert await shop.d.run("r", C) == C(3)
    assert shop.said() == ["A", "B", "C"]


async def test_a_given_value_takes_the_place_of_a_step() -> None:
    """It must be said, runs nothing below, and is recorded as what the result was made from."""
    shop = lazy()

    assert await shop.d.run("r", D, OTHER, given=[C(50)]) == D(100)
    assert shop.said() == ["D"]
    assert (await shop.cache.load("r")).results == {}


def following(version: int, cache: Kept | None = None, **last: str) -> Shop:
    """Return Request -> A (recomputed, of this version) -> C (kept)."""
    shop = Shop(cache)

    async def a(request: Request) -> A:
        shop.calls.append("A")
        return A(request.amount * version)

    async def c(one: A) -> C:
        shop.calls.append("C")
        return C(one.v)

    shop.step(a, cache_result="at_least_once", on_change="recompute", version=version)
    shop.step(c, cache_result="at_least_once", **last)
    return shop


async def test_a_new_version_below_is_followed_by_what_is_recomputed() -> None:
    """A is made again first, and C after it, since A came out differently."""
    shop = following(1, on_change="recompute")
    await shop.d.run("r", C, Request(1))
    deployed = following(2, shop.cache, on_change="recompute")

    assert await deployed.d.run("r", C, Request(1)) == C(2)
    assert deployed.said() == ["A", "C"]


async def test_a_new_version_below_does_not_touch_a_fact() -> None:
    """C may not be made again, so nobody asks what A would be by today's code."""
    shop = following(1)
    await shop.d.run("r", C, Request(1))
    deployed = following(2, shop.cache)

    assert await deployed.d.run("r", C, Request(1)) == C(1)
    assert deployed.said() == []


async def test_a_chain_of_certified_results_three_thousand_deep() -> None:
    """Planning, judging and running it take no recursion."""
    count = 3_000
    shop = Shop()
    kinds: list[Any] = [Request, *(dataclass(type(f"K{number}", (), {"__module__": "tests.deep"})) for number in range(count))]

    def make(number: int) -> Any:
        async def step(before: Any) -> Any:
            shop.calls.append("step")
            return kinds[number + 1]()

        step.__annotations__ = {"before": kinds[number], "return": kinds[number + 1]}
        return step

    for number in range(count):
        shop.step(make(number), cache_result="at_least_once")
    await shop.d.run("r", kinds[-1], Request(1))
    assert len(shop.said()) == count

    await shop.d.run("r", kinds[-1], Request(1))
    assert shop.said() == []
    with pytest.raises(InputsChanged):
        await shop.d.run("r", kinds[-1], Request(2))
