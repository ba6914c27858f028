"""What could only fail after an effect, and can be known before."""

from __future__ import annotations

import logging
import sys

from docket._certify.reconcile import places
from docket._core.names import LONGEST
from docket._core.step import Step
from docket._core.types import label
from docket._core.wiring import Wiring
from docket.cache import Cache, Transactional
from docket.errors import ConfigurationError, NoSerializer, Problem, WiringError
from docket.serializers import Serializers

_log = logging.getLogger("docket")


def check_kept(wiring: Wiring, cache: Cache, serializers: Serializers) -> None:
    """Refuse what could not be kept, before anything runs.

    Raises:
        WiringError: A result that is to be kept, or an input that one is made from, has no serializer.
        ConfigurationError: A step asks for more than the cache offers, has a key that no row takes, or a reconcile function
            that cannot be called.
    """
    _refuse_unserializable(wiring, serializers)
    for step in wiring.steps.values():
        who = f"{step.name} ({step.where})"
        if step.options.cache_result == "transactional" and not isinstance(cache, Transactional):
            raise ConfigurationError(
                f"{who} is marked cache_result='transactional', and {type(cache).__name__} has no transactions to "
                "lend; use docket.postgres.PostgresCache"
            )
        if step.certifies and len(step.key.encode()) > LONGEST:
            raise ConfigurationError(
                f"{who}: the storage key of {label(step.gives)} has {len(step.key.encode())} bytes, and a row takes "
                f"{LONGEST}; give the step a key="
            )
        if step.options.reconcile is not None:
            places(step.options.reconcile, step)
        if step.certifies and step.options.cache_result != "at_least_once" and _is_of_a_script(step):
            _log.warning(
                "%s keeps its result as %s: to a process that imports this program it is another result, and that would do it "
                "again; move %s into a module, or give the step a key=",
                who, step.key, label(step.gives),
            )  # fmt: skip


def _refuse_unserializable(wiring: Wiring, serializers: Serializers) -> None:
    problems: dict[Problem, None] = {}
    kept = [step.gives for step in wiring.steps.values() if step.certifies]
    for type_ in (*kept, *filter(wiring.is_kept, wiring.roots.values())):
        try:
            serializers.of(type_)
        except NoSerializer as error:
            problems.update(dict.fromkeys(error.problems))
    if problems:
        raise WiringError(tuple(problems))


def _is_of_a_script(step: Step) -> bool:
    # What is typed at a prompt cannot be imported; a file that is run can.
    return step.key.startswith("__main__.") and hasattr(sys.modules["__main__"], "__file__")
