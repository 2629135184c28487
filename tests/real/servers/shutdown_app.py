"""The app that servers are stopped with: three kinds of stream, and a journal of their ends.

The path names the kind: `/finishing` ends by itself soon after it has heard of the shutdown,
`/feed` sends for ever, `/blocked` waits for ever. None of them calls `receive`.

The journal is written, as JSON lines, to the file that `JOURNAL` names; by every process of a
server. `WITHOUT` serves the app without the middleware; `DRAIN` sets the seconds of the drain.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Final

import anyio
import sniffio

from keepalive import KeepaliveMiddleware, Ping, get_stream, on_signals

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INTERVAL: Final = 0.5
DRAIN: Final = float(os.environ.get("DRAIN", "1.2"))
STEP: Final = 0.2
"""Seconds between two events of the feed."""

GOODBYE: Final = 0.4
"""Seconds that the finishing app takes for its end."""

CLEANUP: Final = 0.1
"""Seconds of an app's cleanup, awaited in its `finally`."""


def note(what: str, **facts: object) -> None:
    """Write down what has happened."""
    if name := os.environ.get("JOURNAL"):
        line = {"what": what, "at": time.monotonic(), "pid": os.getpid(), **facts}
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


async def clean_up() -> None:
    """Wait a moment. trio asks for a shield round what a cancelled task awaits."""
    shield = sniffio.current_async_library() == "trio"
    if shield:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(CLEANUP)
    else:
        await anyio.sleep(CLEANUP)


async def say(send: Send, body: bytes, *, more: bool = True) -> None:
    """Send a body message."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def finishing(scope: Message, send: Send) -> None:
    """End as soon as the shutdown is reported."""
    await say(send, b"data: hello\n\n")
    await get_stream(scope).signal.wait()
    note("heard", path=scope["path"])
    await anyio.sleep(GOODBYE)
    await say(send, b"data: goodbye\n\n", more=False)


async def feed(scope: Message, send: Send) -> None:
    """Send an event now and then, for ever."""
    while True:
        await say(send, b"data: news\n\n")
        await anyio.sleep(STEP)


async def blocked(scope: Message, send: Send) -> None:
    """Wait for what never comes."""
    await say(send, b"data: hello\n\n")
    await anyio.Event().wait()


KINDS: Final = {kind.__name__: kind for kind in (finishing, feed, blocked)}


async def lifespan(receive: Receive, send: Send) -> None:
    """Write down when the server starts and when it stops."""
    for what in ("startup", "shutdown"):
        message = await receive()
        assert message["type"] == f"lifespan.{what}", message
        note(message["type"])
        await send({"type": f"lifespan.{what}.complete"})


async def serve(scope: Message, receive: Receive, send: Send) -> None:
    """Serve a stream of the kind that the path names; anything else says that all is ready."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    path = scope["path"]
    kind = KINDS.get(path.split("/")[1])
    media_type = b"text/plain" if kind is None else b"text/event-stream"
    headers = [(b"content-type", media_type)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if kind is None:
        await say(send, b"ready", more=False)
        return
    note("opened", path=path)
    try:
        await kind(scope, send)
    finally:
        met = sys.exception()
        note("finally began", path=path, met=met and type(met).__name__)
        await clean_up()
        note("finally ran", path=path)


if os.environ.get("WITHOUT"):
    app = serve
else:
    app = KeepaliveMiddleware(
        serve,
        INTERVAL,
        on_shutdown=on_signals(signal.SIGTERM, signal.SIGINT),
        drain=DRAIN,
        farewell=Ping.event("stopping"),
    )
