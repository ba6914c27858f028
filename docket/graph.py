"""A set of steps and resources, not yet wired: what teams publish and applications include."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack, overload

from docket._core.names import fault_of
from docket._core.override import overridden
from docket._core.step import ON_CHANGE, SCOPES, SEMANTICS, OnChange, Options, Scope, Semantics, name_of
from docket._core.types import place, placed
from docket._core.wiring import Resource, Wiring, build
from docket._given import count, refuse, several, span, yes_or_no
from docket.errors import ConfigurationError
from docket.retry import Retry

if TYPE_CHECKING:
    from typing import Self

    from typing_extensions import TypeForm

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


class StepOptions(TypedDict, total=False):
    """What can be said about a step.

    Attributes:
        cache_result: What is promised for its result: ``"at_least_once"`` (one write after it), ``"at_most_once"`` (a
            write before it and one after) or ``"transactional"`` (its own SQL and its result commit together). Not kept
            if absent.
        key: The storage key, for ever. The protobuf full name, or module and name of the type, if absent.
        exclusive: Whether an at-least-once step is claimed before it runs, so that two processes do not both do
            expensive work.
        max_attempts: How often an exclusive step whose process died is started again before it is in doubt.
        reconcile: Asked how a doubt ended; takes any of the step's needs and returns its result or `NOT_APPLIED`. Called as a
            step is, within the step's timeout, or 30 s if it has none.
        reconcile_after: Seconds (or timedelta) a doubt must be old for that; the timeout or the lease if absent.
        timeout: How long one call may take (seconds or timedelta), the write of its result not included. A plain function
            cannot be stopped: the run goes on without it, its thread runs to its end, which the process's own end waits
            for, and with ``retry`` the next try runs beside it. Bound what it waits for by the other side's timeouts, too.
        retry: How often it is tried in process; see `docket.retry.Retry`.
        thread: Whether a plain function runs in a thread (the default) or, with False, in the loop.
        on_change: What to do when it was certified from other inputs: ``"raise"`` (the default), ``"recompute"`` or
            ``"keep"``.
        version: Raise it to have results of ``on_change="recompute"`` steps made again; and with a change of the type that
            older code cannot read, so that older workers raise `NewerCertificate`.
        scope: ``"global"`` shares an at-least-once result with all runs that have the same inputs; ``"run"`` is the
            default.
        ttl: How long such a result, or one that is recomputed, stands (seconds or timedelta), a refusal included; without end
            if absent.
        pure: Promises the same result for the same needs, so that `check` does not ask to keep it.
    """

    cache_result: Semantics | None
    key: str | None
    exclusive: bool
    reconcile: Callable[..., Any] | None
    reconcile_after: float | timedelta | None
    max_attempts: int
    timeout: float | timedelta | None
    retry: Retry | None
    thread: bool
    on_change: OnChange
    version: int
    pure: bool
    scope: Scope
    ttl: float | timedelta | None


@dataclass(eq=False, slots=True)
class _Holds:
    """What was registered on one graph; the graphs that include it refer to it."""

    inputs: tuple[Any, ...] | None
    steps: list[tuple[Callable[..., Any], Options]] = field(default_factory=list[tuple[Callable[..., Any], Options]])
    resources: list[Resource] = field(default_factory=list[Resource])
    included: list[_Holds] = field(default_factory=list["_Holds"])
    frozen: bool = False

    def parts(self) -> list[_Holds]:
        """Return this and everything included, each once."""
        found: dict[int, _Holds] = {}
        pending: list[_Holds] = [self]
        while pending:
            part = pending.pop()
            if id(part) not in found:
                found[id(part)] = part
                pending += reversed(part.included)
        return list(found.values())


class Graph:
    """Steps and resources that belong together, without a cache and a queue.

    Args:
        inputs: The types that callers supply. With it, a type that nobody gives and that is not named here is a hole in
            the wiring, and `check` says so. Without it, whatever nobody gives counts as an input. When a graph includes
            others, what any of them names is an input of all.

    A team publishes one, an application includes it: ``d.include(payments)``. A `docket.Docket` is one itself.
    """

    def __init__(self, *, inputs: Iterable[TypeForm[Any]] | None = None) -> None:
        self._holds = _Holds(
            None if inputs is None else several(type(self).__name__, "inputs", inputs, "inputs=[OrderRequest]")
        )
        self._wiring: Wiring | None = None
        self._overrides: list[tuple[Any, object, str]] = []

    @overload
    def step(self, fn: F, /) -> F: ...
    @overload
    def step(self, /, **options: Unpack[StepOptions]) -> Callable[[F], F]: ...
    def step(self, fn: Any = None, /, **options: Any) -> Any:
        """Register a function as a step. It stays an ordinary function.

        Args:
            fn: The function: its parameters' types are its needs, its return type is what it gives.
            options: See `StepOptions`.

        Raises:
            ConfigurationError: An option is wrong, or the wiring is in use already.
        """
        if fn is None:
            return functools.partial(self._add, options)
        return self._add(options, fn)

    def register(self, *functions: Callable[..., Any]) -> None:
        """Register functions as steps, without a decorator.

        Raises:
            ConfigurationError: The wiring is in use already.
        """
        for function in functions:
            self._add({}, function)

    def provide(self, type_: TypeForm[T], resource: T | Callable[[], object], /) -> None:
        """Hold a resource for the steps that need *type_*: a client, a pool, a clock. It is never stored.

        Args:
            type_: The type that steps ask for, exactly.
            resource: A value of that type, which is never closed; or a function or class without parameters that makes
                one: plain, async, a generator (plain or async) whose part after ``yield`` closes it, or one that
                returns a context manager for it. It is called once, when a step first needs it, and what it made is
                closed by ``close()``, the last one first.

        Raises:
            ConfigurationError: The wiring is in use already.
        """
        where = _line_of_caller(2)
        self._refuse_late(f"the resource at {where}")
        self._holds.resources.append(Resource(type_, resource, where))

    def include(self, *graphs: Graph) -> Self:
        """Add all that *graphs* hold, now and until the wiring is checked. A graph included twice counts once.

        Raises:
            ConfigurationError: The wiring is in use already.
        """
        self._refuse_late("an included graph")
        self._holds.included += [graph._holds for graph in graphs]  # noqa: SLF001 - of the same class
        return self

    @contextlib.contextmanager
    def override(self, type_: TypeForm[T], fake: T | Callable[..., object], /) -> Generator[None]:
        """Replace, in a ``with`` block of a test, whatever gives *type_*; everything else and its options stay.

        Args:
            type_: The type a step gives or a resource is held as.
            fake: A value of that type, or a function that gives it. It may need other things than the one it replaces.

        Raises:
            ConfigurationError: Nothing gives *type_*, or *fake* does not either.
            WiringError: The steps do not fit together with it.
        """
        before = self._wiring
        self._overrides.append((type_, fake, _line_of_caller(3)))  # below contextlib's own frame
        try:
            self._wiring = None
            self.check()
            yield
        finally:
            self._overrides.pop()
            self._wiring = before

    def check(self) -> Wiring:
        """Check the wiring and return it. Done by itself on first use; nothing can be registered afterwards.

        Raises:
            WiringError: Steps do not fit together; it lists every problem.
        """
        if self._wiring is None:
            self._wiring = self._build()
        return self._wiring

    def _build(self) -> Wiring:
        parts = self._holds.parts()
        declared = [part.inputs for part in parts if part.inputs is not None]
        steps = [step for part in parts for step in part.steps]
        resources = [resource for part in parts for resource in part.resources]
        for type_, fake, where in self._overrides:
            steps, resources = overridden(steps, resources, type_, fake, where)
        wiring = build(steps, resources, [key for keys in declared for key in keys] if declared else None)
        for part in parts:
            part.frozen = True
        return wiring

    def _add(self, options: dict[str, Any], function: Callable[..., Any]) -> Any:
        self._refuse_late(f"{name_of(function)} ({place(function)})")
        self._holds.steps.append((function, _checked(f"{name_of(function)} ({place(function)})", options)))
        return function

    def _refuse_late(self, what: str) -> None:
        if self._holds.frozen:
            raise ConfigurationError(
                f"{what} comes too late: the wiring is in use; register everything at import, before the first run"
            )


def _line_of_caller(frames: int) -> str:
    frame = inspect.currentframe()
    for _ in range(frames):
        frame = frame and frame.f_back
    return placed(frame.f_code.co_filename, frame.f_lineno) if frame else "?"


def _checked(who: str, options: dict[str, Any]) -> Options:
    """Return *options* as the step's, or say what is wrong with them."""
    known = [field.name for field in dataclasses.fields(Options)]
    if unknown := sorted(options.keys() - set(known)):
        raise ConfigurationError(f"{who}: there is no option {unknown[0]!r}; the options are {', '.join(known)}")
    semantics = options.get("cache_result")
    if semantics is not None and semantics not in SEMANTICS:
        raise ConfigurationError(f"{who}: cache_result={semantics!r}; use one of {', '.join(SEMANTICS)}")
    if options.get("on_change", "raise") not in ON_CHANGE:
        raise ConfigurationError(f"{who}: on_change={options['on_change']!r}; use one of {', '.join(ON_CHANGE)}")
    if options.get("on_change") == "recompute" and semantics in ("at_most_once", "transactional"):
        raise ConfigurationError(
            f"{who}: cache_result={semantics!r} and on_change='recompute' contradict each other, since what took effect must "
            "not take effect again by itself; use 'raise' or 'keep'"
        )
    if options.get("exclusive") and semantics != "at_least_once":
        raise ConfigurationError(f"{who}: exclusive=True is for cache_result='at_least_once'; every other kept step is claimed")
    if options.get("reconcile") is not None and semantics != "at_most_once":
        raise ConfigurationError(f"{who}: reconcile= is for cache_result='at_most_once'; nothing else comes to be in doubt")
    _check_sharing(who, options)
    return Options(**_values(who, options))


