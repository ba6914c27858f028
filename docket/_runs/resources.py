"""What the application holds for its steps: opened when a step first needs it, closed in reverse order."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from docket._core.types import Key, is_instance, label
from docket._core.wiring import Resource, Wiring
from docket._engine.sharing import CoroutineWork, Shared, Stuck
from docket.errors import ConfigurationError


class Resources:
    """The resources of one application.

    What a function makes is made once, however many runs ask for it at the same time. After `close` it is made anew
    when it is needed again.
    """

    def __init__(self) -> None:
        self._open: dict[Resource, object] = {}
        self._closing = contextlib.AsyncExitStack()
        self._opening = Shared()

    def opened(self, wiring: Wiring, keys: Iterable[Key]) -> Mapping[Key, object] | None:
        """Return the resources among *keys*, by type; None if one of them is to be opened first."""
        held: dict[Key, object] = {}
        for key in keys if wiring.resources else ():
            resource = wiring.resources.get(key)
            if resource is None:
                continue
            if not _is_factory(resource.source):
                held[key] = resource.source
            elif resource in self._open:
                held[key] = self._open[resource]
            else:
                return None
        return held

    async def open(self, wiring: Wiring, keys: Iterable[Key]) -> Mapping[Key, object]:
        """Return the resources among *keys*, by type, opened.

        Raises:
            ConfigurationError: A function made something other than it was provided for, or needs what it is to make.
            Exception: Whatever the function raises. The next step that needs it calls it again.
        """
        while (held := self.opened(wiring, keys)) is None:
            for key in keys:
                resource = wiring.resources.get(key)
                if resource is not None and _is_factory(resource.source) and resource not in self._open:
                    await self._join(key, resource)
        return held

    async def close(self) -> None:
        """Close everything that was opened here, the last one first."""
        closing, self._closing = self._closing, contextlib.AsyncExitStack()
        self._open.clear()
        await closing.aclose()

    async def _join(self, key: Key, resource: Resource) -> None:
        try:
            await self._opening.join(resource, None, functools.partial(self._make, key, resource))
        except Stuck:
            raise ConfigurationError(
                f"the resource {label(key)} ({resource.where}): its function runs a step that needs a {label(key)}; "
                "let it do without"
            ) from None

    def _make(self, key: Key, resource: Resource) -> CoroutineWork[None]:
        return CoroutineWork(self._made(key, resource))

    async def _made(self, key: Key, resource: Resource) -> None:
        made: Any = _called(resource.source)
        if inspect.isawaitable(made):
            made = await made
        if not is_instance(made, key):
            made = await self._entered(made)
        if not is_instance(made, key):
            raise ConfigurationError(
                f"the resource {label(key)} ({resource.where}): its function made a {type(made).__name__}; "
                f"let it return or yield a {label(key)}"
            )
        self._open[resource] = made

    async def _entered(self, made: Any) -> Any:
        if hasattr(made, "__aenter__"):
            return await self._closing.enter_async_context(made)
        return self._closing.enter_context(made) if hasattr(made, "__enter__") else made


def _is_factory(source: object) -> bool:
    return inspect.isroutine(source) or isinstance(source, type | functools.partial)


def _called(source: Any) -> Any:
    if inspect.isasyncgenfunction(source):
        return contextlib.asynccontextmanager(source)()
    if inspect.isgeneratorfunction(source):
        return contextlib.contextmanager(source)()
    return source()
