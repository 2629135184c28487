"""A page with a watchdog, which detects a dead connection by missing pings.

Run it, and open http://127.0.0.1:8000/ in a browser:

    python docs/examples/watchdog.py

Ctrl-Z leaves the connection open but dead, `fg` continues; Ctrl-C stops the server and its
streams. `?interval=5` sets the seconds between two pings, `?silence=5` those between two
events, `?steps=3` ends each stream after its third event. The watchdog is in `watchdog.js`.
"""

import contextlib
import signal
import time
from collections.abc import Awaitable, Callable, MutableMapping
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import anyio
import uvicorn

from keepalive import (
    KeepaliveMiddleware,
    Ping,
    PolicyOptions,
    StopReason,
    get_stream,
    on_signals,
)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INTERVAL = 2.0
SILENCE = 9.0
REMEMBERED = 1000
"""The number of past events that are sent to clients that have missed them."""

HERE = Path(__file__).parent
FILES = {
    "/": (b"text/html", HERE / "watchdog.html"),
    "/watchdog.js": (b"text/javascript", HERE / "watchdog.js"),
}


def query_of(scope: Scope) -> dict[str, str]:
    """Return the query of a request."""
    return dict(parse_qsl(scope["query_string"].decode()))


def last_id(scope: Scope) -> str:
    """Return the ID of the last event that a client has received; empty for none.

    A browser that reconnects by itself sends it in a header, and an unchanged query.
    """
    headers = dict(scope["headers"])
    return headers.get(b"last-event-id", b"").decode() or query_of(scope).get("last", "")


def first_number(scope: Scope, silence: float) -> int:
    """Return the number of the first event for a client: the one after its last."""
    newest = int(time.time() / silence)
    if (last := last_id(scope)).isdecimal():
        return max(newest - REMEMBERED, min(int(last), newest)) + 1
    return newest


async def stream_events(scope: Scope, send: Send) -> None:
    """Send an event every few seconds.

    Its number, which is its ID, comes from the clock, so that past events need not be stored.
    A real app would store the latest ones.
    """
    query = query_of(scope)
    silence, steps = float(query.get("silence", SILENCE)), int(query.get("steps", 0))
    first = first_number(scope, silence)
    stopping = get_stream(scope).signal
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in count(first):
        with anyio.move_on_after(number * silence - time.time()):
            await stopping.wait()  # until a disconnect or a shutdown
        if stopping.aborted:
            break
        clock = time.strftime("%H:%M:%S", time.localtime(number * silence))
        body = f"id: {number}\ndata: event of {clock}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
        if number + 1 - first == steps:
            break
    if stopping.reason is not StopReason.DISCONNECTED:
        await send({"type": "http.response.body"})


async def respond(send: Send, status: int, media_type: bytes, body: bytes) -> None:
    """Send a complete response."""
    headers = [
        (b"content-type", media_type + b"; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the page at `/` and the stream at `/events`."""
    if scope["type"] != "http":
        return
    if scope["path"] == "/events":
        await stream_events(scope, send)
    elif scope["path"] in FILES:
        media_type, file = FILES[scope["path"]]
        await respond(send, 200, media_type, file.read_bytes())
    else:
        await respond(send, 404, b"text/plain", b"The page is at /, the stream at /events.\n")


def options_of(scope: Scope) -> PolicyOptions:
    """Use the interval from the query, and send it as the data of each ping."""
    interval = float(query_of(scope).get("interval", INTERVAL))
    return {"interval": interval, "ping": Ping.event(data=f"{interval:g}")}


app = KeepaliveMiddleware(
    serve,
    pacing="steady",
    first_ping=0,
    routes=options_of,
    drain=1.0,
    on_shutdown=on_signals(signal.SIGINT, signal.SIGTERM),
)


def main() -> None:
    """Serve on port 8000, on this machine only."""
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(app, host="127.0.0.1", port=8000, lifespan="off")


if __name__ == "__main__":
    main()
