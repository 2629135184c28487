"""The page with the watchdog, of the documentation, in a browser: what it shows to a test."""

import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from real.browsers.relay import Relay
from real.browsers.tab import Browser, Tab
from real.processes import Process, running, wait_for

INTERVAL: Final = 0.5
"""Seconds between two pings, as short as a busy machine lets it be: where the way from the
server to the page stalls for 1.5 intervals, a connection counts as dead, and rightly so."""


def serve(folder: Path) -> AbstractContextManager[Process]:
    """Run the example."""

    def command(port: int) -> list[str]:
        options = ["--port", str(port), "--lifespan", "off", "--log-level", "warning"]
        return [sys.executable, "-m", "uvicorn", "watchdog:app", *options]

    return running("uvicorn", command, folder)


class Page:
    """The page of the example."""

    def __init__(self, tab: Tab) -> None:
        self.tab = tab

    def number(self, name: str) -> float:
        """Return a number that it shows."""
        return float(re.search(r"[\d.]+", self.tab.evaluate(f"{name}.textContent"))[0])

    def wait_for_number(self, name: str, least: float) -> None:
        wait_for(lambda: self.number(name) >= least, f"{least} {name}")

    def wait_for_events(self, more: int) -> None:
        """Wait for this many more events than there are."""
        count = "events.children.length"
        self.tab.wait_for(f"{count} >= {self.tab.evaluate(count) + more}")

    def wait_until(self, state: str) -> None:
        self.tab.wait_for(f"state.className === '{state}'")

    @property
    def history(self) -> list[dict[str, str]]:
        """What has become of its connections, one after another."""
        return self.tab.evaluate(
            "[...connections.children].map((item) => ({...item.dataset}))"
        )

    @property
    def states(self) -> list[str]:
        return [entry["state"] for entry in self.history]

    @property
    def reasons(self) -> list[str]:
        """Why its connections were lost, one after another."""
        return [entry["reason"] for entry in self.history if entry["state"] == "lost"]

    def assert_no_event_is_missing(self) -> None:
        """None is lost, none is there twice, and they are in order."""
        ids = self.tab.evaluate("[...events.children].map((item) => Number(item.dataset.id))")
        assert ids == list(range(ids[0], ids[0] + len(ids)))


class Stage:
    """What a scenario is played with: a browser, a server, a folder."""

    def __init__(self, browser: Browser, server: Process, folder: Path) -> None:
        self.browser, self.server, self.folder = browser, server, folder

    @contextmanager
    def page(
        self,
        place: Process | Relay,
        *,
        silence: float = INTERVAL,
        more: str = "",
        script: str = "",
    ) -> Iterator[Page]:
        """Open the page, from a server or through a relay."""
        url = place.url(f"/?interval={INTERVAL}&silence={silence}{more}")
        with self.browser.tab(url, script) as tab:
            page = Page(tab)
            page.wait_until("alive")
            yield page

    @contextmanager
    def relay(self) -> Iterator[Relay]:
        made = Relay(self.server.port)
        try:
            yield made
        finally:
            made.close()
