"""Publishes what other projects' parts do: `python tests/real/publish.py [PYTEST ARGUMENTS]`.

Runs the tests that need those parts, takes what they find as the new cells, and puts the
tables into the pages. With `--tables` it does the last alone.
"""

import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TESTS))

from real import books  # noqa: E402


def main() -> int:
    """Run the tests, and rewrite the books and the pages."""
    arguments = sys.argv[1:]
    status = 0
    if "--tables" not in arguments:
        os.environ[books.PUBLISH] = "1"
        status = pytest.main(["-m", "parts", *(arguments or [str(TESTS / "real")])])
    for page in books.pages():
        text = page.read_text(encoding="utf-8")
        page.write_text(books.filled(text), encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
