"""JSON values into values of a declared type: strictly, and with the place named when something does not fit."""

from __future__ import annotations

import base64
import collections.abc
import datetime as dt
import enum
import re
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeAlias, TypeVar, get_args, get_origin
from uuid import UUID

from docket._core.types import label
from docket.serializers._same import Items
from docket.serializers._shapes import Unsupported, has_members, is_union, members_of, stripped

Read: TypeAlias = Callable[[Any], Any]

_DURATION = re.compile(r"PT(-?)(\d+)\.(\d{6})S")
_LISTS = (list, collections.abc.Sequence, collections.abc.MutableSequence, collections.abc.Collection,
          collections.abc.Iterable)  # fmt: skip
_MUTABLE_LISTS = (list, collections.abc.MutableSequence)
_SETS = (set, collections.abc.Set, collections.abc.MutableSet)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


class Mismatch(ValueError):
    """A JSON value that is not what the type declares.

    Attributes:
        path: From the value outwards: member names and list positions.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        self.path: list[str] = []
        super().__init__(problem)

    def at(self, place: str) -> Mismatch:
        """Return this mismatch with *place* put before its path."""
        self.path.append(place)
        return self

    def __str__(self) -> str:
        return f"{''.join(reversed(self.path)).lstrip('.') or 'the value'}: {self.problem}"


class Readers:
    """The reader of each type, made once."""

    def __init__(self) -> None:
        self._made: dict[Any, Read] = {}
        self._making: set[Any] = set()

    def of(self, type_: Any) -> Read:
        """Return the reader for values of *type_*.

        Raises:
            Unsupported: If *type_* has no faithful JSON.
        """
        type_ = stripped(type_)
        if type_ in self._made:
            return self._made[type_]
        if type_ in self._making:  # a type that leads back to itself
            return lambda tree: self._made[type_](tree)
        self._making.add(type_)
        try:
            read = self._made[type_] = self._make(type_)
        finally:
            self._making.discard(type_)
        return read

    def _make(self, type_: Any) -> Read:
        if type_ is Any or type_ is object:
            return _anything
        if isinstance(type_, TypeVar):
            raise Unsupported(f"the type variable {type_} is open; write the exact type")
        if is_union(type_):
            return self._union(get_args(type_))
        if get_origin(type_) is Literal:
            return _choice(label(type_), get_args(type_), get_args(type_))
        if has_members(type_):
            return self._object(type_)
        origin: Any = get_origin(type_) or type_
        if (read := self._container(origin, get_args(type_))) is not None:
            return read
        if (read := _SCALARS.get(origin)) is not None:
            return read
        if _is(type, origin) and issubclass(origin, enum.Enum):
            return _enum(origin)
        raise Unsupported(f"{label(type_)} has no JSON that comes back the same")

    def _container(self, origin: Any, arguments: tuple[Any, ...]) -> Read | None:
        if origin in _LISTS:
            make = list[Any] if origin in _MUTABLE_LISTS else Items
            return _collection(make, self.of(arguments[0] if arguments else Any))
        if origin in _SETS:
            return _collection(set, self.of(arguments[0] if arguments else Any))
        if origin is frozenset:
            return _collection(frozenset, self.of(arguments[0] if arguments else Any))
        if origin in _MAPPINGS:
            key, item = arguments or (str, Any)
            return _mapping(self._key(key), self.of(item))
        if origin is tuple:
            if not arguments or arguments[-1] is Ellipsis:
                return _collection(tuple, self.of(arguments[0] if arguments else Any))
            return _fixed([self.of(argument) for argument in arguments])
        return None

    def _key(self, type_: Any) -> Read:
        """Return the reader of a dict key, which JSON has as text only."""
        read, kinds = self.of(type_), self._kinds(type_)
        if kinds <= {str}:
            return read
        if kinds <= {int, float}:
            return lambda text: read(int(text) if int in kinds else float(text))
        raise Unsupported(f"dict keys of type {label(type_)} have no JSON")

    def _object(self, type_: Any) -> Read:
        cls = get_origin(type_) or type_
        name = label(type_)
        members = [(member.name, self.of(member.type), member.required) for member in members_of(type_)]

        def read_object(tree: Any) -> Any:
            if not _is(dict, tree):
                raise _expected(f"an object for {name}", tree)
            arguments: dict[str, Any] = {}
            for member, read, required in members:
                if member in tree:
                    try:
                        arguments[member] = read(tree[member])
                    except Mismatch as mismatch:
                        raise mismatch.at(f".{member}") from None
                elif required:
                    raise Mismatch(f"{name}.{member} is missing")
            try:
                return cls(**arguments)
            except Exception as error:  # whatever the class itself objects to
                raise Mismatch(f"{name} refuses it ({type(error).__name__})") from error

        return read_object

    def _union(self, members: Iterable[Any]) -> Read:
        by_kind: dict[type, Read] = {}
        lenient: list[Read] = []
        for member in members:
            read = self.of(member)
            for kind in self._kinds(member):
                if kind in by_kind:
                    raise Unsupported(
                        f"two cases of the union {' | '.join(map(label, members))} look alike in JSON; "
                        "hold them in a type with one optional member for each"
                    )
                by_kind[kind] = read
            if stripped(member) is float:
                lenient.append(read)
        wanted = " or ".join(sorted(_WORDS[kind] for kind in by_kind))
        for read in lenient:
            by_kind.setdefault(int, read)

        def read_union(tree: object) -> Any:
            read = by_kind.get(type(tree))
            if read is None:
                raise _expected(wanted, tree)
            return read(tree)

        return read_union

    def _kinds(self, type_: Any) -> set[type]:
        """Return the JSON values that *type_* may be, as Python's json module reads them."""
        type_ = stripped(type_)
        if type_ is Any or type_ is object:
            return set(_WORDS)
        if is_union(type_):
            return {kind for member in get_args(type_) for kind in self._kinds(member)}
        if get_origin(type_) is Literal:
            return {type(value) for value in get_args(type_)}
        origin = get_origin(type_) or type_
        if has_members(type_) or origin in _MAPPINGS:
            return {dict}
        if origin in (*_LISTS, *_SETS, frozenset, tuple):
            return {list}
        if issubclass(origin, enum.Enum):
            return {type(member.value) for member in origin}
        return {origin} if origin in (bool, int, float, type(None)) else {str}


