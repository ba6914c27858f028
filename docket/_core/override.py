"""Other providers for the length of a test. Pure: no I/O."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from docket._core.step import Options, Step, read_step
from docket._core.types import Key, Refusal, is_instance, label, read
from docket._core.wiring import Resource
from docket.errors import ConfigurationError

Registered = tuple[Callable[..., Any], Options]


def overridden(
    steps: Sequence[Registered], resources: Sequence[Resource], type_: object, fake: Any, where: str
) -> tuple[list[Registered], list[Resource]]:
    """Return *steps* and *resources* with *fake* in the place of whatever gives *type_*. Its options stay.

    Raises:
        ConfigurationError: Nothing gives *type_*, or *fake* does not either.
    """
    try:
        key = read(type_).key
    except Refusal as refusal:
        raise ConfigurationError(f"override({label(type_)}, ...) at {where}: {refusal.what}; {refusal.fix}") from None
    if any(resource.type == key for resource in resources):
        kept = [resource for resource in resources if resource.type != key]
        return list(steps), [*kept, Resource(key, fake, where)]
    found = list(steps)
    for number, (function, options) in enumerate(steps):
        step = read_step(function, options)
        if step.gives == key:
            found[number] = (_as_step(key, fake, options, where), options)
            return found, list(resources)
    raise ConfigurationError(f"override({label(key)}, ...) at {where}: nothing gives it, so nothing can be replaced")


def _as_step(key: Key, fake: Any, options: Options, where: str) -> Callable[..., Any]:
    function: Callable[..., Any] = fake
    if not _is_function(fake) and is_instance(fake, key):
        return _constant(key, fake)
    if not callable(fake):
        raise ConfigurationError(
            f"override({label(key)}, ...) at {where}: a {type(fake).__name__} is neither a {label(key)} nor a function"
        )
    step = read_step(function, options)
    if isinstance(step, Step) and step.gives != key:
        raise ConfigurationError(
            f"override({label(key)}, ...) at {where}: {step.name} gives {label(step.gives)}; let it return {label(key)}"
        )
    return function


def _is_function(fake: object) -> bool:
    return inspect.isroutine(fake) or isinstance(fake, functools.partial)


def _constant(key: Any, value: object) -> Callable[..., Any]:
    async def constant() -> object:
        return value

    constant.__annotations__ = {"return": key}
    constant.__qualname__ = f"override({label(key)})"
    return constant
