"""What an option cannot be is refused where it is given, with the option, the value and what to give instead."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, cast

import pytest

from docket import ConfigurationError, Docket, Graph, Retry
from docket.blobs import BlobStore
from docket.cache import MemoryCache
from docket.inprocess import InProcessQueue
from docket.serializers import Encrypted
from docket.telemetry import Event
from tests.engine.orders import Charge, Order

DSN = "postgresql://shop:secret@db/shop"

DOCKETS: list[tuple[dict[str, Any], str]] = [
    ({"cache": DSN}, "Docket(cache=<str>): a str has no load(); pass PostgresCache(DSN), or MemoryCache() in a test"),
    (
        {"cache": MemoryCache},
        "Docket(cache=MemoryCache): that is a class; make one of it, such as PostgresCache(DSN), or MemoryCache() in a test",
    ),
    (
        {"queue": MemoryCache()},
        "Docket(queue=<MemoryCache>): a MemoryCache has no serve(); "
        "pass ProcrastinateQueue(app), PgQueuerQueue(...) or InProcessQueue()",
    ),
    ({"blobs": "s3://bucket"}, "Docket(blobs=<str>): a str has no put(); pass BlobStore(...)"),
    (
        {"observer": "log"},
        "Docket(observer=<str>): a str has no __call__(); pass LoggingObserver(), or a function of one Event",
    ),
    ({"serializers": "json"}, "Docket(serializers='json'): give several in a list: serializers=[MySerializer()]"),
    ({"serializers": 3}, "Docket(serializers=3): give several in a list: serializers=[MySerializer()]"),
    ({"serializers": ["json"]}, "Docket(serializers=<str>): a str has no handles(); pass [MySerializer()]"),
    ({"inputs": Order}, f"Docket(inputs={Order!r}): give several in a list: inputs=[OrderRequest]"),
    ({"lease": 0}, "Docket(lease=0): give seconds or a timedelta, more than 0"),
    ({"lease": -1}, "Docket(lease=-1): give seconds or a timedelta, more than 0"),
    ({"lease": "60s"}, "Docket(lease='60s'): give seconds or a timedelta, more than 0"),
    ({"wait": -0.1}, "Docket(wait=-0.1): give seconds or a timedelta, 0 or more"),
    ({"wait": None}, "Docket(wait=None): give seconds or a timedelta, 0 or more"),
    ({"deadline": 0}, "Docket(deadline=0): give seconds or a timedelta, more than 0"),
    ({"deadline": float("nan")}, "Docket(deadline=nan): give seconds or a timedelta, more than 0"),
    ({"deadline": float("inf")}, "Docket(deadline=inf): give seconds or a timedelta, more than 0"),
    ({"threads": 0}, "Docket(threads=0): give a whole number; use 1 or more"),
    ({"threads": 2.5}, "Docket(threads=2.5): give a whole number; use 1 or more"),
    ({"grace": True}, "Docket(grace=True): give seconds or a timedelta, 0 or more"),
]

STEPS: list[tuple[dict[str, Any], str]] = [
    ({"timeout": -1}, "timeout=-1; give seconds or a timedelta, more than 0"),
    ({"timeout": 0}, "timeout=0; give seconds or a timedelta, more than 0"),
    ({"timeout": "30s"}, "timeout='30s'; give seconds or a timedelta, more than 0"),
    ({"reconcile_after": timedelta(-1)}, "reconcile_after=datetime.timedelta(days=-1); give seconds or a timedelta, 0 or more"),
    ({"on_change": "recompute", "ttl": 0}, "ttl=0; give seconds or a timedelta, more than 0"),
    ({"retry": 3}, "retry=3; give a Retry: retry=Retry(attempts=3)"),
    ({"max_attempts": 0}, "max_attempts=0; a step is started at least once; use 1 or more"),
    ({"max_attempts": "3"}, "max_attempts='3'; a step is started at least once; use 1 or more"),
    ({"version": "2"}, "version='2'; give a whole number; use 1 or more"),
    ({"key": ""}, "key=''; give a text, such as 'shop.Charge'"),
    ({"key": Charge}, f"key={Charge!r}; give a text, such as 'shop.Charge'"),
    *(
        ({"key": key}, f"key={key!r}; it {fault}; give printable NFC text, such as 'shop.Charge'")
        for key, fault in (
            ("a\0b", "has control, surrogate or unassigned characters"),
            ("a\ud800", "has control, surrogate or unassigned characters"),
            ("cafe\u0301", "is not NFC-normalised"),
            ("shop.Charge ", "has blanks around it"),
        )
    ),
    ({"thread": "no"}, "thread='no'; use True or False"),
    ({"exclusive": 1, "cache_result": "at_least_once"}, "exclusive=1; use True or False"),
    ({"pure": None}, "pure=None; use True or False"),
    (
        {"reconcile": "ask", "cache_result": "at_most_once"},
        "reconcile='ask'; give a function that returns the step's result or NOT_APPLIED",
    ),
    ({"cache_result": "once"}, "cache_result='once'; use one of at_least_once, at_most_once, transactional"),
    ({"on_change": "remake"}, "on_change='remake'; use one of raise, recompute, keep"),
    ({"scope": "all"}, "scope='all'; use one of run, global"),
]

RETRIES: list[tuple[dict[str, Any], str]] = [
    ({"attempts": 0}, "Retry(attempts=0): a step is tried at least once; use 1 or more"),
    ({"attempts": "3"}, "Retry(attempts='3'): a step is tried at least once; use 1 or more"),
    ({"wait": -1}, "Retry(wait=-1): give seconds or a timedelta, 0 or more"),
    ({"wait": "1s"}, "Retry(wait='1s'): give seconds or a timedelta, 0 or more"),
    *(
        ({"on": on}, f"Retry(on={on!r}): give exceptions, by their classes: on=OSError, or on=(OSError, TimeoutError)")
        for on in ("ValueError", ("ValueError",), OSError(), BaseException, [OSError])
    ),
]


def refused(make: Callable[[], object]) -> str:
    """Return what is said about it."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    return str(caught.value)


