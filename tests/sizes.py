"""How big things may get here, checked: ``python -m tests.sizes``.

Docket must stay readable in one sitting. What grows past a limit is split, not excused: no exceptions.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

FILE_LINES = 400
FUNCTION_LINES = 50
CLASS_METHODS = 20
# A class with the methods it inherits from classes of ours: what its reader has to know of.
INHERITED_METHODS = 40
PROTOCOL_MEMBERS = 6
CORE_LINES = 1450

FOLDERS = ("docket", "docket_pgqueuer", "docket_procrastinate", "examples", "tests", "benchmarks")
# The part without a loop, a clock or a database: what a run is, decided before anything runs.
CORE = Path("docket/_core")
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
    missing = [Violation(Path(one), 1, "It is not there, so nothing in it is measured.") for one in _missing(root)]
    sources = {path.relative_to(root): path.read_text(encoding="utf-8") for path in _files(root)}
    families = Families({path: ast.parse(source) for path, source in sources.items()})
    found = [violation for path, source in sources.items() for violation in _in_file(path, source)]
    return sorted([*missing, *found, *families.violations(), *_in_core(sources)])


def _missing(root: Path) -> Iterator[str]:
    for folder in (*FOLDERS, str(CORE)):
        if not any((root / folder).rglob("*.py")):
            yield folder


def _files(root: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        for path in (root / folder).rglob("*.py"):
            if not path.name.endswith(GENERATED):
                yield path


def _in_file(relative: Path, source: str) -> Iterator[Violation]:
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
    methods = _methods(node)
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


def _methods(node: ast.ClassDef) -> set[str]:
    # Overloads of one method, and getter and setter, share a name and count once.
    return {child.name for child in node.body if isinstance(child, _Function)}


def _name(base: ast.expr) -> str:
    if isinstance(base, ast.Subscript):
        return _name(base.value)
    if isinstance(base, ast.Attribute):
        return base.attr
    return base.id if isinstance(base, ast.Name) else ""


class Families:
    """The classes that stand at the top of modules, with those of ours that they inherit from.

    Args:
        trees: By path, relative to the root, what is in each file.
    """

    def __init__(self, trees: Mapping[Path, ast.Module]) -> None:
        self._classes: dict[str, dict[str, ast.ClassDef]] = {}
        self._imports: dict[str, dict[str, tuple[str, str]]] = {}
        self._paths: dict[str, Path] = {}
        for path, tree in trees.items():
            module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            self._paths[module] = path
            self._classes[module] = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
            self._imports[module] = {
                alias.asname or alias.name: (node.module or "", alias.name)
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                for alias in node.names
            }

    def violations(self) -> Iterator[Violation]:
        """Find the classes that are too large together with what they inherit, and bases of ours that are nowhere."""
        for module, classes in self._classes.items():
            for node in classes.values():
                yield from self._in_family(module, node)

    def _in_family(self, module: str, node: ast.ClassDef) -> Iterator[Violation]:
        waiting = [(module, node.name)]
        family: list[tuple[str, ast.ClassDef]] = []
        while waiting:
            home, name = waiting.pop()
            found = self._found(home, name)
            if found is None:
                text = f"{node.name} inherits from {name}, which is not found in {home}, so it is not measured."
                yield Violation(self._paths[module], node.lineno, text)
                continue
            home, at = found
            if found not in family:
                family.append(found)
                waiting += self._bases(home, at)
        methods = set[str]().union(*(_methods(at) for _, at in family))
        if len(family) > 1 and len(methods) > INHERITED_METHODS:
            text = f"{' + '.join(at.name for _, at in family)} has {len(methods)} methods; {INHERITED_METHODS} are allowed."
            yield Violation(self._paths[module], node.lineno, text)

    def _bases(self, module: str, node: ast.ClassDef) -> Iterator[tuple[str, str]]:
        """Give module and name of each base that is ours; what comes from a library is not."""
        for base in node.bases:
            written = ast.unparse(base).partition("[")[0]
            home, _, name = written.rpartition(".")
            if not home and (name in self._classes[module] or self._origin(module, name) in FOLDERS):
                yield module, name
            elif home.partition(".")[0] in FOLDERS:
                yield home, name

    def _origin(self, module: str, name: str) -> str:
        return self._imports[module].get(name, ("", ""))[0].partition(".")[0]

    def _found(self, module: str, name: str) -> tuple[str, ast.ClassDef] | None:
        """Follow a name through the modules that pass it on, to the class it stands for."""
        while (node := self._classes.get(module, {}).get(name)) is None:
            passed_on = self._imports.get(module, {}).get(name)
            if passed_on is None or passed_on == (module, name):
                return None
            module, name = passed_on
        return module, node


def _in_core(sources: Mapping[Path, str]) -> Iterator[Violation]:
    sizes = {path.name: code_lines(source) for path, source in sorted(sources.items()) if path.parent == CORE}
    total = sum(sizes.values())
    if total > CORE_LINES:
        parts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        text = f"The core has {total} lines of code ({parts}); {CORE_LINES} are allowed."
        yield Violation(CORE, 1, text)


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
