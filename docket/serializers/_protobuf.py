"""Protobuf: wire bytes as the truth, proto3 JSON as their view.

Messages are known by what they can do, so ``google.protobuf`` is not imported before a message needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docket.errors import Unstorable
from docket.serializers import _json_text
from docket.serializers._projection import Projection
from docket.serializers._protobuf_schema import schema_of
from docket.serializers._shapes import is_class

if TYPE_CHECKING:
    from docket.serializers._schema import Schema


class Protobuf:
    """The default serializer: messages of ``google.protobuf``, and classes with ``to_binary`` and ``from_binary``.

    Bytes are deterministic, so equal maps give equal bytes within one version of protobuf. The projection uses the
    field names of the ``.proto`` file; messages of other libraries have none.

    Attributes:
        name: ``"protobuf"``.
    """

    name = "protobuf"

    def __init__(self) -> None:
        self._projection = Projection()
        self._google = _Google()

    def handles(self, type_: object, /) -> bool:
        """Tell whether *type_* is a class of protobuf messages, of whatever library."""
        return is_class(type_) and (_is_google(type_) or _is_binary(type_))

    def dumps(self, value: Any, /) -> bytes:
        """Return the wire bytes of *value*.

        Raises:
            Unstorable: If it lacks a required field (proto2) or nests deeper than protobuf writes.
        """
        if not self._google[type(value)]:
            return bytes(value.to_binary())
        try:
            body: bytes = value.SerializeToString(deterministic=True)
        except Exception as error:
            if type(error).__name__ != "EncodeError":  # known by name, like the messages: nothing is imported for it
                raise
            raise Unstorable(value.DESCRIPTOR.full_name, str(error), "return a message protobuf can write") from error
        return body

    def loads(self, type_: Any, body: bytes, /) -> object:
        """Return the message of *type_* in *body*; fields it does not know are kept.

        Raises:
            ValueError: If *body* is not in the wire format, or nests deeper than protobuf reads (100 levels).
        """
        if not self._google[type_]:
            return type_.from_binary(body)
        try:
            return type_.FromString(body)
        except Exception as error:
            if type(error).__name__ != "DecodeError":
                raise
            raise ValueError(str(error)) from error

    def view(self, value: Any, /) -> str | None:
        """Return proto3 JSON with the original field names, or None if jsonb cannot hold it or it has none."""
        if not self._google[type(value)]:
            return None
        text = self._projection.text(value)
        return text if _json_text.fit_for_jsonb(text, ours=True) else None

    def schema(self, type_: Any, /) -> Schema | None:
        """Return the columns of *type_*, read off its descriptor."""
        return schema_of(type_.DESCRIPTOR) if _is_google(type_) else None


class _Google(dict[Any, bool]):
    """By class, whether its messages are of google.protobuf: asked several times for every value."""

    def __missing__(self, class_: Any) -> bool:
        known = self[class_] = _is_google(class_)
        return known


def _is_google(type_: object) -> bool:
    return hasattr(type_, "SerializeToString") and hasattr(type_, "FromString") and hasattr(type_, "DESCRIPTOR")


def _is_binary(type_: object) -> bool:
    return hasattr(type_, "to_binary") and hasattr(type_, "from_binary")
