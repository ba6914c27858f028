"""Results too large for a row: their bytes in an object store, and where they are in the row.

Any store that `obstore` reaches will do: a folder, S3 and what speaks its language, Google Cloud Storage, Azure, memory.
Install it with the extra ``blob``. Bytes are put there before the row that names them is written, so a row never names what
is not there; what a crash in between leaves behind is named by run, type and content, and the next attempt finds it instead
of writing it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from docket._core.record import Blob
from docket._given import require
from docket.cache import Cache
from docket.errors import Undecodable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CHUNK = 1_048_576
"""Bytes of one piece of a stream. Larger ones cost several times their size in memory and were no faster when measured."""

LONGEST = 255
"""Characters of one part of a path: what most file systems take. A longer one ends in its hash."""


class BlobStore:
    """An object store for large results.

    Args:
        where: The URL of a bucket or folder (``s3://shop-results/docket``, ``file:///var/lib/shop``), or a store made with
            `obstore.store`.
        options: Passed to `obstore.store.from_url`, such as ``region=`` or ``endpoint=``; credentials come from
            the environment.

    Objects are never changed, and never deleted from here: let a lifecycle rule of the store delete what is older than your
    retention.

    Raises:
        ConfigurationError: The package ``obstore`` is not installed.
    """

    def __init__(self, where: str | ObjectStore, **options: Any) -> None:
        require("BlobStore", "obstore", "blob")
        self._where, self._options = where, options
        self._opened: Any = None if isinstance(where, str) else where
        self._base = where.rstrip("/") if isinstance(where, str) else type(where).__name__

    async def put(self, run_id: str, key: str, body: bytes, /) -> Blob:
        """Store bytes under a name made of the run, the key and their hash, unless they are there; return where.

        Raises:
            obstore.exceptions.BaseError: The store refuses or cannot be reached. Nothing names the bytes.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        digest = hashlib.sha256(body).hexdigest()
        path = f"{_safe(run_id)}/{_safe(key)}/{digest}"
        with contextlib.suppress(AlreadyExistsError):  # the same bytes: an earlier attempt put them there
            await obstore.put_async(self._store(), path, body, mode="create")
        return Blob(f"{self._base}/{path}", digest, len(body))

    async def get(self, blob: Blob, /) -> bytes:
        """Return the bytes, verified against size and hash.

        Raises:
            FileNotFoundError: They are not there any more.
            ValueError: They are not what was stored.
        """
        return b"".join([chunk async for chunk in self.stream(blob)])

    async def stream(self, blob: Blob, /, chunk: int = CHUNK) -> AsyncIterator[bytes]:
        """Yield the bytes piece by piece, and verify them at the end: use nothing of them before the iteration is over.

        Args:
            blob: What to read.
            chunk: Least bytes of a piece, but for the last.

        Raises:
            FileNotFoundError: They are not there any more.
            ValueError: They are not what was stored. Raised after the last piece.
        """
        import obstore

        found = await obstore.get_async(self._store(), self._path(blob))
        digest, size = hashlib.sha256(), 0
        async for piece in found.stream(min_chunk_size=chunk):
            data = bytes(piece)
            digest.update(data)
            size += len(data)
            yield data
        if (size, digest.hexdigest()) != (blob.size, blob.sha256):
            raise ValueError(
                f"{blob.uri} holds {size:,} bytes with sha256 {digest.hexdigest()}, and {blob.size:,} with {blob.sha256} "
                "were stored"
            )

    def _store(self) -> Any:
        if self._opened is None:
            from obstore.store import from_url

            assert isinstance(self._where, str)  # noqa: S101 - anything else is a store
            options: dict[str, Any] = {"mkdir": True} if self._where.startswith("file:") else {}
            self._opened = from_url(self._where, **options, **self._options)
        return self._opened

    def _path(self, blob: Blob) -> str:
        if not blob.uri.startswith(f"{self._base}/"):
            raise ValueError(f"{blob.uri} is not in {self._base}; give Docket the store that it was put into")
        return blob.uri[len(self._base) + 1 :]


async def stream_result(cache: Cache, blobs: BlobStore, run_id: str, key: str) -> AsyncIterator[bytes]:
    """Yield the stored bytes of a certified result, for those who do not want them in memory at once.

    Args:
        cache: Where the row is.
        blobs: Where the bytes of large results are.
        run_id: The run.
        key: The storage key of the result: the protobuf full name, or what ``key=`` says.

    Raises:
        LookupError: Nothing is certified under that key.
        Undecodable: The bytes are not there any more, or not what was stored.
    """
    record = (await cache.load(run_id)).results.get(key)
    if record is None or record.stored is None:
        raise LookupError(f"run {run_id!r}: no certified {key}")
    stored = record.stored
    if stored.blob is None:
        yield stored.body
        return
    try:
        async for piece in blobs.stream(stored.blob):
            yield piece
    except (ValueError, FileNotFoundError) as error:
        raise Undecodable(run_id, key, stored.serializer, stored.type, str(error)) from error


def _safe(name: str) -> str:
    """Return *name* as one part of a path, whatever is in it: no separator, no dot alone, no other name's alias."""
    quoted = quote(name, safe="").replace(".", "%2E")
    if len(quoted) <= LONGEST:
        return quoted
    # With a dot, which no other has.
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{re.sub('%.?$', '', quoted[: LONGEST - 1 - len(digest)])}.{digest}"
