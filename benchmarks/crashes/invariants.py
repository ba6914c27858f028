"""What must be true of ledger, rows and answers, whatever happened."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from benchmarks.crashes.world import KEYS, Line, stored_effect

Name = tuple[str, str]
"""Run id and key."""

INVARIANTS = {
    "I1": "an at-most-once step starts and takes effect once, and once more for each release",
    "I2": "an at-least-once step of a finished run took effect",
    "I3": "no claimed step starts after its certificate, unless its claim was fenced off",
    "I4": "all callers are told of the same effect, and the certificate too",
    "I5": "a certificate is about an effect in the ledger",
    "I6": "what a transactional step wrote is there exactly once, exactly if it is certified",
    "I7": "a step was given exactly what the certificates of its needs say",
    "I8": "everything is finished once the faults are over and the doubts decided",
    "I9": "tokens only grow, and a certificate is final",
    "I10": "callers get no error but Busy, InDoubt, and the database's own where the database is attacked",
}


@dataclass(frozen=True, slots=True)
class Row:
    """What the database says about one result.

    Attributes:
        state: Of the row.
        token: Its fencing token.
        body: Its value, if certified.
        certified_at: Nanoseconds since 1970.
    """

    state: str
    token: int
    body: bytes | None
    certified_at: int | None


@dataclass(slots=True)
class History:
    """Everything there is to know about a campaign.

    Attributes:
        lines: The ledger.
        rows: The database at the end.
        bookings: What transactional steps wrote, by run.
        releases: How often each result was released by a person.
        answers: The effects that callers were told.
        done: Runs that were answered.
        unfinished: Runs that never were.
        watched: What was wrong with rows while it went on: I9.
        errors: Errors that nobody should get: I10.
    """

    lines: list[Line]
    rows: Mapping[Name, Row]
    bookings: Mapping[str, list[str]]
    releases: Mapping[Name, int]
    answers: Mapping[Name, set[str]]
    done: frozenset[str]
    unfinished: frozenset[str]
    watched: list[str]
    errors: list[str]
    effects: dict[Name, list[Line]] = field(default_factory=lambda: collections.defaultdict(list))
    starts: dict[Name, list[Line]] = field(default_factory=lambda: collections.defaultdict(list))
    certified: dict[Name, str] = field(default_factory=dict[Name, str])

    def __post_init__(self) -> None:
        for line in self.lines:
            (self.effects if line.what == "effect" else self.starts)[line.run_id, line.key].append(line)
        for (run_id, key), row in self.rows.items():
            if row.state == "certified" and row.body is not None:
                self.certified[run_id, key] = stored_effect(key, row.body)

    def repeats(self) -> int:
        """Count the effects of at-least-once steps beyond the first."""
        repeated = ("orders.Reservation", "orders.Shipment")
        return sum(len(lines) - 1 for (_, key), lines in self.effects.items() if key in repeated)


def violations(history: History) -> list[tuple[str, str]]:
    """Return what is broken: the invariant, and where."""
    return [*_numbers(history), *_answers(history), *_transactions(history), *_ends(history)]


def _numbers(history: History) -> Iterator[tuple[str, str]]:
    for name, lines in history.starts.items():
        run_id, key = name
        mode, row = KEYS[key], history.rows.get(name)
        allowed = 1 + history.releases.get(name, 0)
        effects = len(history.effects[name])
        if mode == "at_most_once" and max(len(lines), effects) > allowed:
            yield "I1", f"{run_id} {key}: {len(lines)} starts, {effects} effects, {allowed} allowed"
        if mode == "at_least_once" or row is None or row.state != "certified":
            continue
        for line in lines:
            late = row.certified_at is not None and line.at > row.certified_at
            # A process that was frozen while its transaction was ended may call its function and cannot write: see I6.
            if mode != "transactional" and late and line.token >= row.token:
                yield "I3", f"{run_id} {key}: started at {line.at}, certified at {row.certified_at} ns"
            if line.token > row.token:
                yield "I9", f"{run_id} {key}: started with token {line.token}, certified with {row.token}"


def _answers(history: History) -> Iterator[tuple[str, str]]:
    for name, told in history.answers.items():
        everywhere = told | {history.certified[name]} if name in history.certified else told
        if len(everywhere) > 1:
            yield "I4", f"{' '.join(name)}: {len(everywhere)} different answers"
    for (run_id, key), effect in history.certified.items():
        line = next((line for line in history.effects[run_id, key] if line.effect == effect), None)
        if line is None:
            yield "I5", f"{run_id} {key}: certified effect {effect} is not in the ledger"
            continue
        for need, given in line.needs.items():
            if history.certified.get((run_id, need)) != given:
                yield "I7", f"{run_id} {key}: was made from another {need} than the certified one"


def _transactions(history: History) -> Iterator[tuple[str, str]]:
    key = "crashes.Booking"
    runs = set(history.bookings) | {run_id for run_id, kept in history.certified if kept == key}
    for run_id in runs:
        written, certified = history.bookings.get(run_id, []), history.certified.get((run_id, key))
        if written != ([] if certified is None else [certified]):
            yield "I6", f"{run_id}: {len(written)} bookings, certified: {certified is not None}"


def _ends(history: History) -> Iterator[tuple[str, str]]:
    for run_id in sorted(history.done):
        for key, mode in KEYS.items():
            if (run_id, key) not in history.certified:
                row = history.rows.get((run_id, key))
                yield "I8", f"{run_id} {key}: answered, and its row is {row.state if row else 'not there'}"
            if mode in ("at_least_once", "exclusive") and not history.effects[run_id, key]:
                yield "I2", f"{run_id} {key}: no effect"
    for run_id in sorted(history.unfinished):
        states = ", ".join(f"{key} {history.rows[run_id, key].state}" for key in KEYS if (run_id, key) in history.rows)
        yield "I8", f"{run_id}: never finished ({states})"
    yield from (("I9", text) for text in history.watched)
    yield from (("I10", text) for text in history.errors)