def _values(who: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return *options* with their spans in seconds; refuse a value that is none of its option's."""
    for name in ("exclusive", "thread", "pure"):
        yes_or_no(who, name, options.get(name, False))
    count(who, "max_attempts", options.get("max_attempts", 1), why="a step is started at least once")
    count(who, "version", options.get("version", 1))
    if options.get("key") is not None and not (isinstance(options["key"], str) and options["key"]):
        refuse(who, "key", options["key"], "give a text, such as 'shop.Charge'")
    if options.get("key") and (fault := fault_of(options["key"])) is not None:
        refuse(who, "key", options["key"], f"it {fault}; give printable NFC text, such as 'shop.Charge'")
    if options.get("retry") is not None and not isinstance(options["retry"], Retry):
        refuse(who, "retry", options["retry"], "give a Retry: retry=Retry(attempts=3)")
    if options.get("reconcile") is not None and not callable(options["reconcile"]):
        refuse(who, "reconcile", options["reconcile"], "give a function that returns the step's result or NOT_APPLIED")
    spans = [name for name in ("timeout", "reconcile_after", "ttl") if options.get(name) is not None]
    return {**options, **{name: span(who, name, options[name], 0, zero=name == "reconcile_after") for name in spans}}


def _check_sharing(who: str, options: dict[str, Any]) -> None:
    scope = options.get("scope", "run")
    if scope not in SCOPES:
        raise ConfigurationError(f"{who}: scope={scope!r}; use one of {', '.join(SCOPES)}")
    if scope == "global" and options.get("cache_result") != "at_least_once":
        raise ConfigurationError(f"{who}: scope='global' shares a result, which is kept for that: cache_result='at_least_once'")
    if options.get("ttl") is not None and scope == "run" and options.get("on_change") != "recompute":
        raise ConfigurationError(f"{who}: ttl= lets a result expire; say scope='global' or on_change='recompute' as well")
