"""What the page about versions says is what is declared, and what CI runs."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "versioning.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ROWS = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]*) \|", PAGE, re.MULTILINE))


def listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def lowest(requirements: list[str]) -> dict[str, str]:
    return dict(x.split(">=") for x in requirements if ">=" in x)


def test_the_version_is_named():
    assert f"This is version {PROJECT['version']}:" in PAGE


def test_the_lowest_releases_are_those_that_are_declared_and_tested():
    declared = lowest(PROJECT["dependencies"])
    assert declared == {name: ROWS[name] for name in ("anyio", "typing-extensions")}
    assert PROJECT["requires-python"] == f">={ROWS['Python']}"
    tested = (ROOT / "tests" / "lower-bounds.txt").read_text(encoding="utf-8")
    for name, release in declared.items():
        assert f"\n{name}=={release}.0\n" in tested
    assert not any("<" in x for x in PROJECT["dependencies"])
    trio = lowest(PROJECT["optional-dependencies"]["test"])["trio"]
    assert f"the tests need {trio} |" in PAGE


def test_the_pythons_are_those_of_the_classifiers_and_of_ci():
    declared = [x.rpartition(" ")[2] for x in PROJECT["classifiers"] if ":: 3." in x]
    assert f"CI runs {listed(declared)};" in PAGE
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert f"python: {str(declared).replace(chr(39), chr(34))}" in workflow
    assert "schedule:" in workflow
