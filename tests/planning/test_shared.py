"""Results that all runs with the same inputs share, and results that expire."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest

from docket import ConfigurationError, Docket, MissingInput, Refused, Run, WiringError
from docket._core.record import Record, Records
from docket.cache import Cache, MemoryCache
from docket.errors import BadRunId, UnknownTarget
from docket.postgres import PostgresCache
from tests.wiring.parts import said


@dataclass
class Document:
    """An input."""

    text: str


@dataclass
class Language:
    """An input that may be absent."""

    code: str


@dataclass
class Words:
    """Made from the document; not kept."""

    count: int


@dataclass
class Embedding:
    """Expensive, and the same for every run with the same document."""

    number: int


@dataclass
class Answer:
    """One run's own."""

    number: int


@pytest.fixture(params=["memory", "postgres"])
async def cache(request: pytest.FixtureRequest, dsn: str) -> AsyncGenerator[Cache]:
    """Each cache in turn."""
    made: Cache = MemoryCache() if request.param == "memory" else PostgresCache(dsn)
    yield made
    await made.close()


def asking(cache: Cache, version: int = 1, answer: dict[str, Any] | None = None, **options: Any) -> tuple[Docket, list[str]]:
    """Return Document -> Words -> Embedding (shared) -> Answer (kept), and what ran."""
    d, ran, numbers = Docket(cache=cache), list[str](), itertools.count(1)

    async def count(document: Document) -> Words:
        ran.append("words")
        return Words(len(document.text))

    async def embed(words: Words, language: Language | None) -> Embedding:
        ran.append("embed")
        return Embedding(next(numbers) * 100 + words.count)

    async def reply(embedding: Embedding) -> Answer:
        ran.append("answer")
        return Answer(embedding.number)

    d.step(version=version)(count)
    d.step(cache_result="at_least_once", scope="global", **options)(embed)
    kept: dict[str, Any] = {"cache_result": "at_least_once", **(answer or {})}
    d.step(**kept)(reply)
    return d, ran


async def test_runs_with_the_same_inputs_share_a_result(cache: Cache) -> None:
    """It is made once, whatever the run; another input, an optional one included, is another result."""
    d, ran = asking(cache)

    first = await d.run("r1", Answer, Document("abc"))
    assert ran == ["words", "embed", "answer"]
    ran.clear()
    assert await d.run("r2", Answer, Document("abc")) == first
    assert ran == ["answer"]
    ran.clear()
    await d.run("r3", Answer, Document("abcd"))
    await d.run("r4", Answer, Document("abc"), Language("de"))
    assert ran == ["words", "embed", "answer"] * 2


async def test_no_run_has_the_name_of_a_shared_result(cache: Cache) -> None:
    """Whoever takes run ids from outside lets nobody write among the results of all, by whatever verb."""
    d, ran = asking(cache)
    await d.run("r1", Answer, Document("abc"))
    ran.clear()

    for call in (d.run, d.plan, d.fetch, d.supply, d.wait, d.release, d.invalidate):
        verb: Any = call
        with pytest.raises(BadRunId, match="kept for results that all runs share"):
            await verb("docket.global/" + "0" * 64, Answer)

    assert ran == []


async def test_a_shared_result_is_found_by_a_recorded_input(cache: Cache) -> None:
    """A later call of the run that leaves the input out finds it all the same."""
    d, ran = asking(cache)
    await d.run("r1", Answer, Document("abc"))
    await d.invalidate("r1", Answer)
    ran.clear()

    await d.run("r1", Answer)

    assert ran == ["answer"]
    with pytest.raises(MissingInput):
        await d.run("r9", Answer)


async def test_an_optional_input_that_was_recorded_counts(cache: Cache) -> None:
    """A later call that leaves it out means the same result as the call that brought it."""
    d, ran = asking(cache)
    await d.run("r1", Answer, Document("abc"), Language("de"))
    await d.invalidate("r1", Answer)
    ran.clear()

    await d.run("r1", Answer, Document("abc"))

    assert ran == ["answer"]


async def test_a_new_version_of_what_it_is_made_from_is_another_result(cache: Cache) -> None:
    """The old one stays for those who still run the old code."""
    old, _ = asking(cache)
    await old.run("r1", Answer, Document("abc"))
    new, ran = asking(cache, version=2)

    await new.run("r2", Answer, Document("abc"))
    assert ran == ["words", "embed", "answer"]
    ran.clear()
    await new.run("r1", Answer, Document("abc"))
    assert ran == []


async def test_a_value_given_in_place_of_a_step_is_not_shared(cache: Cache) -> None:
    """What is made from it is this run's own."""
    d, ran = asking(cache)

    await d.run("r1", Answer, given=[Words(7)])
    await d.run("r2", Answer, Document("abc"))

    assert ran == ["embed", "answer", "words", "embed", "answer"]


class Aged(MemoryCache):
    """A cache in which everything is older than it is.

    Attributes:
        by: Seconds.
    """

    by = 0.0

    async def load(self, run_id: str, /) -> Records:
        """Return everything known about a run, aged."""
        found = await super().load(run_id)
        results: dict[str, Record] = {
            key: dataclasses.replace(record, since=record.since + self.by) for key, record in found.results.items()
        }
        return Records(results, found.inputs, found.latest)


