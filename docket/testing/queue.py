"""What every queue driver keeps to, as code: the rules behind `docket.testing.exercise_queue`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

from docket.errors import ConfigurationError, Refused, RetryLater, WaitingFor
from docket.queue import Job
from docket.serializers import Serializers
from docket.testing.rig import ATTEMPTS, QUEUE, QUIET, Bench, Label, Order, Parcel, QueueRig, Sent, send, until


async def works_on_what_is_enqueued(rig: QueueRig) -> None:
    """A job becomes one attempt at its run, with the inputs it was enqueued with."""
    bench = Bench(rig)
    named = await bench.d.enqueue(QUEUE, Parcel, Order(7), run_id="run-1")
    random = await bench.d.enqueue(QUEUE, Parcel, Order(8))
    async with rig.working():
        assert await bench.packed(named) == Parcel(7)
        assert await bench.packed(random) == Parcel(8)
    assert sorted(bench.calls) == sorted((named, random))


async def enqueues_a_run_once(rig: QueueRig) -> None:
    """A run that waits is not enqueued a second time, alone or among many; once it was worked on, it may be."""
    bench = Bench(rig)
    assert await bench.put("run-1") == ["run-1"]
    assert await bench.put("run-1") == []
    assert await bench.put("run-0", "run-1", "run-2") == ["run-0", "run-2"]
    async with rig.working():
        for run_id in ("run-0", "run-1", "run-2"):
            await bench.packed(run_id)
        assert sorted(bench.calls) == ["run-0", "run-1", "run-2"]

        async def added() -> bool:
            return await bench.put("run-1") == ["run-1"]

        await until(added)
    assert bench.calls.count("run-1") == 1


async def refuses_other_inputs_of_what_waits(rig: QueueRig) -> None:
    """A run that waits is not enqueued with other inputs, and none of many is if one of them would be; the same are welcome."""
    bench = Bench(rig)
    assert await bench.put("run-1") == ["run-1"]
    await bench.refused("run-1", {"run-1": [Order(9)]})
    await bench.refused("run-1", {"run-0": [Order(0)], "run-1": [Order(9)], "run-2": [Order(0)]})
    assert await bench.put("run-1", "run-2") == ["run-2"]
    async with rig.working():
        assert await bench.packed("run-1") == Parcel(0)
        await bench.packed("run-2")
        await asyncio.sleep(QUIET)
    assert sorted(bench.calls) == ["run-1", "run-2"]


async def compares_the_values_of_what_waits(rig: QueueRig) -> None:
    """Inputs whose bytes differ each time, since they are sealed, are the same inputs if they hold the same."""
    bench = Bench(rig, Serializers(sealer=_Salted()))
    assert await bench.put("run-1") == ["run-1"]
    assert await bench.put("run-1") == []
    assert await bench.put("run-0", "run-1", "run-2") == ["run-0", "run-2"]
    await bench.refused("run-2", {"run-3": [Order(0)], "run-2": [Order(9)]})
    async with rig.working():
        for run_id in ("run-0", "run-1", "run-2"):
            assert await bench.packed(run_id) == Parcel(0)
        await asyncio.sleep(QUIET)
    assert sorted(bench.calls) == ["run-0", "run-1", "run-2"]


async def keeps_to_the_schedule(rig: QueueRig) -> None:
    """A scheduled job does not start before its time, and holds up no other."""
    bench = Bench(rig)
    due = datetime.now(UTC) + timedelta(seconds=1)
    started: list[datetime] = []

    async def act() -> None:
        started.append(datetime.now(UTC))

    bench.act = act
    await bench.d.enqueue(QUEUE, Parcel, Order(1), run_id="later", schedule_at=due)
    await bench.d.enqueue(QUEUE, Parcel, Order(2), run_id="now")
    async with rig.working():
        await bench.packed("later")
    assert bench.calls == ["now", "later"]
    assert started[1] >= due


async def goes_by_priority(rig: QueueRig) -> None:
    """Of the jobs that wait, one with a higher priority goes first; among equals the one enqueued first."""
    bench = Bench(rig)
    for run_id, priority in (("a", 0), ("b", 5), ("c", 5), ("d", 9)):
        await bench.d.enqueue(QUEUE, Parcel, Order(1), run_id=run_id, priority=priority)
    async with rig.working():
        await bench.packed("a")
    assert bench.calls == ["d", "b", "c", "a"]


async def tries_again(rig: QueueRig) -> None:
    """A job whose step raised is tried again, and is over when it succeeds."""
    bench = Bench(rig)

    async def act() -> None:
        if len(bench.calls) < ATTEMPTS:
            raise RuntimeError("not today")

    bench.act = act
    await bench.put("run-1")
    async with rig.working():
        await bench.packed("run-1")
        await asyncio.sleep(QUIET)
    assert bench.calls == ["run-1"] * ATTEMPTS


async def gives_up(rig: QueueRig) -> None:
    """A job whose step raises every time fails for good after the last attempt, and says why."""
    bench = Bench(rig)

    async def act() -> None:
        raise RuntimeError("never \x00 today")

    bench.act = act
    await bench.put("run-1")
    async with rig.working():
        await until(lambda: _says(rig, "run-1", "gave up"))
        await asyncio.sleep(QUIET)
    assert bench.calls == ["run-1"] * ATTEMPTS
    assert "RuntimeError: never  today" in await rig.reason("run-1")


async def asks_later_without_counting(rig: QueueRig) -> None:
    """A step that says "later" gives its job back to the queue as often as it likes: attempts are not used up."""
    bench = Bench(rig)

    async def act() -> None:
        if len(bench.calls) < ATTEMPTS + 3:
            raise RetryLater(0.01)

    bench.act = act
    await bench.put("run-1")
    async with rig.working():
        await bench.packed("run-1")
    assert bench.calls == ["run-1"] * (ATTEMPTS + 3)


async def fails_at_once_what_cannot_succeed(rig: QueueRig) -> None:
    """A refusal, and a job for a target nobody gives, are tried no second time, and the reason can be read."""
    bench = Bench(rig)

    async def act() -> None:
        raise Refused("no such address")

    bench.act = act
    await bench.put("run-1")
    await rig.queue.enqueue([Job(QUEUE, "run-2", "shop.Unheard")], None)
    async with rig.working():
        await until(lambda: _says(rig, "run-1", "no such address"))
        await until(lambda: _says(rig, "run-2", "shop.Unheard"))
        await asyncio.sleep(QUIET)
    assert bench.calls == ["run-1"]


async def waits_for_the_outside(rig: QueueRig) -> None:
    """A run that waits for something from outside ends its job, and a new one goes on when it has come."""
    bench = Bench(rig)
    come: list[bool] = []

    async def act() -> None:
        if not come:
            raise WaitingFor("Approval")

    bench.act = act
    await bench.put("run-1")
    async with rig.working():
        await until(lambda: _says(rig, "run-1", "waiting for Approval"))
        await asyncio.sleep(QUIET)
        assert bench.calls == ["run-1"]
        come.append(True)
        await bench.put("run-1")
        await bench.packed("run-1")


async def cancels_what_waits(rig: QueueRig) -> None:
    """A job that was cancelled while it waited is never worked on."""
    bench = Bench(rig)
    await bench.put("run-1", "run-2")
    assert await bench.d.cancel("run-1", Parcel) == 1
    assert await bench.d.cancel("run-3", Parcel) == 0
    async with rig.working():
        await bench.packed("run-2")
        await asyncio.sleep(QUIET)
    assert bench.calls == ["run-2"]


async def cancels_what_runs(rig: QueueRig) -> None:
    """A job that is cancelled while it is worked on ends there; its certified step finishes; it is not tried again."""
    bench = Bench(rig)
    goes_on, heard = asyncio.Event(), asyncio.Event()

    async def print_label(_order: Order) -> Label:
        try:
            return await asyncio.Future[Label]()
        except asyncio.CancelledError:
            heard.set()
            raise

    bench.act = goes_on.wait
    bench.d.register(print_label, send)
    await bench.d.enqueue(QUEUE, Sent, Order(0), run_id="run-1")
    async with rig.working():
        await until(lambda: _true(bench.calls == ["run-1"]))
        assert await bench.d.cancel("run-1", Sent) == 1
        await until(lambda: _true(heard.is_set()))
        goes_on.set()
        assert await bench.packed("run-1") == Parcel(0)
        await until(lambda: _says(rig, "run-1", "cancel"))
        await asyncio.sleep(QUIET)
    assert bench.calls == ["run-1"]


async def stops_gracefully(rig: QueueRig) -> None:
    """A worker that is told to stop lets a certified step finish, and no second worker repeats it."""
    bench = Bench(rig)

    async def act() -> None:
        await asyncio.sleep(QUIET)

    bench.act = act
    await bench.put("run-1")
    async with rig.working():
        await until(lambda: _true(bench.calls == ["run-1"]))
    assert await bench.d.fetch("run-1", Parcel) == Parcel(0)
    async with rig.working():
        await asyncio.sleep(QUIET)
    assert bench.calls == ["run-1"]


async def takes_part_in_a_transaction(rig: QueueRig) -> None:
    """Jobs enqueued in the caller's transaction exist exactly if it commits, and a duplicate does not spoil it."""
    bench = Bench(rig)
    await bench.put("run-0")
    async with rig.transaction() as connection:
        assert await bench.put("run-0", "run-1", connection=connection) == ["run-1"]
        assert await bench.put("run-1", connection=connection) == []
        await bench.d.enqueue(QUEUE, Parcel, Order(2), run_id="run-2", connection=connection)
    try:
        async with rig.transaction() as connection:
            assert await bench.put("run-3", connection=connection) == ["run-3"]
            raise _Rollback
    except _Rollback:
        pass
    async with rig.working():
        for run_id in ("run-0", "run-1", "run-2"):
            await bench.packed(run_id)
        await asyncio.sleep(QUIET)
    assert sorted(bench.calls) == ["run-0", "run-1", "run-2"]


