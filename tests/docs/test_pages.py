"""Every page of the documentation does what it says."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest

from docket.graph import StepOptions
from tests.database import NewDatabase
from tests.docs.pages import RUN, Block, blocks, blocks_of, execute

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

_LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
async def test_a_page_does_what_it_says(
    page: Path, new_database: NewDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its Python blocks run in order on a database of its own, and so do its commands."""
    dsn = await new_database()
    monkeypatch.setenv("DATABASE_URL", dsn)
    shown = [block for block in blocks_of(page) if block.language in RUN]

    assert await execute(page, dsn, tmp_path) == len(shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_links_to_what_is_there(page: Path) -> None:
    """Every relative link leads to a file or a directory."""
    missing = [link for link in _LINK.findall(page.read_text()) if not (page.parent / link).exists()]

    assert missing == []


def test_every_page_is_linked_from_the_index() -> None:
    """Nothing is hidden: what is in docs/ can be found from docs/index.md."""
    docs = ROOT / "docs"
    linked = {(docs / link).resolve() for link in _LINK.findall((docs / "index.md").read_text())}

    assert [page for page in sorted(docs.rglob("*.md")) if page.resolve() not in linked and page.name != "index.md"] == []


def test_every_option_of_a_step_has_its_line() -> None:
    """In bold, and nothing is there that is none."""
    named = re.findall(r"^\*\*`(\w+)=", (ROOT / "docs" / "step_options.md").read_text(), re.MULTILINE)

    assert sorted(named) == sorted(StepOptions.__annotations__)


def test_every_test_that_the_guarantees_name_exists() -> None:
    """A promise is worth its test."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "docs" / "guarantees.md").read_text())
    missing = [f"{file}::{name}" for file, name in named if f"def {name}(" not in _text(ROOT / file)]

    assert len(named) > 10
    assert missing == []


def test_the_table_of_situations_names_exactly_the_tests_there_are() -> None:
    """Every situation has its tests, every test its situation, and none is left out."""
    rows = re.findall(r"^\| R(\d+) \|.*\|(.*)\|$", (ROOT / "docs" / "guarantees.md").read_text(), re.MULTILINE)
    named = sorted((int(number), name) for number, tests in rows for name in re.findall(r"`(\w+)`", tests))
    files = (ROOT / "tests" / "certify" / "situations").glob("test_*.py")
    code = "".join(file.read_text() for file in files)
    there = sorted(re.findall(r"^(?:async )?def (test_\w+)\(", code, re.MULTILINE))

    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert [name for _, name in named] == there
    assert all(name.startswith(f"test_r{number:02}_") for number, name in named)


def _text(file: Path) -> str:
    return file.read_text() if file.exists() else ""


PAGE = """# A page

```python
# shop.py
from docket import Docket

d = Docket()
```

<!-- python
import asyncio
await asyncio.sleep(0)
from shop import d
d.hidden = DSN
-->

```python
print("two")
```

```text
two
```

Some text.

```text
not compared
```

```sh
python -m docket check shop:d
ls /nowhere
```
"""


def test_blocks_are_found_with_their_lines() -> None:
    """Fenced ones and hidden ones, and whether one follows another at once."""
    found = list(blocks(PAGE))

    assert [(block.language, block.line, block.follows) for block in found] == [
        ("python", 4, False), ("python", 11, True), ("python", 18, True), ("text", 22, True), ("text", 28, False),
        ("sh", 32, True),
    ]  # fmt: skip
    assert found[2] == Block("python", 18, 'print("two")', follows=True)


async def test_a_page_is_one_program(tmp_path: Path) -> None:
    """Blocks share a module, await at the top level, are files, and their commands run beside these."""
    page = tmp_path / "page.md"
    page.write_text(PAGE)

    assert await execute(page, "dsn", tmp_path) == 4


async def test_a_failing_block_is_reported_with_page_and_line(tmp_path: Path) -> None:
    """The traceback shows the page itself."""
    page = tmp_path / "page.md"
    page.write_text("text\n\n```python\nfine = 1\nraise ValueError(fine)\n```\n")

    with pytest.raises(ValueError, match="1") as failed:
        await execute(page, "dsn", tmp_path)

    last = traceback.extract_tb(failed.value.__traceback__)[-1]
    assert (last.filename, last.lineno, last.line) == (str(page), 5, "raise ValueError(fine)")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", r"page.md:6: this was printed:\n1"),
        ("```sh\npython -m docket check nowhere:d\n```\n", r"page.md:2: 'python -m docket check nowhere:d' ended with 1"),
    ],
)
async def test_what_a_page_says_wrongly_is_reported(text: str, said: str, tmp_path: Path) -> None:
    """Another output, or a command that fails."""
    page = tmp_path / "page.md"
    page.write_text(text)

    with pytest.raises(AssertionError, match=said):
        await execute(page, "dsn", tmp_path)


async def test_sql_is_run_and_prints_its_rows(dsn: str, tmp_path: Path) -> None:
    """A mistake in it is reported with its place."""
    page = tmp_path / "page.md"
    page.write_text("```sql\nSELECT 0 FROM docket.version WHERE version < 0;\nSELECT 1, 'a';\n```\n\n```text\n1 | a\n```\n")
    assert await execute(page, dsn, tmp_path) == 1

    page.write_text("```sql\nSELECT nothing FROM docket.result;\n```\n")
    with pytest.raises(AssertionError, match=r'page.md:2: column "nothing" does not exist'):
        await execute(page, dsn, tmp_path)
