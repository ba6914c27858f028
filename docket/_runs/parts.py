"""What a Docket is made of, checked when it is given and not at the first run."""

from __future__ import annotations

from collections.abc import Iterable

from docket._certify.storing import Blobs
from docket._given import part, several
from docket.cache import Cache
from docket.queue import QueueDriver
from docket.serializers import Serializer, Serializers
from docket.telemetry import Observer

_CACHE = ("load", "claim", "certify", "move", "renew", "close")
_QUEUE = ("serve", "enqueue", "cancel", "close")
_SERIALIZER = ("handles", "dumps", "loads", "view", "schema")


def check_parts(cache: Cache | None, queue: QueueDriver | None, blobs: Blobs | None, observer: Observer | None) -> None:
    """Refuse a part that is something else.

    Raises:
        ConfigurationError: A DSN where its cache is wanted, a queue's own application where the driver is, a class where
            one of its objects is.
    """
    if cache is not None:
        part("Docket", "cache", cache, _CACHE, "PostgresCache(DSN), or MemoryCache() in a test")
    if queue is not None:
        part("Docket", "queue", queue, _QUEUE, "ProcrastinateQueue(app), PgQueuerQueue(...) or InProcessQueue()")
    if blobs is not None:
        part("Docket", "blobs", blobs, ("put", "get"), "BlobStore(...)")
    if observer is not None:
        part("Docket", "observer", observer, ("__call__",), "LoggingObserver(), or a function of one Event")


def serializers_of(given: Serializers | Iterable[Serializer]) -> Serializers:
    """Return what turns values into bytes; refuse what does not.

    Raises:
        ConfigurationError: Something in it is no serializer.
    """
    if isinstance(given, Serializers):
        return given
    found = several("Docket", "serializers", given, "serializers=[MySerializer()]")
    for one in found:
        part("Docket", "serializers", one, _SERIALIZER, "[MySerializer()]")
    return Serializers(*found)
