"""Debian's Chromium, without a window: pages of it that tests look into.

Playwright drives it in a thread of its own, so that no event loop is left running in the
thread of the tests.

Playwright is imported by the browser that starts, not with this module: it may be missing.
"""

import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from real.browsers.tab import Browser, Tab

PARTS: Final = ("program:chromium", "playwright", "uvicorn")
"""What a test of this browser needs."""

ARGUMENTS: Final = (
    "--no-sandbox",  # whoever runs the tests may be root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

FAILED_LOAD: Final = "Failed to load resource: "


class ChromiumTab(Tab):
    """A page, as Playwright has it, in a context of its own."""

    def __init__(self, do: Callable[..., Any], page: Any) -> None:
        self._do = do
        self._page = page
        self.complaints, self.failed_loads = [], []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        text = message.text
        if message.type in {"error", "warning"}:
            is_load = text.startswith(FAILED_LOAD)
            (self.failed_loads if is_load else self.complaints).append(text)

    def evaluate(self, script: str, argument: object = None) -> Any:
        return self._do(self._page.evaluate, script, argument)

    def press(self, key: str) -> None:
        self.do(lambda page: page.keyboard.press(key))

    def do(self, act: Callable[[Any], Any]) -> Any:
        """Do something with the page itself, as Playwright has it."""
        return self._do(act, self._page)


class Chromium(Browser):
    """A running Chromium."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="browser")
        self._playwright: Any = None
        self._chromium: Any = None
        try:
            self._do(self._start)
        except BaseException:
            self.stop()
            raise

    def _do(self, act: Callable[..., Any], *arguments: object) -> Any:
        return self._thread.submit(act, *arguments).result()

    def _start(self) -> None:
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=ARGUMENTS
        )

    @contextmanager
    def open(self, url: str, **profile: Any) -> Iterator[ChromiumTab]:
        def open_it() -> tuple[Any, ChromiumTab]:
            context = self._chromium.new_context(**profile)
            return context, ChromiumTab(self._do, context.new_page())

        context, tab = self._do(open_it)
        try:
            tab.do(lambda page: page.goto(url))
            yield tab
        finally:
            self._do(context.close)

    def stop(self) -> None:
        with ExitStack() as stack:  # what is last in it goes first, whatever goes wrong
            stack.callback(self._thread.shutdown)
            if self._playwright:
                stack.callback(self._do, self._playwright.stop)
            if self._chromium:
                stack.callback(self._do, self._chromium.close)
