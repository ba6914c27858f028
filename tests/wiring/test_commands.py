"""The command line: ``python -m docket check | graph | explain``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import docket
from docket.__main__ import main

CLOSED = """
from dataclasses import dataclass
from docket import Docket
from docket.cache import MemoryCache

@dataclass
class Request: pass
@dataclass
class Charge: pass
@dataclass
class Shipment: pass

async def charge(request: Request) -> Charge: return Charge()
async def ship(charge: Charge) -> Shipment: return Shipment()

d = Docket(cache=MemoryCache(), inputs=[Request])
d.step(cache_result="at_most_once")(charge)
d.register(ship)

hole = Docket(inputs=[Request])
hole.register(ship)
"""


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own, in the working directory."""
    environment = {**os.environ, "PYTHONPATH": str(Path(docket.__file__).parents[1])}
    whole = [sys.executable, "-m", "docket", *arguments]
    return subprocess.run(whole, capture_output=True, text=True, check=False, env=environment)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that holds a wiring, in the working directory, under a name of its own."""
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(CLOSED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return name


def test_check_prints_the_wiring(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each step, the inputs, and what should be looked at, which fails only if that is asked for."""
    assert main(["check", f"{shop}:d"]) == 0

    out = capsys.readouterr().out
    assert (
        out
        == f"""\
Charge    charge  at_most_once  Request  {shop}.py:13
Shipment  ship                  Charge   {shop}.py:14
inputs: Request
resources: none
2 steps, the wiring closes
look at 1. charge is at_most_once and has no timeout: when it hangs, so does its run
  charge  {shop}.py:13
  fix: say how long it may take: timeout=30
"""
    )
    assert main(["check", f"{shop}:d", "--strict"]) == 1


def test_check_finds_a_hole(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is what a build fails by."""
    assert main(["check", f"{shop}:hole"]) == 1

    assert capsys.readouterr() == (
        "",
        f"""\
docket: the wiring does not close (1 problem)
  1. nothing gives Charge
     Shipment  ship  {shop}.py:14  parameter 'charge'
     └─ Charge  ???
     fix: write a step that returns Charge, or name it as an input: inputs=[Charge, ...]
""",
    )


def test_check_reports_what_no_target_needs(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the targets named, a step that none of them needs is to be looked at."""
    assert main(["check", f"{shop}:d", "--target", "Charge"]) == 0

    assert "look at 2. ship is never run for Charge" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["check", "nothing"], "'nothing' names no object; write package.module:attribute, such as shop.app:d"),
        (["check", "no_such_shop.app:d"], "there is no module 'no_such_shop'"),
        (["check", "{shop}:e"], "the module {shop} has no 'e'"),
        (["check", "{shop}:Request"], "{shop}:Request is a type, not a Docket or a Graph"),
        (["check", "{shop}:d", "--target", "Stock"], "nothing gives 'Stock'; there are Charge, Shipment"),
        (["graph", "{shop}:hole"], "nothing gives Charge"),
        (["explain", "{shop}:hole", "r", "Shipment"], "nothing gives Charge"),
    ],
)
def test_what_cannot_be_loaded_is_said(shop: str, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a traceback."""
    assert main([argument.format(shop=shop) for argument in arguments]) == 1

    assert text.format(shop=shop) in capsys.readouterr().err


def test_graph_draws_the_wiring(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As Mermaid, and for Graphviz."""
    assert main(["graph", f"{shop}:d"]) == 0
    assert (
        capsys.readouterr().out
        == """\
flowchart TD
    n0(["Request"])
    n1["Charge<br/>charge<br/>at_most_once"]
    style n1 fill:#b7e1a1
    n2["Shipment<br/>ship"]
    n0 --> n1
    n1 --> n2
"""
    )
    assert main(["graph", f"{shop}:d", "--format", "dot"]) == 0
    assert (
        capsys.readouterr().out
        == """\
digraph docket {
    node [shape=box, style="rounded,filled", fillcolor=white];
    n0 [label="Request", shape=ellipse];
    n1 [label="Charge\\ncharge\\nat_most_once", fillcolor="#b7e1a1"];
    n2 [label="Shipment\\nship"];
    n0 -> n1;
    n1 -> n2;
}
"""
    )


def test_the_module_runs_as_a_command(shop: str) -> None:
    """``python -m docket`` finds a module in the working directory, and its exit code reaches the shell."""
    done = command("check", f"{shop}:d", "--strict")

    assert (done.returncode, done.stderr) == (1, "")
    assert "2 steps, the wiring closes" in done.stdout


def test_explain_says_where_a_run_is(shop: str) -> None:
    """In a process of its own, as an operator does."""
    done = command("explain", f"{shop}:d", "order-1", "Shipment")

    assert (done.returncode, done.stdout) == (
        0,
        """\
Shipment       blocked: by Charge, blocked
└─ Charge      blocked: by Request, missing
   └─ Request  missing: no step gives it, nobody supplied it, and it is not on record; a job that waits may bring it
""",
    )


def test_check_prints_the_wiring_of_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    """It closes, with nothing to look at."""
    assert main(["check", "examples.orders.app:d", "--strict"]) == 0

    out = capsys.readouterr().out
    assert "CreateShipment     at_least_once  ChargeResult, Reservation" in out
    assert out.splitlines()[-3:] == [
        "inputs: OrderRequest",
        "resources: PaymentProvider",
        "4 steps, the wiring closes",
    ]


PLANTED = """
from docket import Graph
from examples.orders.app import CreateShipment, PaymentProvider, charge_card, validate_order
from examples.orders.orders_pb2 import OrderRequest

orders = Graph(inputs=[OrderRequest])
orders.provide(PaymentProvider, PaymentProvider("postgresql://"))
orders.register(validate_order, charge_card, CreateShipment)
"""


def test_check_finds_a_hole_planted_in_the_example(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody reserves the goods any more: the parcel that needs them is named."""
    Path(f"{shop}_planted.py").write_text(PLANTED)

    assert main(["check", f"{shop}_planted:orders"]) == 1

    err = capsys.readouterr().err
    assert "1. nothing gives Reservation\n     Shipment  CreateShipment  " in err
    assert "parameter 'reservation'\n     └─ Reservation  ???\n" in err
