"""What the tests find of other projects' parts, as tables in the documentation.

A book is a file of `docs/compatibility/`, with tables; a table has a row for each part tried,
a row has cells, and each cell belongs to one test. A test holds what it has found against its
cell. To publish what is found instead: `python tests/real/publish.py`.

A page marks the place of a table by the names of its book and its own, and what a book was
measured with by `measured`:

    <!-- table: clients openai -->
    ...
    <!-- end of table -->
"""

import datetime as dt
import json
import os
import platform
import re
from pathlib import Path
from typing import Any, Final

import pytest
from real import parts

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
PUBLISH: Final = "KEEPALIVE_PUBLISH"
"""Set, the tests publish what they find; `publish.py` does that."""

MEASURED: Final = "measured"

_BLOCK: Final = re.compile(
    r"(?P<begin><!-- table: (?P<book>\w+) (?P<table>[\w-]+) -->\n).*?"
    r"(?P<end><!-- end of table -->)",
    re.DOTALL,
)

Row = dict[str, dict[str, str]]


class Book:
    """The tables of one subject.

    Args:
        name: Of its file.
        subject: What stands in the first column of its tables.
    """

    def __init__(self, name: str, subject: str) -> None:
        self.name = name
        self.subject = subject
        self.path = DOCS / "compatibility" / f"{name}.json"

    def read(self) -> dict[str, Any]:
        """Return all that is published."""
        if not self.path.exists():
            return {MEASURED: {}, "tables": {}}
        return json.loads(self.path.read_text(encoding="utf-8"))

    def cells(self, table: str) -> set[tuple[str, str]]:
        """Return the row and the column of each cell of a table."""
        rows: dict[str, Row] = self.read()["tables"].get(table, {})
        return {(name, column) for name, row in rows.items() for column in row["cells"]}

    def hold(self, table: str, row: str, column: str, found: str, *used: str) -> None:
        """Hold what a test has found against its cell; or publish it.

        What is published of another release is skipped on a developer's machine: call this
        when all that must hold has been asserted.

        Args:
            table: The table's name.
            row: What was tried; not its version, which comes from `used`.
            column: The case it was tried in.
            found: What came of it, in a word or two.
            used: The parts tried, as in `parts`; their versions are published with the row.
        """
        known = parts.versions(*used)
        if os.environ.get(PUBLISH):
            self._publish(table, row, column, found, known)
            return
        line: Row = self.read()["tables"].get(table, {}).get(row, {"parts": {}, "cells": {}})
        others = {name: line["parts"].get(name, number) for name, number in known.items()}
        if others != known and not parts.all_must_be_here():
            pytest.skip(f"published is what was found of {others}, here is {known}")
        published = line["cells"]
        assert published.get(column) == found, (
            f"docs/compatibility/{self.name}.json says {published.get(column)!r} of {row!r} "
            f"in the case {column!r}, found was {found!r}, with {known}"
        )

    def _publish(
        self, table: str, row: str, column: str, found: str, known: dict[str, str]
    ) -> None:
        book = self.read()
        book[MEASURED] = {
            "date": dt.datetime.now(dt.UTC).date().isoformat(),
            "system": platform.system(),
            "python": platform.python_version(),
            "node": parts.version("program:node") or "not installed",
            "asgi-keepalive": parts.version("asgi-keepalive") or "not installed",
        }
        line = book["tables"].setdefault(table, {}).setdefault(row, {"parts": {}, "cells": {}})
        line["parts"] |= known
        line["cells"][column] = found
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(
            json.dumps(book, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )

    def table(self, name: str) -> str:
        """Return a table as Markdown."""
        book = self.read()
        if name == MEASURED:
            return _table(
                ["component", "version or value"], [*map(list, book[MEASURED].items())]
            )
        rows: dict[str, Row] = book["tables"][name]
        columns = list(dict.fromkeys(key for row in rows.values() for key in row["cells"]))
        lines = [
            [title, _releases(row["parts"]), *(row["cells"].get(key, "") for key in columns)]
            for title, row in rows.items()
        ]
        return _table([self.subject, "version", *columns], lines)


def _releases(known: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in known.items())


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


BOOKS: Final = {
    book.name: book
    for book in (
        Book("frameworks", "framework"),
        Book("servers", "server"),
        Book("proxies", "proxy"),
        Book("clients", "client"),
    )
}


def filled(page: str) -> str:
    """Return a page with the tables as they are published; all else as it was."""
    return _BLOCK.sub(
        lambda block: (
            f"{block['begin']}\n{BOOKS[block['book']].table(block['table'])}\n{block['end']}"
        ),
        page,
    )


def named(page: str) -> list[tuple[str, str]]:
    """Return the books and the names of a page's tables."""
    return [(block["book"], block["table"]) for block in _BLOCK.finditer(page)]


def pages() -> list[Path]:
    """Return the pages that tables may stand in."""
    return sorted(DOCS.glob("*.md"))
