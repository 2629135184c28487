"""Clients that tell how a stream ended: properly, cut off, reset, or not at all.

Each stream is read by a thread of its own. HTTP/2 is spoken by hand, with prior knowledge,
since libraries read nothing that follows a GOAWAY.
"""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Final

PATIENCE: Final = 20.0

CLEAN: Final = "clean"
"""The last chunk, or END_STREAM."""

CUT: Final = "dropped"
"""The connection was closed without the end of the body."""

RESET: Final = "reset"
"""The connection or the stream was reset."""

OPEN: Final = "open"
"""Nothing has ended it."""

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1


class Reader:
    """A stream that is read as it comes, up to its end."""

    def __init__(self, port: int, path: str, *, h2: bool = False) -> None:
        self.path = path
        self.body = b""
        self.end = OPEN
        self.ended_at: float | None = None
        self.error: BaseException | None = None
        self._has_begun = threading.Event()
        parts = _h2_parts if h2 else _h1_parts
        self._thread = threading.Thread(target=self._read, args=(parts(port, path),))
        self._thread.start()

    def _read(self, parts: Iterator[bytes]) -> None:
        try:
            for part in parts:
                self.body += part
                self._has_begun.set()
            self._end(CLEAN)
        except (http.client.IncompleteRead, http.client.RemoteDisconnected, EOFError):
            self._end(CUT)
        except ConnectionError:
            self._end(RESET)
        except BaseException as error:
            self.error = error
        finally:
            self._has_begun.set()

    def _end(self, how: str) -> None:
        self.ended_at = time.monotonic()
        self.end = how

    def wait_until_begun(self) -> None:
        """Wait for the first bytes of the body."""
        assert self._has_begun.wait(PATIENCE), f"{self.path} does not begin"
        assert self.body, (self.path, self.end, self.error)

    def join(self, seconds: float = PATIENCE) -> None:
        """Wait for the end."""
        self._thread.join(seconds)
        if self.error is not None:
            raise self.error


def _h1_parts(port: int, path: str) -> Iterator[bytes]:
    """Read a body over HTTP/1.1."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        with connection.getresponse() as response:
            assert response.status == 200
            assert response.chunked, "without chunks a cut looks like an end"
            while part := response.read1():
                yield part
    finally:
        connection.close()


def _h2_parts(port: int, path: str) -> Iterator[bytes]:
    """Read a body over HTTP/2 without TLS."""
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE) as connection,
        connection.makefile("rb") as file,
    ):
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS))
        connection.sendall(_frame(HEADERS, END_STREAM | END_HEADERS, 1, _head(path)))
        while True:
            head = file.read(9)
            if len(head) < 9:
                raise EOFError
            high, low, kind, flags, stream = struct.unpack(">BHBBI", head)
            payload = file.read((high << 16) + low)
            if kind in (SETTINGS, PING) and not flags & ACK:
                connection.sendall(_frame(kind, ACK, 0, payload if kind == PING else b""))
            elif kind == RST_STREAM and stream == 1:
                raise ConnectionResetError
            elif kind == DATA and payload:
                yield payload
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                return


def _frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">BHBBI", 0, len(payload), kind, flags, stream) + payload


def _head(path: str) -> bytes:
    """Encode the request's head with nothing but literals."""
    fields = {":method": "GET", ":scheme": "http", ":authority": "test", ":path": path}
    return b"".join(
        b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )
