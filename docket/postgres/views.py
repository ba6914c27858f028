"""Typed SQL views over certified results: one per type, with a column per field.

Text only: nothing here talks to a database. The printed script is for the migration tool at hand.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    two, never a zero that nobody stored; so does a column whose value does not fit it (redacted, out of range). Rows of
    another type under the same key are not shown.

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
        types = serializers.names_of(type_)
        name = (names or {}).get(key) or snake_case(label(type_))
        for view in _family(name, key, types, shape, schema):
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


def _family(name: str, key: str, types: Sequence[str], shape: Schema, schema: str) -> Iterator[TypedView]:
    """Yield the view of a type and those of its lists and maps, outer ones first."""
    waiting: list[tuple[str, Schema, tuple[_Level, ...]]] = [(name, shape, ())]
    while waiting:
        view, columns, levels = waiting.pop(0)
        yield _view(view, key, types, columns, levels, schema)
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


def _view(
    name: str, key: str, types: Sequence[str], shape: Schema, levels: tuple[_Level, ...], schema: str
) -> TypedView:
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
        f"WHERE r.key = {literal(key)} AND r.state = 'certified' AND r.type IN ({', '.join(map(literal, types))})",
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
    there = f"jsonb_typeof({_json(base, column.path[:-1])}) = 'object'"
    if column.many:
        items = f"jsonb_array_elements_text({held}) WITH ORDINALITY AS e(value, idx)"
        array = f"ARRAY(SELECT {_cast('e.value', column.type)} FROM {items} ORDER BY e.idx)"
        # A projection that leaves empty lists out still has the object that should hold one.
        empty = "" if column.default is None else f" WHEN {held} IS NULL AND {there} THEN '{{}}'::{column.type}[]"
        return f"CASE WHEN jsonb_typeof({held}) = 'array' THEN {array}{empty} END"
    found = held if column.type == "jsonb" else _cast(_text(base, column.path), column.type)
    if column.default is None:
        return found
    # Where it is absent only: what is there and does not fit is no zero either.
    text = literal(column.default)
    zero = _cast(text, column.type) if column.type in ("bytea", "interval") else f"{text}::{column.type}"
    return f"CASE WHEN {held} IS NOT NULL THEN {found} WHEN {there} THEN {zero} END"


def _json(base: str, path: tuple[str, ...]) -> str:
    return f"({' -> '.join((base, *map(literal, path)))})" if path else base


def _text(base: str, path: tuple[str, ...]) -> str:
    return f"({_json(base, path[:-1])} ->> {literal(path[-1])})" if path else f"({base} #>> '{{}}')"


_DATE = (
    "(?!0000)(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_CLOCK = "(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.][0-9]{1,9})?)?"
_ZONE = "(?:Z|[+-](?:0[0-9]|1[0-5]):[0-5][0-9](?::[0-5][0-9])?)?"
_NUMBER = "-?[0-9]+(?:[.][0-9]+)?(?:[eE][+-]?[0-9]{1,4})?"
_SPAN = (
    "P(?=[0-9T-])(?:-?[0-9]{1,8}Y)?(?:-?[0-9]{1,8}M)?(?:-?[0-9]{1,8}W)?(?:-?[0-9]{1,9}D)?"
    "(?:T(?=[0-9-])(?:-?[0-9]{1,8}H)?(?:-?[0-9]{1,9}M)?(?:-?[0-9]{1,12}(?:[.][0-9]{1,9})?S)?)?"
)

_FITS: dict[SqlType, str] = {
    "boolean": "true|false",
    "bytea": "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?",
    "date": _DATE,
    # PostgreSQL rounds to microseconds, and the last one of a day to 24:00, which it does not read.
    "time": f"(?!.*[.][0-9]{{7}}){_CLOCK}{_ZONE}",
    "timestamptz": f"{_DATE}[T ]{_CLOCK}{_ZONE}",
    "uuid": "[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}",
}
"""What PostgreSQL certainly reads as each type. Anything else shows NULL: a projection may be redacted or of an older type, and
one cast that fails would break the view for every row. Without a function: before version 16 PostgreSQL has none to ask."""

_RANGES: dict[SqlType, tuple[str, str]] = {
    "bigint": ("-9223372036854775808", "9223372036854775807"),
    "float8": ("5e-324", "1.7976931348623157e308"),
    "int": ("-2147483648", "2147483647"),
    "real": ("1e-45", "3.4028235e38"),
}

_DIGITS = 6000
"""Characters of a number that is shown. With the four digits of an exponent, a numeric of PostgreSQL holds any such (16,383
digits after the point, 131,072 before it); Python writes an int of at most 4,300 without being told to."""


def _cast(text: str, type_: SqlType) -> str:
    """Return *text* as *type_*, NULL if it does not fit."""
    if type_ == "text":
        return text
    if type_ in ("bigint", "float8", "int", "numeric", "real"):
        return _number(text, type_)
    if type_ == "interval":
        # PostgreSQL reads no sign before the P of ISO 8601, which pydantic and msgspec write.
        signed = f"-(substring({text}, '^-({_SPAN})$')::interval)"
        plain = f"substring({text}, '^(?:{_SPAN}|-?[0-9]{{1,12}}(?:[.][0-9]{{1,9}})?s)$')::interval"
        return f"CASE WHEN {text} LIKE '-P%' THEN {signed} ELSE {plain} END"
    fitting = f"substring({text}, '^(?:{_FITS[type_]})$')"
    return f"decode({fitting}, 'base64')" if type_ == "bytea" else f"{fitting}::{type_}"


def _number(text: str, type_: SqlType) -> str:
    if type_ in ("bigint", "int"):
        number = f"substring({text}, '^-?[0-9]{{1,19}}$')::numeric"
        low, high = _RANGES[type_]
        return f"CASE WHEN {number} BETWEEN {low} AND {high} THEN ({text})::{type_} END"
    number = f"substring({text}, '^{_NUMBER}$')::numeric"
    if type_ == "numeric":
        return f"CASE WHEN length({text}) <= {_DIGITS} THEN {number} END"
    low, high = _RANGES[type_]
    fits = f"CASE WHEN length({text}) <= {_DIGITS} THEN {number} = 0 OR abs({number}) BETWEEN {low} AND {high} END"
    return f"CASE WHEN {text} IN ('NaN', 'Infinity', '-Infinity') OR ({fits}) THEN ({text})::{type_} END"
