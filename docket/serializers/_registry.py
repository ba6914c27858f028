"""Which serializer is whose, and all that happens between a value and a row."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NewType, TypeAlias, get_args, get_origin

from docket._core.immutable import immutable
from docket._core.record import Stored
from docket._core.types import class_of, is_instance, label, place, storage_key
from docket.errors import ConfigurationError, NoSerializer, Undecodable, Unstorable
from docket.serializers import _json_text
from docket.serializers._json import Json
from docket.serializers._protobuf import Protobuf
from docket.serializers._protocol import Serializer
from docket.serializers._redact import Redact
from docket.serializers._same import same
from docket.serializers._sealing import Sealer
from docket.serializers._shapes import is_union

Upcast: TypeAlias = Callable[[bytes], object]
"""The stored bytes of an old type in, a value of today's type out."""

VIEW_LIMIT = 65_536
"""Largest body, in bytes, that gets a projection: making one of 1 MB would block the event loop for 0.3 s."""

NONE = "none"
"""Stands in the serializer's place where a step that may give None gave None. The body is empty."""

_WRITTEN_HERE = (Json, Protobuf)
"""Whose projections need no second look. Not those of their subclasses, which may write another one."""

_logger = logging.getLogger("docket.serializers")


@immutable(frozen=True, slots=True)
class Packed:
    """A value made ready to be stored.

    Attributes:
        stored: What goes into the row.
        plain: The bytes before they were sealed: compare and digest these. Without encryption, ``stored.body`` itself.
        value: The value as it will be read back. Use it instead of the original, and every attempt sees the same.
    """

    stored: Stored
    plain: bytes
    value: object


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is known about a type, once for all its values: the type without None, its class, its name in rows, whose it is."""

    type: object
    expects: Any
    stored: str
    serializer: Serializer

    def checked(self, value: object, giver: str) -> object:
        """Return *value* if it can be one of this type, whoever made it of the bytes.

        Raises:
            ValueError: It cannot.
        """
        if type(value) is not self.expects and not (self.expects is object or is_instance(value, self.type)):
            given = "None" if value is None else f"a {storage_key(type(value))}"
            raise ValueError(f"{giver} gives {given}, and a {self.stored} is asked for")
        return value


class Serializers:
    """The serializers of one cache, in order: yours, then protobuf, then JSON. Immutable.

    Args:
        *extra: Serializers of your own; they are asked first.
        upcast: By type name as it stands in old rows, how to read them: the type it is called now, or a function of the
            stored bytes. Tried only where today's type cannot read the row.
        sealer: Encrypts what is stored. Then there is no projection, except for what *redact* lets through.
        redact: Decides what may be seen of a projection, as JSON text; None for nothing.

    Raises:
        ConfigurationError: If two serializers share a name, or a name cannot be stored.
    """

    def __init__(
        self,
        *extra: Serializer,
        upcast: Mapping[str, Any] | None = None,
        sealer: Sealer | None = None,
        redact: Redact | None = None,
    ) -> None:
        self._json = Json()
        self._all: tuple[Serializer, ...] = (*extra, Protobuf(), self._json)
        self._by_name: dict[str, Serializer] = {}
        for serializer in self._all:
            _check_name(serializer, self._by_name)
            self._by_name[serializer.name] = serializer
        self._kinds: dict[object, _Kind] = {}
        self._upcast = dict(upcast or {})
        self._sealer = sealer
        self._redact = redact

    @property
    def redact(self) -> Redact | None:
        """What decides what may be seen; the errors of steps pass through it too."""
        return self._redact

    def of(self, type_: object) -> Serializer:
        """Return the serializer for values of *type_*; ``X | None`` is read as ``X``.

        Raises:
            NoSerializer: If none handles it.
        """
        return self._kind(type_).serializer

    def named(self, name: str) -> Serializer:
        """Return the serializer that calls itself *name*, for a row that was stored by it.

        Raises:
            LookupError: If there is none.
        """
        if name not in self._by_name:
            raise LookupError(f"no serializer is called {name!r}; there are {', '.join(self._by_name)}")
        return self._by_name[name]

    def names_of(self, type_: object) -> list[str]:
        """Return what *type_* is called in rows: its own storage key, and those that an upcast says are called so now."""
        kind = self._kind(type_)
        renamed = (name for name, upcast in self._upcast.items() if _is_name(upcast) and storage_key(upcast) == kind.stored)
        return list(dict.fromkeys((kind.stored, *renamed)))

    def plain(self, type_: object, value: object) -> bytes:
        """Return the bytes of *value*, which is not None, before they are sealed: compare and digest these.

        Raises:
            NoSerializer: If no serializer handles *type_*.
            Unstorable: If the value has no bytes.
        """
        return self._kind(type_).serializer.dumps(value)

    def pack(self, type_: object, value: object, *, run_id: str, key: str, plain: bytes | None = None) -> Packed:
        """Make *value* ready for the row *key* of *run_id*, and read it back to be sure that one can.

        Args:
            type_: What the step declares, or the type of an input.
            value: The value; None is stored as such.
            run_id: The run whose row it is.
            key: The storage key of the row.
            plain: What `plain` returned for it, if it was asked.

        Raises:
            NoSerializer: If no serializer handles *type_*.
            Unstorable: If the value has no bytes, or they would be read back as something else.
        """
        if value is None:
            return self._packed(storage_key(_present(type_)), NONE, b"", None, None, run_id, key)
        kind = self._kind(type_)
        serializer, present = kind.serializer, kind.type
        body = serializer.dumps(value) if plain is None else plain
        try:
            again = serializer.loads(present, body)
        except Exception as error:
            name = label(present)
            raise Unstorable(name, f"it could not be read back ({error})", _RETURN.format(name)) from error
        if not same(value, again):
            name = label(present)
            raise Unstorable(name, "it would be read back as another value", _RETURN.format(name))
        view = self._view(serializer, value, body, key)
        return self._packed(kind.stored, serializer.name, body, view, again, run_id, key)

    def unpack(self, type_: object, stored: Stored, *, run_id: str, key: str, none: bool = True) -> Any:
        """Return the value in the row *key* of *run_id*; None where None was stored.

        Args:
            type_: What is asked for.
            stored: What is in the row.
            run_id: The run.
            key: The storage key of the row.
            none: Whether it may be None.

        Raises:
            Undecodable: If it cannot be read. Nothing may be computed in its place.
        """
        try:
            name, body = self.opened(stored, run_id=run_id, key=key)
            if name != NONE:
                return self._load(self._kind(type_), name, stored.type, body, none)
            if not none:
                raise ValueError(f"it is None, and a {self._kind(type_).stored} is asked for")
            return None
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise Undecodable(run_id, key, stored.serializer, stored.type, reason) from error

    def opened(self, stored: Stored, *, run_id: str, key: str) -> tuple[str, bytes]:
        """Return the serializer's name and the plain bytes of the row *key* of *run_id*.

        Raises:
            ValueError: If it is sealed and does not open.
        """
        name, _, seal = stored.serializer.partition("+")
        if not seal:
            return name, stored.body
        if self._sealer is None:
            raise ValueError(f"it is sealed with {seal!r}, and no sealer is configured: Serializers(sealer=...)")
        return name, self._sealer.open(seal, stored.body, _context(run_id, key, name, stored.type))

    def _find(self, type_: object) -> Serializer:
        for serializer in self._all:
            if serializer.handles(type_):
                return serializer
        reason = self._json.refusal(type_) or "no serializer handles it"
        raise NoSerializer(label(type_), reason, place(type_))

    def _kind(self, type_: object) -> _Kind:
        found = self._kinds.get(type_)
        if found is None:
            present = _present(type_)
            serializer = self._find(present)
            # The class of a union, or of what carries annotations, says nothing about its values.
            expects = object if is_union(present) or get_origin(present) is Annotated else class_of(present) or object
            found = self._kinds[type_] = _Kind(present, expects, storage_key(present), serializer)
        return found

    def _load(self, kind: _Kind, name: str, stored_type: str, body: bytes, none: bool) -> object:
        upcast = self._upcast.get(stored_type)
        serializer = kind.serializer if name == kind.serializer.name else self.named(name)
        if stored_type == kind.stored:
            try:
                return kind.checked(serializer.loads(kind.type, body), f"the serializer {serializer.name!r}")
            except Exception:
                if upcast is None:
                    raise
        if upcast is None:
            raise ValueError(f"it is a {stored_type}, and a {kind.stored} is asked for")
        renamed = _is_name(upcast)
        value = serializer.loads(upcast, body) if renamed else upcast(body)
        if renamed and storage_key(upcast) != kind.stored:
            raise ValueError(f"the upcast gives a {storage_key(upcast)}, and a {kind.stored} is asked for")
        return None if none and value is None else kind.checked(value, "the upcast")

    def _packed(
        self, type_name: str, name: str, body: bytes, view: str | None, value: object, run_id: str, key: str
    ) -> Packed:
        sealed = body
        if self._sealer is not None:
            seal, sealed = self._sealer.seal(body, _context(run_id, key, name, type_name))
            name = f"{name}+{seal}"
        return Packed(Stored(name, type_name, sealed, view), body, value)

    def _view(self, serializer: Serializer, value: object, body: bytes, key: str) -> str | None:
        # A projection in the clear would undo the encryption: only what the hook lets through is shown.
        if len(body) > VIEW_LIMIT or (self._sealer is not None and self._redact is None):
            return None
        try:
            text = serializer.view_of(body) if isinstance(serializer, Json) else serializer.view(value)
            if text is not None and type(serializer) not in _WRITTEN_HERE and not _json_text.fit_for_jsonb(text):
                raise ValueError("PostgreSQL does not take it as jsonb")
            if text is None or self._redact is None:
                return text
            shown = self._redact(key, text)
            # Read and written again, since the hook's text need not be JSON that PostgreSQL takes.
            shown = None if shown is None else _json_text.encode(json.loads(shown))
            return shown if shown is not None and _json_text.fit_for_jsonb(shown) else None
        except Exception as error:
            # Best effort: a result must not be lost because nobody can look at it. Without the text of the error, which
            # may hold the value.
            _logger.warning("certified %s without a projection (%s)", key, type(error).__name__)
            return None


_RETURN = "return a {0} whose members have their declared types"


def _check_name(serializer: Serializer, taken: Mapping[str, Serializer]) -> None:
    name = serializer.name
    if not name or name == NONE or not all(char.isalnum() or char in "._-" for char in name) or not name.isascii():
        raise ConfigurationError(f"a serializer cannot be called {name!r}: use letters, digits, '.', '_' or '-'")
    if name in taken:
        raise ConfigurationError(
            f"two serializers are called {name!r}: {type(taken[name]).__name__} and {type(serializer).__name__}; "
            "rows could not tell them apart"
        )


def _is_name(upcast: object) -> bool:
    """Tell whether *upcast* is a type. One is callable as well, but naming it means "it is called so now"."""
    return isinstance(upcast, type | NewType) or bool(get_args(upcast))


def _present(type_: object) -> object:
    """Return ``X`` for ``X | None``."""
    if isinstance(type_, type):  # nearly always, and looked at for every value
        return type_
    if is_union(type_):
        members = [member for member in get_args(type_) if member is not type(None)]
        if len(members) == 1:
            return members[0]
    return type_


def _context(*parts: str) -> bytes:
    """Join *parts* so that no two lists of parts give the same bytes."""
    encoded = [part.encode() for part in parts]
    return b"".join(len(part).to_bytes(4) + part for part in encoded)
