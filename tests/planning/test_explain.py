"""What `plan`, `explain` and `invalidate` say and do: one state and one reason for everything a run depends on."""

from __future__ import annotations

import dataclasses
import itertools
import re
from dataclasses import dataclass
from typing import Any

import pytest

from docket import Busy, Docket, InDoubt, InputsChanged, NeedsForce, NotApplied, Plan, Refused, WaitingFor
from docket._core.record import Record, Records
from docket.cache import MemoryCache
from docket.explain import dot, mermaid, text
from tests.planning.shop import C, D, Kept, Other, P, Q, Request, lazy, skeleton


@dataclass
class Charge:
    """At most once."""


@dataclass
class Shipment:
    """The target."""


class Seen(MemoryCache):
    """A cache that shows rows as another process would: with these fields replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.instead: dict[str, Any] = {}

    async def load(self, run_id: str, /) -> Records:
        """Return everything known about a run, altered."""
        found = await super().load(run_id)
        results: dict[str, Record] = {key: dataclasses.replace(record, **self.instead) for key, record in found.results.items()}
        return Records(results, found.inputs, found.latest)


def paying(cache: MemoryCache, error: Exception | None = None) -> Docket:
    """Return Request -> Charge (at most once) -> Shipment; the charge fails with *error*."""
    d = Docket(cache=cache)

    @d.step(cache_result="at_most_once")
    async def charge(request: Request) -> Charge:
        if error is not None:
            raise error
        return Charge()

    async def ship(charge: Charge) -> Shipment:
        return Shipment()

    d.register(ship)
    return d


def plain(written: str) -> str:
    """Take out of a text what differs from run to run: hosts and times."""
    return re.sub(r"[\w.-]+:\d+(?=\b)", "host:1", re.sub(r"\d+ s", "0 s", written))


async def test_a_plan_before_anything_ran() -> None:
    """What would run, and why; as a tree, and as a list with what is needed first."""
    shop = lazy()

    found = await shop.d.plan("r", D, Request(1), Other(1))

    assert isinstance(found, Plan)
    assert (
        text(found)
        == await shop.d.explain("r", D, Request(1), Other(1))
        == """\
D                 would run: its result is not kept
├─ C              would run: nothing is certified yet
│  ├─ A           would run: its result is not kept
│  │  └─ Request  supplied
│  └─ B           would run: its result is not kept
│     └─ A        see above
└─ Other          supplied"""
    )
    assert [str(one) for one in found.steps] == [
        "Request: supplied",
        "Other: supplied",
        "A: would run, its result is not kept",
        "B: would run, its result is not kept",
        "C: would run, nothing is certified yet",
        "D: would run, its result is not kept",
    ]
    assert str(found) == "\n".join(map(str, found.steps))
    assert repr(found) == "<Plan of D: 4 of 4 steps would run>"
    assert shop.said() == []


async def test_a_plan_after_a_certified_result() -> None:
    """It says when and by whom it was certified, and looks at nothing behind it. Nothing runs and nothing is written."""
    shop = lazy()
    await shop.d.run("r", C, Request(1))
    shop.said()

    assert (
        plain(await shop.d.explain("r", D))
        == """\
D         blocked: by Other, missing
├─ C      certified: 0 s ago by host:1
└─ Other  missing: no step gives it, nobody supplied it, and it is not on record; a job that waits may bring it"""
    )
    assert plain(await shop.d.explain("r", D, Other(1))).splitlines()[1] == "├─ C      certified: 0 s ago by host:1"
    assert shop.said() == []


async def test_a_plan_with_changed_inputs() -> None:
    """It is not raised but said, with the field, the old and the new value."""
    shop = lazy()
    await shop.d.run("r", C, Request(1))

    assert (
        await shop.d.explain("r", D, Request(2), Other(1))
        == """\
D         blocked: by C, changed
├─ C      changed: Request.amount: 1 -> 2
└─ Other  supplied"""
    )


async def test_a_plan_that_makes_something_again() -> None:
    """The reason says what changed; what waits for it says so."""
    shop = skeleton()
    await shop.d.run("r", Q, Request(3))

    assert (
        plain(await shop.d.explain("r", Q, Request(4)))
        == """\
