"""A function read into a frozen Step.

Reading resolves the annotations, so it happens when the wiring is checked and not when the decorator runs: by then
every module is loaded and a forward reference can be found.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from docket._core.immutable import immutable
from docket._core.types import Key, Read, Refusal, class_of, label, place, read, storage_key
from docket.errors import Problem
from docket.retry import Retry

Semantics = Literal["at_least_once", "at_most_once", "transactional"]
SEMANTICS: tuple[Semantics, ...] = typing.get_args(Semantics)

OnChange = Literal["raise", "recompute", "keep"]
Scope = Literal["run", "global"]
SCOPES: tuple[Scope, ...] = typing.get_args(Scope)
ON_CHANGE: tuple[OnChange, ...] = typing.get_args(OnChange)


@immutable(frozen=True, slots=True)
class Run:
    """What a step may know about the run it serves, by declaring a parameter of this type.

    Attributes:
        run_id: The caller's name for the business case.
        step: The step's name.
        key: The storage key of what the step gives.
        attempt: Counted from 1: how often this step was started for this run. Always 1 for a step that claims nothing.
        token: The fencing token of the claim, 0 where nothing was claimed. It only grows: pass it on to whoever can
            refuse a smaller one.
        deadline: When the run's time is up, in UTC by this process's clock; None if it has no deadline.
        transaction: The connection that a transactional step is lent; None for any other step.
    """

    run_id: str
    step: str
    key: str
    attempt: int = 1
    token: int = 0
    deadline: datetime | None = None
    transaction: Transaction | None = field(default=None, repr=False, compare=False)

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt at this step of this run, in every process; unlike any other step's."""
        return f"{self.run_id}/{self.key}"


class Transaction(Protocol):
    """The connection of a ``cache_result="transactional"`` step, in the transaction its certificate commits with.

    Declare a parameter of this type. At run time it is the asyncpg connection itself; these are the methods a step
    needs. What is done through it and the certificate take effect together or not at all.
    """

    async def execute(self, query: str, /, *args: Any, timeout: float | None = None) -> str:
        """Run a statement; return its status."""
        ...

    async def executemany(self, command: str, args: Iterable[Sequence[Any]], /, *, timeout: float | None = None) -> None:
        """Run a statement once for each set of arguments."""
        ...

    async def fetch(self, query: str, /, *args: Any, timeout: float | None = None) -> list[Any]:
        """Run a query; return its rows."""
        ...

    async def fetchrow(self, query: str, /, *args: Any, timeout: float | None = None) -> Any:
        """Run a query; return its first row, None if there is none."""
        ...

    async def fetchval(self, query: str, /, *args: Any, column: int = 0, timeout: float | None = None) -> Any:
        """Run a query; return one value of its first row, None if there is none."""
        ...


SPECIAL: tuple[Key, ...] = (Run, Transaction)
"""Types a step may ask for that are about the attempt and never part of the wiring."""


