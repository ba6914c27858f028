"""What a caller asks for and brings along, matched with the wiring."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, NewType, TypeVar, get_origin

from docket._core.step import Step, name_of
from docket._core.types import Key, Refusal, class_of, is_below, is_instance, label, read
from docket._core.wiring import Wiring
from docket.errors import UnexpectedInput, UnknownTarget

if TYPE_CHECKING:
    from typing_extensions import TypeForm

T = TypeVar("T")


class As(Generic[T]):
    """A value together with the type it is supplied as: ``As(OrderId, "order-1042")``.

    Values are matched by their class, and some types are not to be seen on their values: a ``NewType``, a parameterised
    generic, a base class that steps ask for.

    Args:
        type_: The type that steps ask for.
        value: The value.
    """

    __slots__ = ("type", "value")

    def __init__(self, type_: TypeForm[T], value: T, /) -> None:
        self.type: Any = type_
        self.value = value

    def __repr__(self) -> str:
        return f"As({label(self.type)}, {self.value!r})"


def asked_for(wiring: Wiring, run_id: str, asked: object) -> Step:
    """Return the step that gives what is *asked* for: a registered function, or a type.

    Raises:
        UnknownTarget: There is none, or it may give None where the type does not say so.
    """
    step = wiring.target(asked)
    if step is None:
        name = label(asked) if isinstance(asked, type) or not callable(asked) else name_of(asked)
        given = ", ".join(sorted(label(key) for key in wiring.steps)) or "nothing: no step is registered"
        raise UnknownTarget(run_id, name, f"register a step that does, or ask for one of: {given}")
    if step.gives_none and asked is step.gives:
        name = label(step.gives)
        raise UnknownTarget(run_id, f"a {name} for sure", f"{step.name} may give None: ask for {name} | None")
    return step


def supplied(wiring: Wiring, run_id: str, inputs: Iterable[object], given: Iterable[object] = ()) -> dict[Key, object]:
    """Return what was supplied, by the type it is supplied as.

    Args:
        wiring: The wiring.
        run_id: The run, for errors.
        inputs: Values of types that no step gives.
        given: Values that take the place of a step's result.

    Raises:
        UnexpectedInput: One of them is not wanted, or is there twice.
    """
    found: dict[Key, object] = {}
    for value in inputs:
        key, bare = _key_of(run_id, value)
        if (giver := wiring.steps.get(key)) is not None:
            advice = f"{giver.name} ({giver.where}) gives it; leave it out, or say given=[...] to replace the step"
            raise UnexpectedInput(run_id, label(key), advice)
        if key not in wiring.inputs:
            raise UnexpectedInput(run_id, label(key), _unwanted(wiring, key))
        _add(found, run_id, key, bare)
    for value in given:
        key, bare = _key_of(run_id, value)
        if key not in wiring.steps:
            raise UnexpectedInput(run_id, label(key), "given=[...] replaces a step, and no step gives it; pass it as an input")
        _add(found, run_id, key, bare)
    return found


def _key_of(run_id: str, value: object) -> tuple[Key, object]:
    carried: Any = value
    if not isinstance(value, As):
        kind: Any = type(value)
        return kind, value
    try:
        key = read(carried.type).key
    except Refusal as refusal:
        raise UnexpectedInput(run_id, label(carried.type), f"{refusal.what}; {refusal.fix}") from None
    if not is_instance(carried.value, key):
        raise UnexpectedInput(run_id, label(key), f"it is a {type(carried.value).__name__}: {carried.value!r:.80}")
    return key, carried.value


def _add(found: dict[Key, object], run_id: str, key: Key, value: object) -> None:
    if key in found:
        raise UnexpectedInput(run_id, label(key), "another value of that type was passed too; pass one")
    found[key] = value


def _unwanted(wiring: Wiring, key: Key) -> str:
    for wanted in [*wiring.inputs, *wiring.steps]:
        hidden = isinstance(wanted, NewType) or get_origin(wanted) is not None
        if (hidden and class_of(wanted) is key) or is_below(key, wanted):
            return f"the steps take {label(wanted)}; if it is one, say so: As({label(wanted)}, value)"
    names = ", ".join(sorted(label(root) for root in wiring.inputs)) or "no inputs at all"
    return f"no step takes one; the steps take {names}"
