"""Find the object a command is about."""

from __future__ import annotations

import importlib
import sys

from docket._core.step import Step
from docket._core.types import label
from docket._core.wiring import Wiring
from docket.errors import ConfigurationError
from docket.graph import Graph


def load(name: str) -> Graph:
    """Return the `Docket` or `Graph` that *name* (``package.module:attribute``) says.

    Raises:
        ConfigurationError: There is no such thing.
        Exception: Whatever importing the module raises.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ConfigurationError(f"{name!r} names no object; write package.module:attribute, such as shop.app:d")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ConfigurationError(f"there is no module {error.name!r}; run this where {module} can be imported") from None
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigurationError(f"the module {module} has no {attribute!r}")
        found = getattr(found, part)
    if not isinstance(found, Graph):
        raise ConfigurationError(f"{name} is a {type(found).__name__}, not a Docket or a Graph")
    return found


def step_named(wiring: Wiring, name: str) -> Step:
    """Return the step that is called *name* or that gives the type called so (as written, or by its storage key).

    Raises:
        ConfigurationError: There is none, or more than one.
    """
    steps = [step for step in wiring.steps.values() if name in (step.key, step.name, label(step.gives))]
    if len(steps) != 1:
        names = ", ".join(label(step.gives) for step in wiring.steps.values())
        found = f"nothing gives {name!r}" if not steps else f"{name!r} may mean any of {', '.join(s.key for s in steps)}"
        raise ConfigurationError(f"{found}; there are {names}")
    return steps[0]
