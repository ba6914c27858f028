"""What may be seen of values and errors by people who read the database."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from docket._core.names import storable

Redact: TypeAlias = Callable[[str, str], "str | None"]
"""Given a storage key and a text (JSON of a result, or an error's message), return what may be stored of it for people;
None for nothing. Applied to projections and error texts, never to the result itself."""

ERROR_LIMIT = 2_048
"""Longest error text that is stored, in bytes of UTF-8. Our choice: a message and its cause, not a page of data."""

_HIDDEN = "***"
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = (
    # The password in a URL: postgresql://user:secret@host/db. To the last @, since passwords may hold one.
    (
        re.compile(r"(?P<kept>\b[a-z][a-z0-9+.-]*://[^\s:/@]*:)\S+(?P<rest>@)", re.IGNORECASE),
        rf"\g<kept>{_HIDDEN}\g<rest>",
    ),
    (re.compile(r"(?P<kept>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\g<kept>{_HIDDEN}"),
    (
        re.compile(
            # Not ``token=3``, as Docket's own errors say it: a fencing token, which a person needs to settle a doubt.
            r"""(?P<kept>\b[\w-]*(?:password|passwd|pwd|secret|api[_-]?key|access[_-]?key|token(?!=\d{1,4}\b))["']?\s*[=:]\s*)"""
            r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s,;&)}\]]+)""",
            re.IGNORECASE,
        ),
        rf"\g<kept>{_HIDDEN}",
    ),
)


def error_text(error: BaseException, key: str, redact: Redact | None = None) -> str:
    """Return the message of *error* as it may be stored: without known kinds of secrets, NUL or half characters.

    Passwords in URLs and ``password=`` settings, bearer tokens and members named like a secret are replaced by ``***``;
    then *redact* has the last word. At most 2,048 bytes; empty if nothing may be shown, or *redact* raises.
    """
    try:
        text = str(error)
    except Exception:
        text = f"<{type(error).__name__} has no message>"
    # Before the regular expressions, so that a message of megabytes costs nothing.
    text = hide_secrets(text[: 4 * ERROR_LIMIT])
    if redact is not None:
        try:
            text = redact(key, text) or ""
        except Exception:
            text = ""  # nobody has said that it may be shown, and the error that is being stored matters more
    return storable(text).encode()[:ERROR_LIMIT].decode(errors="ignore")


def hide_secrets(text: str) -> str:
    """Return *text* with what looks like a password, a token or a key replaced by ``***``."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text
