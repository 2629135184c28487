"""Uses of the package for type checkers. Never run.

mypy and pyright, both strict, must find every use right, and every wrong use wrong: an ignore
that nothing needs is an error too.
"""

import signal
from collections.abc import Callable, Mapping, MutableMapping
from types import FrameType
from typing import Any, Literal, assert_type

import trio.testing
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from keepalive import (
    AbortController,
    AbortSignal,
    KeepaliveMiddleware,
    KeepaliveStream,
    Observer,
    Ping,
    PingSent,
    Policy,
    PolicyOptions,
    RouteValue,
    StopReason,
    StreamEnded,
    StreamEvent,
    StreamStarted,
    get_stream,
    on_signals,
)
from keepalive.testing import timeline


async def raw_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Be an app as Starlette types it."""


async def untyped_app(scope: Any, receive: Any, send: Any) -> None:
    """Be an app with no types to speak of."""


class AppClass:
    """An app that is an object."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a connection."""


# Pings.

assert_type(Ping.event(), Ping)
assert_type(Ping.event("tick", "now"), Ping)
assert_type(Ping.event(name="tick", data=lambda: "now"), Ping)
assert_type(Ping.comment(), Ping)
assert_type(Ping.comment(lambda: "now"), Ping)
assert_type(Ping.blank_line(), Ping)
assert_type(Ping.space(), Ping)
assert_type(Ping.raw(b": x\n", at="line"), Ping)
assert_type(Ping(b"data: x\n\n", "event"), Ping)
assert_type(Ping.event().payload, bytes)

Ping.event(1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Ping.event(data=b"now")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Ping.comment(lambda: 1)  # type: ignore[arg-type, return-value] # pyright: ignore[reportArgumentType]
Ping.raw(b"\n", at="word")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Ping.raw(b"\n")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
Ping.raw("\n", at="line")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Ping.event().payload = b""  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


# Policies.

assert_type(Policy(), Policy)
assert_type(Policy(interval=5).interval, float)
assert_type(
    Policy(
        interval=5.0,
        pacing="steady",
        first_ping=0,
        ping=Ping.comment(),
        media_types={"application/x-ndjson": Ping.space()},
        anti_buffering=False,
        max_lifetime=3600,
        max_silence=300,
        drain=0,
        farewell=Ping.event("bye"),
        send_timeout=30.0,
        start_after=20,
        start_as="application/json",
    ),
    Policy,
)
assert_type(Policy().first_ping, float | None)
assert_type(Policy().max_lifetime, float | None)
assert_type(Policy().max_silence, float | None)
assert_type(Policy().drain, float | None)
assert_type(Policy().farewell, Ping | None)
assert_type(Policy().send_timeout, float | None)
assert_type(Policy().start_after, float | None)
assert_type(Policy().start_as, str | None)
assert_type(Policy().media_types, Mapping[str, Ping])

Policy(5.0)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
Policy(interval="5")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Policy(interval=None)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Policy(pacing="busy")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Policy(ping=b": \n")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Policy(media_types={"a/b": b"\n"})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType]
Policy(drain="5")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Policy(drain=5, farewell="bye")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Policy(start_after="20")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Policy(start_after=20, start_as=b"a/b")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Policy(every=5.0)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
Policy().interval = 5.0  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


# The middleware, made directly, by Starlette and by FastAPI.

app = KeepaliveMiddleware(raw_app)
assert_type(app, KeepaliveMiddleware)
KeepaliveMiddleware(untyped_app, 5)
KeepaliveMiddleware(AppClass(), interval=5.0)
KeepaliveMiddleware(Starlette())
KeepaliveMiddleware(FastAPI())
KeepaliveMiddleware(KeepaliveMiddleware(raw_app))
KeepaliveMiddleware(
    raw_app,
    interval=5.0,
    pacing="steady",
    first_ping=0,
    ping=Ping.comment(),
    media_types={"application/x-ndjson": Ping.space()},
    anti_buffering=False,
    max_lifetime=3600,
    max_silence=300,
    drain=5,
    farewell=Ping.event("bye"),
    send_timeout=30.0,
    start_after=20.0,
    start_as="text/event-stream",
)
as_starlette_types_it: ASGIApp = app
assert_type(app.shutdown(), None)

Starlette().add_middleware(KeepaliveMiddleware)
Starlette().add_middleware(KeepaliveMiddleware, interval=5.0, ping=Ping.comment())
Starlette().add_middleware(KeepaliveMiddleware, 5.0)
Starlette(middleware=[Middleware(KeepaliveMiddleware)])
Starlette(middleware=[Middleware(KeepaliveMiddleware, interval=5.0, routes={"/x": None})])
FastAPI().add_middleware(KeepaliveMiddleware)
FastAPI().add_middleware(KeepaliveMiddleware, interval=5.0, abort=AbortController().signal)
FastAPI(middleware=[Middleware(KeepaliveMiddleware, pacing="steady", first_ping=0)])

