"""The command line of a person who decides: ``python -m docket settle | release | invalidate | purge``."""

from __future__ import annotations

import asyncio
import importlib
import sys
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from docket.__main__ import main
from docket.cache import Claim
from docket.errors import SchemaMissing
from docket.postgres import PostgresCache
from tests.database import NewDatabase

SHOP = """
from dataclasses import dataclass
from docket import Docket, NotApplied
from docket.postgres import PostgresCache
from examples.orders.orders_pb2 import ChargeResult

@dataclass
class Request:
    amount: int
@dataclass
class Stock:
    parcel: str
@dataclass
class Receipt:
    number: int

broken = True
calls = []

async def charge(request: Request) -> ChargeResult:
    calls.append("charge")
    if broken:
        raise ConnectionError("no answer")
    return ChargeResult(charge_id="ch-1", amount_cents=request.amount)

async def reserve(request: Request) -> Stock:
    calls.append("reserve")
    return Stock(f"p{{len(calls)}}")

async def write(charge: ChargeResult, stock: Stock) -> Receipt:
    return Receipt(1)

d = Docket(cache=PostgresCache({dsn!r}))
d.step(cache_result="at_most_once")(charge)
d.step(cache_result="at_least_once")(reserve)
d.step(cache_result="at_least_once")(write)
bare = Docket(cache=None)
"""


@pytest.fixture
async def shop(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Any]:
    """A module with an application whose charge breaks; its name is its own."""
    name = f"verdicts_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SHOP.format(dsn=dsn))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield importlib.import_module(name)
    sys.modules.pop(name)


def together(work: Callable[[Any], Awaitable[Any]], shop: Any) -> Any:
    """Do *work* with the application in a loop of its own, as a process does."""

    async def whole() -> Any:
        async with shop.d as d:
            return await work(d)

    return asyncio.run(whole())


@pytest.fixture
def doubt(shop: Any) -> str:
    """The application's name, with a charge in doubt under token 1 and a reservation."""

    async def fail(d: Any) -> None:
        await d.run("order-1", shop.Stock, shop.Request(5))
        with pytest.raises(Exception, match="nobody knows whether it took effect"):
            await d.run("order-1", shop.ChargeResult, shop.Request(5))

    together(fail, shop)
    return f"{shop.__name__}:d"


