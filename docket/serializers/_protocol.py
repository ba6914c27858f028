"""What a serializer is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from docket.serializers._schema import Schema


class Serializer(Protocol):
    """Turns the values of some types into bytes and back. Stateless as seen from outside, and never runs stored code.

    Attributes:
        name: Stored beside the bytes and used to find this serializer for an old row, so it may never change. Letters,
            digits, ``.``, ``_`` and ``-``.
    """

    @property
    def name(self) -> str: ...

    def handles(self, type_: object, /) -> bool:
        """Tell whether values of *type_* are this serializer's. Asked once per type."""
        ...

    def dumps(self, value: object, /) -> bytes:
        """Return the bytes of *value*: the truth that is stored.

        Raises:
            Unstorable: If *value* has no such bytes or could not be read back, with advice.
        """
        ...

    def loads(self, type_: object, body: bytes, /) -> object:
        """Return the value of *type_* that *body* stands for.

        Raises:
            ValueError: If *body* is not such a value, however broken or hostile it is.
        """
        ...

    def view(self, value: object, /) -> str | None:
        """Return JSON text for people and SQL, or None when there is none. Best effort and never read back."""
        ...

    def schema(self, type_: object, /) -> Schema | None:
        """Return the columns of what ``view`` writes for *type_*, or None when they are not known."""
        ...
