"""Debian's WebKitGTK, on a display without a screen: pages that tests look into.

WebKit's driver starts its browser, and is driven over WebDriver's protocol: JSON over HTTP. A
driver has one session at most, so each page has a driver and a browser of its own.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from real.browsers.programs import display, find
from real.browsers.tab import Browser, Tab, as_value, strokes
from real.processes import PATIENCE, Process, running

PARTS: Final = ("program:webkit", "program:webkit-driver", "program:xvfb", "httpx", "uvicorn")
"""What a test of this browser needs."""

LISTEN: Final = """() => {
  const complaints = window.testComplaints = [];
  addEventListener('error', (event) => complaints.push(event.message));
  addEventListener('unhandledrejection', (event) => complaints.push(String(event.reason)));
  for (const level of ['error', 'warn']) {
    const write = console[level];
    console[level] = (...texts) => {
      complaints.push(texts.join(' '));
      write.apply(console, texts);
    };
  }
}"""
"""Records the errors of the page's scripts and of its console; the driver reports neither."""


class Session:
    """A session of WebDriver.

    Args:
        driver: The program that serves it.
        capabilities: What the browser must have.
    """

    def __init__(self, driver: Process, capabilities: dict[str, Any]) -> None:
        self._client = httpx.Client(base_url=driver.url("/session"), timeout=PATIENCE)
        made = self.command("", capabilities={"alwaysMatch": capabilities})
        self._client.base_url = driver.url(f"/session/{made['sessionId']}")

    def command(self, path: str, **parameters: Any) -> Any:
        """Send a command, and return its result."""
        answer = self._client.post(path, json=parameters).json()["value"]
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def close(self) -> None:
        """End the session, and the browser with it."""
        self._client.delete("")
        self._client.close()


class WebKitTab(Tab):
    """The one page of a browser."""

    failed_loads = ()
    """A page can't know what the console says."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def complaints(self) -> list[str]:
        return self.evaluate("testComplaints")

    def evaluate(self, script: str, argument: object = None) -> Any:
        body = (
            f"const done = arguments[0]; {as_value(script, argument)}"
            ".then((value) => done(['value', value]), (error) => done(['error', `${error}`]));"
        )
        kind, value = self._session.command("execute/async", script=body, args=[])
        assert kind == "value", f"{script}: {value}"
        return json.loads(value)

    def press(self, key: str) -> None:
        actions = [{"type": kind, "value": value} for kind, value in strokes(key)]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        self._session.command("actions", actions=[source])


class WebKit(Browser):
    """A display, and what the browsers on it are started with."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self._folder = stack.enter_context(
                tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
            )
            self._environ = {
                "HOME": self._folder,
                "XDG_RUNTIME_DIR": self._folder,
                "WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1",  # for root there is none
                **stack.enter_context(display(self._folder)),
            }
            self._running = stack.pop_all()

    @contextmanager
    def _session(self) -> Iterator[Session]:
        def command(port: int) -> list[str]:
            return [find("WebKitWebDriver"), f"--port={port}"]

        (program,) = Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser")
        options = {"binary": str(program), "args": ["--automation"]}
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        with running("WebKit's driver", command, folder, self._environ) as driver:
            session = Session(driver, {"webkitgtk:browserOptions": options})
            try:
                yield session
            finally:
                session.close()

    @contextmanager
    def open(self, url: str, **profile: Any) -> Iterator[WebKitTab]:
        assert not profile, "this browser's profiles have no options here"
        with self._session() as session:
            session.command("url", url=url)
            tab = WebKitTab(session)
            tab.evaluate(LISTEN)
            yield tab

    def stop(self) -> None:
        self._running.close()
