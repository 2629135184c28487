"""Debian's Chromium, without a window: pages of it that tests look into.

Playwright drives it in a thread of its own, so that no event loop is left running in the
thread of the tests.

Playwright is imported by the browser that starts, not with this module: it may be missing.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from real.processes import wait_for

PARTS: Final = ("program:chromium", "playwright", "uvicorn")
"""What a test of a browser needs."""

ARGUMENTS: Final = (
    "--no-sandbox",  # whoever runs the tests may be root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class Tab:
    """A page in an empty profile of its own."""

    def __init__(self, do: Callable[..., Any], context: Any, page: Any) -> None:
        self._do = do
        self._context = context
        self._page = page
        self.complaints: list[str] = []
        """Errors and warnings of the page's scripts, and of its console."""
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._hear)

    def _hear(self, message: Any) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)

    def evaluate(self, script: str, argument: object = None) -> Any:
        """Return what a JavaScript expression is, or what a function makes of an argument."""
        return self._do(self._page.evaluate, script, argument)

    def wait_for(self, script: str, what: str = "") -> None:
        """Wait until an expression is true."""

        def look() -> Any:
            if not (found := self.evaluate(script)):
                time.sleep(0.03)  # many pages are asked by one thread
            return found

        wait_for(look, what or script)

    def do(self, act: Callable[[Any], Any]) -> Any:
        """Do something with the page itself, as Playwright has it."""
        return self._do(act, self._page)

    def close(self) -> None:
        """Close the page, and its connections."""
        self._do(self._context.close)


class Browser:
    """A running Chromium; its methods may be called from any thread."""

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
    def tab(self, url: str, script: str = "", **profile: Any) -> Iterator[Tab]:
        """Open a page.

        Args:
            url: Its address.
            script: What runs in it before its own scripts.
            profile: What the profile is made with: `viewport`, `color_scheme` and so on.
        """

        def open_it() -> Tab:
            context = self._chromium.new_context(**profile)
            tab = Tab(self._do, context, context.new_page())
            if script:
                context.add_init_script(script)
            return tab

        tab = self._do(open_it)
        try:
            tab.do(lambda page: page.goto(url))
            yield tab
        finally:
            tab.close()

    def stop(self) -> None:
        """Leave no process behind."""
        with ExitStack() as stack:  # what is last in it goes first, whatever goes wrong
            stack.callback(self._thread.shutdown)
            if self._playwright:
                stack.callback(self._do, self._playwright.stop)
            if self._chromium:
                stack.callback(self._do, self._chromium.close)
