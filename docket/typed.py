"""Graphs that type checkers reject when they do not close.

The decorators of `docket.docket.Docket` cannot change the type of the object they belong to, so a checker sees no
wiring. Here steps are values, put together with ``|``, and their types carry what they need and what they make::

    from docket.typed import freeze, inputs, step

    @step()
    async def charge(request: OrderRequest) -> ChargeResult: ...

    payments = charge | fraud                       # another team's open graph
    orders = inputs(OrderRequest) | ship | payments
    d = freeze(orders, Docket(cache=PostgresCache(DSN)))    # an error in mypy and pyright if something is missing

It builds the same object as the decorators do, and the check at run time is the same, and stricter: types match exactly
there, while a checker lets a subclass pass. Bind a union to a name before you freeze it, or mypy reports a false error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, Never, TypeVar, Unpack, overload

from docket._core.step import Run, Transaction
from docket.docket import Docket
from docket.graph import Graph as Untyped
from docket.graph import StepOptions

if TYPE_CHECKING:
    from typing_extensions import TypeForm

R = TypeVar("R")
X = TypeVar("X")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")
G = TypeVar("G")
H = TypeVar("H")
J = TypeVar("J")
Needs2 = TypeVar("Needs2")
Makes2 = TypeVar("Makes2")
F = TypeVar("F", bound=Callable[..., Any])
Needs = TypeVar("Needs", covariant=True)
Makes = TypeVar("Makes", contravariant=True)


class Graph(Generic[Needs, Makes]):
    """Steps with what they need and what they make, in their type.

    A graph closes if everything needed is made: if there is one X with ``Needs <: X <: Makes``. That is what `freeze`
    asks for, since *Needs* may grow and *Makes* may shrink.

    Attributes:
        holds: The same graph without these types.
    """

    def __init__(self, holds: Untyped) -> None:
        self.holds = holds

    def __or__(self, other: Graph[Needs2, Makes2], /) -> Graph[Needs | Needs2, Makes | Makes2]:
        """Return a graph that holds the steps of both."""
        return Graph(Untyped().include(self.holds, other.holds))

    def needs(self) -> Needs:
        """Exist for type checkers only: what is needed stands in a covariant place."""
        raise NotImplementedError("needs() is there for type checkers; look at holds.check() instead")

    def makes(self, made: Makes, /) -> None:
        """Exist for type checkers only: what is made stands in a contravariant place."""
        raise NotImplementedError("makes() is there for type checkers; look at holds.check() instead")


class Step(Graph[Needs, Makes], Generic[F, Needs, Makes]):
    """One step as a graph. It is called like the function it was made from, and may stand as the target of a run."""

    if TYPE_CHECKING:
        __call__: F
    else:

        def __call__(self, *args: object, **kwargs: object) -> object:
            """Call the function."""
            return self.__wrapped__(*args, **kwargs)

    def __init__(self, fn: F, options: StepOptions) -> None:
        super().__init__(Untyped())
        self.__wrapped__ = fn
        self.holds.step(**options)(fn)


class Declared:
    """A step's options, waiting for the function. See `step`."""

    def __init__(self, options: StepOptions) -> None:
        self._options = options

    @overload
    def __call__(self, fn: Callable[[], Awaitable[R]], /) -> Step[Callable[[], Awaitable[R]], Never, R]: ...
    @overload
    def __call__(self, fn: Callable[[A], Awaitable[R]], /) -> Step[Callable[[A], Awaitable[R]], A, R]: ...
    @overload
    def __call__(self, fn: Callable[[A, B], Awaitable[R]], /) -> Step[Callable[[A, B], Awaitable[R]], A | B, R]: ...
    @overload
    def __call__(self, fn: Callable[[A, B, C], Awaitable[R]], /) -> Step[Callable[[A, B, C], Awaitable[R]], A | B | C, R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, C, D], Awaitable[R]], /
    ) -> Step[Callable[[A, B, C, D], Awaitable[R]], A | B | C | D, R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, C, D, E], Awaitable[R]], /
    ) -> Step[Callable[[A, B, C, D, E], Awaitable[R]], A | B | C | D | E, R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, C, D, E, G], Awaitable[R]], /
    ) -> Step[Callable[[A, B, C, D, E, G], Awaitable[R]], A | B | C | D | E | G, R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, C, D, E, G, H], Awaitable[R]], /
    ) -> Step[Callable[[A, B, C, D, E, G, H], Awaitable[R]], A | B | C | D | E | G | H, R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, C, D, E, G, H, J], Awaitable[R]], /
    ) -> Step[Callable[[A, B, C, D, E, G, H, J], Awaitable[R]], A | B | C | D | E | G | H | J, R]: ...
    @overload
    def __call__(self, fn: Callable[[], R], /) -> Step[Callable[[], R], Never, R]: ...
    @overload
    def __call__(self, fn: Callable[[A], R], /) -> Step[Callable[[A], R], A, R]: ...
    @overload
    def __call__(self, fn: Callable[[A, B], R], /) -> Step[Callable[[A, B], R], A | B, R]: ...
    @overload
    def __call__(self, fn: Callable[[A, B, C], R], /) -> Step[Callable[[A, B, C], R], A | B | C, R]: ...
    @overload
    def __call__(self, fn: Callable[[A, B, C, D], R], /) -> Step[Callable[[A, B, C, D], R], A | B | C | D, R]: ...
    @overload
    def __call__(self, fn: Callable[[A, B, C, D, E], R], /) -> Step[Callable[[A, B, C, D, E], R], A | B | C | D | E, R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, C, D, E, G], R], /
    ) -> Step[Callable[[A, B, C, D, E, G], R], A | B | C | D | E | G, R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, C, D, E, G, H], R], /
    ) -> Step[Callable[[A, B, C, D, E, G, H], R], A | B | C | D | E | G | H, R]: ...
    @overload
    def __call__(
        self, fn: Callable[[A, B, C, D, E, G, H, J], R], /
    ) -> Step[Callable[[A, B, C, D, E, G, H, J], R], A | B | C | D | E | G | H | J, R]: ...
    def __call__(self, fn: Any, /) -> Any:
        """Make the function a step."""
        made: Step[Any, Any, Any] = Step(fn, self._options)
        return made


