"""Relay an upstream connection as a stream, with error handling and cleanup.

Run it:

    python docs/examples/connection.py
    curl -N 'http://127.0.0.1:8000/?messages=3&silence=3'
    curl -N 'http://127.0.0.1:8000/?messages=1&silence=3&fail=yes'

While upstream is idle, a ping is sent every second. The connection is always closed: when
upstream has finished, when it fails (which is logged, and the client gets `event: error`),
when the client disconnects, and when the server is stopped.
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
"""Seconds that closing the connection may take."""

LOGGER = logging.getLogger("connection")


class Connection:
    """A connection that delivers a message now and then."""

    def __init__(self, messages: int, silence: float, *, fails: bool) -> None:
        """Create one with this number of messages, each after `silence` seconds."""
        self.messages, self.silence, self.fails = messages, silence, fails
        self.closed = False

    async def listen(self) -> AsyncIterator[str]:
        """Yield the messages."""
        for number in range(1, self.messages + 1):
            await anyio.sleep(self.silence)
            yield f"message {number}"
        if self.fails:
            await anyio.sleep(self.silence)
            raise ConnectionResetError("upstream has disconnected")

    async def close(self) -> None:
        """Close the connection, which may take some time."""
        await anyio.sleep(0.1)
        self.closed = True
        LOGGER.info("the connection is closed")


@asynccontextmanager
async def connected(scope: Scope) -> AsyncIterator[Connection]:
    """Open a connection, and always close it, in bounded time."""
    query = dict(parse_qsl(scope["query_string"].decode()))
    messages, silence = int(query.get("messages", 10)), float(query.get("silence", 3))
    connection = Connection(messages, silence, fails="fail" in query)
    try:
        yield connection
    finally:
        with anyio.move_on_after(CLOSING, shield=True):
            await connection.close()


async def events(connection: Connection) -> AsyncIterator[bytes]:
    """Yield the messages as events, and an error event if upstream fails."""
    try:
        async for text in connection.listen():
            yield f"data: {text}\n\n".encode()
    except Exception:
        LOGGER.exception("the connection has failed")
        yield b"event: error\ndata: upstream has failed\n\n"


async def relay(connection: Connection, send: Send) -> None:
    """Forward the messages, and end the stream when upstream has finished or failed."""
    async with aclosing(events(connection)) as said:
        async for event in said:
            await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body"})


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Relay a connection until it ends or the stream is ended."""
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
    drain=DRAIN,  # upstream may finish within this time; then the stream is ended
    farewell=Ping.event("stopping"),
)


def main() -> None:
    """Serve on port 8000, on this machine only."""
    logging.basicConfig(level=logging.INFO)
    uvicorn.run(app, host="127.0.0.1", port=8000, lifespan="off")


if __name__ == "__main__":
    main()