KeepaliveMiddleware()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
KeepaliveMiddleware(42)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, "5")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, 5.0, {})  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
KeepaliveMiddleware(raw_app, every=5.0)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
KeepaliveMiddleware(raw_app, pacing="busy")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, ping=b": \n")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Starlette().add_middleware(KeepaliveMiddleware, every=5.0)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
FastAPI().add_middleware(KeepaliveMiddleware, interval="5")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
Middleware(KeepaliveMiddleware, anti_buffering=1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


# Routes.


def policy_for(scope: Scope) -> Policy | float | None:
    """Choose a policy, an interval, or exclusion."""
    return Policy() if scope["path"] == "/a" else 5.0


def options_for(scope: Scope) -> PolicyOptions:
    """Choose options that are merged over the middleware's own."""
    return {"interval": 1.0, "drain": None} if scope["path"] == "/a" else {}


def value_for(scope: Scope) -> RouteValue:
    """Choose any of the four kinds of value."""
    path: str = scope["path"]
    table: dict[str, RouteValue] = {"/a": {"ping": Ping.comment()}, "/b": 2, "/c": Policy()}
    return table.get(path)


def interval_for(scope: MutableMapping[str, Any]) -> float:
    """Choose an interval."""
    return float(scope["path"] == "/a")


KeepaliveMiddleware(raw_app, routes=None)
KeepaliveMiddleware(raw_app, routes={})
KeepaliveMiddleware(raw_app, routes={"/a": 1, "/b": 1.5})
KeepaliveMiddleware(raw_app, routes={"/a": 1.0, "/b": None, "/c/{x:path}": Policy()})
KeepaliveMiddleware(raw_app, routes={"/a": {"interval": 1.0, "drain": None}, "/b": 2})
KeepaliveMiddleware(raw_app, routes=lambda scope: {"ping": Ping.comment()})
only_policies = {"/a": Policy()}
KeepaliveMiddleware(raw_app, routes=only_policies)
KeepaliveMiddleware(raw_app, routes=policy_for)
KeepaliveMiddleware(raw_app, routes=options_for)
KeepaliveMiddleware(raw_app, routes=value_for)
KeepaliveMiddleware(raw_app, routes=lambda scope: Policy())
table: dict[str, RouteValue] = {"/a": {"interval": 1.0}, "/b": 1.0, "/c": None}
KeepaliveMiddleware(raw_app, routes=table)
KeepaliveMiddleware(raw_app, routes=interval_for)
KeepaliveMiddleware(raw_app, routes=lambda scope: 1.0 if scope["path"] == "/a" else None)

KeepaliveMiddleware(raw_app, routes={"/a": "1"})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, routes={"/a": {"intervall": 1.0}})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType]
wrong: PolicyOptions = {"interval": "1"}  # type: ignore[typeddict-item] # pyright: ignore[reportAssignmentType]
KeepaliveMiddleware(raw_app, routes={1: 1.0})  # type: ignore[dict-item] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, routes=["/a"])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, routes=lambda: 1.0)  # type: ignore[arg-type, misc] # pyright: ignore[reportArgumentType]


# Stopping.

controller = AbortController()
assert_type(controller.signal, AbortSignal)
assert_type(controller.abort(), None)
assert_type(controller.abort("logged out"), None)
assert_type(controller.abort(reason=ValueError()), None)
assert_type(controller.signal.aborted, bool)
assert_type(controller.signal.reason, object)
controller.signal.add_callback(lambda: print("aborted"))
controller.signal.add_callback(app.shutdown)
controller.signal.remove_callback(app.shutdown)


def signal_of(scope: Scope) -> AbortSignal | None:
    """Give one path a signal."""
    return controller.signal if scope["path"] == "/a" else None


KeepaliveMiddleware(raw_app, abort=None)
KeepaliveMiddleware(raw_app, abort=controller.signal)
KeepaliveMiddleware(raw_app, abort=signal_of)
KeepaliveMiddleware(raw_app, abort=lambda _: controller.signal)
KeepaliveMiddleware(raw_app, abort=lambda _: None)

KeepaliveMiddleware(raw_app, abort=controller)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, abort=lambda _: controller)  # type: ignore[arg-type, return-value] # pyright: ignore[reportArgumentType]
controller.signal.aborted = True  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
controller.signal.add_callback(42)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
controller.signal.add_callback(lambda x: x)  # type: ignore[arg-type, misc] # pyright: ignore[reportArgumentType, reportUnknownLambdaType]


class Owner:
    """Whoever shuts the process down."""

    def on_shutdown(self, callback: Callable[[], None]) -> int:
        """Accept a callback; return something that nobody wants."""
        return id(callback)

    def on_exit(self, callback: Callable[[], object]) -> None:
        """Accept any callback."""


