"""The client, in a process of its own: `python load.py PORT`; orders and answers are JSON.

It opens streams to one server, reads and counts. In what it reads it looks for two markers
only: that of an event and that of a ping.

Orders, one a line:
    {"do": "open", "path": "/idle", "streams": 1000, "over_s": 1.0}
    {"do": "wait", "pings": 1000}       until so many more have come, or have at once (0)
    {"do": "busy", "path": "/busy?n=1000&turn=1"}
    {"do": "stall", "path": "/busy?n=1000&turn=1"}      open one stream and never read it
    {"do": "close"}
"""

import json
import resource
import select
import socket
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

EVENT: Final = b"0123456789012345678901234567890123456789"
PING: Final = b"ping"
LAST_CHUNK: Final = b"\r\n0\r\n\r\n"
"""The end of a response; not every server closes the connection then, though asked to."""
OUTSTANDING: Final = 256
"""Streams that wait for their first event at a time: far below any listen backlog, beyond
which the kernel drops connections and tries again after a second."""
PATIENCE_S: Final = 60.0
"""How long nothing at all may arrive before it is an error."""
NAP_S: Final = 0.001
"""How long the client doesn't look for more. Waiting in `recv` or `epoll_wait` it would be
woken by each write of the server's, and the server would be charged for that: on a virtual
machine some 4 us each, more than some of what is to be measured, and with great scatter."""


class Crowd:
    """Streams to one server, and what has arrived on them."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.epoll = select.epoll()
        self.sockets: dict[int, socket.socket] = {}
        self.waiting: dict[int, bytes] = {}  # what came before the first event
        self.tails: dict[int, bytes] = {}  # a marker may come in two pieces
        self.pings = 0
        self.ended = 0

    def connect(self, path: str) -> socket.socket:
        """Open a connection and ask for a path. On loopback this does not block."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        sock.sendall(request.encode())
        return sock

    def add(self, path: str) -> None:
        """Open one more stream."""
        sock = self.connect(path)
        sock.setblocking(False)
        self.sockets[sock.fileno()] = sock
        self.waiting[sock.fileno()] = b""
        self.epoll.register(sock, select.EPOLLIN)

    def pump(self) -> int:
        """Read what is there, and count; return on how many streams there was something."""
        ready = self.epoll.poll(0)
        for number, _ in ready:
            data = self.sockets[number].recv(65536)
            if data:
                self.take(number, data)
            else:
                self.ended += 1
                self.epoll.unregister(number)
        return len(ready)

    def take(self, number: int, data: bytes) -> None:
        """Count what has arrived on a stream."""
        if number in self.waiting:
            data = self.waiting[number] + data
            _, found, rest = data.partition(EVENT)
            if not found:
                self.waiting[number] = data
                return
            del self.waiting[number]
            data = rest
        data = self.tails.get(number, b"") + data
        self.pings += data.count(PING)
        self.tails[number] = data[1 - len(PING) :]

    def pump_until(self, done: Any) -> None:
        """Read until something is the case."""
        latest = time.monotonic() + PATIENCE_S
        while not done():
            time.sleep(NAP_S)
            if self.pump():
                latest = time.monotonic() + PATIENCE_S
            elif time.monotonic() > latest:
                raise TimeoutError(f"nothing arrived in {PATIENCE_S} s")
            if self.ended:
                raise ConnectionError(f"{self.ended} streams were ended by the server")

    def open(self, path: str, streams: int, over_s: float) -> dict[str, Any]:
        """Open streams, evenly over some time, and wait for the first event of each."""
        began, first = time.perf_counter(), len(self.sockets)
        for number in range(streams):
            due = began + over_s * number / streams
            self.pump_until(lambda due=due: time.perf_counter() >= due)
            self.add(path)
            self.pump_until(lambda: len(self.waiting) < OUTSTANDING)
        self.pump_until(lambda: not self.waiting)
        return {"open": len(self.sockets) - first, "seconds": time.perf_counter() - began}

    def wait(self, pings: int) -> dict[str, Any]:
        """Wait for so many more pings, and return how many have come."""
        while self.pump():
            pass
        before, began = self.pings, time.perf_counter()
        self.pump_until(lambda: self.pings - before >= pings)
        seconds = time.perf_counter() - began
        return {"pings": self.pings - before, "total": self.pings, "seconds": seconds}

    def busy(self, path: str) -> dict[str, Any]:
        """Read one stream to its end."""
        with self.connect(path) as sock:
            return {"events": count_events(arriving(sock))}

    def stall(self, path: str) -> dict[str, Any]:
        """Open one stream, and never read from it."""
        sock = self.connect(path)
        self.sockets[sock.fileno()] = sock
        return {"open": 1}

    def close(self) -> dict[str, Any]:
        """Leave all streams."""
        for sock in self.sockets.values():
            sock.close()
        closed = len(self.sockets)
        self.sockets.clear()
        self.waiting.clear()
        self.tails.clear()
        self.ended = 0
        return {"closed": closed}


def count_events(pieces: Iterable[bytes]) -> int:
    """Return how many events there are up to the last chunk, wherever the pieces were cut."""
    events, tail = 0, b""
    for piece in pieces:
        data = tail + piece
        events += data.count(EVENT)
        tail = data[1 - len(EVENT) :]
        if tail.endswith(LAST_CHUNK):
            break
    return events


def arriving(sock: socket.socket) -> Iterator[bytes]:
    """Yield what has arrived, now and then, until the connection ends; see `NAP_S`."""
    sock.setblocking(False)
    latest = time.monotonic()
    while True:
        try:
            piece = sock.recv(1 << 20)
        except BlockingIOError:
            if time.monotonic() > latest + PATIENCE_S:
                raise TimeoutError(f"nothing arrived in {PATIENCE_S} s") from None
            time.sleep(NAP_S)
            continue
        if not piece:
            return
        latest = time.monotonic()
        yield piece


def main() -> None:
    """Carry out orders until there are no more."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd = Crowd(int(sys.argv[1]))
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(crowd, order.pop("do"))(**order)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
