"""How things stand with everything a plan looked at: one state and one reason for each. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from docket._core.certificates import Facts, Verdict, outlived
from docket._core.record import Record
from docket._core.step import Step
from docket._core.types import Key, label
from docket._core.wiring import Wiring
from docket.errors import Change

State: TypeAlias = Literal[
    "supplied", "recorded", "held", "missing",
    "certified", "changed", "would run", "running", "failed", "waiting", "refused", "in doubt", "purged", "blocked",
]  # fmt: skip

_STOPS: tuple[State, ...] = ("missing", "changed", "running", "refused", "in doubt", "purged", "blocked")


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with one type.

    Attributes:
        type: The type.
        step: The step that gives it; None for inputs and resources.
        state: For inputs and resources: ``supplied`` with the call, ``recorded`` earlier in the run, ``held`` by the
            application, ``missing``. For steps: ``certified``; ``changed`` (certified from other inputs than those
            supplied now); ``would run``; ``running`` elsewhere; ``failed`` (would run again); ``waiting`` for the
            outside; ``refused``; ``in doubt``; ``purged``; ``blocked`` by one of its needs.
        reason: Why, for people.
        needs: The types it would be made from; empty for what would not be made.
    """

    type: Key
    step: Step | None
    state: State
    reason: str
    needs: tuple[Key, ...] = ()

    def __str__(self) -> str:
        return f"{label(self.type)}: {self.state}{', ' if self.reason else ''}{self.reason}"


def standings(
    wiring: Wiring,
    known: Sequence[Key],
    steps: Sequence[Step],
    facts: Facts,
    verdicts: Mapping[str, Verdict],
    changes: Mapping[str, tuple[Change, ...]],
    missing: Collection[Key],
) -> tuple[Standing, ...]:
    """Say how it stands with what a program knows before the start and with what it would compute."""
    found: dict[Key, Standing] = {}
    for key in known:
        found[key] = _known(wiring, key, facts, verdicts, changes, missing)
    for step in steps:
        needs = tuple(need.key for need in step.needs if need.key in found)
        state, reason = _begun(step, facts, verdicts, changes)
        if state in ("would run", "failed", "waiting"):
            stop = next((found[key] for key in needs if found[key].state in _STOPS), None)
            if stop is not None:
                state, reason = "blocked", f"by {label(stop.type)}, {stop.state}"
        found[step.gives] = Standing(step.gives, step, state, reason, needs)
    return tuple(found.values())


def _known(
    wiring: Wiring,
    key: Key,
    facts: Facts,
    verdicts: Mapping[str, Verdict],
    changes: Mapping[str, tuple[Change, ...]],
    missing: Collection[Key],
) -> Standing:
    step, name = wiring.steps.get(key), wiring.name(key)
    if key in missing:
        told = "no step gives it, nobody supplied it, and it is not on record; a job that waits may bring it"
        return Standing(key, None, "missing", told)
    if key in wiring.resources:
        return Standing(key, None, "held", f"provided at {wiring.resources[key].where}")
    if name in facts.supplied:
        return Standing(key, step, "supplied", "given in place of its step" if step is not None else "")
    if step is None:  # an input that nothing kept is made from is not recorded, nor among the facts
        recorded = name in facts.records.latest
        return Standing(key, None, "recorded", "earlier in this run") if recorded else Standing(key, None, "supplied", "")
    record = facts.records.results.get(name)
    if record is None or record.state != "certified":
        return Standing(key, step, "supplied", "made earlier in this attempt")
    verdict = verdicts.get(name)
    if verdict is not None and verdict.state == "conflict":
        return Standing(key, step, "changed", _why(verdict, changes))
    made = f"{ago(record.since)} by {record.owner}" if record.owner else ago(record.since)
    waits = f"; {verdict.why}" if verdict is not None and verdict.state == "waiting" else ""
    return Standing(key, step, "certified", f"{made}{waits}")


def _begun(
    step: Step, facts: Facts, verdicts: Mapping[str, Verdict], changes: Mapping[str, tuple[Change, ...]]
) -> tuple[State, str]:
    record, verdict = facts.records.results.get(step.key), verdicts.get(step.key)
    if verdict is not None and verdict.state == "conflict":
        return "changed", _why(verdict, changes)
    if record is None:
        return "would run", "nothing is certified yet" if step.certifies else "its result is not kept"
    if record.state == "running":
        return _running(record)
    if record.state == "certified":
        return "would run", f"again: {verdict.why}" if verdict is not None and verdict.why else "again"
    if record.state == "refused" and outlived(step, record):
        return "would run", f"again: its refusal is older than its ttl of {step.options.ttl:g} s"
    if record.state in ("refused", "purged"):
        return ("refused", record.error_text) if record.state == "refused" else ("purged", "by retention")
    if record.state == "doubt":
        return "in doubt", f"for {span(record.since)}: {_error(record) or record.reason}"
    if record.state == "ready" and record.reason == "waiting":  # a `WaitingFor`, whose text begins so
        return "waiting", record.error_text.removeprefix("waiting ")
    if record.state == "ready" and record.error_type:
        times = "once" if record.attempt == 1 else f"{record.attempt} times"
        return "failed", f"{times}, last {ago(record.since)}: {_error(record)}; would run again"
    return "would run", "it was invalidated" if record.state == "superseded" else "it was released"


def _running(record: Record) -> tuple[State, str]:
    if record.lease_left >= 0:
        return "running", f"for {span(record.since)} on {record.owner}, held for {record.lease_left:.0f} s more"
    lost = f"{record.owner} was lost, last heard of before {ago(-record.lease_left)}"
    return ("would run", lost) if record.mode == "at_least_once" else ("in doubt", lost)


def _why(verdict: Verdict, changes: Mapping[str, tuple[Change, ...]]) -> str:
    return "; ".join(map(str, changes.get(verdict.key, ()))) or verdict.why


def _error(record: Record) -> str:
    return ": ".join(part for part in (record.error_type, record.error_text) if part)


def ago(seconds: float) -> str:
    """Say how long ago something was."""
    return f"{span(seconds)} ago"


def span(seconds: float) -> str:
    """Write a span of time as people say it."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
