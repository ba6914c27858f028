"""JSON text: strict writing, and reading with a bound on its depth."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

MAX_DEPTH = 200
"""Deepest nesting of arrays and objects, counted from 1. Our choice: far above any message, far below the
interpreter's recursion limit of 1,000."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))

# Strict: NaN is not JSON, and PostgreSQL refuses it.
encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode

# The same for a str alone, without the encoder's own look at what it is given.
string: Callable[[str], str] = json.encoder.encode_basestring


def too_deep(body: bytes) -> bool:
    """Tell whether *body* nests deeper than ``MAX_DEPTH``, without recursion and whatever it holds.

    Brackets outside of strings are peeled off layer by layer, so the cost is bounded by size times ``MAX_DEPTH``.
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    rest = _STRING.sub(b"", body).translate(None, _NOT_BRACKETS)
    for _ in range(MAX_DEPTH):
        peeled = rest.replace(b"[]", b"").replace(b"{}", b"")
        if len(peeled) == len(rest):
            # Unbalanced, or nothing left: for the parser to refuse, unless it could exhaust the stack first.
            return len(rest) > MAX_DEPTH
        rest = peeled
    return bool(rest)


def decode(body: bytes) -> object:
    """Return the JSON value in *body*.

    Raises:
        ValueError: If it is not UTF-8, not JSON, holds NaN or Infinity, or nests deeper than ``MAX_DEPTH``.
    """
    # As text first: json.loads() would guess UTF-16 from bytes, which the look at the depth does not understand.
    text = body.decode()
    refuse_depth(body)
    return _decoder.decode(text)


def refuse_depth(body: bytes) -> None:
    """Raise a ValueError if *body* nests deeper than ``MAX_DEPTH``."""
    if too_deep(body):
        raise ValueError(f"its JSON nests deeper than {MAX_DEPTH} levels")


def fit_for_jsonb(text: str, *, ours: bool = False) -> bool:
    r"""Tell whether PostgreSQL can hold *text* as jsonb (manual, "JSON Types").

    That has to be strict JSON in UTF-8, without ``\u0000``, half a surrogate pair or a number beyond what numeric holds.

    Args:
        text: What may be JSON.
        ours: Whether `encode` wrote it, so that ``\u0000`` is all that can be wrong with it and it need not be read again.
    """
    if "\\u0000" in text and _NUL.search(text) is not None:
        return False
    if ours:
        return True
    try:
        body = text.encode()
        refuse_depth(body)
        found = _jsonb.decode(text)
        if "\\u" in text:
            encode(found).encode()  # UTF-8 refuses half of a surrogate pair, as jsonb does
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _refuse_extremes(number: str) -> object:
    """Refuse what numeric may not hold: it has room for far more, and every float of Python fits."""
    if len(number) > _DIGITS or abs(int(number.lower().partition("e")[2] or 0)) > _DIGITS:
        raise ValueError("a number is too large or too fine")
    return 0.0


_DIGITS = 1000
_decoder = json.JSONDecoder(parse_constant=_refuse_constant)
_jsonb = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_refuse_extremes)
