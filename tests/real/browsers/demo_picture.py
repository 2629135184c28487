"""Regenerates the screenshot of the demo: `python tests/real/browsers/demo_picture.py`."""

import sys
import tempfile
from pathlib import Path

TESTS = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS))

from real.browsers.chromium import Chromium  # noqa: E402
from real.browsers.demo_page import PICTURE, draw, serve  # noqa: E402


def main() -> None:
    """Run the demo and take a screenshot of its page."""
    browser = Chromium()
    try:
        with tempfile.TemporaryDirectory() as folder, serve(Path(folder), limit=3) as server:
            draw(browser, server, PICTURE)
    finally:
        browser.stop()


if __name__ == "__main__":
    main()
