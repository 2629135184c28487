"""The demo of the documentation in a browser: what its page shows, and its picture."""

import re
import struct
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from real.browsers.chromium import Chromium
from real.browsers.tab import Browser, Tab
from real.processes import EXAMPLES, Process, running

LIMIT: Final = 2.0
"""The idle timeout of the tests' proxy; the shortest interval is a third of it."""

PICTURE: Final = EXAMPLES.parent / "demo.png"
WIDTH: Final = 1040
SCALE: Final = 2
"""Pixels of the picture for one of the page."""

LISTEN: Final = """() => {
  said = [];
  const live = document.querySelectorAll(
    '[role=status], [role=log], [role=alert], [aria-live], output');
  for (const one of live) new MutationObserver(() => said.push(one.outerHTML))
    .observe(one, { childList: true, characterData: true, subtree: true });
}"""
"""Remembers what a screen reader would read out by itself."""

RECORD: Final = """() => {
  stateHistory = { plain: [], kept: [] };
  for (const side of [plain, kept]) {
    const state = side.querySelector('.state');
    const record = () => stateHistory[side.id].push(state.textContent);
    new MutationObserver(record)
      .observe(state, { childList: true, characterData: true, subtree: true });
  }
}"""
"""Records every text that the state of a side shows, however short the time it is shown."""

FAINT: Final = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  const light = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((one) => one / 255)
      .map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const isClear = (colour) => colour === 'rgba(0, 0, 0, 0)';
  const back = (one) => {
    const colour = getComputedStyle(one).backgroundColor;
    return isClear(colour) ? back(one.parentElement) : colour;
  };
  return [...document.querySelectorAll('main *')]
    .filter((one) => [...one.childNodes].some((child) => child.data?.trim()))
    .filter((one) => one.ariaDisabled !== 'true' && one.localName !== 'noscript')
    .map((one) => [one.outerHTML, light(getComputedStyle(one).color), light(back(one))])
    .map(([html, a, b]) => [html, Math.max(a, b) / Math.min(a, b)])
    .filter(([, contrast]) => contrast < 4.5);
}"""
"""Returns the texts whose contrast is too low to be read well: WCAG 2.2, 1.4.3."""


def serve(folder: Path, limit: float = LIMIT) -> AbstractContextManager[Process]:
    """Run the example as its reader does: the port is the proxy's."""

    def command(port: int) -> list[str]:
        return ["env", f"DEMO_PORT={port}", sys.executable, str(EXAMPLES / "demo.py")]

    return running("the demo", command, folder, {"DEMO_LIMIT": str(limit)})


class Side:
    """One of the two streams, as the page shows it."""

    def __init__(self, tab: Tab, name: str) -> None:
        self._tab = tab
        self._name = name

    def find(self, selector: str, script: str) -> Any:
        """Return what a script makes of all elements of this side: of `found`."""
        return self._tab.evaluate(
            f"((found) => {script})([...{self._name}.querySelectorAll('{selector}')])"
        )

    def text(self, selector: str) -> str:
        return self.find(selector, "found[0].textContent")

    def texts(self, selector: str) -> list[str]:
        return self.find(selector, "found.map((one) => one.textContent)")

    def number(self, name: str) -> float:
        """Return a number that it shows: `pings`, `events`, `bytes`, `alive`."""
        return float(re.search(r"[\d.]+", self.text(f"dd.{name}"))[0])

    @property
    def state(self) -> str:
        return self.text(".state")

    @property
    def rows(self) -> list[list[str]]:
        """What has come: its kind, as a class and as a word, and its bytes."""
        return self.find(
            ".frames li",
            "found.map((one) => [one.className, one.querySelector('b').textContent,"
            " one.querySelector('code').textContent])",
        )

    def wait_until(self, state: str) -> None:
        """Wait for the state of a class."""
        self._tab.wait_for(
            f"{self._name}.querySelector('.state').classList.contains('{state}')",
            f"{self._name}: {state}",
        )

    def wait_to_say(self, words: str) -> None:
        self._tab.wait_for(
            f"{self._name}.querySelector('.state').textContent.includes('{words}')",
            f"{self._name}: {words}",
        )

    def wait_to_have_said(self, words: str) -> None:
        """Wait for a text that may be shown for less time than one look at the page takes."""
        self._tab.wait_for(
            f"stateHistory.{self._name}.some((text) => text.includes('{words}'))",
            f"{self._name}: {words}, in the past or now",
        )

    def wait_for_pings(self, least: int) -> None:
        self._tab.wait_for(
            f"Number({self._name}.querySelector('.pings').textContent) >= {least}",
            f"{least} pings",
        )

    def press(self, button: str) -> None:
        """Press a button, one too that can do nothing."""
        self.find(button, "void found[0].click()")


