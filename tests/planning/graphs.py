"""Random graphs whose steps say what they did, and a slow, obvious model of what should happen.

The values are made so that any difference in what a step saw is a difference in what it gives: a step's value names
its own salt and the values of its needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from docket import Docket
from docket.cache import MemoryCache


@dataclass(frozen=True)
class Value:
    """What every type of these graphs holds."""

    text: str = ""


def kind(name: str) -> Any:
    """Return a type of its own called *name*: the same one for the same name, as in a program that is deployed again."""
    if name not in KINDS:
        made: Any = dataclass(frozen=True)(type(name, (Value,), {"__annotations__": {}, "__module__": "tests.kinds"}))
        KINDS[name] = made
    return KINDS[name]


KINDS: dict[str, Any] = {}


@dataclass(frozen=True)
class Node:
    """One step of a graph.

    Attributes:
        name: The type it gives.
        needs: The types it needs.
        optional: Those of them that may be absent.
        policy: ``None`` if its result is not kept; ``"raise"``, ``"recompute"`` or ``"keep"`` if it is.
        lossy: Whether it gives the same whatever it gets, so that a change stops here.
        version: Its version.
    """

    name: str
    needs: tuple[str, ...]
    optional: frozenset[str] = frozenset()
    policy: str | None = None
    lossy: bool = False
    version: int = 1


@dataclass
class Program:
    """A graph as a Docket that notes what it runs.

    Attributes:
        nodes: The steps, needs before what needs them.
        cache: Where results are kept.
        ran: The names of the steps that ran, in order.
    """

    nodes: Sequence[Node]
    cache: MemoryCache = field(default_factory=MemoryCache)
    ran: list[str] = field(default_factory=list[str])

    def __post_init__(self) -> None:
        """Wire the steps."""
        self.d = Docket(cache=self.cache)
        for node in self.nodes:
            options: dict[str, Any] = {"version": node.version}
            if node.policy is not None:
                options |= {"cache_result": "at_least_once", "on_change": node.policy}
            self.d.step(**options)(self._function(node))

    def _function(self, node: Node) -> Any:
        async def step(*values: Value | None) -> Any:
            self.ran.append(node.name)
            return kind(node.name)(made(node, [value.text if value else None for value in values]))

        names = [f"p{number}" for number in range(len(node.needs))]
        scope: dict[str, Any] = {"step": step}
        exec(f"async def {node.name}({', '.join(names)}): return await step({', '.join(names)})", scope)
        function = scope[node.name]
        hints = [kind(need) | None if need in node.optional else kind(need) for need in node.needs]
        function.__annotations__ = {**dict(zip(names, hints, strict=True)), "return": kind(node.name)}
        return function


def made(node: Node, values: Sequence[str | None]) -> str:
    """Return what *node* makes of the texts of its needs."""
    return f"{node.name}v{node.version}" if node.lossy else f"{node.name}v{node.version}({','.join(map(str, values))})"


INPUTS = ("in0", "in1", "in2")

POLICIES = st.sampled_from([None, "recompute", None, "recompute", "raise", "recompute", "keep"])


@st.composite
def graphs(draw: st.DrawFn, policies: st.SearchStrategy[str | None] = POLICIES, most: int = 9) -> tuple[Node, ...]:
    """Graphs of up to *most* steps over three inputs; the last step is the target."""
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, most))):
        before = [node.name for node in nodes]
        needs = draw(st.lists(st.sampled_from([*before[-2:], *INPUTS, *before[:-2]]), min_size=1, max_size=3, unique=True))
        optional = frozenset(need for need in needs if need in INPUTS and draw(st.booleans()))
        nodes.append(Node(f"s{number}", tuple(needs), optional, draw(policies), draw(st.booleans()) and draw(st.booleans())))
    return tuple(nodes)


def cone(nodes: Sequence[Node], target: str) -> set[str]:
    """Return everything *target* may need, itself included."""
    by_name = {node.name: node for node in nodes}
    found: set[str] = set()
    pending = [target]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += by_name[name].needs if name in by_name else ()
    return found
