"""The limits hold here, and the check that says so finds what is planted."""

import textwrap
from pathlib import Path

import pytest

from tests.sizes import check, code_lines, main

ROOT = Path(__file__).parents[1]


def planted(root: Path, path: str, text: str) -> list[str]:
    """Give what the check says of a tree below *root* with *text* in the file *path*."""
    file = root / path
    file.parent.mkdir(parents=True)
    file.write_text(textwrap.dedent(text))
    return [str(violation) for violation in check(root)]


def methods(count: int) -> str:
    """Give the lines of a class with *count* methods."""
    return "".join(f"    def method_{number}(self): ...\n" for number in range(count))


def test_this_repository_is_within_the_limits() -> None:
    """Nothing of ours is over a limit; the message names each thing that is."""
    assert [str(violation) for violation in check(ROOT)] == []


def test_the_command_prints_and_exits_by_what_it_finds(capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is what a build fails by."""
    code = main()

    assert (code, capsys.readouterr().out) == (0, "")


@pytest.mark.parametrize(("lines", "expected"), [(400, 0), (401, 1)])
def test_a_file_over_400_lines_is_found(lines: int, expected: int, tmp_path: Path) -> None:
    """Every line counts, blank ones too: it is about finding one's way."""
    found = planted(tmp_path, "docket/big.py", "\n" * lines)

    assert found == ["docket/big.py:401: The file has 401 lines; 400 are allowed."][:expected]


@pytest.mark.parametrize(("lines", "expected"), [(50, 0), (51, 1)])
def test_a_function_over_50_lines_is_found(lines: int, expected: int, tmp_path: Path) -> None:
    """From def to the end, docstring included; a method is a function."""
    body = "        pass\n" * (lines - 1)
    found = planted(tmp_path, "examples/shop/long.py", f"class A:\n    async def long(self):\n{body}")

    assert found == ["examples/shop/long.py:2: long() has 51 lines; 50 are allowed."][:expected]


@pytest.mark.parametrize(("count", "expected"), [(20, 0), (21, 1)])
def test_a_class_over_20_methods_is_found(count: int, expected: int, tmp_path: Path) -> None:
    """Methods are counted by name, so overloads and setters are not counted twice."""
    found = planted(tmp_path, "benchmarks/wide.py", f"class Wide:\n{methods(count)}{methods(count)}")

    assert found == ["benchmarks/wide.py:1: Wide has 21 methods; 20 are allowed."][:expected]


@pytest.mark.parametrize("base", ["Protocol", "typing.Protocol", "Protocol[T]"])
@pytest.mark.parametrize(("count", "expected"), [(5, 0), (6, 1)])
def test_a_protocol_over_6_members_is_found(base: str, count: int, expected: int, tmp_path: Path) -> None:
    """Attributes are members as well: whoever implements it must have them."""
    found = planted(tmp_path, "tests/wide.py", f"class Wide({base}):\n    name: str\n{methods(count)}")

    assert found == ["tests/wide.py:1: The Protocol Wide asks for 7 members; 6 are allowed."][:expected]


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("from docket.errors import RunError", "docket.errors"),
        ("import docket_procrastinate", "docket_procrastinate"),
        ("from . import errors", "."),
        ("from .errors import RunError", ".errors"),
    ],
)
def test_an_import_of_ours_inside_a_function_is_found(line: str, name: str, tmp_path: Path) -> None:
    """Layers are checked on what stands at the top; a third party's import may wait until it is needed."""
    found = planted(
        tmp_path,
        "docket/hidden.py",
        f"""
        import docket.cache

        def outer():
            import tenacity
            async def inner():
                if True:
                    {line}
        """,
    )

    assert found == [
        f"docket/hidden.py:8: inner() imports {name}; imports of our own stand at the top of the file."
    ]


def test_the_core_is_counted_as_a_whole(tmp_path: Path) -> None:
    """It is the sum that must be readable in one sitting."""
    core = tmp_path / "docket" / "_core"
    core.mkdir(parents=True)
    for name, lines in (("types", 300), ("plan", 301), ("lints", 399)):
        (core / f"{name}.py").write_text("x = 1\n" * lines)
    below = check(tmp_path)
    (core / "step.py").write_text("x = 1\n" * 100)

    assert below == []
    assert [str(violation) for violation in check(tmp_path)] == [
        "docket/_core:1: The core has 701 lines of code (types.py 300, step.py 100, plan.py 301); 700 are allowed."
    ]


def test_generated_code_is_not_measured(tmp_path: Path) -> None:
    """Nobody reads it."""
    assert planted(tmp_path, "tests/messages_pb2.py", "\n" * 1000) == []


def test_lines_of_code_are_those_that_do_something() -> None:
    """Docstrings, comments and blank lines are free; a text that is used counts with all its lines."""
    source = '''
        """A docstring
        of two lines."""

        # A comment.
        x = 1  # counts once

        def f():
            """Another."""
            return """
            text
            """
    '''

    assert code_lines(textwrap.dedent(source)) == 5
