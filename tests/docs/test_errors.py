"""Every error is described under a heading of its own, with the text as it is printed."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from docket import errors
from docket.errors import Change, Problem

DOCS = Path(__file__).parents[2] / "docs"

PAGE = (DOCS / "errors.md").read_text()

HOLE = Problem(
    "nothing gives Stock",
    ("Shipment  create_shipment  shop/ship.py:41  parameter 'stock'", "└─ Stock  ???"),
    "write a step that returns Stock, or name it as an input: inputs=[Stock, ...]",
    ("StockDraft, a similar name, is given by draft_stock  shop/stock.py:12",),
)
PATH = ("Shipment  create_shipment  shop/ship.py:41", "ValidOrder  validate_order  shop/order.py:9", "OrderRequest  ???")

EXAMPLES: dict[str, errors.DocketError] = {
    "WiringError": errors.WiringError((HOLE,)),
    "NoSerializer": errors.NoSerializer("Socket", "no serializer handles it", "shop/net.py:3"),
    "Unstorable": errors.Unstorable("Price", "it would be read back as another value", "return a Price of its declared types"),
    "ConfigurationError": errors.ConfigurationError("there is no queue; pass queue=ProcrastinateQueue(app) to Docket"),
    "BadJob": errors.BadJob("Procrastinate job 7", "its arguments hold no run id"),
    "BadRunId": errors.BadRunId("order\n1042", "has control, surrogate or unassigned characters"),
    "UnknownTarget": errors.UnknownTarget(
        "order-1042", "Refund", "register a step that does, or ask for one of: ChargeResult, Shipment"
    ),
    "MissingInput": errors.MissingInput("order-1042", "OrderRequest", PATH),
    "UnexpectedInput": errors.UnexpectedInput("order-1042", "Coupon", "no step takes one; the steps take OrderRequest"),
    "InputsChanged": errors.InputsChanged(
        "order-1042", "charge_card", (Change("OrderRequest", "amount_cents", "1000", "1200"),)
    ),
    "WrongResult": errors.WrongResult("order-1042", "charge_card", "ChargeResult", None, "shop/pay.py:10"),
    "StepTimeout": errors.StepTimeout("order-1042", "charge_card", 30.0),
    "DeadlineExceeded": errors.DeadlineExceeded("order-1042", 10.0),
    "WaitsForItself": errors.WaitsForItself("order-1042", "Shipment"),
    "NotYet": errors.NotYet("order-1042", "orders.Shipment", "Shipment", "running", 10.0),
    "Busy": errors.Busy("order-1042", "orders.ChargeResult", "ChargeResult", 42.0, "worker-3:117"),
    "InDoubt": errors.InDoubt("order-1042", "orders.ChargeResult", "ChargeResult", 1, "holder_lost", 95.0),
    "BrokenTransaction": errors.BrokenTransaction("order-1042", "book_entry"),
    "Purged": errors.Purged("order-1042", "orders.ChargeResult", "ChargeResult"),
    "NotInDoubt": errors.NotInDoubt("order-1042", "orders.ChargeResult", "ChargeResult", "it is certified with token 2"),
    "NeedsForce": errors.NeedsForce("order-1042", "orders.ValidOrder", "ValidOrder", ("ChargeResult",)),
    "NotCertified": errors.NotCertified(
        "order-1042", "orders.ChargeResult", "ChargeResult", "ch_1", "ConnectionError: the server went away"
    ),
    "Undecodable": errors.Undecodable("order-1042", "shop.ChargeResult", "json", "shop.ChargeResult", "amount is missing"),
    "NewerCertificate": errors.NewerCertificate(
        "order-1042", "shop.ChargeResult", "json", "shop.ChargeResult", "amount is missing", written=3, version=2
    ),
    "SchemaMissing": errors.SchemaMissing("docket", 'relation "docket.result" does not exist'),
}

RAISED_BY_STEPS = ("NotApplied", "Refused", "RetryLater", "WaitingFor")


def concrete() -> set[str]:
    """Return the names of all errors that are raised as such."""
    found = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}
    return found - {"DocketError", "RunError"}


def test_every_error_is_known_here() -> None:
    """A new error needs an example and a heading."""
    assert concrete() == EXAMPLES.keys() | set(RAISED_BY_STEPS)


@pytest.mark.parametrize("name", sorted([*EXAMPLES, *RAISED_BY_STEPS]))
def test_every_error_has_a_heading(name: str) -> None:
    """Exactly one, so that a link to it works."""
    assert len(re.findall(rf"^### {name}$", PAGE, re.MULTILINE)) == 1


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_text_is_the_one_on_the_page(name: str) -> None:
    """What happened, where, and what to do, as a user sees it."""
    section = PAGE.partition(f"### {name}\n")[2].partition("\n### ")[0]
    text = re.search(r"^```text\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)

    assert text is not None
    assert text[1].rstrip("\n") == str(EXAMPLES[name])


def test_inputs_of_a_job_that_waits_have_a_text_of_their_own() -> None:
    """It names no step, since none has run."""
    change = Change("OrderRequest", "amount_cents", "1000", "1200")
    section = PAGE.partition("### InputsChanged\n")[2].partition("\n### ")[0]

    assert f"```text\n{errors.InputsChanged('order-1042', '', (change,), waiting=True)}\n```" in section
