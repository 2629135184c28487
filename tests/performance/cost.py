"""What a response costs in-process: with no server, no socket and no framework.

It calls ASGI apps directly and measures their time.

Each number is the best of several rounds; the rounds of all contestants are interleaved, so
that a slow minute of the machine is slow for each of them.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from effort import Effort
from tables import table

from keepalive import KeepaliveMiddleware

App = Callable[..., Awaitable[None]]

EVENT = b"data: 0123456789012345678901234567890123456789\n\n"
LOOPS = ("asyncio", "uvloop", "trio")


def plain(count: int) -> App:
    """Return an app that answers with a small text; it is called `count` times."""
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"13")]

    async def app(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"Hello, world!"})

    app.calls, app.units = count, 1  # type: ignore[attr-defined]
    return app


def stream(count: int) -> App:
    """Return an app that is called once and sends `count` events."""
    headers = [(b"content-type", b"text/event-stream")]

    async def app(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(count):
            await send({"type": "http.response.body", "body": EVENT, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    app.calls, app.units = 1, count  # type: ignore[attr-defined]
    return app


def unwrapped(app: App) -> App:
    """Return the app itself."""
    return app


class ForwardOnly:
    """Wraps both ends of the app and does nothing; written as middlewares usually are."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope, receive, send):
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def forward_receive():
            return await receive()

        async def forward_send(message):
            await send(message)

        await self.app(scope, forward_receive, forward_send)


WRAPPERS: dict[str, Callable[[App], App]] = {
    "unwrapped": unwrapped,
    "forward only": ForwardOnly,
    "asgi-keepalive": KeepaliveMiddleware,
}


def scope_of_server() -> dict[str, Any]:
    """Return a scope with the keys that uvicorn gives."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/events",
        "raw_path": b"/events",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"x")],
        "state": {},
    }


async def receive() -> dict[str, Any]:
    """Be a server's `receive`: one empty request."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: dict[str, Any]) -> None:
    """Be a server's `send` that costs nothing."""


async def timed(app: App, calls: int) -> float:
    """Return the seconds that so many calls took."""
    scopes = [scope_of_server() for _ in range(calls)]
    began = time.perf_counter()
    for scope in scopes:
        await app(scope, receive, send)
    return time.perf_counter() - began


def run_on(loop: str, main: Callable[..., Awaitable[float]], *args: object) -> float:
    """Run a coroutine function on a fresh loop of that kind."""
    if loop == "trio":
        import trio

        return trio.run(main, *args)
    if loop == "uvloop":
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main(*args))
    return asyncio.run(main(*args))


def added(loop: str, app: App, rounds: int) -> dict[str, float]:
    """Return the microseconds that each wrapper takes for one unit of an app's work."""
    best: dict[str, float] = {}
    for _ in range(rounds):
        for name, wrap in WRAPPERS.items():
            calls, units = app.calls, app.units  # type: ignore[attr-defined]
            took = run_on(loop, timed, wrap(app), calls) / (calls * units) * 1e6
            best[name] = min(took, best.get(name, took))
    return best


def measure(effort: Effort) -> dict[str, Any]:
    """Return microseconds by loop, kind of response and wrapper."""
    kinds = {"no stream": plain(effort.events), "event": stream(effort.events)}
    return {
        loop: {kind: added(loop, app, effort.rounds) for kind, app in kinds.items()}
        for loop in LOOPS
    }


def tables(found: dict[str, Any]) -> str:
    """Return the Markdown tables of what was measured."""
    rows = []
    for loop, kinds in found.items():
        for kind, took in kinds.items():
            forward = took["forward only"] - took["unwrapped"]
            ours = took["asgi-keepalive"] - took["unwrapped"]
            times = [f"{each:.2f}" for each in (took["unwrapped"], forward, ours)]
            rows.append([kind, loop, *times, f"{ours / forward:.1f}"])
    head = ["for", "loop", "unwrapped, us", "forward only adds", "asgi-keepalive adds"]
    return table("Cost in-process", [*head, "times forward only's"], rows)
