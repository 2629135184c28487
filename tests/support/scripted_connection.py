"""A connection to a server that sends bytes at given times, on the virtual clock."""

from typing import Any

import anyio
from anyio.abc import ByteStream

EOF = anyio.EndOfStream()
RESET = anyio.BrokenResourceError()
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = HEAD + b"server: uvicorn\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT, PING, COMMENT = b"data: x\n\n", b"event: ping\ndata: \n\n", b": ping\n"
LAST = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """Return a chunk of a body in the chunked transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def every(interval: float, until: float, data: bytes) -> list[tuple[float, Any]]:
    """Return steps at regular times."""
    return [(interval * n, data) for n in range(1, int(until / interval) + 1)]


class Connection(ByteStream):
    """A connection to a server that sends bytes at given times after the request."""

    def __init__(self, steps: list[tuple[float, Any]]) -> None:
        self.steps = list(steps)
        self.request = b""

    async def send(self, item: bytes) -> None:
        self.request += item
        self.began = anyio.current_time()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        when, what = self.steps[0] if self.steps else (float("inf"), b"")
        await anyio.sleep(self.began + when - anyio.current_time())
        if isinstance(what, Exception):
            raise what
        self.steps[0] = when, what[max_bytes:]
        if not self.steps[0][1]:
            del self.steps[0]
        return what[:max_bytes]

    async def send_eof(self) -> None: ...

    async def aclose(self) -> None: ...
