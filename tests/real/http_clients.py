"""Clients that trust nobody: a raw socket read byte by byte, curl, httpx-sse; and a server."""

import json
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx
import httpx_sse
import pytest
from real.processes import PATIENCE, inherited, wait_for

import keepalive

PING: Final = b"event: ping\ndata: \n\n"
TESTS: Final = Path(__file__).resolve().parent.parent

_ADDRESS = re.compile(r"Uvicorn running on http://127\.0\.0\.1:(\d+)")
_COMPLAINT = re.compile(r"traceback|error|exception|warning|critical|destroyed", re.IGNORECASE)


LATE_PINGS = "pings were late: the event loop was blocked, or the process was suspended, "
"""How the package's warning begins that this machine is busy with other work."""


def complaints(log: str) -> list[str]:
    """Return the lines of a server's log that tell of something wrong."""
    lines = [line for line in log.splitlines() if LATE_PINGS not in line]
    return [line for line in lines if _COMPLAINT.search(line)]


class Server:
    """uvicorn in a process of its own."""

    def __init__(self, folder: Path, app: str, app_dir: Path, *options: str) -> None:
        self._log = folder / "server.log"
        self._facts = folder / "facts.jsonl"
        self._checked = 0
        command = [sys.executable, "-m", "uvicorn", app, "--app-dir", str(app_dir)]
        command += ["--host", "127.0.0.1", "--port", "0", *options]
        environ = inherited() | {
            "FACTS": str(self._facts),
            "PYTHONPATH": str(Path(keepalive.__file__).parent.parent),
            "PYTHONWARNINGS": "default",
        }
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environ
            )
        try:
            wait_for(lambda: self._port() or self.process.poll() is not None, "the server")
            self.port = self._port()
            assert self.port, self.log
        except BaseException:
            self.stop()
            raise

    @property
    def log(self) -> str:
        return self._log.read_text()

    def new_complaints(self) -> list[str]:
        """Return the complaints in the log since the last call."""
        log = self.log
        new, self._checked = log[self._checked :], len(log)
        return complaints(new)

    def _port(self) -> int:
        found = _ADDRESS.search(self.log)
        return int(found[1]) if found else 0

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def facts(self, path: str) -> list[dict[str, object]]:
        """Return the events that the observer got of one path."""
        lines = self._facts.read_text().splitlines() if self._facts.exists() else []
        return [fact for fact in map(json.loads, lines) if fact["path"] == path]

    def end_of(self, path: str) -> dict[str, object]:
        """Wait for a stream's end, and return it."""

        def ends() -> list[dict[str, object]]:
            return [fact for fact in self.facts(path) if fact["kind"] == "StreamEnded"]

        wait_for(ends, f"the end of {path}")
        (end,) = ends()
        return end

    def stop(self) -> None:
        """Stop the process; by force if a stream keeps it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Exchange:
    """One request over a raw socket. A GET's response is read one byte at a time."""

    def __init__(self, server: Server, path: str, *, upload: int | None = None) -> None:
        """`upload`: the number of body bytes that the caller will `write`; `None`: a GET."""
        self._socket = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        self._file = self._socket.makefile("rb", buffering=0 if upload is None else 65536)
        self._step = 1 if upload is None else 65536
        self._parts = self._chunks()
        self.body = bytearray()
        method = "GET" if upload is None else "POST"
        size = "" if upload is None else f"Content-Length: {upload}\r\n"
        self.write(f"{method} {path} HTTP/1.1\r\nHost: test\r\n{size}\r\n".encode())
        self.status = int(self._line().split()[1])
        self.headers = dict(self._headers())

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        assert data, f"the connection was cut after {bytes(self.body[-200:])!r}"
        return data

    def _line(self) -> str:
        line = b""
        while not line.endswith(b"\r\n"):
            line += self._read(1)
        return line[:-2].decode()

    def _headers(self) -> Iterator[tuple[str, str]]:
        while line := self._line():
            name, _, value = line.partition(":")
            yield name.lower(), value.strip()

    def _chunks(self) -> Iterator[bytes]:
        """Read the chunks of the body, step by step, up to their proper end."""
        assert self.headers.get("transfer-encoding") == "chunked"
        while left := int(self._line(), 16):
            while left:
                data = self._read(min(left, self._step))
                left -= len(data)
                self.body += data
                yield data
            assert not self._line()
        assert not self._line()

    def read(self) -> bytes:
        """Read the rest of the body; return all of it."""
        for _ in self._parts:
            pass
        return bytes(self.body)

    def read_until(self, mark: bytes) -> bytes:
        """Read until the body ends with these bytes; return all of it."""
        while not self.body.endswith(mark):
            assert next(self._parts, b""), f"the body has no {mark!r}: {bytes(self.body)!r}"
        return bytes(self.body)

    def has_more_within(self, seconds: float) -> bool:
        """Whether the server says anything more within this time."""
        return bool(select.select([self._socket], [], [], seconds)[0])

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@contextmanager
def exchange(server: Server, path: str, *, upload: int | None = None) -> Iterator[Exchange]:
    """Send a request, and close its connection at the end."""
    made = Exchange(server, path, upload=upload)
    try:
        yield made
    finally:
        made.close()


def token() -> str:
    """Return what tells one test's stream from all others."""
    return uuid.uuid4().hex


def split_pings(body: bytes, ping: bytes = PING) -> tuple[bytes, int]:
    """Remove the pings between events from a body; return the rest, and how many.

    A ping anywhere else stays in. Line endings may be LF or CRLF.
    """
    pings = (ping, ping.replace(b"\n", b"\r\n"))
    rest, count, at = b"", 0, 0
    while at < len(body):
        found = next((frame for frame in pings if body.startswith(frame, at)), None)
        if found and (not rest or rest.endswith((b"\n\n", b"\r\n\r\n"))):
            count, at = count + 1, at + len(found)
        else:
            rest, at = rest + body[at : at + 1], at + 1
    return rest, count


Event = tuple[str, str, str, int | None]


def parsed(body: bytes) -> list[Event]:
    """Return the events of a whole body, as httpx-sse reads them."""
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=body)
    source = httpx_sse.EventSource(response)
    return [(e.event, e.data, e.id, e.retry) for e in source.iter_sse()]


def events(server: Server, path: str) -> list[Event]:
    """Read a whole stream with httpx-sse."""
    with (
        httpx.Client(timeout=PATIENCE) as client,
        httpx_sse.connect_sse(client, "GET", server.url(path)) as source,
    ):
        return [(e.event, e.data, e.id, e.retry) for e in source.iter_sse()]


def curl(server: Server, path: str) -> bytes:
    """Read a whole body with `curl -N`."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "-N", "-sS", "--fail", "--max-time", str(PATIENCE), server.url(path)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert not done.stderr
    return done.stdout
