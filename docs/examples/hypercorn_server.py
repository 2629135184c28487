"""A program that serves an app with hypercorn, and shuts down its streams first.

Run it:

    python docs/examples/hypercorn_server.py          # or: ... hypercorn_server.py trio
    curl -N http://127.0.0.1:8000/

Then stop it with Ctrl-C: the stream ends cleanly with `event: stopping`, and the server exits
within three seconds. A second Ctrl-C does not wait.

This is not possible with the `hypercorn` command: its worker processes receive no signal, and
without worker processes, SIGTERM on trio ends the process immediately.
"""

import contextlib
import signal
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio
import hypercorn.asyncio
import hypercorn.trio
from hypercorn.config import Config

from keepalive import KeepaliveMiddleware, Ping

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INTERVAL = 2.0
SILENCE = 5.0
DRAIN = 2.0

SERVE = {"asyncio": hypercorn.asyncio.serve, "trio": hypercorn.trio.serve}


async def lifespan(receive: Receive, send: Send) -> None:
    """Start and stop with the server."""
    for what in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{what}.complete"})


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """Send an event now and then, forever."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while True:
        await send(
            {"type": "http.response.body", "body": b"data: news\n\n", "more_body": True}
        )
        await anyio.sleep(SILENCE)


app = KeepaliveMiddleware(
    events, interval=INTERVAL, drain=DRAIN, farewell=Ping.event("stopping")
)


async def serve(app: KeepaliveMiddleware, config: Config, loop: str) -> None:
    """Serve until the first SIGTERM or SIGINT, and until the streams have ended."""
    stopping = anyio.Event()

    async def listen() -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for _ in signals:
                break
        app.shutdown()
        stopping.set()

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await SERVE[loop](app, config, shutdown_trigger=stopping.wait)
        group.cancel_scope.cancel()


def run(app: KeepaliveMiddleware, loop: str = "asyncio", bind: str = "127.0.0.1:8000") -> None:
    """Serve an app."""
    config = Config()
    config.bind = [bind]
    config.graceful_timeout = DRAIN + 3.0  # longer than the streams need
    with contextlib.suppress(KeyboardInterrupt):
        anyio.run(serve, app, config, loop, backend=loop)


if __name__ == "__main__":
    run(app, *sys.argv[1:])
