"""The columns of a stored type, for its typed SQL view. Data only: no SQL, no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

SqlType: TypeAlias = Literal[
    "bigint",
    "boolean",
    "bytea",
    "date",
    "float8",
    "int",
    "interval",
    "jsonb",
    "numeric",
    "real",
    "text",
    "time",
    "timestamptz",
    "uuid",
]
"""A PostgreSQL type that a column may have. A ``bytea`` is base64 text in the projection, an ``interval`` ISO 8601
or seconds with an ``s``, everything else what PostgreSQL reads by itself."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a typed view.

    Attributes:
        name: The wished name; the view shortens it to 63 bytes and keeps it apart from its neighbours.
        path: Member names from the stored JSON value to this one. Empty: the value itself.
        type: The type of the column, or of its elements.
        many: Whether the column is an array.
        default: What to show as text when the member is absent while the object that should hold it is there (proto3
            leaves zero values out), ``"{}"`` for an array. None: show NULL.
    """

    name: str
    path: tuple[str, ...]
    type: SqlType
    many: bool = False
    default: str | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A column that says which member of a oneof is set, NULL when none is.

    Attributes:
        name: The wished name: the oneof's, with ``_case``.
        path: Member names from the stored JSON value to the object with the oneof.
        members: The names of the oneof's members.
    """

    name: str
    path: tuple[str, ...]
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Child:
    """A view of its own: one row per element of a repeated message, or per entry of a map.

    Attributes:
        name: The name of the member, which follows the name of the parent view.
        path: Member names from the parent's value to the list or object.
        kind: ``"list"`` numbers its rows in ``idx``, from 1; ``"map"`` names them in ``key``.
        schema: The columns of one element.
    """

    name: str
    path: tuple[str, ...]
    kind: Literal["list", "map"]
    schema: Schema


@dataclass(frozen=True, slots=True)
class Schema:
    """The shape of a type's projection.

    Attributes:
        columns: In the order of declaration; members of a nested object carry its name as a prefix.
        children: Repeated messages and maps, in the order of declaration.
    """

    columns: tuple[Column | Case, ...]
    children: tuple[Child, ...] = ()
