"""What can go wrong between a connector and PostgreSQL, and what each failure says about the statement.

The one question that matters for repeating a statement: may it have taken effect already?
"""

import contextlib
import re
from collections.abc import Generator

import asyncpg
from procrastinate import exceptions
from procrastinate.manager import QUEUEING_LOCK_CONSTRAINT

DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""Everything asyncpg raises for a database that refuses or is gone. ``OSError`` holds ``TimeoutError``."""

UNREACHABLE = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TargetServerAttributeNotMatched,
)
"""No connection could be had: nothing was sent. The server is down, starting, full, or still a standby."""

REFUSED = (asyncpg.ReadOnlySQLTransactionError, asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
"""The server answered and says that it kept nothing: a demoted primary, a deadlock, a serialization failure."""

LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InternalClientError,
)
"""No answer came, or the backend was told to stop: the statement may have taken effect.

An ``InternalClientError`` is here because asyncpg raises it when a connection dies under a statement's first bytes.
"""

# Greedy, so that a lock with a closing bracket in it is read whole. The words around it are in the server's language.
_KEY_DETAIL = re.compile(r"\)=\((?P<value>.*)\)", re.DOTALL)


class Interrupted(Exception):
    """A statement did not end; for this package only. The failure is the ``__cause__``.

    Attributes:
        may_have_happened: Whether the statement may have taken effect. If not, it may be sent again, whatever it is.
    """

    def __init__(self, *, may_have_happened: bool) -> None:
        super().__init__()
        self.may_have_happened = may_have_happened


@contextlib.contextmanager
def procrastinate_errors() -> Generator[None]:
    """Raise database errors as Procrastinate's own, the original as their ``__cause__``.

    Raises:
        procrastinate.exceptions.UniqueViolation: With the constraint's name, and the queueing lock if it was that.
        procrastinate.exceptions.ConnectorException: Any other database error.
    """
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise exceptions.UniqueViolation(constraint_name=error.constraint_name, queueing_lock=_queueing_lock(error)) from error
    except DATABASE_ERRORS as error:
        raise exceptions.ConnectorException(f"The database refused or was lost: {error!r}") from error


def _queueing_lock(error: asyncpg.UniqueViolationError) -> str | None:
    if error.constraint_name != QUEUEING_LOCK_CONSTRAINT:
        return None
    match = _KEY_DETAIL.search(error.detail or "")
    return match["value"] if match else None
