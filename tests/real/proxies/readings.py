"""What a client gets through a proxy, read as it comes.

It reports how a stream has ended and whether bytes came at once, and does not judge that.
"""

import contextlib
import http.client
import json
import socket
import threading
import urllib.request
import uuid
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from real.processes import Process, wait_for
from real.proxies.app import FIRST, INTERVAL, LONG, PATIENCE, PLAIN_TEXT
from real.proxies.configurations import USUAL

WHOLE: Final = "complete"
"""It ended properly: with the last chunk."""

CUT: Final = "dropped"
"""The connection was closed, or reset, without that."""

OPEN: Final = "open"
"""Nothing has ended it."""

AT_ONCE: Final = "immediately"
HELD: Final = "buffered"

PING: Final = b"event: ping\ndata: \n\n"

UNNOTICED_FOR: Final = 5.0
"""Seconds without a word to the app, after which a client's leaving is not noticed."""

ENOUGH: Final = 10
"""Pings that the app has sent when one is overdue at the client."""


class Reading:
    """One request, whose response is read by a thread of its own.

    Attributes:
        status: The response's; 0 before its headers have come.
        headers: The response's, by names in lower case.
        body: What has come of the body, with its compression undone.
        end: How it has ended.
        again: The status of a second request on the same connection, when there was one.
    """

    def __init__(self, port: int, path: str, accept: str = "identity") -> None:
        self.path = path
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""
        self.end = OPEN
        self.again = 0
        self.error: BaseException | None = None
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE * 2)
        self._connection.request("GET", path, headers={"Accept-Encoding": accept})
        self._socket = self._connection.sock
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._read()
            self.end = WHOLE
            self._ask_again()
        except (http.client.HTTPException, ConnectionError, EOFError):
            self.end = CUT if self.end == OPEN else self.end
        except BaseException as error:
            self.error = error
        finally:
            self._connection.close()

    def _read(self) -> None:
        response = self._connection.getresponse()
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        decoder = None
        if self.headers.get("content-encoding") == "gzip":
            decoder = zlib.decompressobj(wbits=31)
        self.status = response.status
        if self.status == 200:
            sized = response.chunked or "content-length" in self.headers
            assert sized, "without chunks a cut looks like an end"
        while part := response.read1():
            self.body += decoder.decompress(part) if decoder else part
        if decoder and not decoder.eof:
            raise EOFError

    def _ask_again(self) -> None:
        """Use the connection once more, if it is still the same."""
        if self._connection.sock is not None:
            self._connection.request("GET", "/plain/whole/again")
            response = self._connection.getresponse()
            assert response.read() == PLAIN_TEXT
            self.again = response.status

    def leave(self) -> None:
        """Close the connection, and wait until that is done."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def finish(self) -> None:
        """Wait for the end."""
        self._thread.join()
        if self.error is not None:
            raise self.error

    @property
    def outcome(self) -> str:
        """In a word: a status that is no success, or how it has ended."""
        return self.end if self.status in (0, 200) else str(self.status)


class Site:
    """An app, and a proxy in front of it."""

    def __init__(self, app: Process, proxy: Process) -> None:
        self._app = app
        self._proxy = proxy

    @contextmanager
    def reading(
        self, variant: str, name: str, accept: str = "identity"
    ) -> Iterator[tuple[Reading, "Behind"]]:
        """Read a stream through the proxy; it also tells what goes on behind that."""
        token = uuid.uuid4().hex
        made = Reading(self._proxy.port, f"/{variant}/{name}/{token}", accept)
        behind = Behind(self._app, token)
        try:
            yield made, behind
        finally:
            behind.open_gate()
            made.leave()

    def settle(self) -> None:
        """Send other requests through the proxy; it has then done what was due before them."""
        for _ in range(3):
            with urllib.request.urlopen(self._proxy.url("/plain/whole/other")) as response:
                assert response.read() == PLAIN_TEXT

    def comes_at_once(self, made: Reading, behind: "Behind", *marks: bytes) -> bool:
        """Whether all these bytes reach the client while the app still holds its end back.

        They are held back if they have not come when many more pings were sent, other
        requests went through, and as much time has passed again.
        """
        have_come = lambda: all(mark in made.body for mark in marks)
        wait_for(
            lambda: have_come() or behind.journal()["pings"] >= ENOUGH, f"{made.path} pings"
        )
        self.settle()
        with contextlib.suppress(AssertionError):
            wait_for(have_come, "the bytes", ENOUGH * INTERVAL)
        return have_come()

    def heads_come_at_once(self, made: Reading, behind: "Behind") -> bool:
        """Whether the headers reach the client while the app has sent no event."""
        wait_for(lambda: made.status or behind.journal()["started"], f"{made.path} to start")
        self.settle()
        with contextlib.suppress(AssertionError):
            wait_for(lambda: made.status, "the headers", ENOUGH * INTERVAL)
        return bool(made.status)


class Behind:
    """What the app itself tells of one stream, past the proxy."""

    def __init__(self, app: Process, token: str) -> None:
        self._app = app
        self._token = token

    def _ask(self, what: str) -> Any:
        address = self._app.url(f"/{what}/{self._token}")
        with urllib.request.urlopen(address) as response:
            return json.load(response)

    def journal(self) -> dict[str, Any]:
        """Return what has happened to it."""
        return self._ask("journal")

    def open_gate(self) -> None:
        """Release it to its end."""
        self._ask("open")


class Seen(NamedTuple):
    """A stream as both sides have seen it."""

    made: Reading
    journal: dict[str, object]
    passed: str = ""
    """Whether what was looked for has come at once."""


def to_its_end(variant: str, name: str) -> Callable[[Site], Seen]:
    """Read a stream to its end."""

    def read(site: Site) -> Seen:
        with site.reading(variant, name) as (made, behind):
            made.finish()
            return Seen(made, behind.journal())

    return read


def with_its_end_held(
    variant: str, name: str, accept: str = "identity", *marks: bytes
) -> Callable[[Site], Seen]:
    """See whether these bytes, or the headers alone, come at once; then read to the end."""

    def read(site: Site) -> Seen:
        with site.reading(variant, name, accept) as (made, behind):
            if marks:
                come = site.comes_at_once(made, behind, *marks)
            else:
                come = site.heads_come_at_once(made, behind)
            behind.open_gate()
            made.finish()
            return Seen(made, behind.journal(), AT_ONCE if come else HELD)

    return read


def until_it_is_left(variant: str) -> Callable[[Site], Seen]:
    """Leave a silent stream, and see whether its app gets the disconnect."""

    def read(site: Site) -> Seen:
        with site.reading(variant, "endless") as (made, behind):
            wait_for(lambda: made.body, "the first event")
            site.settle()
            made.leave()
            if is_notified(behind) and variant != "plain":
                wait_for(lambda: behind.journal()["reason"], "the end of the stream")
            return Seen(made, behind.journal())

    return read


def is_notified(behind: Behind) -> bool:
    """Whether the app learns within some time that its client is gone."""
    try:
        wait_for(lambda: behind.journal()["left"], "the disconnect", UNNOTICED_FOR)
    except AssertionError:
        return False
    return True


HEADERS: Final = {
    "bare": "neither header",
    "accel": "only `X-Accel-Buffering: no`",
    "transform": "only `no-transform`",
    "kept": "both (the default)",
}
"""The variants that differ in their headers, and their columns."""

READINGS: Final = {
    "silent": ("limit", to_its_end("plain", "silent")),
    "talking": ("limit", to_its_end("plain", "talking")),
    "kept": ("limit", to_its_end("kept", "silent")),
    "records": ("limit", to_its_end("kept", "records")),
    "mute": ("limit", to_its_end("kept", "mute")),
    "tardy": ("limit", to_its_end("early", "tardy")),
    "report": ("limit", to_its_end("early-json", "report")),
    "head, plain": (USUAL, with_its_end_held("plain", "headed")),
    "head, late": (USUAL, with_its_end_held("late", "headed")),
    "head, first": (USUAL, with_its_end_held("first", "headed")),
    "head, first-bare": (USUAL, with_its_end_held("first-bare", "headed")),
    "gate, bare": (USUAL, with_its_end_held("bare", "gated", "identity", FIRST, PING)),
    "gate, kept": (USUAL, with_its_end_held("kept", "gated", "identity", FIRST, PING)),
    "left, plain": (USUAL, until_it_is_left("plain")),
    "left, kept": (USUAL, until_it_is_left("kept")),
    "left, watched": ("watching", until_it_is_left("plain")),
    "spared": ("spared", with_its_end_held("kept", "long", "gzip", LONG, PING)),
    "spared text": ("spared", with_its_end_held("plain", "whole", "gzip")),
    "total, kept": ("total", to_its_end("kept", "endless")),
    "total, mortal": ("total", to_its_end("mortal", "endless")),
} | {
    f"gzip, {variant}": (
        "compression",
        with_its_end_held(variant, "long", "gzip", LONG, PING),
    )
    for variant in HEADERS
}
