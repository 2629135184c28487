"""A raw ASGI app that never calls `receive()`, and sends each event in two parts.

Run it:

    uvicorn --app-dir docs/examples raw_asgi:app
    curl -N 'http://127.0.0.1:8000/?silence=3&events=2'

The app pauses within each event and after it. No ping is sent within an event: it is delayed
and sent right after the event. The stream's signal notifies the app of a disconnect.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qsl

import anyio

from keepalive import KeepaliveMiddleware, StopReason, get_stream

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INTERVAL = 1.0
SILENCE = 3.0
EVENTS = 10


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Send some events, each in two parts, with a pause after each part."""
    if scope["type"] != "http":
        return
    query = dict(parse_qsl(scope["query_string"].decode()))
    silence, events = float(query.get("silence", SILENCE)), int(query.get("events", EVENTS))
    stopping = get_stream(scope).signal
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for half in [b"data: first half\n", b"data: second half\n\n"] * events:
        await send({"type": "http.response.body", "body": half, "more_body": True})
        with anyio.move_on_after(silence):
            await stopping.wait()
        if stopping.reason is StopReason.DISCONNECTED:
            return
    await send({"type": "http.response.body"})


app = KeepaliveMiddleware(serve, interval=INTERVAL)
