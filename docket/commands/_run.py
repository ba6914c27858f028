"""What the commands about one run share: the Docket, the step, what stands, and a value as a person writes it."""

from __future__ import annotations

import argparse
import getpass
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg

from docket._core.record import Record
from docket._core.standing import ago
from docket._core.step import Step
from docket._core.types import label
from docket.commands._load import load, step_named
from docket.docket import Docket
from docket.errors import ConfigurationError, DocketError

UNSURE = 2
"""The exit code when the command lacks what it needs to act, as argparse has it. Nothing was changed."""


def arguments_of_a_run(parser: Any) -> None:
    """Add the arguments that say which result of which run."""
    parser.add_argument("object", help="the Docket, as package.module:attribute")
    parser.add_argument("run_id", metavar="RUN", help="the run")
    parser.add_argument("target", metavar="TYPE", help="the result: a type or a step, by name")
    parser.add_argument("--note", default="", help="why, for the journal")


def docket_named(name: str) -> Docket:
    """Return the `Docket` that *name* says.

    Raises:
        ConfigurationError: There is no such thing, or it is a Graph.
    """
    found = load(name)
    if not isinstance(found, Docket):
        raise ConfigurationError(f"{name} is a Graph and runs nothing; name the Docket that includes it")
    return found


async def reported(work: Callable[[], Awaitable[int]]) -> int:
    """Do *work* and return its exit code; say an error of Docket's or the database's, with what mends it, and return 1."""
    try:
        return await work()
    except (DocketError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        notes = (note.removeprefix("docket: ") for note in getattr(error, "__notes__", ()))
        print("docket: " + "\n  ".join([str(error) or type(error).__name__, *notes]), file=sys.stderr)
        return 1


async def decided(arguments: argparse.Namespace, act: Callable[[Docket, Step, Record | None], Awaitable[int]]) -> int:
    """Print what stands, *act*, and if that changed anything print what stands then.

    Args:
        arguments: With those of `arguments_of_a_run`.
        act: Is given the Docket, the step and what stands; returns the exit code, 0 if it changed something.
    """

    async def work() -> int:
        async with docket_named(arguments.object) as d:
            step = step_named(d.check(), arguments.target)
            before = await _standing(d, arguments.run_id, step)
            print(f"before: {said(step, before)}")
            if is_doubtful(before):
                print(f"its idempotency key: {arguments.run_id}/{step.key}")
            code = await act(d, step, before)
            if code == 0:
                print(f"after:  {said(step, await _standing(d, arguments.run_id, step))}")
                print("nothing runs by this alone: enqueue the run again, or run it")
            return code

    return await reported(work)


async def _standing(d: Docket, run_id: str, step: Step) -> Record | None:
    if d.cache is None or not step.certifies:
        raise ConfigurationError(f"the result of {step.name} is not kept; nothing can be decided about it")
    return (await d.cache.load(run_id)).results.get(step.key)


def said(step: Step, record: Record | None) -> str:
    """Return what stands for a step, in one line."""
    if record is None:
        return f"{label(step.gives)}: nothing is recorded"
    lost = record.state == "running" and record.lease_left < 0
    state = "running, its holder lost" if lost else {"doubt": "in doubt"}.get(record.state, record.state)
    error = ": ".join(part for part in (record.reason, record.error_type, record.error_text) if part)
    return f"{label(step.gives)}: {state}, token {record.token}, {ago(record.since)}" + (f" ({error})" if error else "")


def undecided(before: Record | None, advice: str) -> int | None:
    """Say why nothing can be decided, or that the token is to be said; return the exit code, None to go on.

    Args:
        before: What stands.
        advice: What to say if a token would do.
    """
    if before is None:
        return None
    if before.state == "running" and before.lease_left >= 0:
        told = f"it is being worked on, held for {before.lease_left:.0f} s more; there is nothing to decide yet"
    elif not is_doubtful(before):
        told = f"it is {before.state}, and not in doubt; there is nothing to decide"
    else:
        told = f"{advice}: --token {before.token}"
    print(f"docket: {told}", file=sys.stderr)
    return UNSURE


def is_doubtful(record: Record | None) -> bool:
    """Whether a person may decide about *record*: it is in doubt, or will be as soon as somebody looks."""
    return record is not None and (record.state == "doubt" or (record.state == "running" and record.lease_left < 0))


def who() -> str:
    """Return who decides, for the journal: the login and the machine."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


def value_of(d: Docket, step: Step, written: str) -> object:
    """Return a step's result as a person wrote it.

    Args:
        d: For its serializers.
        step: The step.
        written: The name of a file, ``-`` for standard input, or the JSON itself. What is not JSON in a file is read as the
            serializer's bytes.

    Raises:
        ConfigurationError: It is no such value.
    """
    if written == "-":
        body = sys.stdin.buffer.read()
    elif not os.path.isfile(written) and written.endswith((".json", ".bin", ".pb")):
        raise ConfigurationError(f"there is no file {written}; nothing was changed")
    else:
        body = Path(written).read_bytes() if os.path.isfile(written) else written.encode()
    if step.gives_none and body.strip() == b"null":
        return None
    gives: Any = step.gives
    try:
        if hasattr(gives, "DESCRIPTOR") and body.lstrip()[:1] == b"{":
            from google.protobuf import json_format

            return json_format.Parse(body, gives())
        return d.serializers.of(gives).loads(gives, body)
    except Exception as error:  # a serializer's ValueError, json_format's ParseError
        raise ConfigurationError(f"the value is no {label(step.gives)}: {error}; nothing was changed") from error
