"""How big things may get here, checked: ``python -m tests.sizes``.

Docket must stay readable in one sitting. What grows past a limit is split, not excused: no exceptions.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FILE_LINES = 400
FUNCTION_LINES = 50
CLASS_METHODS = 20
PROTOCOL_MEMBERS = 6
CORE_LINES = 700

FOLDERS = ("docket", "docket_pgqueuer", "docket_procrastinate", "examples", "tests", "benchmarks")
# The part without a loop, a clock or a database: what a run is, decided before anything runs.
CORE = ("types.py", "step.py", "record.py", "wiring.py", "plan.py")
GENERATED = "_pb2.py"

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Documented = ast.Module | ast.ClassDef | _Function
# Tokens that are no code: layout and comments.
_LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


class Violation(NamedTuple):
    """One thing that is too big, or in the wrong place.

    Attributes:
        path: The file, relative to the root.
        line: Where in it, counted from 1.
        text: A sentence that says what is wrong and by how much.
    """

    path: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.text}"


def check(root: Path) -> list[Violation]:
    """Measure every Python file of ours below *root*.

    Returns:
        What is over a limit, by path and line; empty if all is well.
    """
    found = [violation for path in _files(root) for violation in _in_file(root, path)]
    return sorted([*found, *_in_core(root)])


def _files(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        for path in (root / folder).rglob("*.py"):
            if not path.name.endswith(GENERATED):
                yield path


def _in_file(root: Path, path: Path) -> Iterator[Violation]:
    relative = path.relative_to(root)
    source = path.read_text(encoding="utf-8")
    lines = source.count("\n")
    if lines > FILE_LINES:
        yield Violation(relative, FILE_LINES + 1, f"The file has {lines} lines; {FILE_LINES} are allowed.")
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _Function):
            yield from _in_function(relative, node)
        elif isinstance(node, ast.ClassDef):
            yield from _in_class(relative, node)


def _in_function(path: Path, node: _Function) -> Iterator[Violation]:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > FUNCTION_LINES:
        yield Violation(path, node.lineno, f"{node.name}() has {lines} lines; {FUNCTION_LINES} are allowed.")
    for line, name in _imports(node):
        if name.startswith(".") or name.partition(".")[0] in FOLDERS:
            text = f"{node.name}() imports {name}; imports of our own stand at the top of the file."
            yield Violation(path, line, text)


def _imports(function: _Function) -> Iterator[tuple[int, str]]:
    """Give line and module of each import in the body, those of functions inside it left to them."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
        elif not isinstance(node, _Function):
            waiting.extend(ast.iter_child_nodes(node))


def _in_class(path: Path, node: ast.ClassDef) -> Iterator[Violation]:
    # Overloads of one method, and getter and setter, share a name and count once.
    methods = {child.name for child in node.body if isinstance(child, _Function)}
    if len(methods) > CLASS_METHODS:
        text = f"{node.name} has {len(methods)} methods; {CLASS_METHODS} are allowed."
        yield Violation(path, node.lineno, text)
    if any(_name(base) == "Protocol" for base in node.bases):
        members = methods | {
            child.target.id
            for child in node.body
            if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name)
        }
        if len(members) > PROTOCOL_MEMBERS:
            text = f"The Protocol {node.name} asks for {len(members)} members; {PROTOCOL_MEMBERS} are allowed."
            yield Violation(path, node.lineno, text)


def _name(base: ast.expr) -> str:
    if isinstance(base, ast.Subscript):
        return _name(base.value)
    if isinstance(base, ast.Attribute):
        return base.attr
    return base.id if isinstance(base, ast.Name) else ""


def _in_core(root: Path) -> Iterator[Violation]:
    files = [root / "docket" / "_core" / name for name in CORE if (root / "docket" / "_core" / name).exists()]
    sizes = {path.name: code_lines(path.read_text(encoding="utf-8")) for path in files}
    total = sum(sizes.values())
    if total > CORE_LINES:
        parts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        text = f"The core has {total} lines of code ({parts}); {CORE_LINES} are allowed."
        yield Violation(Path("docket/_core"), 1, text)


def code_lines(source: str) -> int:
    """Count the lines of *source* that hold code: no blank lines, comments or docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, _Documented) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            lines.difference_update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return len(lines)


def main() -> int:
    """Print each violation as ``file:line: sentence``.

    Returns:
        The exit code: 1 if there is any.
    """
    violations = check(Path(__file__).parents[1])
    for violation in violations:
        print(violation)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
