"""The same slow stream with and without the middleware, through a proxy with an idle timeout.

Run it, and open http://127.0.0.1:8000/ in a browser:

    python docs/examples/demo.py

Ctrl-C stops it and its streams. The environment variable `DEMO_PORT` sets the port, and
`DEMO_LIMIT` the proxy's idle timeout in seconds, 3 by default; the pauses of the app and the
intervals on the page are proportional to it. The proxy is in `demo_proxy.py`, and the page in
`demo.html`, `demo.js` and `demo.css`. The page loads nothing from elsewhere.
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
"""The idle timeout of the proxy, in seconds; nginx's is 60."""
INTERVAL = 1.0
INTERVALS = [LIMIT / 3, LIMIT * 2 / 3, LIMIT * 5 / 3]
"""The intervals to choose from; the last is longer than the idle timeout."""
SILENCE = LIMIT * 7 / 3
DRAIN = LIMIT / 3
REMEMBERED = 100
"""The number of streams whose reports are stored."""

HERE = Path(__file__).parent
FILES = {
    "/": (b"text/html", HERE / "demo.html"),
    "/demo.js": (b"text/javascript", HERE / "demo.js"),
    "/demo.css": (b"text/css", HERE / "demo.css"),
}

# The app: it knows nothing about proxies, pings and the end of streams.


def query_of(scope: Scope) -> dict[str, str]:
    """Return the query of a request."""
    return dict(parse_qsl(scope["query_string"].decode()))


def script(scope: Scope) -> list[tuple[float, str]]:
    """Return the texts that the app sends, each after a pause in seconds."""
    query = query_of(scope)
    silence = float(query.get("silence", SILENCE))
    if "late" in query:  # no bytes until the answer, not even a status
        return [(2 * silence, "The answer is 42.")]
    return [(0, "Let me think."), (silence, "Still thinking."), (silence, "The answer is 42.")]


async def has_left(receive: Receive, seconds: float) -> bool:
    """Wait; return true, early, if the client has disconnected."""
    with anyio.move_on_after(seconds):
        while (await receive())["type"] != "http.disconnect":
            pass
        return True
    return False


async def think(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after long pauses."""
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
    """Use the interval chosen on the page, for pings and for starting the response."""
    interval = float(query_of(scope).get("interval", INTERVAL))
    return {"interval": interval, "start_after": interval}


# Around the app: the page's files, its buttons, and what the middleware reports.


@dataclass
class Known:
    """The abort controller and the reports of one stream."""

    controller: AbortController = field(default_factory=AbortController)
    reports: list[dict[str, object]] = field(default_factory=list)


def report_of(event: StreamStarted | StreamEnded) -> dict[str, object]:
    """Return the fields of an event that the page shows."""
    if isinstance(event, StreamStarted):
        more = {"media_type": event.media_type, "interval": round(event.policy.interval, 3)}
    else:
        more = {
            "reason": event.reason,
            "pings": event.pings,
            "duration": round(event.duration, 3),
            "bytes_sent": event.bytes_sent,
            "started_by": event.started_by,
        }
    return {"name": type(event).__name__, **more}


async def respond(send: Send, status: int, media_type: bytes, body: bytes) -> None:
    """Send a complete response."""
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
        self.on_shutdown = on_signals(signal.SIGINT, signal.SIGTERM)
        self.kept = self.wrap()

    def wrap(self) -> KeepaliveMiddleware:
        """Return the app, wrapped in the middleware."""
        return KeepaliveMiddleware(
            think,
            ping=Ping.event(),  # by default, a page that uses fetch() gets comments
            drain=DRAIN,
            farewell=Ping.event("farewell", "The server ends this stream."),
            routes=options_of,
            abort=self.signal_of,
            on_shutdown=self.on_shutdown,
            observer=self.observe,
        )

    def known(self, path: str) -> Known:
        """Return the record of the stream that a path names; create it if necessary."""
        while len(self.streams) > REMEMBERED:
            del self.streams[next(iter(self.streams))]
        return self.streams.setdefault(path.rpartition("/")[2], Known())

    def signal_of(self, scope: Scope) -> AbortSignal:
        """Return a stream's own signal."""
        return self.known(scope["path"]).controller.signal

    def observe(self, event: StreamEvent) -> None:
        """Record the start and the end of a stream; the page counts the pings itself."""
        if not isinstance(event, PingSent):
            self.known(event.path).reports.append(report_of(event))

    def answer(self, what: str, path: str) -> object:
        """Answer a request of the page; return `None` for unknown ones."""
        match what:
            case "GET settings":
                return {"limit": LIMIT, "silence": SILENCE, "intervals": INTERVALS}
            case "GET reports":
                return self.known(path).reports
            case "POST abort":
                self.known(path).controller.abort()
                return "aborted"
            case "POST shutdown":
                # Shutdown is final for a middleware instance. A real server would now exit;
                # the demo creates a new instance for later streams.
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
    """uvicorn behind the proxy, which may still be sending the last bytes to the browser."""

    def __init__(self, config: uvicorn.Config, proxy: Proxy) -> None:
        super().__init__(config)
        self.proxy = proxy

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down, and wait until the proxy has sent everything."""
        await super().shutdown(sockets)
        if self.proxy.requests:
            await asyncio.wait(self.proxy.requests, timeout=1)


async def serve() -> None:
    """Serve on a local port, and through the proxy on another one."""
    config = uvicorn.Config(
        app, lifespan="off", log_level="warning", headers=[("connection", "close")]
    )
    with socket.create_server((HOST, 0)) as behind:
        proxy = Proxy(HOST, behind.getsockname()[1], LIMIT)
        front = await asyncio.start_server(proxy, HOST, PORT)
        print(f"Open http://{HOST}:{PORT}/ in a browser. Press Ctrl-C to stop.", flush=True)
        await Server(config, proxy).serve(sockets=[behind])
        front.close()


def main() -> None:
    """Run the demo."""
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        pass
    except OSError as error:
        sys.exit(f"{error}. Set DEMO_PORT to use another port.")


if __name__ == "__main__":
    main()
