"""A connection to something upstream, its messages as a stream, and a path for its errors.

Run it:

    python docs/examples/connection.py
    curl -N 'http://127.0.0.1:8000/?messages=3&silence=3'
    curl -N 'http://127.0.0.1:8000/?messages=1&silence=3&fail=yes'

While upstream says nothing there is a ping every second. However the stream ends, the
connection is closed: when upstream is through, when it fails (there is a log record, and the
client gets `event: error`), when the client leaves and when the server is stopped.
"""

import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import aclosing, asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import anyio
import uvicorn

from keepalive import KeepaliveMiddleware, Ping, StopReason, get_stream, on_signals

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INTERVAL = 1.0
DRAIN = 5.0
CLOSING = 2.0
"""Seconds that closing a connection may take."""

LOGGER = logging.getLogger("connection")


class Connection:
    """A connection to something that speaks now and then."""

    def __init__(self, messages: int, silence: float, *, fails: bool) -> None:
        """Make one that says so much, with so many seconds before each message."""
        self.messages, self.silence, self.fails = messages, silence, fails
        self.closed = False

    async def listen(self) -> AsyncIterator[str]:
        """Yield what it says."""
        for number in range(1, self.messages + 1):
            await anyio.sleep(self.silence)
            yield f"message {number}"
        if self.fails:
            await anyio.sleep(self.silence)
            raise ConnectionResetError("upstream has gone")

    async def close(self) -> None:
        """Say goodbye; upstream may take its time."""
        await anyio.sleep(0.1)
        self.closed = True
        LOGGER.info("the connection is closed")


@asynccontextmanager
async def connected(scope: Scope) -> AsyncIterator[Connection]:
    """Open a connection, and close it whatever happens, in bounded time."""
    query = dict(parse_qsl(scope["query_string"].decode()))
    messages, silence = int(query.get("messages", 10)), float(query.get("silence", 3))
    connection = Connection(messages, silence, fails="fail" in query)
    try:
        yield connection
    finally:
        with anyio.move_on_after(CLOSING, shield=True):
            await connection.close()


async def events(connection: Connection) -> AsyncIterator[bytes]:
    """Yield what upstream says as events, its failure too."""
    try:
        async for text in connection.listen():
            yield f"data: {text}\n\n".encode()
    except Exception:
        LOGGER.exception("the connection has failed")
        yield b"event: error\ndata: upstream has failed\n\n"


async def relay(connection: Connection, send: Send) -> None:
    """Pass on what upstream says, and end the stream when it is through, or has failed."""
    async with aclosing(events(connection)) as said:
        async for event in said:
            await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body"})


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Relay a connection until it ends, or until the stream is to end."""
    if scope["type"] != "http":
        return
    async with connected(scope) as connection:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        stopping = get_stream(scope).signal
        async with anyio.create_task_group() as tasks:

            async def relay_to_the_end() -> None:
                await relay(connection, send)
                tasks.cancel_scope.cancel()

            tasks.start_soon(relay_to_the_end)
            reason = await stopping.wait()
            LOGGER.info("the stream is to end: %s", reason)
            if reason is StopReason.DISCONNECTED:
                tasks.cancel_scope.cancel()


app = KeepaliveMiddleware(
    serve,
    interval=INTERVAL,
    ping=Ping.event(),
    on_shutdown=on_signals(signal.SIGTERM, signal.SIGINT),
    drain=DRAIN,  # upstream may finish within that; then the stream is ended
    farewell=Ping.event("stopping"),
)


def main() -> None:
    """Serve on port 8000 of this machine alone."""
    logging.basicConfig(level=logging.INFO)
    uvicorn.run(app, host="127.0.0.1", port=8000, lifespan="off")


if __name__ == "__main__":
    main()
