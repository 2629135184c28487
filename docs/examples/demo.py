"""The same slow stream twice, through a proxy that bears no silence: bare, and kept alive.

Run it, and open http://127.0.0.1:8000/ in a browser:

    python docs/examples/demo.py

Ctrl-C stops it, and the streams with it. `DEMO_PORT` in the environment is another port;
`DEMO_LIMIT` is how many seconds of silence the proxy bears, 3 by default: the stream's own
silences, and the intervals to choose from, go with it. The proxy is in `demo_proxy.py`; the
page is in `demo.html`, `demo.js` and `demo.css`, and asks nobody but this program.
"""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import anyio
import uvicorn
from demo_proxy import Proxy

from keepalive import (
    AbortController,
    AbortSignal,
    KeepaliveMiddleware,
    Ping,
    PingSent,
    PolicyOptions,
    StreamEnded,
    StreamEvent,
    StreamStarted,
    on_signals,
)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HOST = "127.0.0.1"
PORT = int(os.environ.get("DEMO_PORT", "8000"))
LIMIT = float(os.environ.get("DEMO_LIMIT", "3"))
"""Seconds of silence that the proxy bears; nginx has 60."""
INTERVAL = 1.0
INTERVALS = [LIMIT / 3, LIMIT * 2 / 3, LIMIT * 5 / 3]
"""What the page has to choose from; the last is too long for the proxy."""
SILENCE = LIMIT * 7 / 3
DRAIN = LIMIT / 3
REMEMBERED = 100
"""Streams whose reports are kept."""

HERE = Path(__file__).parent
FILES = {
    "/": (b"text/html", HERE / "demo.html"),
    "/demo.js": (b"text/javascript", HERE / "demo.js"),
    "/demo.css": (b"text/css", HERE / "demo.css"),
}

# The app: a stream that knows nothing of proxies, of pings and of ends.


def query_of(scope: Scope) -> dict[str, str]:
    """Return the query of a request."""
    return dict(parse_qsl(scope["query_string"].decode()))


def script(scope: Scope) -> list[tuple[float, str]]:
    """Return what the app says, and how long it is silent before each."""
    query = query_of(scope)
    silence = float(query.get("silence", SILENCE))
    if "late" in query:  # it has nothing to say before its answer, not even a status
        return [(2 * silence, "The answer is 42.")]
    return [(0, "Let me think."), (silence, "Still thinking."), (silence, "The answer is 42.")]


async def has_left(receive: Receive, seconds: float) -> bool:
    """Wait; return early if the client has gone."""
    with anyio.move_on_after(seconds):
        while (await receive())["type"] != "http.disconnect":
            pass
        return True
    return False


async def think(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after long silences."""
    lines = script(scope)
    headers = [(b"content-type", b"text/event-stream")]
    for number, (silence, text) in enumerate(lines):
        if await has_left(receive, silence):
            return
        if number == 0:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = f"data: {text}\n\n".encode()
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body"})


def options_of(scope: Scope) -> PolicyOptions:
    """Ping as often as the page asks for; start in the app's place if it takes that long."""
    interval = float(query_of(scope).get("interval", INTERVAL))
    return {"interval": interval, "start_after": interval}


# What is round the app: the page's files, its buttons, and what the middleware reports.


@dataclass
class Known:
    """What is known of one stream."""

    controller: AbortController = field(default_factory=AbortController)
    reports: list[dict[str, object]] = field(default_factory=list)


def report_of(fact: StreamStarted | StreamEnded) -> dict[str, object]:
    """Return what the page shows of a fact."""
    if isinstance(fact, StreamStarted):
        more = {"media_type": fact.media_type, "interval": round(fact.policy.interval, 3)}
    else:
        more = {
            "reason": fact.reason,
            "pings": fact.pings,
            "duration": round(fact.duration, 3),
            "bytes_sent": fact.bytes_sent,
            "started_by": fact.started_by,
        }
    return {"name": type(fact).__name__, **more}


async def respond(send: Send, status: int, media_type: bytes, body: bytes) -> None:
    """Send a whole response."""
    headers = [
        (b"content-type", media_type + b"; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Demo:
    """The stream at `/plain/ID` and at `/kept/ID`; the page at `/`."""

    def __init__(self) -> None:
        self.streams: dict[str, Known] = {}
        self.owner = on_signals(signal.SIGINT, signal.SIGTERM)
        self.kept = self.wrap()

    def wrap(self) -> KeepaliveMiddleware:
        """Return the app, kept alive."""
        return KeepaliveMiddleware(
            think,
            ping=Ping.event(),  # a page that reads with fetch() would get a comment
            drain=DRAIN,
            farewell=Ping.event("farewell", "The server ends this stream."),
            routes=options_of,
            abort=self.signal_of,
            on_shutdown=self.owner,
            observer=self.observe,
        )

    def known(self, path: str) -> Known:
        """Return what is known of the stream that a path names; new ones are added."""
        while len(self.streams) > REMEMBERED:
            del self.streams[next(iter(self.streams))]
        return self.streams.setdefault(path.rpartition("/")[2], Known())

    def signal_of(self, scope: Scope) -> AbortSignal:
        """Return a stream's own signal."""
        return self.known(scope["path"]).controller.signal

    def observe(self, fact: StreamEvent) -> None:
        """Remember when a stream starts and ends; the page counts the pings itself."""
        if not isinstance(fact, PingSent):
            self.known(fact.path).reports.append(report_of(fact))

    def answer(self, what: str, path: str) -> object:
        """Do what the page asks for."""
        match what:
            case "GET settings":
                return {"limit": LIMIT, "silence": SILENCE, "intervals": INTERVALS}
            case "GET reports":
                return self.known(path).reports
            case "POST abort":
                self.known(path).controller.abort()
                return "aborted"
            case "POST shutdown":
                # A middleware that was shut down stays so. A server would now end, and be
                # started anew; here the streams to come get a new middleware.
                self.kept.shutdown()
                self.kept = self.wrap()
                return "shut down"
        return None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        kind = path.split("/")[1]
        if kind == "plain":
            await think(scope, receive, send)
        elif kind == "kept":
            await self.kept(scope, receive, send)
        elif path in FILES:
            media_type, file = FILES[path]
            await respond(send, 200, media_type, file.read_bytes())
        elif (found := self.answer(f"{scope['method']} {kind}", path)) is not None:
            await respond(send, 200, b"application/json", json.dumps(found).encode())
        else:
            await respond(send, 404, b"text/plain", b"The page is at /.\n")


app = Demo()


class Server(uvicorn.Server):
    """uvicorn behind the proxy, which tells the browser the last word too."""

    def __init__(self, config: uvicorn.Config, proxy: Proxy) -> None:
        super().__init__(config)
        self.proxy = proxy

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End."""
        await super().shutdown(sockets)
        if self.proxy.requests:
            await asyncio.wait(self.proxy.requests, timeout=1)


async def serve() -> None:
    """Serve on a port of this machine alone, and through the proxy on another."""
    config = uvicorn.Config(
        app, lifespan="off", log_level="warning", headers=[("connection", "close")]
    )
    with socket.create_server((HOST, 0)) as behind:
        proxy = Proxy(HOST, behind.getsockname()[1], LIMIT)
        front = await asyncio.start_server(proxy, HOST, PORT)
        print(f"Open http://{HOST}:{PORT}/ in a browser. Ctrl-C ends it.", flush=True)
        await Server(config, proxy).serve(sockets=[behind])
        front.close()


def main() -> None:
    """Run the demo."""
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"{error}. DEMO_PORT in the environment is another port.")


if __name__ == "__main__":
    main()
