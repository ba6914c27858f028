"""Typed SQL views over certified results: one per type, with a column per field.

Text only: nothing here talks to a database. The printed script is for the migration tool at hand.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from docket._core.types import label
from docket.errors import ConfigurationError
from docket.postgres._catalog import TABLES
from docket.postgres.statements import validated
from docket.serializers import Case, Child, Column, Schema, Serializers, SqlType

LONGEST = 63
"""Bytes of an identifier that PostgreSQL keeps (manual, "Identifiers and Key Words": NAMEDATALEN - 1)."""

_WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


@dataclass(frozen=True, slots=True)
class TypedView:
    r"""One view.

    Attributes:
        schema: The schema it stands in.
        name: Its name, as PostgreSQL keeps it.
        create: The statement that makes it, without a semicolon.
        comment: What it shows, for ``\d+`` and for people.
    """

    schema: str
    name: str
    create: str
    comment: str


def typed_views(
    results: Mapping[str, object],
    serializers: Serializers,
    *,
    schema: str = "docket",
    names: Mapping[str, str] | None = None,
) -> list[TypedView]:
    """Return the views of *results*, each followed by those of its repeated messages and maps.

    Rows whose projection was left out (over 64 kB, text with U+0000, encrypted) show NULL in every column but the first
    two, never a zero that nobody stored.

    Args:
        results: By storage key, the type of the certified result.
        serializers: Those of the cache.
        schema: The schema with Docket's tables, where the views go too.
        names: By storage key, a name to use instead of the type's own in snake_case.

    Raises:
        NoSerializer: If a type cannot be stored.
        ConfigurationError: If two views would have one name.
    """
    made: list[TypedView] = []
    owners: dict[str, str] = {name: f"the table or view {schema}.{name} of Docket itself" for name in TABLES}
    for key, type_ in sorted(results.items()):
        shape = serializers.of(type_).schema(type_)
        if shape is None:
            continue
        name = (names or {}).get(key) or snake_case(label(type_))
        for view in _family(name, key, shape, schema):
            owner = owners.setdefault(view.name, key)
            if owner != key or any(view.name == other.name for other in made):
                raise ConfigurationError(
                    f"the view {schema}.{view.name} would show both {owner} and {key}; "
                    f"give one another name: names={{{key!r}: {name + '_result'!r}}}"
                )
            made.append(view)
    return made


def script(views: Iterable[TypedView], *, drop: bool = False) -> str:
    """Return one SQL script that makes *views*.

    Args:
        views: What to make.
        drop: Drop each view first. ``CREATE OR REPLACE VIEW`` only takes new columns at the end (manual, "CREATE
            VIEW"), so a field that was removed, retyped or put in the middle needs this; what depends on the view must
            be made anew.
    """
    lines = [
        "-- Typed views over certified results. Written by `python -m docket schema views`; edits will be lost.",
        "",
    ]
    for view in views:
        name = f"{validated(view.schema)}.{identifier(view.name)}"
        lines += [f"DROP VIEW IF EXISTS {name};"] if drop else []
        lines += [f"{view.create};", f"COMMENT ON VIEW {name} IS {literal(view.comment)};", ""]
    return "\n".join(lines)


def snake_case(name: str) -> str:
    """Return the last name of a type as SQL would have it: ``shop.HTTPAnswer[User]`` is ``http_answer_user``."""
    last = [part.rpartition(".")[2] for part in re.findall(r"[\w.]+", name)]
    return "_".join(_WORD_ENDS.sub("_", part).lower() for part in last)


def identifier(name: str) -> str:
    """Quote *name* as an SQL identifier.

    Raises:
        ConfigurationError: If it is empty, holds U+0000 or is longer than PostgreSQL keeps.
    """
    if not name or "\0" in name or len(name.encode()) > LONGEST:
        raise ConfigurationError(f"{name!r} cannot be a name in SQL: use 1 to {LONGEST} bytes without NUL")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote *text* as an SQL string that means the same under either ``standard_conforming_strings``."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


class _Names:
    """Hands out identifiers that fit and differ within one view."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, wished: str) -> str:
        """Return *wished*, shortened if it is too long and numbered if it is taken."""
        name, number = _fit(wished), 1
        while name in self._taken:
            number += 1
            name = _fit(f"{wished}_{number}")
        self._taken.add(name)
        return name


def _fit(name: str) -> str:
    # With a hash of the whole, since PostgreSQL would cut two long names down to the same one.
    encoded = name.encode()
    if len(encoded) <= LONGEST:
        return name
    tail = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[: LONGEST - 9].decode(errors='ignore')}_{tail}"


@dataclass(frozen=True, slots=True)
class _Level:
    """One list or map on the way from the row to the rows of a child view."""

    name: str
    kind: str
    join: str
    value: str
    place: str