async def refuses_other_inputs_in_a_transaction(rig: QueueRig) -> None:
    """Jobs refused for their inputs are not there, what else the caller's transaction did is, and it goes on."""
    bench = Bench(rig)
    await bench.put("run-0")
    async with rig.transaction() as connection:
        await bench.put("run-1", connection=connection)
        for waiting in ("run-0", "run-1"):
            await bench.refused(waiting, {waiting: [Order(9)]}, connection)
            await bench.refused(waiting, {"run-2": [Order(0)], waiting: [Order(9)], "run-3": [Order(0)]}, connection)
        assert await bench.put("run-0", "run-1", "run-4", connection=connection) == ["run-4"]
    async with rig.working():
        for run_id in ("run-0", "run-1", "run-4"):
            assert await bench.packed(run_id) == Parcel(0)
        await asyncio.sleep(QUIET)
    assert sorted(bench.calls) == ["run-0", "run-1", "run-4"]


async def survives_its_worker(rig: QueueRig) -> None:
    """A job whose worker was killed is worked on by another."""
    bench = Bench(rig)
    await bench.put("run-1")
    await rig.strand()
    async with rig.working():
        await bench.packed("run-1")
    assert bench.calls == ["run-1"]


async def refuses_what_it_cannot_do(rig: QueueRig) -> None:
    """A job that asks for what the driver does not declare is refused before anything is enqueued."""
    bench = Bench(rig)
    can = rig.queue.capabilities
    asked: dict[str, Callable[[], Awaitable[object]]] = {
        "schedule": lambda: bench.d.enqueue(QUEUE, Parcel, Order(1), schedule_in=timedelta(seconds=1)),
        "priority": lambda: bench.d.enqueue(QUEUE, Parcel, Order(1), priority=1),
        "once": lambda: bench.d.enqueue(QUEUE, Parcel, Order(1), run_id="run-1"),
        "transaction": lambda: bench.d.enqueue(QUEUE, Parcel, Order(1), connection=object()),
    }
    for name in asked.keys() - can:
        try:
            await asked[name]()
        except ConfigurationError as error:
            refused = str(error)
        else:
            refused = ""
        assert name in refused, f"a job that asks for {name!r} was not refused"
    async with rig.working():
        await asyncio.sleep(QUIET)
    assert bench.calls == []


