"""What all browsers offer to the tests: pages that scripts are evaluated in."""

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from real.processes import wait_for

KEYS: Final = {"Tab": "\ue004", "Enter": "\ue007", "Shift": "\ue008", "Space": " "}
"""Keys as WebDriver has them."""


class Tab(ABC):
    """A page in an empty profile of its own."""

    complaints: list[str]
    """Errors and warnings of the page's scripts, and of its console."""

    failed_loads: list[str]
    """What the console says of requests that have failed, in browsers that report it."""

    @abstractmethod
    def evaluate(self, script: str, argument: object = None) -> Any:
        """Return the value of a JavaScript expression, or of a function's call."""

    @abstractmethod
    def press(self, key: str) -> None:
        """Press a key, `Shift+Tab` for one with a modifier."""

    def wait_for(self, script: str, what: str = "") -> None:
        """Wait until an expression is true."""

        def look() -> Any:
            if not (found := self.evaluate(script)):
                time.sleep(0.03)  # many pages are asked by one thread
            return found

        wait_for(look, what or script)


class Browser(ABC):
    """A running browser; its methods may be called from any thread."""

    @abstractmethod
    def open(self, url: str, **profile: Any) -> AbstractContextManager[Tab]:
        """Open a page; close it, and its connections, at the end.

        Args:
            url: Its address.
            profile: Options of Chromium's profile: `viewport`, `color_scheme` and so on.
        """

    @contextmanager
    def tab(self, url: str, script: str = "", **profile: Any) -> Iterator[Tab]:
        """Open a page, and run a script in it as soon as it has loaded."""
        with self.open(url, **profile) as tab:
            if script:
                tab.evaluate(f"() => {{ {script} }}")
            yield tab

    @abstractmethod
    def stop(self) -> None:
        """Leave no process behind."""


def as_value(script: str, argument: object) -> str:
    """Return an expression for a promise of what `Tab.evaluate` returns, as JSON.

    Playwright has such a function of its own.
    """
    return (
        f"(async () => {{ const value = ({script});"
        " const called = typeof value === 'function'"
        f" ? value({json.dumps(argument)}) : value;"
        " return JSON.stringify(await called) ?? 'null'; })()"
    )


def strokes(key: str) -> list[tuple[str, str]]:
    """Return the actions of WebDriver that press a key: their types and their values."""
    values = [KEYS[name] for name in key.split("+")]
    return [
        *(("keyDown", value) for value in values),
        *(("keyUp", value) for value in reversed(values)),
    ]
