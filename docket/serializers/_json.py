"""JSON for dataclasses and what they are made of, for pydantic models and for msgspec structs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias, cast

from docket._core.types import label
from docket.errors import Unstorable
from docket.serializers import _json_text
from docket.serializers._json_read import Readers
from docket.serializers._json_schema import schema_of
from docket.serializers._json_write import Writers
from docket.serializers._schema import Schema
from docket.serializers._shapes import Unsupported, library_of

Load: TypeAlias = Callable[[bytes], object]


class Json:
    """Writes plain typed data as UTF-8 JSON.

    Dataclasses (generic ones too), NamedTuples, TypedDicts, enums, and lists, dicts, tuples and sets of them need
    nothing but Python; ``bytes`` are base64, ``Decimal`` and ``UUID`` text, moments and durations ISO 8601. Types of
    pydantic, and of msgspec or attrs, are written and read by their own library. Members unknown to the type are
    ignored and missing ones take their default, so that two versions of a deploy can read each other's rows.

    Attributes:
        name: ``"json"``.
    """

    name = "json"

    def __init__(self) -> None:
        self._writers = Writers()
        self._readers = Readers()
        self._loads: dict[Any, Load] = {}

    def handles(self, type_: object, /) -> bool:
        """Tell whether *type_* has JSON that comes back the same."""
        return self.refusal(type_) is None

    def refusal(self, type_: object) -> str | None:
        """Return why *type_* cannot be JSON, or None if it can."""
        try:
            self._load(type_)
        except Unsupported as unsupported:
            return str(unsupported)
        return None

    def dumps(self, value: object, /) -> bytes:
        """Return the JSON of *value*.

        Raises:
            Unstorable: If it holds NaN or Infinity, text with half a surrogate pair, an object without JSON, nests
                deeper than 200 levels or contains itself.
        """
        try:
            tree = self._writers.write(value)
        except RecursionError as error:
            raise Unstorable(label(type(value)), "it nests too deep or contains itself", "flatten it") from error
        except Exception as error:
            reason = str(error) if type(error) in (TypeError, ValueError) else f"{type(error).__name__} while writing"
            raise Unstorable(label(type(value)), reason, "give each field a value of its declared type") from error
        try:
            body = _json_text.encode(tree).encode()
            _json_text.refuse_depth(body)
        except (ValueError, RecursionError) as error:
            raise Unstorable(label(type(value)), *_culprit(tree)) from error
        return body

    def loads(self, type_: object, body: bytes, /) -> object:
        """Return the value of *type_* in *body*.

        Raises:
            ValueError: If it is not JSON, not such a value, or nests deeper than 200 levels.
        """
        return self._load(type_)(body)

    def view(self, value: object, /) -> str | None:
        """Return the JSON of *value*, or None if jsonb cannot hold it (text with U+0000)."""
        return self.view_of(self.dumps(value))

    def view_of(self, body: bytes) -> str | None:
        """Return what `view` returns for the value whose bytes are *body*, without writing it again."""
        text = body.decode()
        return text if _json_text.fit_for_jsonb(text, ours=True) else None

    def schema(self, type_: object, /) -> Schema | None:
        """Return the columns of *type_*, read off its annotations."""
        return schema_of(type_)

    def _load(self, type_: object) -> Load:
        load = self._loads.get(type_)
        if load is None:
            load = self._loads[type_] = self._make(type_)
        return load

    def _make(self, type_: object) -> Load:
        library = library_of(type_)
        if library == "pydantic":
            return _pydantic(type_)
        if library == "msgspec":
            return _msgspec(type_)
        read = self._readers.of(type_)
        return lambda body: read(_json_text.decode(body))


def _pydantic(type_: Any) -> Load:
    from pydantic import PydanticUserError, TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(type_)
    except PydanticUserError as error:
        raise Unsupported(f"pydantic cannot validate {label(type_)}") from error

    def load(body: bytes) -> object:
        _json_text.refuse_depth(body)
        try:
            return adapter.validate_json(body)
        except ValidationError as error:
            # Without the input, which may be secret and would go into logs.
            first = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{place or 'the value'}: {first['msg']}") from None

    return load


def _msgspec(type_: Any) -> Load:
    try:
        import msgspec
    except ImportError as error:
        raise Unsupported(f"{label(type_)} is an attrs class; install msgspec to store it") from error
    try:
        decoder = msgspec.json.Decoder(type_)
    except TypeError as error:
        raise Unsupported(f"msgspec cannot read {label(type_)}: {error}") from error

    def load(body: bytes) -> object:
        _json_text.refuse_depth(body)
        try:
            return decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise ValueError(str(error)) from None

    return load


def _culprit(tree: object) -> tuple[str, str]:
    """Find what JSON cannot hold: what is wrong and what to do about it. Without recursion."""
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        place, part = waiting.pop()
        where = place.lstrip(".") or "the value"
        if isinstance(part, float) and not math.isfinite(part):
            return f"{where} is {part}, which JSON does not have", "use None or a text for it"
        if isinstance(part, str) and _is_broken(part):
            return f"{where} holds half a surrogate pair, which is not text", "keep it as bytes, or clean it first"
        if place.count(".") + place.count("[") > _json_text.MAX_DEPTH:
            return f"it nests deeper than {_json_text.MAX_DEPTH} levels", "flatten it"
        if isinstance(part, dict):
            entries = cast("dict[str, Any]", part)
            waiting += [("key of " + where, key) for key in entries if _is_broken(key)]
            waiting += [(f"{place}.{key}", item) for key, item in entries.items()]
        elif isinstance(part, list | tuple):
            items = cast("list[Any]", part)
            waiting += [(f"{place}[{position}]", item) for position, item in enumerate(items)]
    return "it cannot be written as JSON", "keep it as bytes"


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
