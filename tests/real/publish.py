"""Publishes what other projects' parts do: `python tests/real/publish.py [PYTEST ARGUMENTS]`.

Runs the tests that need those parts, takes what they find as the new cells, and puts the
tables into the pages. With `--tables` it does the last alone.
"""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

from real import compatibility  # noqa: E402


def run_tests(arguments: list[str]) -> int:
    """Run them in a process of its own, which publishes what it finds."""
    command = [sys.executable, "-m", "pytest", "-m", "parts", *arguments]
    environ = os.environ | {compatibility.PUBLISH: "1"}
    return subprocess.run(command, env=environ, check=False).returncode


def main() -> int:
    """Run the tests, and rewrite the books and the pages."""
    arguments = sys.argv[1:]
    status = 0
    if "--tables" not in arguments:
        status = run_tests(arguments or [str(TESTS / "real")])
    for page in compatibility.pages():
        text = page.read_text(encoding="utf-8")
        page.write_text(compatibility.filled(text), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