class Page:
    """The page of the demo, with its two sides."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab
        self.plain = Side(tab, "plain")
        self.kept = Side(tab, "kept")

    def reported(self) -> dict[str, str]:
        """Wait for the server's report of the end, and return it."""
        self.tab.wait_for("reports.children.length === 2", "the report of the end")
        first, last = self.kept.texts("#reports li")
        assert first.startswith("StreamStarted: media_type=text/event-stream, interval=")
        assert last.startswith("StreamEnded: ")
        return dict(re.findall(r"(\w+)=([^,]+)", last))

    def asked_for(self, path: str) -> int:
        """Count the requests for a path that the page has made."""
        return sum(path in url for url in self.urls)

    @property
    def urls(self) -> list[str]:
        """All that the page has asked for and has got, itself not counted."""
        return self.tab.evaluate(
            "performance.getEntriesByType('resource').map((one) => one.name)"
        )

    def choose(self, label: str) -> None:
        """Click on what a label belongs to."""
        self.tab.evaluate(
            "(text) => [...document.querySelectorAll('label')]"
            ".find((label) => label.textContent.includes(text)).click()",
            label,
        )

    def press_key(self, *keys: str) -> None:
        for key in keys:
            self.tab.press(key)

    @property
    def focused(self) -> str:
        """What has the focus."""
        return self.tab.evaluate(
            "((one) => one.ariaLabel || one.labels?.[0]?.textContent.trim()"
            " || one.textContent)(document.activeElement)"
        )


@contextmanager
def opened(browser: Browser, server: Process, **profile: Any) -> Iterator[Page]:
    """Open the page; both its streams are being read then."""
    with browser.tab(server.url("/"), **profile) as tab:
        tab.wait_for("kept.querySelector('.state')?.classList.contains('open')", "the page")
        tab.evaluate(RECORD)
        yield Page(tab)


class Stage:
    """What a scenario is played with: a browser, a server, a folder."""

    def __init__(self, browser: Browser, server: Process, folder: Path) -> None:
        self.browser, self.server, self.folder = browser, server, folder

    def page(self, **profile: Any) -> AbstractContextManager[Page]:
        return opened(self.browser, self.server, **profile)

    @contextmanager
    def alone(self, name: str) -> Iterator["Stage"]:
        """Serve on a server that can be shut down without affecting the other scenarios."""
        with serve(self.folder / name) as server:
            yield Stage(self.browser, server, self.folder)


def draw(browser: Chromium, server: Process, file: Path) -> None:
    """Take a screenshot when both streams have ended."""
    profile = {"viewport": {"width": WIDTH, "height": 900}, "device_scale_factor": SCALE}
    with opened(browser, server, color_scheme="light", **profile) as page:
        page.plain.wait_until("cut")
        page.kept.wait_until("whole")
        bottom = page.kept.find(".frames", "found[0].getBoundingClientRect().bottom")
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": int(bottom) + 12}
        page.tab.do(lambda shown: shown.screenshot(path=file, clip=clip))


def size(file: Path) -> tuple[int, int]:
    """Return the width and the height of a PNG."""
    head = file.read_bytes()[:24]
    assert head.startswith(b"\x89PNG\r\n")
    return struct.unpack(">II", head[16:])
