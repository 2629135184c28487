"""What is published: the archives' contents and metadata, and a stream from the wheel."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from email import message_from_string
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {f"keepalive/{path.name}" for path in (ROOT / "keepalive").glob("*.py")}
DEPENDENCIES = {"anyio", "typing-extensions"}

STREAM = """
import sys
sys.path.insert(0, sys.argv[1])

import anyio
import keepalive
assert keepalive.__file__.startswith(sys.argv[1]), keepalive.__file__

sent = []

async def app(scope, receive, send):
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    with anyio.fail_after(10):
        while len(sent) < 3:  # the response start and two pings
            await anyio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"data: x\\n\\n"})

async def main():
    async def send(message):
        sent.append(message.get("body"))
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    await keepalive.KeepaliveMiddleware(app, interval=0.05)(scope, anyio.sleep_forever, send)
    assert sent[1:] == [b"event: ping\\ndata: \\n\\n"] * 2 + [b"data: x\\n\\n"], sent

anyio.run(main)
print("streamed")
"""


def run(*command: object, cwd: Path) -> str:
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory) -> tuple[Path, Path]:
    """The sdist, and the wheel built from it."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    run(*command, cwd=folder)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return sdist, wheel


def wheel_complaints(names: Iterable[str]) -> Iterator[str]:
    """Complain of what a wheel holds, and of what it lacks."""
    wanted = {*MODULES, "keepalive/py.typed"}
    names = set(names)
    yield from sorted(f"{name} is missing" for name in wanted - names)
    if not any(re.fullmatch(r"[^/]+\.dist-info/licenses/LICENSE", name) for name in names):
        yield "LICENSE is missing"
    for name in sorted(names - wanted):
        if not re.match(r"asgi_keepalive-[^/]+\.dist-info/", name):
            yield f"{name} has no business there"


def sdist_complaints(names: Iterable[str]) -> Iterator[str]:
    """Complain of what a source archive lacks; and of what does not belong to the source."""
    names = {name.partition("/")[2] for name in names}
    wanted = {*MODULES, "keepalive/py.typed", "LICENSE", "README.md", "pyproject.toml"}
    wanted |= {"PKG-INFO", "CHANGELOG.md", "tests/conftest.py"}
    yield from sorted(f"{name} is missing" for name in wanted - names)
    for name in sorted(names):
        top = name.partition("/")[0]
        if top not in {"keepalive", "tests", "docs", ".gitignore"} and name not in wanted:
            yield f"{name} has no business there"
        if "__pycache__" in name or "/_build/" in name:
            yield f"{name} has no business there"


def metadata_complaints(text: str) -> Iterator[str]:
    """Complain of a wheel's METADATA."""
    data = message_from_string(text)
    for field, wanted in {
        "Name": "asgi-keepalive",
        "Version": PROJECT["version"],
        "Requires-Python": ">=3.11",
        "License-Expression": "MIT",
        "Description-Content-Type": "text/markdown",
    }.items():
        if data[field] != wanted:
            yield f"{field} is {data[field]}"
    needed = [text for text in data.get_all("Requires-Dist", []) if "extra ==" not in text]
    names = {re.split(r"[^\w.-]", text)[0] for text in needed}
    if names != DEPENDENCIES or len(needed) != len(DEPENDENCIES):
        yield f"it needs {needed}"
    if any("<" in text or "==" in text for text in needed):
        yield f"a dependency has an upper limit: {needed}"


def lower_bound_complaints(pins: str, dependencies: list[str]) -> Iterator[str]:
    """Complain where the pins of the lowest versions are not the declared lower bounds."""
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)$", pins, re.MULTILINE))
    for text in dependencies:
        name, _, bound = text.partition(">=")
        if not re.fullmatch(re.escape(bound) + r"(\.0)*", pinned.get(name, "")):
            yield f"{text} is tested with {pinned.get(name)}"