def step(**options: Unpack[StepOptions]) -> Declared:
    """Declare a function of up to eight needs as a step: ``@step(cache_result="at_most_once")``.

    Args:
        options: See `docket.graph.StepOptions`.
    """
    return Declared(options)


def register(fn: Callable[..., Any], /, **options: Unpack[StepOptions]) -> Graph[Any, Any]:
    """Declare any function as a step, also one of more needs. What it needs and makes is only checked at run time."""
    return Step(fn, options)


def provide(type_: TypeForm[A], resource: A | Callable[[], object], /) -> Graph[Never, A]:
    """Hold a resource; see `docket.graph.Graph.provide`."""
    held = Untyped()
    held.provide(type_, resource)
    return Graph(held)


@overload
def inputs() -> Graph[Never, Run | Transaction | None]: ...
@overload
def inputs(a: TypeForm[A], /) -> Graph[Never, A | Run | Transaction | None]: ...
@overload
def inputs(a: TypeForm[A], b: TypeForm[B], /) -> Graph[Never, A | B | Run | Transaction | None]: ...
@overload
def inputs(a: TypeForm[A], b: TypeForm[B], c: TypeForm[C], /) -> Graph[Never, A | B | C | Run | Transaction | None]: ...
@overload
def inputs(
    a: TypeForm[A], b: TypeForm[B], c: TypeForm[C], d: TypeForm[D], /
) -> Graph[Never, A | B | C | D | Run | Transaction | None]: ...
@overload
def inputs(
    a: TypeForm[A], b: TypeForm[B], c: TypeForm[C], d: TypeForm[D], e: TypeForm[E], /
) -> Graph[Never, A | B | C | D | E | Run | Transaction | None]: ...
@overload
def inputs(
    a: TypeForm[A], b: TypeForm[B], c: TypeForm[C], d: TypeForm[D], e: TypeForm[E], g: TypeForm[G], /
) -> Graph[Never, A | B | C | D | E | G | Run | Transaction | None]: ...
@overload
def inputs(
    a: TypeForm[A], b: TypeForm[B], c: TypeForm[C], d: TypeForm[D], e: TypeForm[E], g: TypeForm[G], h: TypeForm[H], /
) -> Graph[Never, A | B | C | D | E | G | H | Run | Transaction | None]: ...
@overload
def inputs(
    a: TypeForm[A],
    b: TypeForm[B],
    c: TypeForm[C],
    d: TypeForm[D],
    e: TypeForm[E],
    g: TypeForm[G],
    h: TypeForm[H],
    j: TypeForm[J],
    /,
) -> Graph[Never, A | B | C | D | E | G | H | J | Run | Transaction | None]: ...
def inputs(*types: Any) -> Any:
    """Name the types that callers supply. `Run`, `Transaction` and None, which nobody has to supply, come with them."""
    made: Graph[Any, Any] = Graph(Untyped(inputs=types))
    return made


def freeze(graph: Graph[X, X], into: Docket | None = None, /) -> Docket:
    """Return a Docket of a graph that closes; a type checker rejects one that does not.

    Args:
        graph: The graph.
        into: What it is included in: ``Docket(cache=..., queue=...)``. A new one without either if absent.

    Raises:
        WiringError: Steps do not fit together. It knows more than the checker: exact types, duplicates, circles.
    """
    d = Docket() if into is None else into
    d.include(graph.holds)
    d.check()
    return d