class _Rollback(Exception):
    pass


class _Salted:
    """Seals the same bytes into others each time. It keeps no secret."""

    def seal(self, body: bytes, _context: bytes, /) -> tuple[str, bytes]:
        return "salted", uuid.uuid4().bytes + body

    def open(self, _seal: str, sealed: bytes, _context: bytes, /) -> bytes:
        return sealed[16:]


async def _says(rig: QueueRig, run_id: str, words: str) -> bool:
    return words in await rig.reason(run_id)


async def _true(value: bool) -> bool:
    return value


RULES: Mapping[str, tuple[str | None, Callable[[QueueRig], Awaitable[None]]]] = {
    rule.__name__: (needs, rule)
    for needs, rule in (
        (None, works_on_what_is_enqueued),
        ("once", enqueues_a_run_once),
        ("once", refuses_other_inputs_of_what_waits),
        ("once", compares_the_values_of_what_waits),
        ("schedule", keeps_to_the_schedule),
        ("priority", goes_by_priority),
        ("once", tries_again),
        ("once", gives_up),
        ("once", asks_later_without_counting),
        ("once", fails_at_once_what_cannot_succeed),
        ("once", waits_for_the_outside),
        ("once", cancels_what_waits),
        ("once", cancels_what_runs),
        ("once", stops_gracefully),
        ("transaction", takes_part_in_a_transaction),
        ("transaction", refuses_other_inputs_in_a_transaction),
        ("durable", survives_its_worker),
        (None, refuses_what_it_cannot_do),
    )
}
"""By name, each rule and the capability without which it says nothing."""


async def exercise_queue(make: Callable[[], AbstractAsyncContextManager[QueueRig]], only: str | None = None) -> None:
    """Check that a queue driver keeps to every rule that its declared capabilities call for.

    Args:
        make: Makes a new rig on an empty queue; called once for each rule.
        only: The name of one rule, to check it alone.

    Raises:
        AssertionError: It breaks a rule; the note names it.
    """
    for name, (needs, rule) in RULES.items():
        if only not in (None, name):
            continue
        async with make() as rig:
            if needs is not None and needs not in rig.queue.capabilities:
                continue
            try:
                await rule(rig)
            except BaseException as error:
                error.add_note(f"docket: the driver breaks the rule {name!r}: {rule.__doc__}")
                raise
