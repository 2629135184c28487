"""A proxy with a short idle timeout, for the demo: 3 seconds, where nginx has 60.

It forwards bytes without parsing them. If the app sends nothing for longer than the timeout,
it drops the connection, or responds with 504 if the app has not sent anything yet.
"""

import asyncio
import contextlib
from typing import Any

TIMED_OUT = b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


async def pass_on(
    source: asyncio.StreamReader,
    target: asyncio.StreamWriter,
    limit: float | None = None,
    at_limit: bytes = b"",
) -> None:
    """Forward data until the source ends or has sent nothing for `limit` seconds."""
    with contextlib.suppress(ConnectionError):
        try:
            while True:
                async with asyncio.timeout(limit):
                    part = await source.read(65536)
                if not part:
                    return
                at_limit = b""  # it is too late for a status
                target.write(part)
                await target.drain()
        except TimeoutError:
            target.write(at_limit)


class Proxy:
    """Forwards connections from the browser to the app, one request per connection."""

    def __init__(self, host: str, port: int, limit: float) -> None:
        self.app = host, port
        self.limit = limit
        self.requests: set[asyncio.Task[Any]] = set()

    async def __call__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve a connection from the browser."""
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            if request := await reader.read(
                65536
            ):  # browsers also open connections speculatively
                answer = asyncio.create_task(self.serve(request, reader, writer))
                self.requests.add(answer)
                answer.add_done_callback(self.requests.discard)
                await answer

    async def serve(
        self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Forward a request and its response, until one side ends or the timeout is over."""
        app_reader, app_writer = await asyncio.open_connection(*self.app)
        with contextlib.closing(app_writer):
            app_writer.write(request)
            ways = {
                asyncio.create_task(pass_on(reader, app_writer)),
                asyncio.create_task(pass_on(app_reader, writer, self.limit, TIMED_OUT)),
            }
            _, open_ways = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in open_ways:
                way.cancel()
