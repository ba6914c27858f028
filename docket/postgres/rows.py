"""Rows into records, and values into columns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any
from uuid import UUID

from docket._core.record import Blob, MadeFrom, Record, Records, Stored, used_last
from docket.cache import Certificate, Claim, Input, Move
from docket.postgres.statements import Shape

_NOTHING = MadeFrom()
_dumps = json.JSONEncoder(separators=(",", ":")).encode
_read = json.JSONDecoder().raw_decode


def records(rows: Iterable[Any]) -> dict[str, Records]:
    """Sort the rows of a load into one `Records` for each run that has any."""
    found: dict[str, tuple[dict[str, Record], dict[tuple[str, str], Stored], dict[str, str]]] = {}
    youngest: dict[tuple[str, str], float] = {}
    several: set[tuple[str, str]] = set()
    sources: dict[str, MadeFrom] = {}  # by text: the results of a run are often made from the same
    for row in rows:
        (run_id, key, mode, state, token, claim, owner, attempt, since, left,
         made_from, serializer, type_, body, blob, reason, error_type, error_text) = row  # fmt: skip
        run = found.get(run_id)
        if run is None:
            run = found[run_id] = ({}, {}, {})
        if claim is None:  # an input; a supplied value has a claim, and belongs to the results
            run[1][key, reason] = Stored(serializer, key, body)
            if key in run[2]:
                several.add((run_id, key))
            if since <= youngest.get((run_id, key), since):
                youngest[run_id, key] = since
                run[2][key] = reason
            continue
        stored = None
        if body is not None:
            stored = Stored(serializer, type_, body)
        elif blob is not None:
            stored = Stored(serializer, type_, b"", None, read_blob(blob))
        source = sources.get(made_from)
        if source is None:
            source = sources[made_from] = read_made_from(made_from)
        run[0][key] = Record(
            key, mode, state, token, claim if isinstance(claim, UUID) else UUID(str(claim)), owner, attempt, since, left,
            source, stored, reason or "", error_type or "", error_text or "",
        )  # fmt: skip
    for run_id, key in several:
        # What a request brought that was refused is recorded too, and one that came back keeps the time of its first record.
        results, _, latest = found[run_id]
        latest[key] = used_last(key, results.values()) or latest[key]
    return {run_id: Records(*run) for run_id, run in found.items()}


def made_from_text(made_from: MadeFrom) -> str:
    """Return *made_from* as the JSON text of its column, empty members left out."""
    if not (made_from.above or made_from.versions or made_from.deep):  # most are made from inputs alone
        return f'{{"inputs":{_object(made_from.inputs)}}}' if made_from.inputs else "{}"
    parts = ("inputs", made_from.inputs), ("above", made_from.above), ("versions", made_from.versions), ("deep", made_from.deep)
    return "{" + ",".join([f'"{name}":{_object(part)}' for name, part in parts if part]) + "}"


def _object(part: Mapping[str, object]) -> str:
    return "{" + ",".join([f"{_name(name)}:{_value(value)}" for name, value in part.items()]) + "}"


def _value(value: object) -> str:
    # Digests nearly always: plain hexadecimal needs no escapes.
    return f'"{value}"' if isinstance(value, str) and value.isascii() and value.isalnum() else _dumps(value)


@lru_cache(maxsize=4096)
def _name(name: str) -> str:
    return _dumps(name)  # storage keys, the same few in every row


def read_made_from(text: str | None) -> MadeFrom:
    """Return what `made_from_text` wrote."""
    if not text:
        return _NOTHING
    value, _ = _read(text)
    return MadeFrom(**value)


def blob_text(blob: Blob | None) -> str | None:
    """Return *blob* as the JSON text of its column; None if there is none."""
    return None if blob is None else json.dumps({"uri": blob.uri, "sha256": blob.sha256, "size": blob.size})


def read_blob(text: str) -> Blob:
    """Return what `blob_text` wrote."""
    value = json.loads(text)
    return Blob(value["uri"], value["sha256"], value["size"])


def write_values(items: Sequence[Claim | Certificate]) -> tuple[Shape, Sequence[Any]]:
    """Return the shape of a statement that claims and certifies, and its values."""
    rows = [_claim(item) if isinstance(item, Claim) else _certificate(item) for item in items]
    if len(items) == 1 and len(items[0].inputs) < 2:
        return ("one", (*rows[0], *_input(items[0]))) if items[0].inputs else ("bare", rows[0])
    if len(items) == 2:
        first, second = items
        if first.run_id == second.run_id and first.inputs == second.inputs and len(first.inputs) == 1:
            return "pair", (*rows[0], *rows[1], *_input(first))
    return "many", columns(rows) + input_columns(items)


def _claim(claim: Claim) -> tuple[Any, ...]:
    return (
        claim.run_id, claim.key, claim.mode, claim.nonce.hex, claim.owner, float(claim.lease), made_from_text(claim.made_from),
        claim.seen + 1, None, None, None, None, None,
    )  # fmt: skip


def _certificate(one: Certificate) -> tuple[Any, ...]:
    return (
        one.run_id, one.key, one.mode, one.nonce.hex, one.owner, None, made_from_text(one.made_from),
        one.token or one.seen + 1, one.stored.serializer, one.stored.type, *_payload(one.stored),
    )  # fmt: skip


def _input(item: Claim | Certificate) -> tuple[Any, ...]:
    (one,) = item.inputs
    stored = one.stored
    return item.run_id, stored.type, one.digest, stored.serializer, stored.body, stored.view


def move_values(move: Move) -> tuple[Any, ...]:
    """Return the values of the statement that moves a row."""
    stored = move.stored
    body, view, blob = _payload(stored) if stored else (None, None, None)
    return (
        move.run_id, move.key, move.token, None if move.nonce is None else str(move.nonce), list(move.states), move.to,
        move.expired, move.event, str(move.id), move.reason, move.error_type, move.error_text,
        stored and stored.serializer, stored and stored.type, body, view, move.owner, move.fences, blob,
    )  # fmt: skip


def columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Turn rows, of which there is at least one, into columns."""
    return [list(column) for column in zip(*rows, strict=True)]


def input_columns(items: Sequence[Claim | Certificate]) -> list[list[Any]]:
    """Return the six columns of the inputs of several runs, each input once, in the order of their key."""
    distinct: dict[tuple[str, str, str], Input] = {}
    for item in items:
        for one in item.inputs:
            distinct[item.run_id, one.stored.type, one.digest] = one
    if not distinct:
        return [[], [], [], [], [], []]
    return columns(
        [
            (*name, distinct[name].stored.serializer, distinct[name].stored.body, distinct[name].stored.view)
            for name in (sorted(distinct) if len(distinct) > 1 else distinct)
        ]
    )


def _payload(stored: Stored) -> tuple[bytes | None, str | None, str | None]:
    if stored.blob is None:
        return stored.body, stored.view, None
    return None, stored.view, blob_text(stored.blob)