def read(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        (found,) = [x for x in archive.namelist() if x.endswith(f".dist-info/{name}")]
        return archive.read(found).decode()


def test_the_wheel_holds_the_package_and_nothing_else(archives):
    with zipfile.ZipFile(archives[1]) as archive:
        assert list(wheel_complaints(archive.namelist())) == []


def test_the_source_archive_holds_the_source(archives):
    with tarfile.open(archives[0]) as archive:
        assert list(sdist_complaints(archive.getnames())) == []


def test_the_metadata_is_right(archives):
    metadata = read(archives[1], "METADATA")
    assert list(metadata_complaints(metadata)) == []
    assert "\n# asgi-keepalive\n" in metadata  # the README
    assert "Root-Is-Purelib: true" in read(archives[1], "WHEEL")
    assert "Tag: py3-none-any" in read(archives[1], "WHEEL")


def test_a_stream_from_the_installed_wheel(archives, tmp_path):
    target = tmp_path / "site"
    options = ["--no-index", "--no-deps", "--disable-pip-version-check", "--target", target]
    run(sys.executable, "-m", "pip", "install", *options, archives[1], cwd=tmp_path)
    out = run(sys.executable, "-I", "-c", STREAM, target, cwd=tmp_path)
    assert out == "streamed\n"
    usage = run(sys.executable, "-m", "keepalive", "--help", cwd=target)
    assert usage.startswith("usage: python -m keepalive")
    with pytest.raises(AssertionError, match="keepalive"):  # it would see another copy
        run(sys.executable, "-I", "-c", STREAM, tmp_path, cwd=tmp_path)


def test_the_lower_bounds_are_those_that_are_tested():
    pins = (ROOT / "tests" / "lower-bounds.txt").read_text()
    assert list(lower_bound_complaints(pins, PROJECT["dependencies"])) == []
    assert {x.partition(">=")[0] for x in PROJECT["dependencies"]} == DEPENDENCIES


GOOD_WHEEL = [
    *MODULES,
    "keepalive/py.typed",
    "asgi_keepalive-1.dist-info/METADATA",
    "asgi_keepalive-1.dist-info/licenses/LICENSE",
]
GOOD_METADATA = f"""Name: asgi-keepalive
Version: {PROJECT["version"]}
Requires-Python: >=3.11
License-Expression: MIT
Description-Content-Type: text/markdown
Requires-Dist: anyio>=4.0
Requires-Dist: typing-extensions>=4.6
Requires-Dist: trio; extra == 'test'
"""


def test_a_wrong_wheel_is_seen():
    assert list(wheel_complaints(GOOD_WHEEL)) == []
    assert list(wheel_complaints([*GOOD_WHEEL, "tests/test_x.py"]))
    assert list(wheel_complaints([*GOOD_WHEEL, "keepalive/notes.txt"]))
    for name in ["keepalive/py.typed", "keepalive/_ping.py", GOOD_WHEEL[-1]]:
        assert list(wheel_complaints(x for x in GOOD_WHEEL if x != name))


def test_a_wrong_source_archive_is_seen():
    good = ["a-1/LICENSE", "a-1/README.md", "a-1/pyproject.toml", "a-1/PKG-INFO"]
    good += ["a-1/CHANGELOG.md", "a-1/tests/conftest.py", "a-1/keepalive/py.typed"]
    good += [f"a-1/{name}" for name in MODULES]
    assert list(sdist_complaints(good)) == []
    assert list(sdist_complaints(good[1:]))
    for name in [".venv/x.py", "notes.txt", "tests/__pycache__/x.pyc", "docs/_build/x.html"]:
        assert list(sdist_complaints([*good, f"a-1/{name}"]))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Name: asgi-keepalive", "Name: keepalive"),
        (">=3.11", ">=3.10"),
        (PROJECT["version"], "0.0.0"),
        ("MIT", "BSD"),
        ("Requires-Dist: anyio>=4.0\n", ""),
        ("anyio>=4.0", "anyio>=4.0,<5"),
        ("trio; extra == 'test'", "trio"),
    ],
)
def test_wrong_metadata_is_seen(old, new):
    assert list(metadata_complaints(GOOD_METADATA)) == []
    assert old in GOOD_METADATA
    assert list(metadata_complaints(GOOD_METADATA.replace(old, new)))


def test_wrong_lower_bounds_are_seen():
    pins = "anyio==4.0.0\ntyping-extensions==4.6.0\n"
    assert list(lower_bound_complaints(pins, ["anyio>=4.0", "typing-extensions>=4.6"])) == []
    assert list(lower_bound_complaints(pins, ["anyio>=4.1"]))
    assert list(lower_bound_complaints(pins, ["anyio>=4"])) == []
    assert list(lower_bound_complaints(pins, ["trio>=4"]))
    assert list(lower_bound_complaints(pins, ["anyio"]))
