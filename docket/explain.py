"""Wirings and plans as text and pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from docket._core.plan import Plan
from docket._core.standing import Standing
from docket._core.step import SPECIAL
from docket._core.types import Key, label
from docket._core.wiring import Wiring

_COLOURS: Mapping[str, str] = {
    "certified": "#b7e1a1", "would run": "#cfe2ff", "running": "#ffe8a1", "waiting": "#ffe8a1", "failed": "#ffd0a8",
    "changed": "#f5b5b5", "refused": "#f5b5b5", "in doubt": "#f5b5b5", "missing": "#f5b5b5", "purged": "#e0e0e0",
    "blocked": "#e0e0e0",
}  # fmt: skip
"""By state; what is not listed stays white."""

DEEPEST = 90
"""Columns of indentation at most: a chain of 10,000 steps goes on below each other from there."""


def text(plan: Plan) -> str:
    """Draw a plan as a tree from the target down, one line for each type with its state and the reason."""
    found = {one.type: one for one in plan.steps}
    lines: list[tuple[str, str]] = []
    drawn: set[Key] = set()
    pending: list[tuple[Key, str, str]] = [(plan.target, "", "")]
    while pending:
        key, branch, below = pending.pop()
        one = found[key]
        if key in drawn:
            lines.append((f"{branch}{label(key)}", "see above"))
            continue
        drawn.add(key)
        lines.append((f"{branch}{label(key)}", f"{one.state}{': ' if one.reason else ''}{one.reason}"))
        for number, need in enumerate(reversed(one.needs)):
            last = number == 0
            deeper = f"{below}{'   ' if last else '│  '}" if len(below) < DEEPEST else below
            pending.append((need, f"{below}{'└─ ' if last else '├─ '}", deeper))
    if plan.first:
        names = ", ".join(label(step.gives) for step in plan.first)
        lines.append(("", f"first, {names} would be brought up to date, and the plan made again"))
    width = max(len(left) for left, _ in lines)
    return "\n".join(f"{left:<{width}}  {right}".rstrip() for left, right in lines)


def mermaid(what: Plan | Wiring) -> str:
    """Draw a plan (coloured by state) or a whole wiring as a Mermaid flowchart, needs above what needs them."""
    nodes, edges = _graph(what)
    lines = ["flowchart TD"]
    for number, (_, name, note, state) in enumerate(nodes):
        written = _plain(f"{name}\n{note}" if note else name)
        lines.append(f'    n{number}(["{written}"])' if state == "input" else f'    n{number}["{written}"]')
        if state in _COLOURS:
            lines.append(f"    style n{number} fill:{_COLOURS[state]}")
    return "\n".join([*lines, *(f"    n{one} --> n{other}" for one, other in edges)])


def dot(what: Plan | Wiring) -> str:
    """Draw a plan (coloured by state) or a whole wiring in Graphviz's language."""
    nodes, edges = _graph(what)
    lines = ["digraph docket {", '    node [shape=box, style="rounded,filled", fillcolor=white];']
    for number, (_, name, note, state) in enumerate(nodes):
        shape = ", shape=ellipse" if state == "input" else ""
        colour = f', fillcolor="{_COLOURS[state]}"' if state in _COLOURS else ""
        both = f"{name}\n{note}" if note else name
        quoted = both.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        lines.append(f'    n{number} [label="{quoted}"{shape}{colour}];')
    return "\n".join([*lines, *(f"    n{one} -> n{other};" for one, other in edges), "}"])


_Node = tuple[Key, str, str, str]


def _graph(what: Plan | Wiring) -> tuple[Sequence[_Node], Sequence[tuple[int, int]]]:
    """Return nodes (type, name, note, state) and edges between their numbers."""
    nodes, needs = _of_plan(what.steps) if isinstance(what, Plan) else _of_wiring(what)
    number = {key: count for count, (key, _, _, _) in enumerate(nodes)}
    edges = [(number[need], number[key]) for key, wanted in needs.items() for need in wanted if need in number]
    return nodes, edges


def _of_plan(steps: Iterable[Standing]) -> tuple[list[_Node], dict[Key, Sequence[Key]]]:
    nodes: list[_Node] = []
    needs: dict[Key, Sequence[Key]] = {}
    for one in steps:
        is_input = one.step is None and one.state != "missing"
        nodes.append((one.type, label(one.type), one.state, "input" if is_input else one.state))
        needs[one.type] = one.needs
    return nodes, needs


def _of_wiring(wiring: Wiring) -> tuple[list[_Node], dict[Key, Sequence[Key]]]:
    nodes: list[_Node] = [(key, label(key), "", "input") for key in [*wiring.roots.values(), *wiring.resources]]
    needs: dict[Key, Sequence[Key]] = {}
    for key, step in wiring.steps.items():
        kept = f"\n{step.options.cache_result}" if step.options.cache_result else ""
        nodes.append((key, label(key), f"{step.name}{kept}", "certified" if kept else ""))
        needs[key] = [need.key for need in step.needs if need.key not in SPECIAL]
    return nodes, needs


def _plain(written: str) -> str:
    """Escape what Mermaid reads as markup."""
    return written.replace('"', "#quot;").replace("\n", "<br/>").replace("[", "#91;").replace("]", "#93;")
