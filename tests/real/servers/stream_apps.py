"""Apps for every server, on asyncio and on trio; each plain, kept alive, and pinged blindly.

They use nothing but ASGI and anyio.

A path is `/variant/app/key`: `/kept/silent/7f3a`. The key tells one test's streams from all
others; `/plain/whole/7f3a` opens the gate that the apps with this key wait for. What apps and
observer have to tell goes into the journal, as `ending_app` writes it.
"""

import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from real.servers.blind_pings import blindly_pinged
from real.servers.shutdown_app import lifespan, note, say
from support.internals import ASGIApp, Message, Receive, Scope, Send
from support.sent_pings import sent_pings

from keepalive import (
    KeepaliveMiddleware,
    KeepaliveStream,
    Ping,
    PingSent,
    StreamEnded,
    StreamStarted,
    get_stream,
)

INTERVAL: Final = 0.1
PATIENCE: Final = 30.0
"""Seconds after which an app gives up on what it waits for."""

SSE: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"

SILENT: Final = (b"data: one\n\n", b"event: update\nid: 7\ndata: two\ndata: lines\n\n")
PIECES: Final = (
    b"event: up",
    b"date\r\nda",
    b"ta: first\r\nid: 1\r\n",
    b"\r\n",
    b"data: 2\r\n\r\n",
)
RECORDS: Final = (b'{"n": 1}\n', b'{"n": 2, "text": "two words"}\n{"n": 3}\n', b'{"n": 4}\n')
HELLO: Final = b"data: hello\n\n"
GOODBYE: Final = b"data: goodbye\n\n"
REFUSAL: Final = b'{"detail": "no"}'
BULKY: Final = Ping.event(data="x" * 1_000_000)
"""A ping of which a few fill every buffer between a server and a client that doesn't read."""


def own_stream(scope: Scope) -> KeepaliveStream | None:
    """Return the stream of a request; nothing where no middleware keeps it alive."""
    with contextlib.suppress(LookupError):
        return get_stream(scope)
    return None


async def lull(scope: Scope) -> None:
    """Say nothing until two pings have gone out; unkept, for three intervals."""
    own = own_stream(scope)
    if own is None:
        await anyio.sleep(3 * INTERVAL)
        return
    enough = sent_pings(own) + 2
    with anyio.fail_after(PATIENCE):
        while sent_pings(own) < enough and not own.signal.aborted:
            await anyio.sleep(0.02)


def key_of(scope: Scope) -> str:
    """Return what the streams of one test have in common."""
    return scope["path"].split("/")[2]


