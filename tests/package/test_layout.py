"""The layout of the tests: modules have unit tests, private names and helpers one place."""

import ast
import re
from pathlib import Path

import pytest
from support.sources import SOURCES

TESTS = Path(__file__).resolve().parent.parent
FILES = {
    path.relative_to(TESTS): path.read_text(encoding="utf-8")
    for path in TESTS.rglob("*.py")
    if "node_modules" not in path.parts
}
FOLDERS = ("unit", "behaviour", "model", "real", "support")
INTERNALS = Path("support", "internals.py")


def private_imports(text: str) -> list[str]:
    """Return the private modules of the package that a file imports from."""
    return re.findall(r"^ *from (keepalive\._\w+) import ", text, re.MULTILINE)


def is_method(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the first parameter of a function is `self`."""
    return [arg.arg for arg in node.args.args[:1]] == ["self"]


def undocumented(text: str) -> list[str]:
    """Return the public functions with neither a docstring nor types for all they take."""
    return [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith(("_", "test_"))
        and not ast.get_docstring(node)
        and not (
            node.returns and all(arg.annotation or arg.arg == "self" for arg in node.args.args)
        )
    ]


def nested_functions(text: str) -> set[str]:
    """Return the names of functions that are defined in others."""
    functions = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return {
        inner.name
        for outer in functions
        for inner in ast.walk(outer)
        if inner is not outer and isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_a_unit_test_is_named_after_its_module():
    modules = {name.strip("_") for name in SOURCES}
    tested = {path.stem.removeprefix("test_") for path in FILES if path.parts[0] == "unit"}
    assert tested - modules == set()


@pytest.mark.parametrize("folder", FOLDERS)
def test_private_names_are_imported_in_one_place(folder):
    found = [
        f"{path}: {name}"
        for path, text in FILES.items()
        if path.parts[0] == folder and path != INTERNALS
        for name in private_imports(text)
        if not (folder == "unit" and path.stem == f"test_{name.split('.')[1].strip('_')}")
    ]
    assert found == []


def test_every_helper_is_documented():
    found = [
        f"{path}: {name}"
        for path, text in FILES.items()
        if path.parts[0] == "support"
        for name in undocumented(text)
        if name not in nested_functions(text)
    ]
    assert found == []


def test_the_checks_see_what_they_look_for():
    assert private_imports("from keepalive._ping import LF") == ["keepalive._ping"]
    assert private_imports("def f():\n    from keepalive._ping import LF") != []
    assert private_imports("from keepalive import Ping") == []
    assert undocumented("def f(x): ...\ndef g(x: int) -> int: ...\ndef _h(x): ...") == ["f"]
    assert undocumented('def f(x):\n    """Do it."""') == []
    assert nested_functions("def f():\n    def g(): ...") == {"g"}
