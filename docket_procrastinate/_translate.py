"""Procrastinate's queries in asyncpg's terms: ``%(name)s`` becomes ``$1``, JSON travels as text.

Pure: no I/O here. A query is rewritten once and remembered; the set of queries is Procrastinate's own, and small.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import NoneType
from typing import Any, NamedTuple

from procrastinate import exceptions, sql

from docket_procrastinate._statements import TASK

DEEPEST = 200
"""Levels that a job's arguments nest at most: what Docket's own JSON allows, and less than half of what can still be logged."""

JsonDumps = Callable[[Any], str | bytes]
JsonLoads = Callable[[str | bytes], Any]

# The optional ``||`` marks a parameter that the query concatenates into an interval ("%(nb_hours)s || 'HOUR'").
_PLACEHOLDER = re.compile(r"%\((?P<name>\w+)\)s(?P<joined>\s*\|\|)?|%%")

# The column as a query lists it to be read.
_ARGS_COLUMN = re.compile(r"(?<![\w.])args(?=\s*,)")

# Named one by one: a query of the user's, or the schema, may list a column of that name to write it.
_READ_ARGS = frozenset(
    sql.queries[name]
    for name in ("fetch_job", "list_jobs", "select_stalled_jobs_by_heartbeat", "select_stalled_jobs_by_started")
)

_JSON_COLUMNS = ("args", "stats")

UNREADABLE = "unreadable"
"""The one argument of a run's job whose arguments could not be decoded: why."""

_NONE = frozenset[str]()

_PLAIN = frozenset({str, int, float, bool, datetime, list, NoneType})
"""What is sent as it is."""


class Statement(NamedTuple):
    """A query with numbered parameters: its text, and the argument names in the order of their numbers."""

    text: str
    names: tuple[str, ...]


@functools.lru_cache(maxsize=512)
def translate(query: str, json_names: frozenset[str]) -> Statement:
    """Rewrite *query* for asyncpg; the arguments in *json_names* are sent as JSON text.

    ``$n::text::jsonb`` reaches the server unchanged whatever codec the connection has for ``jsonb``: asyncpg
    sees a text parameter. An interval's number is declared ``float8``, since asyncpg sends no integer as text.
    """

    def cast(placeholder: re.Match[str]) -> str:
        if placeholder["name"] in json_names:
            return "::text::jsonb"
        return "::float8" if placeholder["joined"] else ""

    return numbered(args_as_text(query) if query in _READ_ARGS else query, cast)


def numbered(query: str, cast: Callable[[re.Match[str]], str]) -> Statement:
    """Rewrite *query* with numbered parameters, each followed by what *cast* gives for its placeholder."""
    numbers: dict[str, int] = {}

    def parameter(placeholder: re.Match[str]) -> str:
        name = placeholder["name"]
        if name is None:
            return "%"
        number = numbers.setdefault(name, len(numbers) + 1)
        return f"${number}{cast(placeholder)}{placeholder['joined'] or ''}"

    return Statement(_PLACEHOLDER.sub(parameter, query), tuple(numbers))


def args_as_text(query: str) -> str:
    """Return *query*, which reads jobs, with their arguments as JSON text, whatever codec the connection has."""
    return _ARGS_COLUMN.sub("args::text AS args", query)


def bind(query: str, arguments: Mapping[str, Any], dumps: JsonDumps) -> tuple[str, list[Any]]:
    """Return *query* in asyncpg's terms and its arguments by position, dictionaries as JSON text.

    Raises:
        procrastinate.exceptions.ConnectorException: The query names an argument that is not given.
    """
    json_names = _NONE
    for name, value in arguments.items():
        if isinstance(value, dict):
            json_names |= {name}
    text, names = translate(query, json_names)
    values = given(names, arguments)
    return text, [value if type(value) in _PLAIN else sendable(value, dumps) for value in values]


def given(names: Iterable[str], arguments: Mapping[str, Any]) -> list[Any]:
    """Return the arguments by position.

    Raises:
        procrastinate.exceptions.ConnectorException: One of *names* is not given.
    """
    try:
        return [arguments[name] for name in names]
    except KeyError as error:
        raise exceptions.ConnectorException(f"The query names an argument that is not given: {error}") from error


def json_text(value: Any, dumps: JsonDumps) -> str:
    """Return *value* as JSON text, also when *dumps* returns bytes (as orjson does)."""
    text = dumps(value)
    return text.decode() if isinstance(text, bytes) else text


def as_row(record: Iterable[tuple[str, Any]], loads: JsonLoads) -> dict[str, Any]:
    """Return *record* as a dictionary by column name, its JSON columns decoded by *loads*.

    A value that a codec of the pool's owner has already decoded is passed through. What *loads* cannot decode, such as lists
    nested thousands deep, becomes arguments that no task takes: raised here, it would end every worker that fetches the row.
    """
    row = dict(record)
    for name in _JSON_COLUMNS:
        value = row.get(name)
        if isinstance(value, str | bytes):
            try:
                row[name] = _refuse_deep(value, loads(value))
            except (ValueError, RecursionError) as error:
                # Only a name is an argument: a task with ``**arguments`` would take any text for one.
                key = UNREADABLE if row.get("task_name") == TASK else None
                row[name] = {key: f"{type(error).__name__}: {error}"}
    return row


class Unlogged:
    """The inputs of a run, as a worker carries them about.

    Procrastinate copies and prints a job's arguments four times for its log. What a customer has ordered is not for logs, and
    copying it, level by level, took a tenth of what a job costs.

    Attributes:
        value: The inputs.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "..."


def inputs_unlogged(row: dict[str, Any]) -> None:
    """Keep the inputs of a run out of what Procrastinate logs about its job, which *row* describes."""
    arguments = row.get("args")
    if row.get("task_name") == TASK and isinstance(arguments, dict) and "inputs" in arguments:
        arguments["inputs"] = Unlogged(arguments["inputs"])


def with_inputs(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a run's job as they are in its row."""
    inputs = arguments.get("inputs")
    return {**arguments, "inputs": inputs.value} if isinstance(inputs, Unlogged) else arguments


def _refuse_deep(text: str | bytes, tree: Any) -> Any:
    """Return *tree*, unless it nests deeper than Procrastinate can log: it copies a job's arguments by recursion."""
    brackets: tuple[Any, ...] = (b"[", b"{") if isinstance(text, bytes) else ("[", "{")
    level: list[Any] = [tree] if sum(map(text.count, brackets)) > DEEPEST else []
    depth = 0
    while level and depth <= DEEPEST:
        level, depth = [child for node in level for child in _inside(node)], depth + 1
    if depth > DEEPEST:
        raise RecursionError(f"nested deeper than {DEEPEST} levels")
    return tree


def _inside(node: Any) -> Iterable[Any]:
    kind: object = type(node)  # pyright: ignore[reportUnknownVariableType]
    if kind is dict:
        return node.values()  # type: ignore[no-any-return]
    return node if kind is list else ()


def sendable(value: Any, dumps: JsonDumps) -> Any:
    """Return *value* as asyncpg takes it: a dictionary as JSON text, an iterable as a list."""
    if isinstance(value, dict):
        return json_text(value, dumps)
    # asyncpg wants arrays sized; Procrastinate allows any iterable of queue names.
    if isinstance(value, Iterable) and not isinstance(value, Sequence):
        return [*value]
    return value  # pyright: ignore[reportUnknownVariableType] - a sequence of anything, passed through
