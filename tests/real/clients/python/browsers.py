"""Browsers that nothing drives: each opens a page, which reports what it got of a stream.

Each reader returns what a page's code gets: with `EventSource`, with listeners for `ping` too,
and with `fetch()` the data of each line.
"""

import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx
from real.browsers.chromium import ARGUMENTS
from real.browsers.programs import display, find, started
from real.clients.reports import PREFIX

PATIENCE: Final = 35.0


def chromium(folder: str, url: str) -> list[str]:
    """Return what opens a page in Chromium."""
    profile = f"--user-data-dir={folder}"
    return [find("chromium"), "--headless=new", *ARGUMENTS, profile, url]


def firefox(folder: str, url: str) -> list[str]:
    """Return what opens a page in Firefox."""
    return [find("firefox-esr"), "--headless", "--no-remote", "--profile", folder, url]


def webkit(folder: str, url: str) -> list[str]:
    """Return what opens a page in WebKit's own browser."""
    (browser,) = Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser")
    return [str(browser), "--private", url]


@contextmanager
def no_display(folder: str) -> Iterator[dict[str, str]]:
    """Need no display."""
    yield {}


def reader(
    command: Callable[[str, str], list[str]], shown: Callable[[str], Any] = no_display
) -> Callable[[str], Iterator[Any]]:
    """Return a reader that opens the page in a browser, and waits for its report."""

    def read(url: str) -> Iterator[Any]:
        address = urlsplit(url)
        base = f"{address.scheme}://{address.netloc}{PREFIX}"
        report = f"{base}report/{uuid.uuid4().hex}"
        query = urlencode({"stream": address.path or "/", "report": report})
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            shown(folder) as env,
            started(command(folder, f"{base}page?{query}"), folder, env=env),
        ):
            yield from httpx.get(report, timeout=PATIENCE).json()

    return read


READERS: Final = {
    "chromium": reader(chromium),
    "firefox": reader(firefox),
    "webkit": reader(webkit, display),
}
