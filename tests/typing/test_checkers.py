"""What mypy and pyright say: nothing about what is right, and the right thing about what is wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

import docket
from docket import As
from docket.typed import freeze, inputs, register
from tests.typing.accepted import typed

ROOT = Path(docket.__file__).parents[1]
HERE = Path(__file__).parent

Errors = list[tuple[int, str]]


def mypy(file: Path) -> Errors:
    """Return what mypy reports, by line."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-codes", str(file)]
    out = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout
    found = re.findall(r"^(.+?):(\d+): error: (.*)$", out, re.MULTILINE)
    return [(int(line), text) for path, line, text in found if (ROOT / path) == file]


def pyright(file: Path) -> Errors:
    """Return what pyright reports in strict mode, by line. In a folder of its own, since the project leaves it out."""
    settings = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)], "pythonVersion": "3.11"}
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "pyrightconfig.json"
        project.write_text(json.dumps(settings))
        shutil.copy(file, folder)
        command = [sys.executable, "-m", "pyright", "--outputjson", "--project", str(project)]
        command += ["--pythonpath", sys.executable]
        out = json.loads(subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout)
    assert out["summary"]["filesAnalyzed"] == 1
    return [(one["range"]["start"]["line"] + 1, one["message"]) for one in out["generalDiagnostics"]]


def expected(file: Path, checker: str) -> dict[int, str]:
    """Return, by line, the text that a comment above it asks for."""
    wanted: dict[int, str] = {}
    pending = ""
    for number, line in enumerate(file.read_text().splitlines(), 1):
        comment = line.strip()
        if comment.startswith("# says "):
            name, _, text = comment.removeprefix("# says ").partition(": ")
            pending = text if name == checker else pending
        elif pending:
            wanted[number], pending = pending, ""
    return wanted


CHECKERS = [pytest.param(mypy, id="mypy"), pytest.param(pyright, id="pyright")]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", CHECKERS)
@pytest.mark.parametrize("file", sorted(HERE.glob("accepted/[a-z]*.py")), ids=lambda file: file.stem)
def test_what_is_right_is_accepted(file: Path, check: Callable[[Path], Errors]) -> None:
    """With exact types: the files assert them."""
    assert check(file) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", CHECKERS)
@pytest.mark.parametrize("file", sorted(HERE.glob("rejected/*.py")), ids=lambda file: file.stem)
def test_what_is_wrong_is_rejected_at_its_line(file: Path, check: Callable[[Path], Errors]) -> None:
    """A graph that does not close is an error in the editor, and pyright names the missing type."""
    wanted = expected(file, check.__name__)
    found = check(file)

    assert wanted
    assert {line for line, _ in found} == wanted.keys()
    for line, text in wanted.items():
        assert any(text in said for at, said in found if at == line), (line, text, found)


async def test_the_typed_form_builds_the_same_object() -> None:
    """What the checkers accepted runs, and a step is a target like any other."""
    made = await typed.d.run("r", typed.ship, given=[typed.Charge("c"), typed.Stock(1)])

    assert made == typed.Shipment("c")
    assert await typed.ship(typed.Charge("1"), typed.Stock(1)) == typed.Shipment("1")


async def test_a_step_of_many_needs_is_registered_without_types() -> None:
    """What it needs and makes is then only checked at run time; what is there for checkers only says so."""

    async def gather(request: typed.Request, tenant: typed.Tenant, charge: typed.Charge) -> typed.Stock:
        return typed.Stock(3)

    graph = register(gather, pure=True)
    orders = inputs(typed.Request, typed.Tenant, typed.Charge) | graph
    made = freeze(orders)

    given = (typed.Request("1"), As(typed.Tenant, typed.Tenant("t")), typed.Charge("c"))
    assert await made.run("r", typed.Stock, *given) == typed.Stock(3)
    for exists_for_checkers in (graph.needs, lambda: graph.makes(None)):
        with pytest.raises(NotImplementedError, match=r"is there for type checkers; look at holds.check\(\) instead"):
            exists_for_checkers()