def _family(name: str, key: str, shape: Schema, schema: str) -> Iterator[TypedView]:
    """Yield the view of a type and those of its lists and maps, outer ones first."""
    waiting: list[tuple[str, Schema, tuple[_Level, ...]]] = [(name, shape, ())]
    while waiting:
        view, columns, levels = waiting.pop(0)
        yield _view(view, key, columns, levels, schema)
        base = levels[-1].value if levels else "r.view"
        waiting += [
            (f"{view}__{child.name}", child.schema, (*levels, _level(child, base, len(levels) + 1)))
            for child in columns.children
        ]


def _level(child: Child, base: str, depth: int) -> _Level:
    """Return the join that opens a list or a map held by *base*."""
    held, row = _json(base, child.path), f"x{depth}"
    if child.kind == "list":
        rows = f"jsonb_array_elements(CASE jsonb_typeof({held}) WHEN 'array' THEN {held} END) WITH ORDINALITY"
        return _Level(child.name, "idx", f"CROSS JOIN LATERAL {rows} AS {row}(value, idx)", f"{row}.value", f"{row}.idx")
    rows = f"jsonb_each(CASE jsonb_typeof({held}) WHEN 'object' THEN {held} END)"
    return _Level(child.name, "key", f"CROSS JOIN LATERAL {rows} AS {row}(key, value)", f"{row}.value", f"{row}.key")


def _view(name: str, key: str, shape: Schema, levels: tuple[_Level, ...], schema: str) -> TypedView:
    names = _Names()
    chosen = [f"r.run_id AS {identifier(names.take('run_id'))}"]
    if not levels:
        chosen.append(f"r.certified_at AS {identifier(names.take('certified_at'))}")
    chosen += [f"{level.place} AS {identifier(names.take(f'{level.name}_{level.kind}'))}" for level in levels[:-1]]
    if levels:
        chosen.append(f"{levels[-1].place} AS {identifier(names.take(levels[-1].kind))}")
    base = levels[-1].value if levels else "r.view"
    chosen += [f"{_column(column, base)} AS {identifier(names.take(column.name))}" for column in shape.columns]
    parts = [
        f"CREATE OR REPLACE VIEW {validated(schema)}.{identifier(_fit(name))} AS SELECT",
        ",\n".join(f"  {each}" for each in chosen),
        f"FROM {validated(schema)}.result AS r",
        *(level.join for level in levels),
        f"WHERE r.key = {literal(key)} AND r.state = 'certified'",
    ]
    within = f", one row per entry of {'.'.join(level.name for level in levels)}" if levels else ""
    return TypedView(schema, _fit(name), "\n".join(parts), f"Certified results {key}{within}.")


def _column(column: Column | Case, base: str) -> str:
    """Return the expression that reads *column* out of the JSON in *base*."""
    if isinstance(column, Case):
        holder = _json(base, column.path)
        cases = [f"WHEN {_json(holder, (member,))} IS NOT NULL THEN {literal(member)}" for member in column.members]
        return f"CASE {' '.join(cases)} END"
    held = _json(base, column.path)
    there = f"{_json(base, column.path[:-1])} IS NOT NULL"
    if column.many:
        items = f"jsonb_array_elements_text({held}) WITH ORDINALITY AS e(value, idx)"
        array = f"ARRAY(SELECT {_cast('e.value', column.type)} FROM {items} ORDER BY e.idx)"
        # A projection that leaves empty lists out still has the object that should hold one.
        empty = "" if column.default is None else f" WHEN {held} IS NULL AND {there} THEN '{{}}'::{column.type}[]"
        return f"CASE WHEN jsonb_typeof({held}) = 'array' THEN {array}{empty} END"
    if column.type == "jsonb":
        return held
    found = _cast(_text(base, column.path), column.type)
    if column.default is None:
        return found
    return f"COALESCE({found}, CASE WHEN {there} THEN {literal(column.default)}::{column.type} END)"


def _json(base: str, path: tuple[str, ...]) -> str:
    return f"({' -> '.join((base, *map(literal, path)))})" if path else base


def _text(base: str, path: tuple[str, ...]) -> str:
    return f"({_json(base, path[:-1])} ->> {literal(path[-1])})" if path else f"({base} #>> '{{}}')"


def _cast(text: str, type_: SqlType) -> str:
    if type_ == "text":
        return text
    if type_ == "bytea":
        return f"decode({text}, 'base64')"
    if type_ == "interval":
        # PostgreSQL reads no sign before the P of ISO 8601, which pydantic and msgspec write.
        return f"CASE WHEN {text} LIKE '-%' THEN -(substr({text}, 2)::interval) ELSE {text}::interval END"
    return f"{text}::{type_}"
