"""Is what was given for an option something that it can be? Asked when it is given, so that no run finds out later."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn

from docket.errors import ConfigurationError, shown

LONGEST = 1e9
"""Seconds that a span of time may have: thirty-two years. Our choice: whoever says more means that there is no end."""


def refuse(who: str, option: str, value: object, advice: str) -> NoReturn:
    """Refuse *value*.

    Args:
        who: What was called with it, such as ``Retry``; or the step, with its place.
        option: Its name.
        value: What was given.
        advice: What is wrong, or what to give instead.

    Raises:
        ConfigurationError: Always.
    """
    said = f"{option}={shown(value, 80)}"
    raise ConfigurationError(f"{who}({said}): {advice}" if who.isidentifier() else f"{who}: {said}; {advice}")


def require(who: str, package: str, extra: str) -> None:
    """Refuse to make *who* without the *package* that it needs: its first use may come after an effect.

    Raises:
        ConfigurationError: It is not installed.
    """
    if importlib.util.find_spec(package) is None:
        raise ConfigurationError(f"{who} needs {package}, which is not installed: pip install 'docket-resolver[{extra}]'")


def span(who: str, option: str, value: Any, least: float | None = None, *, zero: bool = True) -> float:
    """Return a span of time in seconds; refuse what is none, or is below *least*, or is 0 if that has no meaning."""
    found: object = value.total_seconds() if isinstance(value, timedelta) else value
    floor = -LONGEST if least is None else least
    if isinstance(found, bool) or not isinstance(found, int | float) or not floor <= found <= LONGEST or not (found or zero):
        limit = "" if least is None else (", 0 or more" if zero else ", more than 0")
        refuse(who, option, value, f"give seconds or a timedelta{limit}")
    return float(found)


def moment(who: str, option: str, value: object) -> None:
    """Refuse what is no date with a time of day."""
    if not isinstance(value, datetime):
        refuse(who, option, value, "give a datetime with a time zone, or schedule_in= with seconds")


def count(who: str, option: str, value: Any, least: int | None = 1, why: str = "give a whole number") -> int:
    """Return a whole number; refuse what is none, or is below *least*."""
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        refuse(who, option, value, why if least is None else f"{why}; use {least} or more")
    return value


def yes_or_no(who: str, option: str, value: object) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        refuse(who, option, value, "use True or False")


def part(who: str, option: str, value: object, methods: Sequence[str], advice: str) -> None:
    """Refuse an object without the *methods* of what is wanted, and a class of such objects.

    The value itself is not in the text: a DSN that was given for a cache has a password in it.
    """
    if isinstance(value, type):
        raise ConfigurationError(f"{who}({option}={value.__qualname__}): that is a class; make one of it, such as {advice}")
    lacking = [name for name in methods if not callable(getattr(value, name, None))]
    if lacking:
        kind = type(value).__qualname__
        raise ConfigurationError(f"{who}({option}=<{kind}>): a {kind} has no {lacking[0]}(); pass {advice}")


def several(who: str, option: str, value: Iterable[Any], advice: str) -> tuple[Any, ...]:
    """Return what is in an iterable; refuse what is none, and text, which is one by accident."""
    if isinstance(value, str | bytes | type) or not hasattr(value, "__iter__"):
        refuse(who, option, value, f"give several in a list: {advice}")
    return tuple(value)
