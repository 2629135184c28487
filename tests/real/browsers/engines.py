"""The browsers that the tests run in, one of each engine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from real.browsers import chromium, firefox, webkit
from real.browsers.tab import Browser


@dataclass(frozen=True)
class Engine:
    """A browser.

    Attributes:
        title: What its rows are called.
        part: Where its version comes from.
        parts: What a test of it needs.
        start: Starts it.
        opens_with: What an `EventSource` waits for until it is open: the response's `head`, or
            its `first byte`.
        reconnects_after: Seconds that it waits before it connects again, if the app sets none.
    """

    title: str
    part: str
    parts: tuple[str, ...]
    start: Callable[[], Browser]
    opens_with: str = "head"
    reconnects_after: float = 3.0


CHROMIUM: Final = Engine("Chromium", "program:chromium", chromium.PARTS, chromium.Chromium)
FIREFOX: Final = Engine(
    "Firefox",
    "program:firefox",
    firefox.PARTS,
    firefox.Firefox,
    opens_with="first byte",
    reconnects_after=5.0,
)
WEBKIT: Final = Engine("WebKit", "program:webkit", webkit.PARTS, webkit.WebKit)

ENGINES: Final = (CHROMIUM, FIREFOX, WEBKIT)
