"""Encryption of stored results."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Protocol

from docket._given import require
from docket.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12
"""Bytes of nonce before the sealed bytes: 96 bits, as NIST SP 800-38D recommends for GCM."""

_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,40}")


class Sealer(Protocol):
    """The last thing that happens to bytes before they are stored, and the first after they are read."""

    def seal(self, body: bytes, context: bytes, /) -> tuple[str, bytes]:
        """Return the name of the seal and the sealed bytes, which ``open`` only accepts with the same *context*.

        The name is stored behind the serializer's, after a ``+``: ``protobuf+aesgcm:k7``.
        """
        ...

    def open(self, seal: str, sealed: bytes, context: bytes, /) -> bytes:
        """Return the bytes that were sealed.

        Raises:
            ValueError: If *seal* is unknown, or *sealed* was changed or belongs to another *context*.
        """
        ...


class Encrypted:
    """AES-GCM with the key's id in the row, from the package ``cryptography`` (extra ``encrypt``).

    To rotate: add a key, deploy, make it ``current``, deploy. Old rows open with their own key for as long as it is in
    ``keys``. Run id, key, serializer and type are authenticated: a row's bytes do not open in another row. Rotate before a
    key has sealed 2**32 results: nonces are random (NIST SP 800-38D, 8.3).

    Args:
        keys: By key id (letters, digits, ``.``, ``_``, ``-``), 16, 24 or 32 bytes from ``os.urandom``.
        current: The id of the key that seals from now on.

    Raises:
        ConfigurationError: If a key or an id is malformed, *current* is not among *keys*, or ``cryptography`` is not installed.
    """

    def __init__(self, keys: Mapping[str, bytes], *, current: str) -> None:
        require("Encrypted", "cryptography", "encrypt")
        for key_id, key in keys.items():
            if _KEY_ID.fullmatch(key_id) is None:
                raise ConfigurationError(f"the key id {key_id!r} is not 1 to 40 letters, digits, '.', '_' or '-'")
            if len(key) not in (16, 24, 32):
                raise ConfigurationError(f"the key {key_id!r} has {len(key)} bytes; AES takes 16, 24 or 32")
        if current not in keys:
            raise ConfigurationError(f"the current key {current!r} is not among the keys: {', '.join(keys) or 'none'}")
        self._keys = dict(keys)
        self._current = current
        self._ciphers: dict[str, AESGCM] = {}

    def __repr__(self) -> str:
        return f"Encrypted(keys={sorted(self._keys)}, current={self._current!r})"

    def seal(self, body: bytes, context: bytes, /) -> tuple[str, bytes]:
        """Encrypt *body* with the current key under a random nonce."""
        nonce = os.urandom(_NONCE)
        return f"aesgcm:{self._current}", nonce + self._cipher(self._current).encrypt(nonce, body, context)

    def open(self, seal: str, sealed: bytes, context: bytes, /) -> bytes:
        """Decrypt *sealed* with the key it names.

        Raises:
            ValueError: If the key is not known here, or the bytes are not what was sealed for this *context*.
        """
        from cryptography.exceptions import InvalidTag

        scheme, _, key_id = seal.partition(":")
        if scheme != "aesgcm" or key_id not in self._keys:
            raise ValueError(f"it is sealed with {seal!r}, and the keys here are {', '.join(self._keys)}")
        try:
            return self._cipher(key_id).decrypt(sealed[:_NONCE], sealed[_NONCE:], context)
        except (InvalidTag, ValueError) as error:
            raise ValueError(f"the seal {seal!r} is broken: the bytes were changed or moved from another row") from error

    def _cipher(self, key_id: str) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        cipher = self._ciphers.get(key_id)
        if cipher is None:
            cipher = self._ciphers[key_id] = AESGCM(self._keys[key_id])
        return cipher
