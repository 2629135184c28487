"""The documentation is true: its Python runs, its links lead somewhere, no name is missing."""

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pages
import pytest
from real import parts
from support.saved_files import save, saved_files

import keepalive

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
    if "_build" not in path.parts
)
SECONDS = 30
"""How long the blocks of one page may take together."""

FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>`{3,}|~{3,})(?P<info>[^\n`]*)$")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
NEEDS = re.compile(r"^<!-- needs: ([^>]+) -->$", re.MULTILINE)
REFERENCE = re.compile(r"^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
SHELL = {"sh", "bash", "shell", "console"}

RUNNER = """
import ast, asyncio, inspect, json, sys, types
blocks = json.load(sys.stdin)
module = sys.modules["page"] = types.ModuleType("page")
for line, text in blocks:
    code = compile("\\n" * (line - 1) + text, sys.argv[1], "exec",
                   flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(code, module.__dict__)
    if inspect.iscoroutine(result):
        asyncio.run(result)
"""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(text: str) -> Iterator[tuple[int, str, str]]:
    """Return the line, the language and the text of each fenced block of a page."""
    fence, start, lines = None, 0, []
    for number, line in enumerate(text.splitlines(), 1):
        found = FENCE.match(line)
        if fence is None:
            if found:
                fence, start, lines = found, number + 1, []
        elif found and found["ticks"].startswith(fence["ticks"]) and not found["info"].strip():
            indent = len(fence["indent"])
            yield start, fence["info"].strip(), "".join(x[indent:] + "\n" for x in lines)
            fence = None
        else:
            lines.append(line)
    assert fence is None, f"the block of line {start} has no end"


def python_blocks(text: str) -> list[tuple[int, str]]:
    return [(line, code) for line, info, code in blocks(text) if info == "python"]


def needs(text: str) -> list[str]:
    """Return what the Python of a page needs, beside what all tests do, as the page says."""
    return [name for found in NEEDS.findall(text) for name in re.split(r",\s*", found)]


def marked(path: Path):
    """Return a page as a parameter; one that needs other projects' parts has their mark."""
    marks = [pytest.mark.parts] if needs(path.read_text(encoding="utf-8")) else []
    return pytest.param(path, id=name_of(path), marks=marks)


def hidden_python(text: str) -> Iterator[str]:
    """Name blocks that are Python, but are not run because they are marked otherwise."""
    for line, info, code in blocks(text):
        if info == "python" or info in SHELL or info.startswith("{literalinclude} examples/"):
            continue  # the tests of the examples run what is included
        if "py" in info.lower():
            yield f"line {line}: {info}"
        elif not info:
            try:
                tree = ast.parse(code)
            except SyntaxError:
                continue
            if any(
                isinstance(x, ast.Import | ast.ImportFrom | ast.Call) for x in ast.walk(tree)
            ):
                yield f"line {line}: Python with no mark"


def run_page(name: str, text: str) -> subprocess.CompletedProcess[str]:
    """Run the Python of a page, its blocks one after another, in a process of its own.

    The files that the page has its reader save can be imported.
    """
    with tempfile.TemporaryDirectory() as folder:
        save(saved_files(text), Path(folder))
        path = os.pathsep.join([folder, os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            [sys.executable, "-c", RUNNER, name],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": path},
            input=json.dumps(python_blocks(text)),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )


def links(text: str) -> Iterator[str]:
    """Return the targets of a page's links; what stands in code is none."""
    kept, inside = [], None
    for line in text.splitlines():
        found = FENCE.match(line)
        if found and inside is None:
            inside = found["ticks"]
        elif found and inside is not None and found["ticks"].startswith(inside):
            inside = None
        elif inside is None:
            kept.append(re.sub(r"`[^`]*`", "", line))
    prose = "\n".join(kept)
    yield from LINK.findall(prose)
    yield from REFERENCE.findall(prose)


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub names them."""
    code = {line + at for line, _, body in blocks(text) for at in range(body.count("\n"))}
    found = set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
    for number, line in enumerate(text.splitlines(), 1):
        if number not in code and (heading := re.match(r"#+ +(.*?)#* *$", line)):
            title = re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading[1]))
            found.add(title.strip().lower().replace(" ", "-"))
    return found


def link_complaints(page: Path, text: str) -> Iterator[str]:
    """Complain of relative links that lead nowhere."""
    for link in links(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", link):
            continue
        target, _, anchor = link.partition("#")
        path = page.parent / target if target else page
        if target and (target.startswith("/") or not path.exists()):
            yield f"{page.name}: {link} is not there"
        elif anchor and path.suffix == ".md":
            there = text if path == page else path.read_text()
            if anchor not in anchors(there):
                yield f"{page.name}: {link} names no heading"


def missing_names(text: str) -> list[str]:
    return [name for name in keepalive.__all__ if not re.search(rf"\b{name}\b", text)]


@pytest.mark.slow
def test_the_pages_show_the_results_that_were_measured():
    """No number is written by hand; whoever measures anew runs `pages.py`."""
    texts = [path.read_text(encoding="utf-8") for path in pages.PAGES]
    found = json.loads(pages.RESULTS.read_text(encoding="utf-8"))
    assert found["effort"]["name"] == "full"
    assert [pages.published(text, found) for text in texts] == texts
    names = [re.findall(r"<!-- results: (\w+) -->", text) for text in texts]
    assert sorted(name for each in names for name in each) == sorted(pages.TABLES)


@pytest.mark.parametrize("name", ["cost", "constants"])
def test_a_table_depends_on_what_was_measured(name):
    found = json.loads(pages.RESULTS.read_text(encoding="utf-8"))
    before = pages.TABLES[name](found)
    found["cost"]["asyncio"]["event"]["asgi-keepalive"] += 1
    found["kernel"]["kib_per_socket_median"] += 1
    assert pages.TABLES[name](found) != before


def test_command(readme: str) -> str:
    """Return the one shell block of the README that runs the tests."""
    (command,) = [
        code.strip() for _, info, code in blocks(readme) if info in SHELL and "pytest" in code
    ]
    return command


test_command.__test__ = False


@pytest.mark.slow
@pytest.mark.parametrize("page", [*map(marked, PAGES)])
def test_the_python_of_a_page_runs(page):
    text = page.read_text()
    parts.need(*needs(text))
    assert list(hidden_python(text)) == []
    done = run_page(name_of(page), text)
    assert done.returncode == 0, done.stderr


def test_the_readme_has_python():
    assert python_blocks((ROOT / "README.md").read_text())


def test_the_reference_names_everything_public():
    assert missing_names((ROOT / "docs" / "reference.md").read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(page):
    assert list(link_complaints(page, page.read_text())) == []


def test_every_example_is_linked():
    programs = {path.name for path in (ROOT / "docs" / "examples").glob("*.py")}
    page = (ROOT / "docs" / "examples.md").read_text()
    assert {link.partition("/")[2] for link in links(page) if link.endswith(".py")} == programs


def test_the_workflow_runs_the_command_of_the_readme():
    command = test_command((ROOT / "README.md").read_text())
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert f"run: {command}\n" in workflow


PAGE = """# A page

```python
from keepalive import Ping
```

~~~python
ping = Ping.comment()
~~~

- An item:
  ```python
  if ping:
      assert (await answer()) == 42
  ```

````md
```python
not run
```
````
"""


def test_blocks_of_a_page_run_one_after_another():
    answer = "\n```python\nasync def answer():\n    return 42\n```\n"
    assert [line for line, _ in python_blocks(PAGE)] == [4, 8, 13]
    assert (
        run_page("x.md", PAGE.replace("\n~~~python", answer + "\n~~~python")).returncode == 0
    )
    done = run_page("x.md", PAGE)
    assert done.returncode != 0
    assert 'File "x.md", line 14' in done.stderr
    assert "NameError" in done.stderr


@pytest.mark.parametrize(
    "info", ["py", "python3", "Python", "pycon", "{code-block} python", "python no-run", ""]
)
def test_python_that_is_not_run_is_seen(info):
    text = f"```{info}\nimport keepalive\n```\n"
    assert python_blocks(text) == []
    assert list(hidden_python(text))
    assert list(hidden_python("```sh\npython x.py\n```\n```\n: ping\n```\n")) == []


def test_what_a_page_needs_is_read_from_it():
    text = "# A page\n\n<!-- needs: litestar, program:nginx -->\n\n`<!-- needs: x -->`\n"
    assert needs(text) == ["litestar", "program:nginx"]
    assert needs("# A page\n") == []


def test_a_file_that_a_page_saves_can_be_imported():
    text = "Save this as `a.py`. It has `b`:\n\n```python\nb = 1\n```\n"
    more = "Add this to the end of `a.py`:\n\n```python\nc = 2\n```\n"
    use = "```python\nimport a\nassert (a.b, a.c) == (1, 2)\n```\n"
    assert saved_files(text + more) == {"a.py": "b = 1\n\n\nc = 2\n"}
    assert run_page("x.md", text + more + use).returncode == 0
    assert run_page("x.md", text + use).returncode != 0


def test_a_block_with_no_end_is_seen():
    with pytest.raises(AssertionError, match="no end"):
        list(blocks("```python\nx = 1\n"))


def test_a_link_that_leads_nowhere_is_seen(tmp_path):
    page = tmp_path / "a.md"
    (tmp_path / "b.md").write_text("# One `two`: three\n\n(mark)=\n```sh\n# no\n```\n")
    good = "[b](b.md) [c](b.md#one-two-three) [d](b.md#mark) [e](#top) [f](https://x.y/z) "
    good += "`[g](no.md)`\n```\n[h](no.md)\n```\n# Top\n[i]: b.md\n"
    assert list(link_complaints(page, good)) == []
    for bad in [
        "[b](c.md)",
        "![b](c.png)",
        "[b](b.md#no)",
        "[b](#no)",
        "[b](/b.md)",
        "[b]: c",
    ]:
        assert len(list(link_complaints(page, bad))) == 1


def test_a_missing_name_is_seen():
    names = " ".join(keepalive.__all__)
    assert missing_names(names) == []
    assert missing_names(names.replace("PingSent", "PingSents")) == ["PingSent"]


def test_the_test_command_is_read_from_its_block():
    text = "```sh\nls\n```\n```bash\na && python -m pytest\n```\n"
    assert test_command(text) == "a && python -m pytest"
    for bad in ["", text + text]:
        with pytest.raises(ValueError, match="values to unpack"):
            test_command(bad)
