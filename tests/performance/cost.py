"""What a response costs in-process: with no server, no socket and no framework.

It calls ASGI apps directly and measures the CPU time of the process, not the time that passes:
on a shared machine the latter depends on what else is running. Each number is the best of
several rounds, and the rounds of all rows are interleaved.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from effort import Effort
from tables import table

from keepalive import KeepaliveMiddleware

App = Callable[..., Awaitable[None]]
Wrap = Callable[[App], App]

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


def stream(count: int, calls: int = 1) -> App:
    """Return an app that sends `count` events; it is called `calls` times."""
    headers = [(b"content-type", b"text/event-stream")]

    async def app(scope, receive, send):
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(count):
            await send({"type": "http.response.body", "body": EVENT, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    app.calls, app.units = calls, count  # type: ignore[attr-defined]
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


def ours(**options: Any) -> Wrap:
    """Return what wraps an app in this package's middleware."""
    return lambda app: KeepaliveMiddleware(app, **options)  # type: ignore[return-value, arg-type]


def nested(app: App) -> App:
    """Wrap an app twice, as a library and the operator of an app may do."""
    return ours(drain=10.0)(ours()(app))


WITH_LIMITS: Final[dict[str, Wrap]] = {
    "drain": ours(drain=10.0),
    "max_lifetime": ours(max_lifetime=3600.0),
    "max_silence": ours(max_silence=600.0),
    "send_timeout": ours(send_timeout=30.0),
    "start_after": ours(start_after=5.0, start_as="application/json"),
    "nested": nested,
}
"""Options that cost something, and two middlewares around the same app."""

WRAPPERS: Final[dict[str, Wrap]] = {
    "unwrapped": unwrapped,
    "forward only": ForwardOnly,
    "asgi-keepalive": ours(),
    **WITH_LIMITS,
}


class Work(NamedTuple):
    """What is measured: an app, and what each of its units is called."""

    app: Callable[[int], App]
    share: float
    """How many units there are, for each of the usual."""


WORK: Final[dict[str, Work]] = {
    "plain response": Work(plain, 0.25),
    "event": Work(stream, 1.0),
    "stream of one event": Work(lambda count: stream(1, count), 0.1),
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
    """Return the CPU seconds that so many calls took."""
    scopes = [scope_of_server() for _ in range(calls)]
    began = time.process_time()
    for scope in scopes:
        await app(scope, receive, send)
    return time.process_time() - began


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


def one_round(loop: str, apps: Mapping[tuple[str, str], App]) -> dict[tuple[str, str], float]:
    """Return the CPU microseconds of a unit of each app's work."""
    found = {}
    for key, (app, wrapped) in apps.items():  # type: ignore[misc]
        calls, units = app.calls, app.units
        found[key] = run_on(loop, timed, wrapped, calls) / (calls * units) * 1e6
    return found


def measure(effort: Effort) -> dict[str, Any]:
    """Return CPU microseconds by loop, kind of work and wrapper; the best of all rounds."""
    apps: dict[Any, Any] = {}
    for kind, work in WORK.items():
        app = work.app(max(1, round(effort.events * work.share)))
        apps |= {(kind, name): (app, wrap(app)) for name, wrap in WRAPPERS.items()}
    gc.collect()
    gc.freeze()  # what others have made is not walked in the middle of a round
    found: dict[str, Any] = {}
    for loop in LOOPS:
        rounds = [one_round(loop, apps) for _ in range(effort.rounds)]
        kinds = found[loop] = {kind: {} for kind in WORK}
        for kind, name in apps:
            kinds[kind][name] = min(each[kind, name] for each in rounds)
    gc.unfreeze()
    return found


def tables(found: dict[str, Any]) -> str:
    """Return the Markdown tables of what was measured."""
    parts = []
    for kind in WORK:
        rows = []
        for name in WRAPPERS:
            line = [name]
            for kinds in found.values():
                took = kinds[kind]
                base = took["unwrapped"]
                added, forward = took[name] - base, took["forward only"] - base
                line.append(f"{base:.2f}" if name == "unwrapped" else f"+{added:.2f}")
                line.append("" if name == "unwrapped" else f"{added / forward:.1f}")
            rows.append(line)
        head = ["setup"]
        for loop in found:
            head += [f"{loop}, μs", "times forward only"]
        parts.append(table(f"{kind.capitalize()}, in-process, CPU time", head, rows))
    return "\n".join(parts)
