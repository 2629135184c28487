"""The app that the command is tried on, plain and kept alive.

The first segment of a path is `plain`, `kept`, or `bare`, which is kept alive without the
headers against buffering; the second is what is served.
"""

import asyncio
from typing import Final

from support.internals import ASGIApp, Receive, Scope, Send

from keepalive import KeepaliveMiddleware

INTERVAL: Final = 0.5
SLOW: Final = 1.5
"""The interval of `bare`, long enough for its headers to be late if they wait for a ping."""

EVENT: Final = b"data: event\n\n"
LONG: Final = b"data: %b\n\n" % b"long ".ljust(1000, b"x")
"""An event that a proxy thinks worth compressing."""


async def start(send: Send, media_type: bytes = b"text/event-stream") -> None:
    headers = [(b"content-type", media_type)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def say(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def silent(receive: Receive, send: Send) -> None:
    """Send one event."""
    await start(send)
    await say(send, LONG)
    await gone(receive)


async def empty(receive: Receive, send: Send) -> None:
    """Send the headers only."""
    await start(send)
    await gone(receive)


async def mute(receive: Receive, send: Send) -> None:
    """Send nothing."""
    await gone(receive)


async def talking(receive: Receive, send: Send) -> None:
    """Send an event every 0.2 seconds."""
    await start(send)
    for _ in range(100):
        await say(send, EVENT)
        await asyncio.sleep(0.2)


async def ending(receive: Receive, send: Send) -> None:
    """End after some silence."""
    await start(send)
    await say(send, LONG)
    await asyncio.sleep(4)
    await say(send, EVENT, more=False)


async def page(receive: Receive, send: Send) -> None:
    """Send what is not a stream."""
    await start(send, b"text/html")
    await say(send, b"<html>", more=False)


async def moved(receive: Receive, send: Send) -> None:
    """Redirect to the silent stream."""
    headers = [(b"location", b"silent"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 307, "headers": headers})
    await say(send, b"", more=False)


APPS: Final = {
    app.__name__: app for app in (silent, empty, mute, talking, ending, page, moved)
}


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve what the path names."""
    await APPS[scope["path"].removeprefix("/")](receive, send)


VARIANTS: Final[dict[str, ASGIApp]] = {
    "plain": plain,
    "kept": KeepaliveMiddleware(plain, INTERVAL),
    "bare": KeepaliveMiddleware(plain, SLOW, anti_buffering=False),
}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the variant that the path names."""
    if scope["type"] == "http":
        _, variant, name = scope["path"].split("/")
        await VARIANTS[variant]({**scope, "path": f"/{name}"}, receive, send)