Q  certified: 0 s ago by host:1; it depends on P, to be made again first
   first, P would be brought up to date, and the plan made again"""
    )
    found = await shop.d.plan("r", Q, Request(4))
    assert [step.name for step in found.first] == ["make_p"]
    assert [step.name for step in found.program.steps] == ["make_p"]


@pytest.mark.parametrize(
    ("error", "instead", "line"),
    [
        (None, {}, "certified: 0 s ago by host:1"),
        (NotApplied("card reader offline"), {}, "failed: once, last 0 s ago: NotApplied: card reader offline; would run again"),
        (NotApplied("x"), {"attempt": 3}, "failed: 3 times, last 0 s ago: NotApplied: x; would run again"),
        (WaitingFor("Approval"), {}, "waiting: for Approval; supply it and enqueue the run again"),
        (Refused("card stolen"), {}, "refused: card stolen"),
        (ValueError("connection reset"), {}, "in doubt: for 0 s: ValueError: connection reset"),
        (None, {"state": "running", "owner": "host:1", "lease_left": 30.0},
         "running: for 0 s on host:1, held for 0 s more"),
        (None, {"state": "running", "owner": "host:1", "lease_left": -30.0, "since": 90.0},
         "in doubt: host:1 was lost, last heard of before 0 s ago"),
        (None, {"state": "running", "mode": "at_least_once", "owner": "host:1", "lease_left": -30.0},
         "would run: host:1 was lost, last heard of before 0 s ago"),
        (None, {"state": "superseded"}, "would run: it was invalidated"),
        (None, {"state": "ready"}, "would run: it was released"),
        (None, {"state": "purged"}, "purged: by retention"),
        (None, {"since": 7200.0}, "certified: 2 h ago by host:1"),
        (None, {"since": 180.0}, "certified: 3 min ago by host:1"),
        (None, {"since": 200_000.0}, "certified: 2 d ago by host:1"),
    ],
)  # fmt: skip
async def test_every_state_of_a_result_is_said(error: Exception | None, instead: dict[str, Any], line: str) -> None:
    """One state and one reason, from what stands in the cache."""
    cache = Seen()
    d = paying(cache, error)
    if error is None:
        await d.run("r", Charge, Request(1))
    else:
        with pytest.raises((NotApplied, Refused, InDoubt, Busy)):
            await d.run("r", Charge, Request(1))
    cache.instead = instead

    lines = plain(await d.explain("r", Shipment, Request(1))).splitlines()

    assert lines[1].split(maxsplit=2)[2] == line


async def test_a_plan_is_drawn() -> None:
    """As Mermaid and for Graphviz, coloured by state."""
    shop = lazy()
    await shop.d.run("r", C, Request(1))
    found = await shop.d.plan("r", D, Other(1))

    assert (
        mermaid(found)
        == """\
flowchart TD
    n0["C<br/>certified"]
    style n0 fill:#b7e1a1
    n1(["Other<br/>supplied"])
    n2["D<br/>would run"]
    style n2 fill:#cfe2ff
    n0 --> n2
    n1 --> n2"""
    )
    assert dot(found).splitlines()[2] == '    n0 [label="C\\ncertified", fillcolor="#b7e1a1"];'


async def test_what_was_invalidated_is_made_again() -> None:
    """With everything that was made from it; the old values are in the journal."""
    shop = skeleton(p="raise", q="raise")
    await shop.d.run("r", Q, Request(3))
    shop.said()

    assert await shop.d.invalidate("r", P, note="wrong rate") == ("tests.planning.shop.P", "tests.planning.shop.Q")

    journal = [(move.event, move.key, move.error_text, move.stored is not None) for move in shop.cache.journal]
    assert journal == [
        ("invalidated", "tests.planning.shop.Q", "wrong rate", True),
        ("invalidated", "tests.planning.shop.P", "wrong rate", True),
    ]
    assert await shop.d.run("r", Q) == Q(400)
    assert shop.said() == ["P", "U", "Q"]


async def test_only_what_was_made_from_it_is_invalidated() -> None:
    """What it was made from itself stands."""
    shop = skeleton()
    await shop.d.run("r", Q, Request(3))
    shop.said()

    assert await shop.d.invalidate("r", Q) == ("tests.planning.shop.Q",)
    assert await shop.d.invalidate("r", Q) == ()

    await shop.d.run("r", Q)
    assert shop.said() == ["U", "Q"]


async def test_an_effect_is_only_invalidated_by_force() -> None:
    """A rerun can never silently charge again."""
    cache = Kept()
    d = paying(cache)
    await d.run("r", Charge, Request(1))

    with pytest.raises(NeedsForce) as caught:
        await d.invalidate("r", Charge)

    assert str(caught.value) == (
        "run 'r': invalidating Charge would let Charge take effect once more; undo that first, then say "
        "invalidate('r', Charge, force=True)"
    )
    assert (await cache.load("r")).results[f"{__name__}.Charge"].state == "certified"
    assert await d.invalidate("r", Charge, force=True) == (f"{__name__}.Charge",)


async def test_a_deep_chain_is_drawn_in_few_columns() -> None:
    """The tree stops growing to the right, so that its size stays in proportion."""
    d = Docket()
    kinds: list[Any] = [Request, *(type(f"K{number}", (), {}) for number in range(3_000))]
    for needs, gives in itertools.pairwise(kinds):

        async def step(before: Any) -> Any:
            raise NotImplementedError

        step.__annotations__ = {"before": needs, "return": gives}
        d.register(step)

    lines = (await d.explain("r", kinds[-1], Request(1))).splitlines()

    assert len(lines) == 3_001
    assert max(map(len, lines)) < 200


async def test_what_is_held_and_what_is_given_is_said() -> None:
    """Resources with the line that provided them, and values that take the place of a step."""
    shop = lazy()
    shop.d.provide(Other, Other(1))

    lines = (await shop.d.explain("r", D, given=[C(1)])).splitlines()

    assert lines[1] == "├─ C      supplied: given in place of its step"
    assert re.fullmatch(r"└─ Other  held: provided at .*test_explain.py:\d+", lines[2])


async def test_a_given_value_that_is_not_what_was_used_has_changed() -> None:
    """It takes the place of a certified result that something else was made from."""
    shop = skeleton(q="raise")
    await shop.d.run("r", Q, Request(3))

    assert await shop.d.run("r", Q, given=[P(3)]) == Q(400)
    with pytest.raises(InputsChanged) as caught:
        await shop.d.run("r", Q, given=[P(4)])
    assert [str(change) for change in caught.value.changes] == ["P.v: 3 -> 4"]