_WORDS: dict[type, str] = {
    type(None): "null",
    bool: "true or false",
    dict: "an object",
    float: "a number",
    int: "a whole number",
    list: "a list",
    str: "text",
}


def _is(kind: type, tree: Any) -> bool:
    # A function, so that no checker narrows what it knows about the tree to a dict of unknown things.
    return isinstance(tree, kind)


def _expected(what: str, tree: object) -> Mismatch:
    return Mismatch(f"expected {what}, found {_WORDS.get(type(tree), type(tree).__name__)}")


def _anything(tree: Any) -> Any:
    return tree


def _plain(kind: type) -> Read:
    def read_plain(tree: Any) -> Any:
        if type(tree) is not kind:
            raise _expected(_WORDS[kind], tree)
        return tree

    return read_plain


def _float(tree: Any) -> float:
    if type(tree) is not float and type(tree) is not int:
        raise _expected("a number", tree)
    return float(tree)


def _text(what: str, parse: Callable[[str], Any]) -> Read:
    def read_text(tree: Any) -> Any:
        if type(tree) is not str:
            raise _expected(f"{what} as text", tree)
        try:
            return parse(tree)
        except (ValueError, InvalidOperation, OverflowError):
            raise Mismatch(f"the text is not {what}") from None

    return read_text


def _duration(text: str) -> dt.timedelta:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(text)
    sign = -1 if match[1] else 1
    return sign * dt.timedelta(seconds=int(match[2]), microseconds=int(match[3]))


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


_SCALARS: dict[Any, Read] = {
    bool: _plain(bool),
    bytes: _text("base64", _bytes),
    dt.date: _text("a date", dt.date.fromisoformat),
    dt.datetime: _text("a date with a time", dt.datetime.fromisoformat),
    dt.time: _text("a time", dt.time.fromisoformat),
    dt.timedelta: _text("a duration", _duration),
    Decimal: _text("a decimal number", Decimal),
    float: _float,
    int: _plain(int),
    str: _plain(str),
    type(None): _plain(type(None)),
    UUID: _text("a UUID", UUID),
}


def _choice(name: str, texts: Iterable[Any], values: Iterable[Any]) -> Read:
    # With the type, since True == 1 == 1.0.
    by_tree: dict[tuple[type, Any], Any] = {(type(text), text): value for text, value in zip(texts, values, strict=True)}
    if any(kind not in (str, int, float, bool, type(None)) for kind, _ in by_tree):
        raise Unsupported(f"{name} has values that are not text or numbers")

    def read_choice(tree: Any) -> Any:
        if _is(dict, tree) or _is(list, tree) or (type(tree), tree) not in by_tree:
            raise Mismatch(f"it is none of {name}'s values")
        return by_tree[type(tree), tree]

    return read_choice


def _enum(cls: type[enum.Enum]) -> Read:
    if issubclass(cls, enum.Flag):
        return _flag(cls)
    members = list(cls)
    return _choice(label(cls), [_json_scalar(member.value) for member in members], members)


def _json_scalar(value: Any) -> Any:
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value


def _flag(cls: type[enum.Flag]) -> Read:
    def read_flag(tree: Any) -> Any:
        if type(tree) is not int:
            raise _expected("a whole number", tree)
        try:
            member = cls(tree)
        except ValueError:
            member = None
        # Python 3.11.2, Debian's, drops bits that no member has instead of refusing them.
        if member is None or member.value != tree:
            raise Mismatch(f"it is none of {label(cls)}'s values")
        return member

    return read_flag


def _collection(make: Callable[[Iterable[Any]], Any], read: Read) -> Read:
    def read_collection(tree: Any) -> Any:
        if not _is(list, tree):
            raise _expected("a list", tree)
        position = 0
        made: list[Any] = []
        try:
            for position, item in enumerate(tree):  # noqa: B007 - named in the error
                made.append(read(item))
        except Mismatch as mismatch:
            raise mismatch.at(f"[{position}]") from None
        return make(made)

    return read_collection


def _fixed(reads: list[Read]) -> Read:
    def read_fixed(tree: Any) -> Any:
        if not _is(list, tree) or len(tree) != len(reads):
            raise _expected(f"a list of {len(reads)}", tree)
        return tuple(read(item) for read, item in zip(reads, tree, strict=True))

    return read_fixed


def _mapping(read_key: Read, read_item: Read) -> Read:
    def read_mapping(tree: Any) -> Any:
        if not _is(dict, tree):
            raise _expected("an object", tree)
        made: dict[Any, Any] = {}
        for name, item in tree.items():
            try:
                made[read_key(name)] = read_item(item)
            except Mismatch as mismatch:
                raise mismatch.at(f"[{name!r:.40}]") from None
            except ValueError:
                raise Mismatch("a key is not a number").at(f"[{name!r:.40}]") from None
        return made

    return read_mapping
