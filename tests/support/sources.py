"""The package's source code, as the tests of it read it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import keepalive

PACKAGE = Path(keepalive.__file__).parent

SOURCES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path.read_text(encoding="utf-8")
    for path in sorted(PACKAGE.rglob("*.py"))
}
"""The text of each module, by its name within the package."""


def of_each_module(check) -> list[str]:
    """Return a check's complaints about each module of the package."""
    return [f"{name}: {it}" for name, text in SOURCES.items() for it in check(text)]


def is_type_checking(node: ast.AST) -> bool:
    """Whether a statement is `if TYPE_CHECKING`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in {
        "TYPE_CHECKING",
        "typing.TYPE_CHECKING",
    }


def statements(
    body: list[ast.stmt], *, for_types: bool = False
) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield a body's own statements, and whether they are under `if TYPE_CHECKING`."""
    for node in body:
        if is_type_checking(node):
            yield from statements(node.body, for_types=True)
        else:
            yield node, for_types
