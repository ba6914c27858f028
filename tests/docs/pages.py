"""Read a page of the documentation, and do what it says.

A page is a program. Its Python blocks run in order in one module, ``await`` included; its SQL runs on the page's database, its
``python -m docket`` lines beside the files it shows. A Python block whose first line is ``# name.py`` is that file, and that
module. Set-up that readers need not see stands in an HTML comment that begins with ``<!-- python``. A block of ``text`` right
after one that ran is what that printed, with ``...`` for what varies.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import os
import re
import shlex
import sys
import textwrap
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import asyncpg

from docket import Docket

COMMAND = "python -m docket "
"""What a line of a shell block begins with if it is executed: everything else needs what a test does not have."""

RUN = ("python", "sh", "sql")
"""The languages of blocks that are executed."""

_OPENS = re.compile(r"(?P<indent> *)(?P<fence>```+)(?P<language>\w*) *$|<!-- (?P<hidden>python)$")
_FILE = re.compile(r"# (\w+)\.py$")


@dataclass(frozen=True)
class Block:
    """A block of a page.

    Attributes:
        language: What it is written in; ``"python"`` for hidden set-up too.
        line: The line of its first line, counted from 1.
        text: What it holds.
        follows: Whether only blank lines separate it from the block before.
    """

    language: str
    line: int
    text: str
    follows: bool


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks of a page, in order."""
    lines, number, follows = text.split("\n"), 0, False
    while number < len(lines):
        opened = _OPENS.match(lines[number])
        number += 1
        if opened is None:
            follows = follows and not lines[number - 1].strip()
            continue
        closes, first = "-->" if opened["hidden"] else f"{opened['indent']}{opened['fence']}", number
        while lines[number] != closes:
            number += 1
        yield Block(
            opened["hidden"] or opened["language"], first + 1, textwrap.dedent("\n".join(lines[first:number])), follows
        )
        number, follows = number + 1, True


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of the page in a file."""
    return list(blocks(page.read_text()))


@asynccontextmanager
async def as_module(name: str) -> AsyncGenerator[ModuleType]:
    """Make a module for a page, known by its name while it runs; at the end close every `Docket` in it."""
    module = sys.modules[name] = ModuleType(name)
    try:
        yield module
    finally:
        for value in list(vars(module).values()):
            if isinstance(value, Docket):
                await value.close()
        sys.modules.pop(name, None)  # a page may write a module twice


async def execute(page: Path, dsn: str, folder: Path) -> int:
    """Do what *page* says; return how many blocks did something.

    Args:
        page: The page.
        dsn: An empty database with all tables: ``DSN`` in the page, ``DATABASE_URL`` in its commands.
        folder: An empty directory, where the files it shows go and its commands run.

    Raises:
        Exception: What a block raised. Its traceback names the page and the line.
        AssertionError: A block printed something else than the page says, or a command failed.
    """
    done, printed = 0, None
    async with AsyncExitStack() as modules:
        module = await modules.enter_async_context(as_module(f"docs_{page.stem}"))
        vars(module).update(DSN=dsn)
        for block in blocks_of(page):
            where = f"{page}:{block.line}"
            if block.language == "python" and (named := _FILE.match(block.text.split("\n", 1)[0])):
                (folder / f"{named[1]}.py").write_text(block.text)
                printed = await _python(block, page, await modules.enter_async_context(as_module(named[1])))
            elif block.language == "python":
                printed = await _python(block, page, module)
            elif block.language == "sh":
                printed = await _shell(block, where, dsn, folder)
            elif block.language == "sql":
                printed = await _sql(block, where, dsn)
            elif block.language == "text" and block.follows and printed is not None:
                shown = doctest.OutputChecker().check_output(block.text, printed.strip(), doctest.ELLIPSIS)
                assert shown, f"{where}: this was printed:\n{printed}"
            done += block.language in RUN
    return done


async def _python(block: Block, page: Path, module: ModuleType) -> str:
    # As many lines before it as on the page, so that a traceback shows the page.
    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        result: Any = eval(code, vars(module))
        if inspect.iscoroutine(result):
            await result
    return out.getvalue()


async def _sql(block: Block, where: str, dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        rows = [row for query in re.split(r";\s*\n", block.text) if query.strip() for row in await connection.fetch(query)]
    except asyncpg.PostgresError as error:
        raise AssertionError(f"{where}: {error}") from error
    finally:
        await connection.close()
    return "\n".join(" | ".join(str(value) for value in row) for row in rows)


async def _shell(block: Block, where: str, dsn: str, folder: Path) -> str | None:
    printed = [
        await _command(line.removeprefix("$ "), where, dsn, folder)
        for line in block.text.split("\n")
        if line.removeprefix("$ ").startswith(COMMAND)
    ]
    return "".join(printed) if printed else None


async def _command(line: str, where: str, dsn: str, folder: Path) -> str:
    _, *arguments = shlex.split(line, comments=True)
    environment = {**os.environ, "DATABASE_URL": dsn, "PYTHONPATH": os.pathsep.join(sys.path)}
    pipe, same = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=folder, env=environment, stdout=pipe, stderr=same
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, f"{where}: {line!r} ended with {process.returncode}:\n{out.decode()}"
    return out.decode()
