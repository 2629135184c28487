"""The streams that clients are tried with: each protocol's events, and silence about them.

A path is `/DELIVERY/PING/PROTOCOL/...`; what a client adds to its base URL is not looked at.
The deliveries:

- `plain`: no middleware, no silence;
- `kept`: kept alive, and silent before, between and behind the events until two or three pings
  have gone out;
- `pieces`: as `kept`, each event in several body messages, with pauses in which pings are due;
- `blind`: each event in several body messages, a ping behind each of them;
- `silent`: no middleware, and silent behind the second event until the client leaves;
- `endless`: the same, kept alive;
- `waiting`: kept alive, and silent behind the second event for long;
- `unset`: as `kept`, with no option set but the interval: the ping is chosen by the request;
- `excluded`: the same, with the routes excluded that accept no ping.

The last two take any name for PING, to tell the clients apart.

`/browser/page` is a page that reads a stream: see `reports`.

`/facts` returns how many pings each kept stream has had. What the client of an endless one got
does not show it, since that was cut.
"""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Callable
from typing import Final

from real.clients.pings import PINGS
from real.clients.protocol_apps import APPS
from real.clients.protocol_events import EVENTS
from real.clients.reports import PREFIX, reports
from real.clients.silence import INTERVAL, PATIENCE, quiet
from support.internals import ASGIApp, Message, Receive, Scope, Send
from support.sent_pings import sent_pings

from keepalive import KeepaliveMiddleware, KeepaliveStream, Ping, get_stream

LIMIT: Final = 1.5
"""Seconds that clients are configured to wait, where it is their timers that are tried."""

LONG: Final = 2 * LIMIT
"""Seconds of the long silence."""

SSE: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
TIMED: Final = ("silent", "endless", "waiting")
"""The deliveries that timers are tried with."""

RECORD_PINGS: Final = {
    "newline": Ping.blank_line(),
    "space": Ping.space(),
    "space-newline": Ping.raw(b" \n", at="line"),
    "record": Ping.raw(b"{}\n", at="line"),
}
"""What NDJSON readers are tried with."""

ALL_PINGS: Final = {
    **PINGS,
    **RECORD_PINGS,
    "typed": Ping.event(data='{"type": "ping"}'),  # as Anthropic's own servers send it
}


async def silence(scope: Scope, receive: Receive, number: int) -> None:
    """Be silent before an event, as the delivery asks."""
    if number != 2 and scope["delivery"] in TIMED:
        return
    if scope["delivery"] == "waiting":
        await asyncio.sleep(LONG)
    elif scope["delivery"] in TIMED:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while (await receive())["type"] != "http.disconnect":
                    pass
    else:
        # Two and three by turns: an even number of blank lines harms less than an odd one.
        await quiet(scope, 2 + number % 2)


def protocol_of(scope: Scope) -> str:
    """Return the protocol that a path names; LiteLLM adds a colon to its base URL."""
    name = scope["path"].removeprefix(scope["root_path"]).split("/")[1]
    return name.partition(":")[0]


