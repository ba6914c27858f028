"""Asking the other side how a doubt ended: ``reconcile=``."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, Literal

from docket._core.step import Run, Step, name_of
from docket._core.types import Refusal, label, place, read
from docket._engine.calls import Calls, declared, wrong_result
from docket._engine.sharing import gone
from docket.errors import ConfigurationError, WrongResult

ASKING = 30.0
"""Seconds that a reconcile function may take whose step has no timeout. Our choice: as long as a statement of ours may take.
Whoever asks can ask again."""


class Verdict(Enum):
    """What a reconcile function may say instead of a result."""

    NOT_APPLIED = "not applied"


NOT_APPLIED: Final = Verdict.NOT_APPLIED
"""Returned by a reconcile function: the effect certainly did not happen and never will; the step may run again."""

NotAppliedType = Literal[Verdict.NOT_APPLIED]
"""The type of `NOT_APPLIED`, for annotations: ``-> ChargeResult | NotAppliedType``."""


def places(reconcile: Callable[..., Any], step: Step) -> tuple[int, ...]:
    """Return, for each parameter of *reconcile*, the position of the step's need of the same type; -1 for a `Run`.

    Raises:
        ConfigurationError: It wants something the step does not have.
    """
    found: list[int] = []
    positions = {need.key: number for number, need in enumerate(step.needs)}
    hints = typing.get_type_hints(reconcile, include_extras=True)
    for parameter in inspect.signature(reconcile).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty:
            continue  # configuration
        try:
            key = read(hints[parameter.name]).key
        except (KeyError, Refusal):
            key = None
        if key is Run:
            found.append(-1)
        elif key is not None and key in positions:
            found.append(positions[key])
        else:
            has = ", ".join(label(need.key) for need in step.needs) or "nothing"
            raise ConfigurationError(
                f"{name_of(reconcile)} ({place(reconcile)}) is to reconcile {step.name} and takes {parameter.name!r}, which "
                f"that step does not need; give each parameter one of its types ({has}) or Run"
            )
    return tuple(found)


async def ask(calls: Calls, step: Step, run: Run, values: tuple[object, ...]) -> object:
    """Return what the step's reconcile function says: a result or `NOT_APPLIED`.

    It is called as a step is, and has the step's timeout; `ASKING` seconds where the step has none. It ends with its run.

    Raises:
        Refused: The other side gave its final "no", which is certified.
        StepTimeout: It says nothing in time. The doubt stays.
        WrongResult: It says neither. The doubt stays.
    """
    reconcile = step.options.reconcile
    assert reconcile is not None  # noqa: S101 - asked only where there is one
    brought = [run if position < 0 else values[position] for position in places(reconcile, step)]
    limit = ASKING if step.options.timeout is None else step.options.timeout
    answer = await calls.aside(reconcile, brought, run.run_id, name_of(reconcile), limit, gone())
    if answer is not NOT_APPLIED and wrong_result(run.run_id, step, answer) is not None:
        expected, advice = f"{declared(step)} | NotAppliedType", "return one of these, or raise if it cannot tell"
        raise WrongResult(run.run_id, name_of(reconcile), expected, answer, place(reconcile), advice)
    return answer