@dataclass(frozen=True, slots=True)
class Options:
    """What ``@d.step(...)`` was told. See `docket.Docket.step` for what each means."""

    cache_result: Semantics | None = None
    key: str | None = None
    exclusive: bool = False
    reconcile: Callable[..., Any] | None = None
    reconcile_after: float | None = None
    max_attempts: int = 10
    timeout: float | None = None
    retry: Retry | None = None
    thread: bool = True
    on_change: OnChange = "raise"
    version: int = 1
    pure: bool = False
    scope: Scope = "run"
    ttl: float | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """One parameter of a step.

    Attributes:
        name: The parameter's name.
        key: The type it wants.
        optional: Whether None will do when nobody gives the type.
        if_certified: Whether only what is there already is wanted.
    """

    name: str
    key: Key
    optional: bool = False
    if_certified: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A function with typed needs and one result type.

    Attributes:
        fn: The function as registered.
        call: Takes the values of ``needs`` by position, in order.
        name: Its qualified name.
        where: ``file:line``.
        needs: Its parameters that the wiring fills.
        gives: The type it returns.
        gives_none: Whether it may return None instead.
        key: The storage key of what it gives.
        options: What it was registered with.
        is_async: Whether ``call`` returns an awaitable.
        certifies: Whether its result is kept.
        expects: The class its result is an instance of; None where that cannot be judged.
        sure: The types of its needs if it must have all of them, which is what most steps need; None otherwise.
    """

    fn: Callable[..., Any]
    call: Callable[..., Any]
    name: str
    where: str
    needs: tuple[Need, ...]
    gives: Key
    gives_none: bool
    key: str
    options: Options
    is_async: bool
    certifies: bool = field(init=False)
    expects: type | None = field(init=False)
    sure: tuple[Key, ...] | None = field(init=False)

    def __post_init__(self) -> None:
        """Say once what plans would otherwise ask again and again."""
        unsure = any(need.optional or need.if_certified or need.key in SPECIAL for need in self.needs)
        object.__setattr__(self, "certifies", self.options.cache_result is not None)
        object.__setattr__(self, "expects", class_of(self.gives))
        object.__setattr__(self, "sure", None if unsure else tuple([need.key for need in self.needs]))


@dataclass(slots=True)
class Signature:
    """A function's annotations, resolved and read, with what is wrong with them.

    Attributes:
        where: The function and its place, for the problems.
        needs: The parameters the wiring fills, in order.
        by_name: Those of them that must be passed by keyword.
        gives: What it returns; None if that is wrong.
        gives_none: Whether it may return None instead.
        problems: All that is wrong.
    """

    where: tuple[str, ...]
    needs: list[Need] = field(default_factory=list[Need])
    by_name: list[str] = field(default_factory=list[str])
    gives: Key | None = None
    gives_none: bool = False
    problems: list[Problem] = field(default_factory=list[Problem])

    def add(self, what: str, fix: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(what, self.where, fix))

    def read(self, annotation: Any, what: str) -> Read | None:
        """Read one annotation; add a problem and return None if it is no key."""
        try:
            return read(annotation)
        except Refusal as refusal:
            self.add(f"{what}: {refusal.what}", refusal.fix)
            return None


def name_of(fn: Callable[..., Any]) -> str:
    """Name a function as its author would: without ``<locals>`` and without the partial around it."""
    inner = _innermost(fn)
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    return str(name).rpartition("<locals>.")[2]


def read_step(fn: Callable[..., Any], options: Options) -> Step | Signature:
    """Read *fn* into a Step; return what could be read, with its problems, if something is wrong with it."""
    signature = _read_signature(fn)
    if signature.problems or signature.gives is None:
        return signature
    called = _called(fn)
    return Step(
        fn=fn,
        call=_by_position(fn, signature),
        name=name_of(fn),
        where=place(called),
        needs=tuple(signature.needs),
        gives=signature.gives,
        gives_none=signature.gives_none,
        key=options.key or storage_key(signature.gives),
        options=options,
        is_async=inspect.iscoroutinefunction(called),
    )


def _innermost(fn: Any) -> Any:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return inspect.unwrap(fn)


def _called(fn: Any) -> Any:
    """Return the function that holds the code: of an object with ``__call__``, that method."""
    inner = _innermost(fn)
    return inner if inspect.isroutine(inner) or isinstance(inner, type) else type(inner).__call__


def _read_signature(fn: Callable[..., Any]) -> Signature:
    called = _called(fn)
    name = name_of(fn)
    found = Signature((f"{name}  {place(called)}",))
    try:
        hints = typing.get_type_hints(called, localns=_closed_over(called), include_extras=True)
        parameters = inspect.signature(fn).parameters.values()
    except NameError as error:
        found.add(f"the annotation {error.name!r} of {name} cannot be resolved", _why_unresolved(called, str(error.name)))
        return found
    except (TypeError, ValueError, AttributeError, SyntaxError) as error:
        found.add(f"the signature of {name} cannot be read: {error}", "register a function with annotations")
        return found
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        found.add(f"{name} yields, and a step gives one result", "return it; for many, return one type that holds them")
    for parameter in parameters:
        _read_parameter(found, name, parameter, hints)
    _read_return(found, name, hints)
    return found


def _closed_over(called: Any) -> dict[str, Any]:
    """Return the names a nested function can see: an annotation may mean a class of the function around it."""
    names = getattr(called, "__code__", None) and called.__code__.co_freevars
    cells = zip(names or (), getattr(called, "__closure__", None) or (), strict=True)
    return {name: cell.cell_contents for name, cell in cells if repr(cell).find(": empty>") < 0}


def _why_unresolved(called: Any, name: str) -> str:
    try:
        source = inspect.getsource(sys.modules[called.__module__])
    except (OSError, TypeError, KeyError):
        source = ""
    block = re.search(r"^if (?:typing\.)?TYPE_CHECKING:\n((?:[ \t]+.*\n|\n)*)", source, re.MULTILINE)
    if block is not None and re.search(rf"\b{re.escape(name)}\b", block[1]):
        return (
            f"{name} is imported under TYPE_CHECKING: import it at run time. For the rule that moves such imports, "
            'set lint.flake8-type-checking.runtime-evaluated-decorators = ["shop.app.d.step"] in ruff'
        )
    return f"define or import {name} at the top of the module; a class inside a function cannot be found by its name"


def _read_parameter(found: Signature, fn: str, parameter: inspect.Parameter, hints: dict[str, Any]) -> None:
    name, kind, default = parameter.name, parameter.kind, parameter.default
    if kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        stars = "*" if kind is parameter.VAR_POSITIONAL else "**"
        found.add(f"{fn} takes {stars}{name}, which names no types", "name each value it needs as a parameter with a type")
    elif kind is parameter.KEYWORD_ONLY and default is not parameter.empty:
        pass  # configuration, not wiring
    elif name not in hints and name == "self":
        owner = fn.rpartition(".")[0] or "Service"
        fix = f"register it bound: d.register({owner}(...).{fn.rpartition('.')[2]})"
        found.add(f"{fn} is a method without its object", fix)
    elif name not in hints:
        found.add(f"the parameter {name!r} of {fn} has no type", f"annotate it: {name}: TheTypeItNeeds")
    elif (got := found.read(hints[name], f"the parameter {name!r} of {fn}")) is not None:
        if default is not parameter.empty and not (default is None and got.optional):
            what = f"the parameter {name!r} of {fn} has a default, so it is unclear whether the wiring fills it"
            found.add(what, "put it after a * to make it configuration, or drop the default to make it a need")
        found.needs.append(Need(name, got.key, got.optional, got.if_certified))
        if kind is parameter.KEYWORD_ONLY:
            found.by_name.append(name)


def _read_return(found: Signature, fn: str, hints: dict[str, Any]) -> None:
    if "return" not in hints or hints["return"] is type(None):
        said = "returns None" if "return" in hints else "does not say what it returns"
        found.add(f"{fn} {said}", "annotate the result with a type of its own: -> TheTypeItGives")
    elif (got := found.read(hints["return"], f"the result of {fn}")) is not None:
        if got.key in SPECIAL:
            found.add(f"{fn} returns {label(got.key)}, which Docket makes", "return a type of your own")
        found.gives, found.gives_none = got.key, got.optional


def _by_position(fn: Callable[..., Any], signature: Signature) -> Callable[..., Any]:
    if not signature.by_name:
        return fn
    names = [need.name for need in signature.needs]
    split = len(names) - len(signature.by_name)

    def call(*values: Any) -> Any:
        return fn(*values[:split], **dict(zip(names[split:], values[split:], strict=True)))

    return call