@pytest.mark.parametrize(("given", "said"), DOCKETS, ids=[said.partition(")")[0] for _, said in DOCKETS])
def test_what_a_docket_is_made_of(given: dict[str, Any], said: str) -> None:
    """Its parts are what they should be, and no password of one that is not is printed."""
    assert refused(lambda: Docket(**given)) == said


@pytest.mark.parametrize(("given", "said"), STEPS, ids=[said.partition(";")[0] for _, said in STEPS])
def test_what_a_step_is_marked_with(given: dict[str, Any], said: str) -> None:
    """The text begins with the step and its place."""

    async def charge(request: Order) -> Charge:
        return Charge()

    text = refused(lambda: Graph().step(**given)(charge))

    assert text.startswith("charge (")
    assert text.partition("): ")[2] == said


@pytest.mark.parametrize(("given", "said"), RETRIES, ids=[said.partition(")")[0] for _, said in RETRIES])
def test_what_a_retry_is_made_of(given: dict[str, Any], said: str) -> None:
    """A mistake in it would otherwise take the place of the step's own failure."""
    assert refused(lambda: Retry(**given)) == said


@pytest.mark.parametrize(
    ("queue", "given", "said"),
    [
        (Charge, {}, f"enqueue(queue={Charge!r}): the name of the queue comes first: enqueue('orders', Shipment, request)"),
        ("", {}, "enqueue(queue=''): the name of the queue comes first: enqueue('orders', Shipment, request)"),
        ("q", {"priority": "high"}, "enqueue(priority='high'): give a whole number"),
        ("q", {"schedule_in": "30"}, "enqueue(schedule_in='30'): give seconds or a timedelta"),
        (
            "q",
            {"schedule_at": date(2030, 1, 1)},
            "enqueue(schedule_at=datetime.date(2030, 1, 1)): give a datetime with a time zone, or schedule_in= with seconds",
        ),
    ],
)
async def test_when_and_where_a_job_goes(queue: Any, given: dict[str, Any], said: str) -> None:
    """For one run and for many; nothing was enqueued."""
    d = shop()

    for call in (d.enqueue(queue, Charge, Order(), **given), d.enqueue_many(queue, Charge, {"r": [Order()]}, **given)):
        with pytest.raises(ConfigurationError) as caught:
            await call
        assert str(caught.value) == said


async def test_seconds_from_now() -> None:
    """Seconds say when a job may start, as they say every other span."""
    queue = InProcessQueue()
    d = shop(queue)

    for wait in (0.01, timedelta(seconds=0.01)):
        run_id = await d.enqueue("q", Charge, Order(), schedule_in=wait)
        await queue.drain()
        assert await d.fetch(run_id, Charge) == Charge()
    await d.close()


async def test_limits_of_a_call() -> None:
    """A deadline and a time to wait that are no spans of time are refused; one that is over is no mistake."""
    d, bad = shop(), cast(Any, "x")

    with pytest.raises(ConfigurationError, match=r"^run\(deadline='x'\): give seconds or a timedelta$"):
        await d.run("r", Charge, Order(), deadline=bad)
    with pytest.raises(ConfigurationError, match=r"^wait\(timeout='x'\): give seconds or a timedelta$"):
        await d.wait("r", Charge, timeout=bad)
    with pytest.raises(TimeoutError):
        await d.wait("r", Charge, timeout=-1)


def test_what_is_accepted() -> None:
    """Spans as seconds and as timedeltas, and any object that does what its part has to do."""
    second = timedelta(seconds=1)

    def observe(event: Event) -> None:
        """Do nothing."""

    Docket(cache=MemoryCache(), lease=second, wait=second, grace=second, deadline=second, threads=1, observer=observe)
    Docket(lease=0.1, wait=0, grace=0, deadline=0.5, serializers=[], inputs=(Order,))
    Retry(attempts=1, wait=second, on=(OSError, ValueError))


def shop(queue: InProcessQueue | None = None) -> Docket:
    """Return a Docket with a queue and one step."""
    d = Docket(cache=MemoryCache(), queue=queue or InProcessQueue())

    @d.step(cache_result="at_least_once")
    async def charge(request: Order) -> Charge:
        return Charge()

    return d


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: Encrypted({"k": bytes(32)}, current="k"),
            "Encrypted needs cryptography, which is not installed: pip install 'docket-resolver[encrypt]'",
        ),
        (
            lambda: BlobStore("memory:///"),
            "BlobStore needs obstore, which is not installed: pip install 'docket-resolver[blob]'",
        ),
    ],
    ids=["Encrypted", "BlobStore"],
)
def test_what_is_made_without_its_extra(make: Callable[[], object], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused where it is made, before any step has an effect."""
    for package in ("cryptography", "obstore"):
        monkeypatch.setitem(sys.modules, package, None)

    assert refused(make) == said
