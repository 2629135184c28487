"""Browsers that nothing drives: each opens a page, which reports what it got of a stream.

Each reader returns what a page's code gets: with `EventSource`, with listeners for `ping` too,
and with `fetch()` the data of each line.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx
from real.browsers.chromium import ARGUMENTS
from real.clients.reports import PREFIX

PATIENCE: Final = 35.0


def find(name: str) -> str:
    """Return a program's path."""
    return shutil.which(name) or name


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
def started(command: list[str], folder: str, **options: Any) -> Iterator[None]:
    """Run a program with its children, and leave none of them behind."""
    own = {"HOME": folder, "XDG_RUNTIME_DIR": folder, "LANG": "en_US.UTF-8"}
    own |= options.pop("env", {})
    process = subprocess.Popen(
        command,
        env=os.environ | own,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        **options,
    )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def display(folder: str) -> Iterator[dict[str, str]]:
    """Run a display without a screen; return the variable that names it."""
    reading, writing = os.pipe()
    command = [find("Xvfb"), "-displayfd", str(writing), "-nolisten", "tcp"]
    with os.fdopen(reading) as told, started(command, folder, pass_fds=[writing]):
        os.close(writing)
        yield {"DISPLAY": f":{told.readline().strip()}"}


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
