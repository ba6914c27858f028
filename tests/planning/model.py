"""The rules for changes, said as plainly as possible and without any care for speed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.planning.graphs import Node, made


class Failed(Exception):
    """The run is refused: an input is missing, or is not what something was made from that must not change."""


@dataclass
class Made:
    """What a value was made from since the nearest kept results.

    Attributes:
        inputs: The inputs, None for those that were absent.
        above: The kept results, with their texts.
    """

    inputs: dict[str, str | None] = field(default_factory=dict[str, "str | None"])
    above: dict[str, str] = field(default_factory=dict[str, str])


class Model:
    """One run id, for ever.

    Attributes:
        ran: The steps that the last call ran.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = {node.name: node for node in nodes}
        self.rows: dict[str, tuple[str, Made]] = {}
        self.latest: dict[str, str] = {}
        self.ran: list[str] = []

    def run(self, target: str, supplied: Mapping[str, str]) -> str:
        """Return the text of *target*."""
        self.supplied = supplied
        self.ran = []
        self.values: dict[str, tuple[str | None, Made]] = {}
        self.stands: dict[str, bool] = {}
        text, _ = self.value(target, optional=False)
        assert text is not None
        return text

    def value(self, name: str, *, optional: bool) -> tuple[str | None, Made]:
        """Return a value and what it was made from."""
        if name not in self.values:
            self.values[name] = self._step(name) if name in self.nodes else self._input(name, optional=optional)
        text, source = self.values[name]
        if text is None and not optional:
            raise Failed
        return text, source

    def _input(self, name: str, *, optional: bool) -> tuple[str | None, Made]:
        text = self.supplied.get(name, self.latest.get(name))
        return text, Made(inputs={name: text})

    def _step(self, name: str) -> tuple[str, Made]:
        node = self.nodes[name]
        if node.policy is not None and self.valid(name):
            return self.rows[name][0], Made(above={name: self.rows[name][0]})
        needs = [self.value(need, optional=need in node.optional) for need in node.needs]
        source = Made()
        for _, below in needs:
            source.inputs |= below.inputs
            source.above |= below.above
        text = made(node, [value for value, _ in needs])
        self.ran.append(name)
        if node.policy is None:
            return text, source
        self.rows[name] = (text, source)
        self.latest |= {key: value for key, value in source.inputs.items() if value is not None}
        self.stands[name] = True
        return text, Made(above={name: text})

    def valid(self, name: str) -> bool:
        """Say whether a kept result stands; bring what it rests on up to date where that is allowed."""
        if name not in self.rows:
            return False
        if name not in self.stands:
            self.stands[name] = self._judged(name)
        return self.stands[name]

    def _judged(self, name: str) -> bool:
        _, source = self.rows[name]
        policy = self.nodes[name].policy
        if policy == "keep":
            return True
        changed = any(self.supplied.get(key, value) != value for key, value in source.inputs.items())
        for key in source.above:
            if not self.valid(key) and not changed:
                self.value(key, optional=False)
        changed = changed or any(self.rows[key][0] != text for key, text in source.above.items())
        if changed and policy == "raise":
            raise Failed
        return not changed
