"""The tables of other projects' parts: pages show what is published, of locked releases."""

import json
import re

import pytest
import trio
from real import compatibility, parts
from real.compatibility import BOOKS, Book

CONSTRAINTS = parts.NPM.parent / "constraints.txt"
PAGES = {path: path.read_text(encoding="utf-8") for path in compatibility.pages()}


def locked():
    """Return the releases of each part that are locked: `openai` is in both locks."""
    lines = re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS.read_text(), re.MULTILINE)
    lock = json.loads((parts.NPM / "package-lock.json").read_text())
    packages = [
        (path.removeprefix("node_modules/"), package["version"])
        for path, package in lock["packages"].items()
        if path.startswith("node_modules/")
    ]
    found = {}
    for name, number in [*packages, *((_normal(name), number) for name, number in lines)]:
        found.setdefault(name, set()).add(number)
    return found


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_a_page_shows_what_is_published(page):
    assert compatibility.filled(PAGES[page]) == PAGES[page]


@pytest.mark.parametrize("book", BOOKS.values(), ids=lambda book: book.name)
def test_every_table_stands_in_a_page_once(book):
    shown = [
        table
        for text in PAGES.values()
        for name, table in compatibility.named(text)
        if name == book.name
    ]
    assert sorted(shown) == sorted([*book.read()["tables"], compatibility.MEASURED])


@pytest.mark.parametrize("book", BOOKS.values(), ids=lambda book: book.name)
def test_what_is_published_was_found_with_the_locked_releases(book):
    """Whoever raises a version publishes anew."""
    lock = locked()
    rows = [row for table in book.read()["tables"].values() for row in table.values()]
    used = {part for row in rows for part in row["parts"].items()}
    other = {
        (name, number): known
        for name, number in used
        if number not in (known := lock.get(_normal(name), lock.get(name, {number})))
    }
    assert other == {}


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.setattr(compatibility, "DOCS", tmp_path)
    monkeypatch.delenv(compatibility.PUBLISH, raising=False)
    return Book("clients", "client")


def test_a_cell_is_held_against_what_is_found(book, monkeypatch):
    monkeypatch.setenv(compatibility.PUBLISH, "1")
    book.hold("some", "one", "first case", "invisible", "pytest", "trio")
    book.hold("some", "one", "second case", "harmful", "pytest")
    book.hold("some", "two", "second case", "visible", "nothing-of-that-name")
    monkeypatch.delenv(compatibility.PUBLISH)
    book.hold("some", "one", "first case", "invisible", "pytest")
    for place in [("other", "one", "first case"), ("some", "two", "first case")]:
        with pytest.raises(AssertionError, match="says None"):
            book.hold(*place, "invisible")
    with pytest.raises(AssertionError, match=r"says 'harmful' of 'one'.*found was 'visible'"):
        book.hold("some", "one", "second case", "visible")
    assert book.cells("some") == {
        ("one", "first case"),
        ("one", "second case"),
        ("two", "second case"),
    }
    releases = f"pytest {pytest.__version__}, trio {trio.__version__}"
    assert book.table("some") == (
        "| client | version | first case | second case |\n"
        "| --- | --- | --- | --- |\n"
        f"| one | {releases} | invisible | harmful |\n"
        "| two |  |  | visible |\n"
    )


def test_a_cell_of_another_release_is_skipped_but_where_all_must_be_here(book, monkeypatch):
    monkeypatch.setenv(compatibility.PUBLISH, "1")
    book.hold("some", "one", "case", "invisible", "pytest")
    monkeypatch.delenv(compatibility.PUBLISH)
    monkeypatch.delenv("KEEPALIVE_ALL_PARTS", raising=False)
    monkeypatch.setattr(parts, "versions", lambda *_: {"pytest": "0.1"})
    with pytest.raises(pytest.skip.Exception, match=r"pytest.*here is .*0\.1"):
        book.hold("some", "one", "case", "harmful", "pytest")
    monkeypatch.setenv("KEEPALIVE_ALL_PARTS", "1")
    with pytest.raises(AssertionError, match="found was 'harmful'"):
        book.hold("some", "one", "case", "harmful", "pytest")
    book.hold("some", "one", "case", "invisible", "pytest")


def test_a_page_is_filled_with_a_table_and_keeps_the_rest(book, monkeypatch):
    monkeypatch.setenv(compatibility.PUBLISH, "1")
    book.hold("some", "one", "case", "invisible")
    monkeypatch.setitem(BOOKS, "clients", book)
    page = "# A\n\n<!-- table: clients some -->\nold\n<!-- end of table -->\n\nB\n"
    full = compatibility.filled(page)
    assert full.startswith("# A\n\n<!-- table: clients some -->\n\n| client |")
    assert full.endswith("| one |  | invisible |\n\n<!-- end of table -->\n\nB\n")
    assert compatibility.filled(full) == full
    assert compatibility.named(full) == [("clients", "some")]


def test_what_is_missing_is_skipped_and_where_all_must_be_here_it_fails(monkeypatch):
    monkeypatch.delenv("KEEPALIVE_ALL_PARTS", raising=False)
    parts.need("pytest", "program:curl" if parts.version("program:curl") else "pytest")
    missing = ("no-such-distribution", "npm:no-such-package")
    with pytest.raises(pytest.skip.Exception, match="installed: no-such-distribution, npm:no"):
        parts.need("pytest", *missing)
    monkeypatch.setenv("KEEPALIVE_ALL_PARTS", "1")
    with pytest.raises(pytest.fail.Exception, match="not installed"):
        parts.need(*missing)