async def test_a_shared_result_expires() -> None:
    """After its ttl it is made again; facts that were made from the old value stand."""
    cache = Aged()
    d, ran = asking(cache, ttl=60)
    await d.run("r1", Answer, Document("abc"))
    cache.by = 61.0
    ran.clear()

    await d.run("r2", Answer, Document("abc"))
    assert ran == ["words", "embed", "answer"]
    cache.by = 0.0
    ran.clear()
    await d.run("r1", Answer, Document("abc"))
    await d.run("r3", Answer, Document("abc"))
    assert ran == ["answer"]


@pytest.mark.parametrize("options", [{"scope": "global"}, {"on_change": "recompute"}, {"scope": "global", "exclusive": True}])
async def test_a_refusal_expires(options: dict[str, Any]) -> None:
    """After its ttl the step is asked again; what it says then stands for as long again, be it another refusal or a result."""
    cache, refusals = Aged(), [Refused("closed today"), Refused("closed again")]
    d, asked = Docket(cache=cache), list[str]()

    @d.step(cache_result="at_least_once", ttl=60, **options)
    async def embed(document: Document) -> Embedding:
        asked.append(document.text)
        if refusals:
            raise refusals.pop(0)
        return Embedding(7)

    for reason in ("closed today", "closed again"):
        for _ in range(2):
            with pytest.raises(Refused, match=reason):
                await d.run("r1", Embedding, Document("abc"))
            cache.by = 0.0
        cache.by = 61.0
        plan = await d.plan("r1", Embedding, Document("abc"))
        assert str(plan.steps[-1]) == "Embedding: would run, again: its refusal is older than its ttl of 60 s"

    for by in (61.0, 0.0):
        cache.by = by
        assert await d.run("r1", Embedding, Document("abc")) == Embedding(7)
    assert len(asked) == 3


async def test_a_refusal_takes_the_place_of_a_result_that_expired(cache: Cache) -> None:
    """What the step says now counts: the old value is not handed out in its place."""
    d, asked = Docket(cache=cache), list[int]()

    @d.step(cache_result="at_least_once", on_change="recompute")
    async def embed(document: Document) -> Embedding:
        asked.append(len(document.text))
        if len(asked) > 1:
            raise Refused("too long")
        return Embedding(1)

    await d.run("r1", Embedding, Document("abc"))
    for _ in range(2):
        with pytest.raises(Refused, match="too long"):
            await d.run("r1", Embedding, Document("abcd"))

    assert asked == [3, 4]


async def test_what_is_recomputed_follows_a_shared_result() -> None:
    """It was made from the expired value, so it is made again."""
    cache = Aged()
    d, ran = asking(cache, ttl=60, answer={"on_change": "recompute"})
    await d.run("r1", Answer, Document("abc"))
    cache.by = 61.0
    ran.clear()

    await d.run("r1", Answer, Document("abc"))

    assert ran == ["words", "embed", "answer"]


async def test_concurrent_runs_agree_on_a_shared_result(cache: Cache) -> None:
    """The first writer wins, and all go on with its value."""
    d, _ = asking(cache)

    answers = await asyncio.gather(*(d.run(f"r{number}", Answer, Document("abc")) for number in range(8)))

    assert len({answer.number for answer in answers}) == 1


async def test_a_shared_result_belongs_to_no_run() -> None:
    """So it cannot be fetched or taken back by a run's id."""
    d, _ = asking(MemoryCache())

    with pytest.raises(UnknownTarget, match="embed shares its result with all runs, found by their inputs: run it"):
        await d.fetch("r1", Embedding)


def test_a_shared_result_is_not_made_from_what_is_one_runs_own() -> None:
    """Neither from a kept result of a run nor with its id."""
    d = Docket(cache=MemoryCache())

    @d.step(cache_result="at_least_once")
    async def own(document: Document) -> Words:
        raise NotImplementedError

    @d.step
    async def note(run: Run) -> Language:
        raise NotImplementedError

    @d.step(cache_result="at_least_once", scope="global")
    async def embed(words: Words, language: Language) -> Embedding:
        raise NotImplementedError

    text = said(d)

    assert "Embedding is shared by all runs and made from Words, which is one run's own" in text
    assert 'fix: drop scope="global", or share Words as well' in text
    assert "Embedding is shared by all runs and made with a Run, which is one run's own" in text
    with pytest.raises(WiringError, match="2 problems"):
        d.check()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scope": "team"}, "scope='team'; use one of run, global"),
        ({"scope": "global"}, "scope='global' shares a result, which is kept for that: cache_result='at_least_once'"),
        ({"cache_result": "at_least_once", "ttl": 5}, "ttl= lets a result expire; say scope='global' or on_change='recompute'"),
    ],
)
def test_what_cannot_be_shared_is_refused_at_its_line(options: Any, text: str) -> None:
    """The mistake is raised by the decorator."""

    async def embed(document: Document) -> Embedding:
        raise NotImplementedError

    with pytest.raises(ConfigurationError, match=text):
        Docket().step(**options)(embed)
