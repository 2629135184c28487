"""Hypercorn's `ProxyFixMiddleware`, which copies each scope deeply, within the middleware.

A response and a stream. Not copied: `/ok`, and `/loop`, which goes on asking for what its
client has to say.
"""

from typing import Final

from hypercorn.middleware import ProxyFixMiddleware
from real.servers.shutdown_app import Message, Receive, Send, lifespan
from support.sent_pings import sent_pings

from keepalive import KeepaliveMiddleware, get_stream


async def serve(scope: Message, receive: Receive, send: Send) -> None:
    """Answer with a response, or with a stream of two events."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    if scope["path"] == "/loop":
        while True:
            await receive()
    kind = b"text/event-stream" if scope["path"] == "/stream" else b"text/plain"
    headers = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/stream":
        assert sent_pings(get_stream(scope)) == 0
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    await send({"type": "http.response.body", "body": b"data: ok\n\n"})


FIXED: Final = ProxyFixMiddleware(serve)


async def fixed_or_not(scope: Message, receive: Receive, send: Send) -> None:
    """Copy the scopes of `/` and `/stream`."""
    app = FIXED if scope.get("path") in ("/", "/stream") else serve
    await app(scope, receive, send)


app = KeepaliveMiddleware(fixed_or_not)