def on_signal(callback: Callable[[], None]) -> None:
    """Call back when a signal comes."""

    def handler(signum: int, frame: FrameType | None) -> None:
        callback()

    signal.signal(signal.SIGUSR1, handler)


callbacks: list[Callable[[], None]] = []

KeepaliveMiddleware(raw_app, on_shutdown=Owner().on_shutdown)
KeepaliveMiddleware(raw_app, on_shutdown=Owner().on_exit)
KeepaliveMiddleware(raw_app, on_shutdown=on_signal)
KeepaliveMiddleware(raw_app, on_shutdown=callbacks.append)
KeepaliveMiddleware(raw_app, on_shutdown=lambda callback: callbacks.append(callback))

owner = on_signals(signal.SIGTERM, 2)
assert_type(owner, Callable[[Callable[[], None]], None])
KeepaliveMiddleware(raw_app, drain=5.0, on_shutdown=owner)
Starlette().add_middleware(KeepaliveMiddleware, drain=5.0, on_shutdown=owner)

on_signals("TERM")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
on_signals([signal.SIGTERM])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, drain="5")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, on_shutdown=on_signals)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, on_shutdown=lambda: None)  # type: ignore[arg-type, misc] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, on_shutdown=callbacks)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


# Observers.


def watch(event: StreamEvent) -> None:
    """See events."""
    match event:
        case StreamStarted():
            assert_type(event.path, str)
            assert_type(event.media_type, str)
            assert_type(event.policy, Policy)
        case PingSent():
            assert_type(event.count, int)
            assert_type(event.payload, bytes)
        case StreamEnded():
            assert_type(event.reason, StopReason)
            assert_type(event.pings, int)
            assert_type(event.duration, float)
            assert_type(event.bytes_sent, int)
            assert_type(event.error, BaseException | None)


def watch_anything(event: object) -> str:
    """See anything, under another name, and return something that nobody wants."""
    return repr(event)


def watch_pings(event: PingSent) -> None:
    """See pings alone: no observer, for it is given the other events too."""


def watch_ends(event: StreamEnded) -> None:
    """See ends alone: no observer either."""


class Watcher:
    """An observer that is an object, or has one for a method."""

    def __call__(self, event: StreamEvent) -> None:
        """See events."""

    def watch(self, event: StreamEvent, /) -> None:
        """See events."""


events: list[StreamEvent] = []

observers: list[Observer] = [watch, watch_anything, Watcher(), Watcher().watch, events.append]
KeepaliveMiddleware(raw_app, observer=None)
KeepaliveMiddleware(raw_app, observer=watch)
KeepaliveMiddleware(raw_app, observer=watch_anything)
KeepaliveMiddleware(raw_app, observer=Watcher())
KeepaliveMiddleware(raw_app, observer=Watcher().watch)
KeepaliveMiddleware(raw_app, observer=events.append)
KeepaliveMiddleware(raw_app, observer=lambda event: print(event.path))
KeepaliveMiddleware(raw_app, observer=print)

KeepaliveMiddleware(raw_app, observer=watch_ends)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, observer=watch_pings)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, observer=lambda event: event.count)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownLambdaType, reportUnknownMemberType]
KeepaliveMiddleware(raw_app, observer=Watcher)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
KeepaliveMiddleware(raw_app, observer=events)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]

reason: StopReason = StreamEnded(
    path="/", reason=StopReason.SHUTDOWN, pings=0, duration=0.0, bytes_sent=0
).reason
as_text: str = reason


# An app's own stream.


async def serve(scope: Scope, receive: Receive, send: Send) -> None:
    """Use everything that a stream has."""
    own = get_stream(scope)
    assert_type(own, KeepaliveStream)
    assert_type(own.signal, AbortSignal)
    assert_type(own.abort(), None)
    assert_type(await own.signal.wait(), object)
    if own.signal.reason is StopReason.DISCONNECTED:
        return
    own.signal = controller.signal  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    own.signal.wait()  # type: ignore[unused-coroutine] # pyright: ignore[reportUnusedCoroutine]
    get_stream("/path")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await app(scope, receive, send)
    await app(scope=scope, receive=receive, send=send)
    await app(scope)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


# A test's view of an app.

sent = timeline(app)
assert_type(sent, list[tuple[float, int | bytes | Literal["end"]]])
timeline(Starlette(), "/events", seconds=40, at={20: AbortController().abort, 30.0: print})
timeline(raw_app, "/chat", method="POST", headers={"accept": "text/event-stream"}, body=b"{}")
timeline(untyped_app, clock=trio.testing.MockClock(autojump_threshold=0))
timeline(raw_app, "/events", 40.0)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
timeline(raw_app, at=[(20, print)])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
timeline(raw_app, clock="trio")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