async def start(send: Send, media_type: str = SSE) -> None:
    """Start a response."""
    headers = [(b"content-type", media_type.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Be silent before, between and behind the events."""
    await start(send)
    for event in SILENT:
        await lull(scope)
        await say(send, event)
    await lull(scope)
    await say(send, b"", more=False)


async def pieces(scope: Scope, receive: Receive, send: Send) -> None:
    """Send events in pieces, with pauses in which two pings would have their place."""
    await start(send)
    for piece in PIECES:
        await say(send, piece)
        await (lull(scope) if piece.endswith(b"\n\r\n") else anyio.sleep(2.5 * INTERVAL))
    await lull(scope)
    await say(send, b"", more=False)


async def records(scope: Scope, receive: Receive, send: Send) -> None:
    """Send NDJSON, with silence before each part."""
    await start(send, NDJSON)
    for record in RECORDS:
        await lull(scope)
        await say(send, record)
    await say(send, b"", more=False)


async def gated(scope: Scope, receive: Receive, send: Send) -> None:
    """Start, and say nothing before the gate opens."""
    await start(send, NDJSON if "/ndjson" in scope["path"] else SSE)
    note("started", path=scope["path"])
    with anyio.fail_after(PATIENCE):
        await GATES[key_of(scope)].wait()
    await say(send, HELLO)
    await say(send, GOODBYE, more=False)


async def late(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the request, and be silent before the response starts."""
    while (await receive()).get("more_body"):
        pass
    await lull(scope)
    await start(send)
    await say(send, HELLO)
    await say(send, GOODBYE, more=False)


async def refused(scope: Scope, receive: Receive, send: Send) -> None:
    """Be silent, and then refuse."""
    await lull(scope)
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await say(send, REFUSAL, more=False)


async def listening(scope: Scope, receive: Receive, send: Send) -> None:
    """Listen for the client's leaving, and write down all that was heard."""
    await start(send)
    await say(send, HELLO)
    body, kind = b"", ""
    with anyio.fail_after(PATIENCE):
        while kind != "http.disconnect":
            message = await receive()
            kind = message["type"]
            body += message.get("body", b"")
    note("heard", path=scope["path"], body=body.decode(), last=dict(message))


async def non_listening(scope: Scope, receive: Receive, send: Send) -> None:
    """Never listen; hear from the stream's own signal that the client has left."""
    await start(send)
    await say(send, HELLO)
    with anyio.fail_after(PATIENCE):
        await get_stream(scope).signal.wait()
    note("notified", path=scope["path"])


async def crowd(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait for the gate, or for the client to leave; half of the streams do listen."""
    own = get_stream(scope)
    await start(send)
    await say(send, HELLO)
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:

            async def until(wait: Callable[[], Awaitable[object]]) -> None:
                await wait()
                group.cancel_scope.cancel()

            async def hear() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass

            group.start_soon(until, GATES[key_of(scope)].wait)
            group.start_soon(until, hear if "/listening" in scope["path"] else own.signal.wait)
    if not own.signal.aborted:
        await say(send, GOODBYE, more=False)
    note("through", path=scope["path"])


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Start, stay silent, then read the upload slowly and send each part back as it comes."""
    note("called", path=scope["path"])
    await start(send, NDJSON)
    await lull(scope)
    await echo_slowly(await receive(), receive, send)


async def expected(scope: Scope, receive: Receive, send: Send) -> None:
    """Ask for the upload when the gate opens, and not before; then echo it."""
    note("called", path=scope["path"])
    with anyio.fail_after(PATIENCE):
        await GATES[key_of(scope)].wait()
    message = await receive()
    await start(send, NDJSON)
    await echo_slowly(message, receive, send)


async def echo_slowly(message: Message, receive: Receive, send: Send) -> None:
    """Send a message's body back, and those that follow it."""
    while message["type"] != "http.disconnect":
        more = message.get("more_body", False)
        await say(send, message.get("body", b""), more=more)
        if not more:
            return
        await anyio.sleep(0.01)
        message = await receive()


async def head(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a HEAD as a stream begins; then with nothing, or with what a GET gets."""
    await start(send)
    await anyio.sleep(3 * INTERVAL)
    for event in SILENT if scope["path"].endswith("/wordy") else ():
        await say(send, event)
    await say(send, b"", more=False)


async def whole(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with something that is no stream; open the key's gate."""
    GATES[key_of(scope)].set()
    await start(send, "text/plain")
    await say(send, b"whole", more=False)


GATES: Final[defaultdict[str, anyio.Event]] = defaultdict(anyio.Event)

APPS: Final[dict[str, ASGIApp]] = {
    "silent": silent,
    "pieces": pieces,
    "records": records,
    "gated": gated,
    "late": late,
    "refused": refused,
    "listening": listening,
    "non_listening": non_listening,
    "crowd": crowd,
    "echo": echo,
    "expected": expected,
    "head": head,
    "whole": whole,
}


async def plain(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the app that the path names."""
    await APPS[scope["path"].split("/")[1]](scope, receive, send)


def observe(event: StreamStarted | PingSent | StreamEnded) -> None:
    """Write a stream's facts down."""
    if isinstance(event, StreamEnded):
        note("ended", path=event.path, reason=event.reason, pings=event.pings)
    else:
        note("pinged" if isinstance(event, PingSent) else "begun", path=event.path)


def kept(interval: float = INTERVAL, **options: object) -> KeepaliveMiddleware:
    """Return the apps, kept alive."""
    options = {"ping": Ping.event(), **options}  # for POST requests, too
    spaces = {"media_types": {NDJSON: Ping.space()}}
    lines = {"media_types": {NDJSON: Ping.blank_line()}}
    return KeepaliveMiddleware(
        plain,
        interval=interval,
        observer=observe,
        routes={
            "/echo/{key}": lines,
            "/expected/{key}": lines,
            "/records/{key}": spaces,
            "/gated/{key}/ndjson": spaces,
        },
        **options,
    )


VARIANTS: Final[dict[str, ASGIApp]] = {
    "plain": plain,
    "kept": kept(),
    "early": kept(interval=2 * PATIENCE, first_ping=0.0),
    "bulky": kept(ping=BULKY),
    "tardy": kept(start_after=2 * INTERVAL, start_as=SSE),
    "blind": blindly_pinged(plain, INTERVAL),
}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the variant that the path names."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    variant, _, rest = scope["path"].removeprefix("/").partition("/")
    await VARIANTS[variant]({**scope, "path": f"/{rest}"}, receive, send)
