"""Debian's Firefox, without a window: pages of it that tests look into.

It is driven over its own WebDriver BiDi, a protocol of JSON messages on a WebSocket: the
driver that Selenium would need is not among Debian's packages, and Playwright needs a Firefox
of its own.

websockets is imported by the browser that starts, not with this module: it may be missing.
"""

import itertools
import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from real.browsers.programs import find, started
from real.browsers.tab import Browser, Tab, as_value, strokes
from real.processes import PATIENCE, wait_for

PARTS: Final = ("program:firefox", "websockets", "uvicorn")
"""What a test of this browser needs."""

PREFERENCES: Final = 'user_pref("dom.min_background_timeout_value", 4);\n'
"""The timers of a page that is behind others are not slowed down."""

_ADDRESS: Final = re.compile(r"WebDriver BiDi listening on (ws://\S+)")


class Session:
    """A session of WebDriver BiDi.

    Args:
        connection: The WebSocket.
        on_event: Called with the parameters of each event.
    """

    def __init__(self, connection: Any, on_event: Callable[[dict[str, Any]], None]) -> None:
        self.focus = threading.Lock()
        """Held by whoever needs a window in front, or opens another one."""
        self._connection = connection
        self._on_event = on_event
        self._ids = itertools.count(1)
        self._replies: dict[int, Future[dict[str, Any]]] = {}
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        for text in self._connection:
            message = json.loads(text)
            if message["type"] == "event":
                self._on_event(message["params"])
            else:
                self._replies.pop(message["id"]).set_result(message)

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command, and return its result."""
        number = next(self._ids)
        reply = self._replies[number] = Future()
        message = {"id": number, "method": method, "params": parameters}
        self._connection.send(json.dumps(message))
        answer = reply.result(PATIENCE)
        assert answer["type"] == "success", f"{method}: {answer}"
        return answer["result"]

    def close(self) -> None:
        """Close the connection, and leave no thread behind."""
        self._connection.close()
        self._thread.join()


@contextmanager
def connected(url: str, on_event: Callable[[dict[str, Any]], None]) -> Iterator[Session]:
    """Connect to a browser."""
    from websockets.sync.client import connect

    with connect(url, max_size=None, proxy=None) as connection:
        session = Session(connection, on_event)
        try:
            yield session
        finally:
            session.close()


class FirefoxTab(Tab):
    """A page in a window of its own."""

    def __init__(self, session: Session, context: str) -> None:
        self._session = session
        self._context = context
        self.complaints, self.failed_loads = [], []

    def evaluate(self, script: str, argument: object = None) -> Any:
        answer = self._session.command(
            "script.evaluate",
            expression=as_value(script, argument),
            target={"context": self._context},
            awaitPromise=True,
        )
        assert answer["type"] == "success", f"{script}: {answer['exceptionDetails']['text']}"
        return json.loads(answer["result"]["value"])

    def press(self, key: str) -> None:
        actions = [{"type": kind, "value": value} for kind, value in strokes(key)]
        source = {"type": "key", "id": "keyboard", "actions": actions}
        with self._session.focus:
            self._session.command("browsingContext.activate", context=self._context)
            self._session.command(
                "input.performActions", context=self._context, actions=[source]
            )


class Firefox(Browser):
    """A running Firefox."""

    def __init__(self) -> None:
        self._tabs: dict[str, FirefoxTab] = {}
        with ExitStack() as stack:
            folder = Path(
                stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            )
            (folder / "user.js").write_text(PREFERENCES)
            log = folder / "browser.log"
            options = ["--headless", "--no-remote", "--remote-debugging-port", "0"]
            command = [find("firefox-esr"), *options, "--profile", str(folder)]
            with log.open("wb") as output:
                stack.enter_context(started(command, str(folder), stderr=output))
            wait_for(lambda: _ADDRESS.search(log.read_text()), "Firefox", 2 * PATIENCE)
            (address,) = _ADDRESS.findall(log.read_text())
            self._session = stack.enter_context(connected(f"{address}/session", self._hear))
            self._session.command("session.new", capabilities={})
            self._session.command("session.subscribe", events=["log.entryAdded"])
            self._running = stack.pop_all()

    def _hear(self, entry: dict[str, Any]) -> None:
        tab = self._tabs.get(entry["source"].get("context", ""))
        if tab and entry["level"] in {"error", "warn"}:
            tab.complaints.append(entry["text"] or "")

    @contextmanager
    def open(self, url: str, **profile: Any) -> Iterator[FirefoxTab]:
        assert not profile, "this browser's profiles have no options here"
        command = self._session.command
        user = command("browser.createUserContext")["userContext"]
        with self._session.focus:
            made = command("browsingContext.create", type="window", userContext=user)
        context = made["context"]
        tab = self._tabs[context] = FirefoxTab(self._session, context)
        try:
            command("browsingContext.navigate", context=context, url=url, wait="complete")
            yield tab
        finally:
            command("browser.removeUserContext", userContext=user)

    def stop(self) -> None:
        self._running.close()
