"""A proxy with an idle limit, for the demo: what nginx does after 60 seconds, in 3.

Nothing but bytes: it cuts a connection on which no byte has come from the app for longer than
its limit, and answers 504 if that was before the first.
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
    """Pass on what comes, until it ends, or nothing has come for too long."""
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
    """Stands between the browser and the app. One request for each connection."""

    def __init__(self, host: str, port: int, limit: float) -> None:
        self.app = host, port
        self.limit = limit
        self.requests: set[asyncio.Task[Any]] = set()

    async def __call__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve a connection of the browser's."""
        with contextlib.suppress(ConnectionError), contextlib.closing(writer):
            if request := await reader.read(65536):  # browsers also connect just in case
                answer = asyncio.create_task(self.serve(request, reader, writer))
                self.requests.add(answer)
                answer.add_done_callback(self.requests.discard)
                await answer

    async def serve(
        self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Pass on a request and its answer, until either side ends, or the limit does."""
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
