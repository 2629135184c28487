"""The clients' side: one framework's process, its journal and its gates, and what is read."""

import http.client
import json
import select
import sys
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from real.frameworks.streams import background_gate
from real.http_clients import split_pings
from real.processes import PATIENCE, Process, wait_for

Split = Callable[[bytes], tuple[bytes, int]]
"""Takes the pings out of what was read; returns the rest, and how many they were."""


def split_spaces(body: bytes) -> tuple[bytes, int]:
    """Remove the spaces in front of records."""
    rest = b"".join(line.lstrip(b" ") for line in body.splitlines(keepends=True))
    return rest, len(body) - len(rest)


SPLITS: Final[dict[str, Split]] = {"/records": split_spaces}
"""By path; elsewhere events are read."""

NEW: Final = ("date", "mcp-session-id")


class Served:
    """uvicorn with the app of a framework, in all its variants."""

    def __init__(self, framework: str, folder: Path) -> None:
        self._journal = folder / "journal.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self._journal.touch()
        self.process = Process(
            f"uvicorn with {framework}",
            lambda port: [
                *(sys.executable, "-m", "uvicorn", "real.frameworks.serving:application"),
                *("--host", "127.0.0.1", "--port", str(port)),
                *("--lifespan", "on", "--no-access-log"),
            ],
            folder,
            {"FRAMEWORK": framework, "JOURNAL": str(self._journal)},
        )

    def facts(self, token: str) -> list[dict[str, Any]]:
        """Return what is known of one request."""
        *lines, _ = self._journal.read_text(encoding="utf-8").split("\n")
        return [fact for fact in map(json.loads, lines) if fact["token"] == token]

    def of(self, token: str, kind: str) -> list[dict[str, Any]]:
        """Return its facts of one kind."""
        return [fact for fact in self.facts(token) if fact["kind"] == kind]

    def wait(self, token: str, kind: str, times: int = 1) -> dict[str, Any]:
        """Wait for a fact, and return it."""
        try:
            wait_for(lambda: len(self.of(token, kind)) >= times, f"{kind} ({times})")
        except AssertionError as error:
            error.add_note(f"known are {self.facts(token)}; {self.process.log}")
            raise
        return self.of(token, kind)[times - 1]

    def open(self, gate: str, times: int = 1) -> None:
        """Open a gate."""
        for _ in range(times):
            connection = http.client.HTTPConnection("127.0.0.1", self.process.port)
            connection.request("POST", f"/gate/{gate}")
            assert connection.getresponse().status == 204
            connection.close()

    def open_background(self, token: str) -> None:
        """Release a background task."""
        self.open(background_gate(token))


@contextmanager
def serving(frameworks: Iterable[str], folder: Path) -> Iterator[dict[str, Served]]:
    """Run the processes of some frameworks, started at the same time; leave none behind."""

    def start(framework: str) -> Served:
        made = Served(framework, folder / framework)
        stack.callback(made.process.stop)
        return made

    with ExitStack() as stack:
        with ThreadPoolExecutor() as pool:
            started = {name: pool.submit(start, name) for name in frameworks}
        yield {name: one.result() for name, one in started.items()}


class Reading:
    """One request, and what has been read of its response so far; decompressed in `body`."""

    def __init__(
        self,
        server: Served,
        variant: str,
        path: str,
        headers: dict[str, str] | None = None,
        content: dict[str, Any] | None = None,
        token: str | None = None,
    ) -> None:
        self.server = server
        self.token = token or uuid.uuid4().hex
        self.raw = bytearray()
        self.body = b""
        self._split = SPLITS.get(path, split_pings)
        self._connection = http.client.HTTPConnection(
            "127.0.0.1", server.process.port, timeout=PATIENCE
        )
        self._connection.request(
            "GET" if content is None else "POST",
            path,
            None if content is None else json.dumps(content),
            {"X-Variant": variant, "X-Token": self.token, **(headers or {})},
        )
        self._socket = self._connection.sock
        self._decompress: Any = zlib.decompressobj(wbits=31)

    @cached_property
    def response(self) -> http.client.HTTPResponse:
        """The response, from when it begins."""
        return self._connection.getresponse()

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers, but for those that are new in each response."""
        found = {name.lower(): value for name, value in self.response.getheaders()}
        return {name: value for name, value in found.items() if name not in NEW}

    @property
    def app_bytes(self) -> bytes:
        """What was read, less pings."""
        return self._split(self.body)[0]

    @property
    def pings(self) -> int:
        """How many pings were read."""
        return self._split(self.body)[1]

    def _read_part(self) -> bool:
        """Read what comes next; tell whether anything did."""
        part = self.response.read1()
        self.raw += part
        if self.response.getheader("content-encoding") == "gzip":
            self.body += self._decompress.decompress(part)
        else:
            self.body += part
        return bool(part)

    def read_until(self, condition: Callable[[], bool]) -> None:
        """Read until what was read is so."""
        while not condition():
            assert self._read_part(), f"the response ended after {self.body!r}"

    def read(self) -> None:
        """Read to the end."""
        while self._read_part():
            pass

    def read_pings(self, number: int) -> None:
        """Read so many pings more."""
        enough = self.pings + number
        self.read_until(lambda: self.pings >= enough)

    def read_item(self) -> None:
        """Read the app's next event or record."""
        size = len(self.app_bytes)
        self.read_until(
            lambda: (
                len(self.app_bytes) > size
                and self.app_bytes.endswith((b"\n\n", b"\r\n\r\n", b"}\n"))
            )
        )

    def is_quiet_for(self, seconds: float) -> bool:
        """Whether the server says nothing more within this time."""
        return not select.select([self._socket], [], [], seconds)[0]

    def close(self) -> None:
        """Leave."""
        self._connection.close()


@contextmanager
def reading(server: Served, variant: str, path: str, **request: Any) -> Iterator[Reading]:
    """Send a request, and close its connection at the end."""
    made = Reading(server, variant, path, **request)
    try:
        yield made
    finally:
        made.close()
