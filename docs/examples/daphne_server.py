"""A program that serves an app with daphne, and waits for its streams on shutdown.

Run it:

    python docs/examples/daphne_server.py
    curl -N http://127.0.0.1:8000/

Then stop it with Ctrl-C: the stream ends cleanly with `event: stopping`, and the server exits
about four seconds later. A second Ctrl-C does not wait.

With the `daphne` command an app is notified, too, but cancelled at the same time.
"""

import signal
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any

import anyio

# daphne first: it chooses Twisted's reactor.
import daphne.server
from daphne.endpoints import build_endpoint_description_strings
from twisted.internet import reactor

from keepalive import KeepaliveMiddleware, Ping

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INTERVAL = 2.0
SILENCE = 5.0
DRAIN = 2.0
GRACE = 2.0
"""Seconds after the drain time. In the first one, the middleware cancels apps that have not
returned; the second one is for their cleanup, which daphne would cancel, too."""


async def events(scope: Scope, receive: Receive, send: Send) -> None:
    """Send an event now and then, forever."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while True:
        body = b"data: news\n\n"
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await anyio.sleep(SILENCE)


app = KeepaliveMiddleware(
    events, interval=INTERVAL, drain=DRAIN, farewell=Ping.event("stopping")
)


def run(app: KeepaliveMiddleware, port: str = "8000", drain: float = DRAIN) -> None:
    """Serve an app on a local port."""

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one does not wait
        app.shutdown()
        reactor.callFromThread(reactor.callLater, drain + GRACE, reactor.stop)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    endpoints = build_endpoint_description_strings(host="127.0.0.1", port=int(port))
    daphne.server.Server(app, endpoints=endpoints, signal_handlers=False).run()


if __name__ == "__main__":
    run(app, *sys.argv[1:])
