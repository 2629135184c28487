"""The pages whose statements are tested say by which tests; those tests exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    "troubleshooting",
    "why",
    "other-formats",
    "how-to/mcp-restarts",
    "how-to/deployment-notes",
]
TESTED = re.compile(r"<!-- tested by: (.*?) -->", re.DOTALL)


def named_tests(text: str) -> Iterator[tuple[str, str]]:
    """Yield the file and the function of each test that a text names."""
    for found in TESTED.findall(text):
        for name in re.split(r",\s+", found):
            yield tuple(name.split("::"))


def sections(text: str) -> list[str]:
    """Return the sections of a page, with their headings."""
    return re.split(r"^(?=## )", text, flags=re.MULTILINE)[1:]


def complaints(text: str, root: Path = ROOT) -> Iterator[str]:
    for section in sections(text):
        if not TESTED.search(section):
            yield f"{section.partition(chr(10))[0]} names no test"
    for file, function in named_tests(text):
        path = root / file
        if not path.exists() or f"def {function}(" not in path.read_text(encoding="utf-8"):
            yield f"{file}::{function} does not exist"


@pytest.mark.parametrize("page", PAGES)
def test_every_section_of_a_page_names_tests_that_exist(page):
    assert list(complaints((ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8"))) == []


def test_the_tests_that_the_front_page_names_exist():
    text = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert len(list(named_tests(text))) == 9
    assert list(complaints(text.replace("\n## ", "\n### "))) == []


def test_the_readme_and_the_front_page_say_the_same():
    """From the first words to what pings cannot do."""
    front = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    front = TESTED.sub("", front).partition("## Where to go next")[0]
    readme = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Options")[0]
    assert readme.replace("(docs/demo.png)", "(demo.png)").split() == front.split()


def test_a_missing_test_is_seen(tmp_path):
    (tmp_path / "x.py").write_text("def test_a(b): ...")
    good = "# A page\n\n## One\n\n<!-- tested by: x.py::test_a -->\n"
    assert list(complaints(good, tmp_path)) == []
    assert list(complaints(good.replace("x.py", "y.py"), tmp_path)) == [
        "y.py::test_a does not exist"
    ]
    assert list(complaints(good.replace("test_a", "test_a,\nx.py::test_b"), tmp_path)) == [
        "x.py::test_b does not exist"
    ]
    assert list(complaints(good + "## Two\n", tmp_path)) == ["## Two names no test"]


def test_troubleshooting_has_ten_symptoms():
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert len(sections(text)) == 10
    for section in sections(text):
        assert section.count("**Cause.**") == section.count("**Check.**") == 1
        assert ("**Fix.**" in section) != ("| what to do |" in section)