async def speak(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the events of the protocol that the path names."""
    name = protocol_of(scope)
    kind = NDJSON if name.startswith("records") else SSE
    # A client that connects again has had all; 204 tells it to stay away.
    again = b"last-event-id" in dict(scope["headers"])
    head = [(b"content-type", kind.encode())]
    if name == "ui":
        head.append((b"x-vercel-ai-ui-message-stream", b"v1"))
    status = 204 if again else 200
    await send({"type": "http.response.start", "status": status, "headers": head})
    bodies = [b""] if again else [*EVENTS[name], *([] if name == "records-first" else [b""])]
    for number, body in enumerate(bodies):
        if not again:
            await silence(scope, receive, number)
        more = number + 1 < len(bodies)
        await send({"type": "http.response.body", "body": body, "more_body": more})


def pieces(body: bytes) -> list[bytes]:
    """Cut an event in the middle, most often of a line, and behind its first line."""
    cuts = sorted({0, len(body) // 2, body.find(b"\n") + 1, len(body)})
    return [body[start:end] for start, end in itertools.pairwise(cuts)]


def in_pieces(app: ASGIApp) -> ASGIApp:
    """Send each event in pieces, with pauses in which pings are due."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            *early, last = pieces(message.get("body", b"")) or [b""]
            for piece in early:
                await send({**message, "body": piece, "more_body": True})
                await asyncio.sleep(2.5 * INTERVAL)
            await send({**message, "body": last} if early else message)

        await app(scope, receive, sending)

    return served


def blindly_pinged(app: ASGIApp, ping: Ping) -> ASGIApp:
    """Ping as the package must not: behind each body message, whatever it ends with."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        streams = False

        async def sending(message: Message) -> None:
            nonlocal streams
            await send(message)
            if message["type"] == "http.response.start":
                kind = dict(message["headers"]).get(b"content-type", b"").decode()
                streams = kind.startswith((SSE, NDJSON))
            elif streams and message.get("more_body"):
                await send({**message, "body": ping.payload})

        await app(scope, receive, sending)

    return served


def kept(app: ASGIApp, name: str) -> ASGIApp:
    """Keep an app alive with the ping of that name."""
    if name in RECORD_PINGS:
        media_types = {NDJSON: RECORD_PINGS[name]}
        return KeepaliveMiddleware(app, INTERVAL, first_ping=0, media_types=media_types)
    return KeepaliveMiddleware(app, INTERVAL, first_ping=0, ping=ALL_PINGS[name])


DELIVERIES: Final[dict[str, Callable[[ASGIApp, str], ASGIApp]]] = {
    "plain": lambda app, _: app,
    "kept": kept,
    "pieces": lambda app, name: kept(in_pieces(app), name),
    "blind": lambda app, name: blindly_pinged(in_pieces(app), ALL_PINGS[name]),
    "silent": lambda app, _: app,
    "endless": kept,
    "waiting": kept,
}

UNPINGED: Final = {"/gradio/gradio_api/{path:path}": None}
UNSET: Final[dict[str, Callable[[ASGIApp], ASGIApp]]] = {
    "unset": lambda app: KeepaliveMiddleware(app, interval=INTERVAL),
    "excluded": lambda app: KeepaliveMiddleware(app, interval=INTERVAL, routes=UNPINGED),
}


def watched(app: ASGIApp, seen: list[tuple[str, KeepaliveStream]]) -> ASGIApp:
    """Keep the streams of an app in sight."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(LookupError):
            seen.append((f"{scope['method']} {scope['path']}", get_stream(scope)))
        await app(scope, receive, send)

    return served


async def tell(send: Send, facts: object) -> None:
    """Answer with facts."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(facts).encode()})


def delivered(app: ASGIApp) -> ASGIApp:
    """Serve an app in all deliveries, with all pings."""
    seen: list[tuple[str, KeepaliveStream]] = []
    variants = {
        (delivery, name): deliver(watched(app, seen), name)
        for delivery, deliver in DELIVERIES.items()
        for name in ALL_PINGS
    }
    unset = {name: deliver(watched(app, seen)) for name, deliver in UNSET.items()}

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if scope["path"] == "/facts":
            await tell(send, [(request, sent_pings(own)) for request, own in seen])
            return
        if scope["path"].startswith(PREFIX):
            await reports(scope, receive, send)
            return
        _, delivery, name, *_ = scope["path"].split("/")
        own = {"root_path": f"/{delivery}/{name}", "delivery": delivery}
        serve = unset.get(delivery) or variants[delivery, name]
        await serve({**scope, **own}, receive, send)

    return served


async def router(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the events; there is no lifespan."""
    if scope["type"] == "http":
        serve = APPS.get(protocol_of(scope), speak)
        await serve(scope, receive, send)


application: Final = delivered(router)
