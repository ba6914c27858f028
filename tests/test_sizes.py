"""The limits hold here, and the check that says so finds what is planted."""

import textwrap
from pathlib import Path

import pytest

from tests.sizes import CORE, CORE_LINES, FOLDERS, INHERITED_METHODS, check, code_lines, main

ROOT = Path(__file__).parents[1]


def planted(root: Path, path: str, text: str) -> list[str]:
    """Give what the check says of a tree below *root* with *text* in the file *path*."""
    for folder in (*FOLDERS, str(CORE)):
        (root / folder).mkdir(parents=True)
        (root / folder / "__init__.py").touch()
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
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


@pytest.mark.parametrize("base", ["Base", "Base[int]", "docket.base.Base"])
@pytest.mark.parametrize(("more", "expected"), [(0, 0), (1, 1)])
def test_methods_are_counted_through_bases_of_ours(base: str, more: int, expected: int, tmp_path: Path) -> None:
    """What is inherited is there to be known as well; one that is replaced counts once."""
    (tmp_path / "docket").mkdir()
    (tmp_path / "docket" / "base.py").write_text(f"class Base(Exception):\n{methods(INHERITED_METHODS - 1)}")
    (tmp_path / "docket" / "door.py").write_text("from docket.base import Base as Base\n")
    own = "".join(f"    def own_{number}(self): ...\n" for number in range(1 + more))
    text = f"from docket.door import Base\n\nclass Both({base}):\n    def method_0(self): ...\n{own}"
    (tmp_path / "docket" / "both.py").write_text(text)
    found = [line for line in map(str, check(tmp_path)) if "Both" in line]

    assert found == [f"docket/both.py:3: Both + Base has {INHERITED_METHODS + 1} methods; {INHERITED_METHODS} are allowed."][
        :expected
    ]


def test_a_base_of_ours_that_is_nowhere_is_found(tmp_path: Path) -> None:
    """What was moved away must not go unmeasured."""
    found = planted(tmp_path, "docket/lost.py", "from docket.gone import Base\nclass Lost(Base): ...\n")

    assert found == [
        "docket/lost.py:2: Lost inherits from Base, which is not found in docket.lost, so it is not measured."
    ]


@pytest.mark.parametrize("folder", ["examples", "docket/_core"])
def test_a_folder_that_is_nowhere_is_found(folder: str, tmp_path: Path) -> None:
    """What was renamed must not go unmeasured."""
    planted(tmp_path, "docket/fine.py", "")
    (tmp_path / folder / "__init__.py").unlink()

    assert [str(violation) for violation in check(tmp_path)] == [
        f"{folder}:1: It is not there, so nothing in it is measured."
    ]


def test_the_core_is_counted_as_a_whole(tmp_path: Path) -> None:
    """It is the sum that must be readable in one sitting, whatever the files are called."""
    below = planted(tmp_path, "docket/_core/types.py", "x = 1\n" * 300)
    for number in range(3):
        (tmp_path / CORE / f"part_{number}.py").write_text("x = 1\n" * 383)
    at_limit = check(tmp_path)
    (tmp_path / CORE / "part_3.py").write_text("x = 1\n" * 2)
    (found,) = map(str, check(tmp_path))

    assert (below, at_limit, CORE_LINES) == ([], [], 1450)
    assert found == (
        "docket/_core:1: The core has 1451 lines of code (__init__.py 0, part_0.py 383, part_1.py 383, part_2.py 383, "
        "part_3.py 2, types.py 300); 1450 are allowed."
    )


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