def test_a_doubt_is_settled_with_json(doubt: str, shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What stood and what stands are printed; the run goes on with the value, without a call."""
    code = main(
        ["settle", doubt, "order-1", "ChargeResult", "--token", "1", "--note", "saw it", "--value",
         '{"charge_id": "ch-9", "amount_cents": "5"}']
    )  # fmt: skip

    out = capsys.readouterr().out.splitlines()
    assert code == 0
    assert out[0].startswith("before: ChargeResult: in doubt, token 1, ")
    assert out[0].endswith("(error: ConnectionError: no answer)")
    assert out[1] == "its idempotency key: order-1/orders.ChargeResult"
    assert out[2].startswith("after:  ChargeResult: certified, token 2, ")
    assert out[3] == "nothing runs by this alone: enqueue the run again, or run it"
    assert together(lambda d: d.fetch("order-1", shop.ChargeResult), shop).charge_id == "ch-9"
    assert together(lambda d: d.run("order-1", shop.Receipt), shop) == shop.Receipt(1)
    assert shop.calls == ["reserve", "charge"]


def test_a_doubt_is_settled_with_a_refusal(doubt: str, shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The third answer of a provider: it was asked, and said no. The run says so from then on."""
    code = main(["settle", doubt, "order-1", "ChargeResult", "--refused", "declined by the issuer", "--token", "1"])

    assert code == 0
    out = capsys.readouterr().out
    assert "after:  ChargeResult: refused, token 2, 0 s ago (refused: Refused: declined by the issuer)" in out
    with pytest.raises(SystemExit):
        main(["settle", doubt, "order-1", "ChargeResult", "--refused", "no", "--value", "{}"])


@pytest.mark.parametrize("written", ["wire", "json"])
def test_a_doubt_is_settled_from_a_file(
    written: str, doubt: str, shop: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of JSON, or of the bytes that the other side kept."""
    value = shop.ChargeResult(charge_id="ch-7", amount_cents=5)
    file = tmp_path / "charge"
    file.write_bytes(value.SerializeToString() if written == "wire" else b' {"charge_id": "ch-7", "amountCents": 5}\n')

    assert main(["settle", doubt, "order-1", "charge", "--token", "1", "--value", str(file)]) == 0
    assert together(lambda d: d.fetch("order-1", shop.ChargeResult), shop) == value


def test_what_is_no_value_changes_nothing(doubt: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The doubt stands, and the message names the member that does not fit."""
    code = main(["settle", doubt, "order-1", "ChargeResult", "--token", "1", "--value", '{"charge": 3}'])

    assert code == 1
    assert "docket: the value is no ChargeResult: " in (err := capsys.readouterr().err)
    assert err.endswith("; nothing was changed\n")
    assert main(["release", doubt, "order-1", "ChargeResult"]) == 2
    assert "in doubt, token 1" in capsys.readouterr().out


@pytest.mark.parametrize("verb", [["settle", "--value", "{}"], ["release"]])
def test_without_a_token_one_is_only_shown_what_stands(verb: list[str], doubt: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A verdict is about the doubt that its author saw."""
    code = main([verb[0], doubt, "order-1", "ChargeResult", *verb[1:]])

    said = capsys.readouterr()
    assert code == 2
    assert "in doubt, token 1" in said.out
    assert "after:" not in said.out
    assert said.err.endswith("say so: --token 1\n")


@pytest.mark.parametrize("verb", [["settle", "--value", "{}"], ["release"]])
def test_a_stale_token_changes_nothing(verb: list[str], doubt: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody has decided in the meantime, and the step was started again: that is another doubt."""
    assert main([verb[0], doubt, "order-1", "ChargeResult", *verb[1:], "--token", "7"]) == 1

    assert "docket: run 'order-1': ChargeResult is not in doubt, or not in the one that was seen" in capsys.readouterr().err
    assert main(["release", doubt, "order-1", "ChargeResult"]) == 2


async def _aged(dsn: str, seconds: int) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute("UPDATE docket.result SET changed_at = changed_at - make_interval(secs => $1)", float(seconds))
    await connection.close()


@pytest.mark.parametrize(
    ("age", "warning"),
    [
        (7_200, "its effect may have happened 2 h ago or earlier, and will happen again if it did, unless the other side knows "
                "the idempotency key"),
        (172_800, "its effect may have happened 2 d ago or earlier, and will happen again if it did: the other side may have "
                  "forgotten the idempotency key since (many keep it for 24 h)"),
    ],
)  # fmt: skip
def test_release_says_how_long_ago_it_may_have_happened(
    age: int, warning: str, doubt: str, shop: Any, dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Then the step may run again, and the journal names the person and the note."""
    asyncio.run(_aged(dsn, age))
    assert main(["release", doubt, "order-1", "ChargeResult", "--token", "1", "--note", "asked them"]) == 0

    out = capsys.readouterr().out.splitlines()
    shop.broken = False
    made = together(lambda d: d.run("order-1", shop.ChargeResult), shop)
    journal = asyncio.run(_journal(dsn))
    assert out[2] == warning
    assert out[3].startswith("after:  ChargeResult: ready, token 2, ")
    assert (made.charge_id, shop.calls.count("charge")) == ("ch-1", 2)
    assert journal["event"] == "released"
    assert "asked them" in journal["detail"]
    assert "@" in journal["owner"]


async def _journal(dsn: str) -> Any:
    connection = await asyncpg.connect(dsn)
    row = await connection.fetchrow("SELECT * FROM docket.journal ORDER BY at DESC LIMIT 1")
    await connection.close()
    return row


def test_invalidate_takes_back_what_was_made_from_it(doubt: str, shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The reservation and the receipt; the charge that went into the receipt stays."""
    main(["settle", doubt, "order-1", "charge", "--token", "1", "--value", '{"charge_id": "ch-9"}'])
    together(lambda d: d.run("order-1", shop.Receipt), shop)
    capsys.readouterr()
    code = main(["invalidate", doubt, "order-1", "Stock"])

    out = capsys.readouterr().out.splitlines()
    assert code == 0
    assert out[0].startswith("before: Stock: certified, token 1, ")
    assert out[1] == f"taken back: {shop.__name__}.Stock, {shop.__name__}.Receipt"
    assert out[2].startswith("after:  Stock: superseded, token 2, ")
    assert together(lambda d: d.run("order-1", shop.Stock), shop) == shop.Stock("p3")
    assert shop.calls.count("charge") == 1


def test_invalidate_of_an_effect_needs_force(doubt: str, shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Since it would happen again; and of nothing there is nothing to take back."""
    main(["settle", doubt, "order-1", "charge", "--token", "1", "--value", '{"charge_id": "ch-9"}'])

    assert main(["invalidate", doubt, "order-1", "Receipt"]) == 1
    assert "nothing is certified there" in capsys.readouterr().err
    assert main(["invalidate", doubt, "order-1", "ChargeResult"]) == 1
    assert "take effect once more" in capsys.readouterr().err
    assert main(["invalidate", doubt, "order-1", "ChargeResult", "--force"]) == 0
    assert "after:  ChargeResult: superseded, token 3" in capsys.readouterr().out


def test_purge_deletes_the_values_of_finished_runs(shop: Any, dsn: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Batch after batch, and says how many."""
    shop.broken = False

    async def runs(d: Any) -> None:
        for number in range(3):
            await d.run(f"order-{number}", shop.Receipt, shop.Request(number))

    together(runs, shop)
    asyncio.run(_aged(dsn, 172_800))
    together(lambda d: d.run("order-new", shop.Receipt, shop.Request(1)), shop)

    assert main(["purge", f"{shop.__name__}:d", "--older-than", "1d", "--batch", "2"]) == 0
    *batches, last = capsys.readouterr().out.splitlines()
    assert len(batches) > 1
    assert batches[-1] == "purged so far: 3"
    assert last == "runs purged: 3; no other is over and older"
    assert together(lambda d: d.fetch("order-1", shop.ChargeResult), shop) is None
    assert together(lambda d: d.fetch("order-new", shop.ChargeResult), shop) is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["settle", "{}:d", "order-1", "Nothing", "--value", "1"], "nothing gives 'Nothing'"),
        (["release", "{}:bare", "order-1", "ChargeResult"], "nothing gives 'ChargeResult'"),
        (["purge", "{}:bare", "--older-than", "1d"], "NoneType purges nothing; use docket.postgres.PostgresCache"),
        (["invalidate", "{}:d", " ", "Stock"], "the run id ' '"),
        (["release", "{}:d", "order-9", "ChargeResult", "--token", "1"], "nothing is recorded"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], said: str, shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, without a traceback."""
    assert main([argument.format(shop.__name__) for argument in arguments]) == 1

    assert said in capsys.readouterr().err


def test_an_age_without_a_unit_is_refused(shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """90 what? Nothing is deleted on a guess."""
    with pytest.raises(SystemExit) as ended:
        main(["purge", f"{shop.__name__}:d", "--older-than", "90"])

    assert ended.value.code == 2
    assert "'90' is no age; write a number and s, min, h, d or w, such as 90d" in capsys.readouterr().err


def test_a_step_that_is_alive_is_not_decided_about(doubt: str, shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is what is certified: no token is asked for where there is nothing to decide."""

    async def claim(d: Any) -> None:
        await d.cache.claim(Claim("order-2", "orders.ChargeResult", "at_most_once", uuid.uuid4(), "web-1", 60.0))

    together(claim, shop)
    assert main(["release", doubt, "order-2", "ChargeResult"]) == 2
    assert "it is being worked on, held for" in capsys.readouterr().err
    assert main(["settle", doubt, "order-1", "Stock", "--value", '{"parcel": "p9"}']) == 2
    assert "it is certified, and not in doubt; there is nothing to decide" in capsys.readouterr().err
    assert main(["settle", doubt, "order-1", "ChargeResult", "--value", "charge.json", "--token", "1"]) == 1
    assert "there is no file charge.json; nothing was changed" in capsys.readouterr().err


AWAY = "postgresql://nobody@127.0.0.1:9/none"

COMMANDS = [
    ["explain", "{}", "order-1", "Receipt"],
    ["settle", "{}", "order-1", "ChargeResult", "--token", "1", "--value", "{{}}"],
    ["release", "{}", "order-1", "ChargeResult"],
    ["invalidate", "{}", "order-1", "Stock"],
    ["purge", "{}", "--older-than", "1d"],
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: arguments[0])
def test_a_database_that_is_away_is_told_with_what_mends_it(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In two lines, whatever the command: no traceback, and the address that was tried."""
    (tmp_path / "away.py").write_text(SHOP.format(dsn=AWAY))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "away", raising=False)

    assert main([one.format("away:d") for one in arguments]) == 1
    error = capsys.readouterr().err.splitlines()
    assert error[0].startswith("docket: ")
    assert error[1] == (
        f"  the database at {AWAY} cannot be used; start it, or mend the DSN given to PostgresCache (nothing has run)"
    )


@pytest.mark.parametrize("batch", ["0", "-1"])
def test_a_batch_of_nothing_is_refused(batch: str, shop: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Rather than saying that there is nothing to purge."""
    assert main(["purge", f"{shop.__name__}:d", "--older-than", "1d", "--batch", batch]) == 1
    assert capsys.readouterr() == ("", f"docket: a batch of {batch} runs purges nothing; use 1 or more\n")


async def test_a_purge_without_tables_says_what_to_apply(new_database: NewDatabase) -> None:
    """As a run does."""
    cache = PostgresCache(await new_database(tables=False))
    with pytest.raises(SchemaMissing, match="python -m docket schema apply"):
        await cache.purge(1.0)
    await cache.close()
