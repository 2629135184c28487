"""The project's files: the version is the same everywhere, and the README is fit for PyPI."""

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, TOOLS = PYPROJECT["project"], PYPROJECT["tool"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
WORKFLOWS = ROOT / ".github" / "workflows"


def jobs(workflow):
    """Return the text of each job of a workflow."""
    text = (WORKFLOWS / workflow).read_text(encoding="utf-8").partition("\njobs:\n")[2]
    _, *parts = re.split(r"^  (\w+):$", text, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.fixture
def for_pypi():
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hook", ROOT / "docs" / "pypi_readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.for_pypi


def test_the_changelog_has_a_section_for_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    assert PROJECT["version"] in [section.partition(" ")[0] for section in sections]


def test_the_readme_on_pypi_has_no_relative_links(for_pypi):
    relative = re.compile(r"\]\((?!https?:|#)")
    assert relative.search(README)
    assert not relative.search(for_pypi(README, ""))
    assert "![" not in for_pypi(README, "")
    assert "tutorial" in for_pypi(README, "")


def test_with_an_address_the_links_are_absolute(for_pypi):
    text = "![picture](docs/x.png)\n\n[a](docs/a.md#b), [`c`](c.md), [d](https://d/), [e](#e)"
    kept = "[d](https://d/), [e](#e)"
    assert for_pypi(text, "") == f"a, `c`, {kept}"
    assert for_pypi(text, "https://x/") == (
        f"[a](https://x/docs/a.md#b), [`c`](https://x/c.md), {kept}"
    )


def test_code_in_the_readme_is_left_as_it_is(for_pypi):
    blocks = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
    assert blocks.findall(for_pypi(README, "")) == blocks.findall(README)


def test_people_find_it_by_the_words_that_they_search_for():
    words = {"sse", "heartbeat", "streaming", "llm", "openai", "fastapi", "nginx", "timeout"}
    assert words <= set(PROJECT["keywords"])
    assert "heartbeat" in PROJECT["description"]


def test_the_workflow_of_a_release_needs_no_secret():
    text = (WORKFLOWS / "release.yml").read_text(encoding="utf-8")
    assert "secrets." not in text
    assert "id-token: write # for trusted publishing" in text
    assert "types: [published]" in text


@pytest.mark.parametrize("workflow", ["ci.yml", "release.yml"])
def test_every_job_of_a_workflow_has_a_time_limit(workflow):
    found = jobs(workflow)
    assert found
    missing = [name for name, text in found.items() if "\n    timeout-minutes: " not in text]
    assert missing == []


def test_the_jobs_of_the_tests_keep_their_downloads():
    """Those of a release do not: what is published must not depend on a cache."""
    found = jobs("ci.yml")
    assert "cache: pip\n          cache-dependency-path: pyproject.toml\n" in found["test"]
    everything = found["everything"]
    (paths,) = re.findall(r"actions/cache@.*?path: \|\n(.*?)key: ", everything, re.DOTALL)
    for variable in ("PIP_CACHE_DIR", "npm_config_cache"):
        (folder,) = re.findall(rf"^      {variable}: (\S+)$", everything, re.MULTILINE)
        assert folder in paths.split()
    keys = re.findall(r"'([^']+)'", everything)
    assert keys
    assert all((ROOT / key).is_file() for key in keys)
    assert "cache" not in "".join(jobs("release.yml").values())


def test_what_mutation_testing_is_configured_with_exists():
    options = TOOLS["mutmut"]
    folders = [each for each in options["pytest_add_cli_args_test_selection"] if "/" in each]
    paths = [*options["source_paths"], *options["also_copy"], *folders]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    deselected = [
        each.removeprefix("--deselect=").split("::")
        for each in options["pytest_add_cli_args"]
        if each.startswith("--deselect=")
    ]
    assert deselected
    for path, name in deselected:
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")
