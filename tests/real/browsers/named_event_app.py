"""A stream for the watchdog whose one event has a name, and whose pings tell no interval."""

from typing import Final
from urllib.parse import parse_qs

from real.browsers.watchdog_page import INTERVAL
from real.processes import EXAMPLES
from support.internals import Receive, Scope, Send

from keepalive import KeepaliveMiddleware, get_stream

SCRIPT: Final = (EXAMPLES / "watchdog.js").read_bytes()


async def router(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the event behind the last one that the query names, and no more; or the script."""
    if scope["type"] != "http":
        return
    streams = scope["path"] == "/events"
    kind = b"text/event-stream" if streams else b"text/javascript"
    # A connection that is idle would die with the stream's, and be taken for the next one.
    headers = [(b"content-type", kind), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if not streams:
        await send({"type": "http.response.body", "body": SCRIPT})
        return
    last = int(parse_qs(scope["query_string"].decode()).get("last", ["0"])[0])
    body = f"event: update\nid: {last + 1}\ndata: after {last}\n\n".encode()
    await send({"type": "http.response.body", "body": body, "more_body": True})
    await get_stream(scope).signal.wait()


application: Final = KeepaliveMiddleware(router, INTERVAL)
