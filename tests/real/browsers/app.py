"""An app for a browser: streams that tell what its `EventSource` makes of pings and of ends.

A path is `/stream/{ping}/{ending}/{kind}/{token}`: a name of `real.clients.pings`, or `none`;
`lf` or `crlf`; what the stream does; and what tells one test's stream from another's.
`?retry=` is what it begins with. Below `/blind` the pings come on a timer, whatever the app is
sending.

`/page` has nothing but functions for the tests; `/facts/{token}` tells of a stream's
connections, `/open/{token}` opens its gate, `/stop/{token}` aborts its signal.
"""

import asyncio
import contextlib
import json
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

from real.clients.pings import PINGS
from real.servers.uvicorn_apps import CHUNKS, INTERVAL, lull, say, start, until
from support.internals import ASGIApp, Message, Receive, Scope, Send
from support.sent_pings import sent_pings

from keepalive import (
    AbortController,
    AbortSignal,
    KeepaliveMiddleware,
    Ping,
    Policy,
    get_stream,
)

EVENTS = (
    b"id: 1\ndata: one\n\n",
    b": a comment\nevent: update\nid: 2\ndata: two\ndata: lines\n\n",
    b"data: three\n\n",
)
END = b"event: end\ndata: \n\n"
"""The client is to close."""

PAGE = Path(__file__).with_name("page.html")


class Record:
    """What is known of one test's stream."""

    def __init__(self) -> None:
        self.last_ids: list[str | None] = []
        self.opened: list[float] = []
        self.ended: list[float] = []
        self.gate = asyncio.Event()
        self.signal = AbortController()

    def facts(self) -> dict[str, object]:
        return {"last_ids": self.last_ids, "opened_at": self.opened, "ended_at": self.ended}


RECORDS: defaultdict[str, Record] = defaultdict(Record)


def record(scope: Scope) -> Record:
    return RECORDS[scope["path"].rpartition("/")[2]]


def newline(scope: Scope) -> bytes:
    return b"\r\n" if "/crlf/" in scope["path"] else b"\n"


async def paced(scope: Scope) -> AsyncIterator[bytes]:
    """Be silent before, between and behind the events, and inside one that comes in pieces."""
    for event in EVENTS:
        await lull(scope)
        yield event
    await lull(scope)
    for chunk in CHUNKS:
        yield chunk
        await asyncio.sleep(2.5 * INTERVAL)


async def ends(scope: Scope) -> AsyncIterator[bytes]:
    """End after a silence."""
    yield b"id: 7\ndata: seven\n\n"
    await lull(scope)


async def gated(scope: Scope) -> AsyncIterator[bytes]:
    """Say nothing until the client has asked for it."""
    await record(scope).gate.wait()
    yield b"data: at last\n\n"


async def endless(scope: Scope) -> AsyncIterator[bytes]:
    """Go on until the stream is to stop, and then some more: somebody else has to end it."""
    yield b"id: 7\ndata: seven\n\n"
    await get_stream(scope).signal.wait()
    await asyncio.sleep(3600)


async def quiet(scope: Scope) -> AsyncIterator[bytes]:
    """Say nothing for many pings, and then something."""
    yield b"id: 1\ndata: before\n\n"
    await until(lambda: sent_pings(get_stream(scope)) >= 20)
    yield b"data: behind\n\n"


KINDS = {kind.__name__: kind for kind in (paced, ends, gated, endless, quiet)}
COMES_BACK = {"ends", "endless"}


async def streams(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a stream; to a client that has come back, just its end."""
    kind, known = scope["path"].split("/")[4], record(scope)
    last_id = dict(scope["headers"]).get(b"last-event-id")
    known.last_ids.append(last_id.decode() if last_id is not None else None)
    known.opened.append(time.monotonic())
    await start(send)
    if len(known.opened) == 1 or kind not in COMES_BACK:
        if retry := scope["query_string"].removeprefix(b"retry="):
            await say(send, b"retry: %b\n\n" % retry)
        async for part in KINDS[kind](scope):
            await say(send, part.replace(b"\n", newline(scope)))
    if len(known.opened) > 1 or kind not in COMES_BACK:
        await say(send, END)
    known.ended.append(time.monotonic())
    await say(send, b"", more=False)


async def respond(send: Send, media_type: bytes, body: bytes) -> None:
    await start(send, media_type)
    await say(send, body, more=False)


async def control(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the page, what is known, and what moves a stream on."""
    name = scope["path"].split("/")[1]
    if name == "page":
        await respond(send, b"text/html; charset=utf-8", PAGE.read_bytes())
        return
    if name == "open":
        record(scope).gate.set()
    if name == "stop":
        record(scope).signal.abort()
    await respond(send, b"application/json", json.dumps(record(scope).facts()).encode())


async def router(scope: Scope, receive: Receive, send: Send) -> None:
    is_stream = scope["path"].startswith("/stream/")
    await (streams if is_stream else control)(scope, receive, send)


def policy_of(scope: Scope) -> Policy | None:
    """Return the policy of the ping that a path names."""
    if not scope["path"].startswith("/stream/"):
        return None
    _, _, name, _, kind, _ = scope["path"].split("/")
    return Policy(
        interval=INTERVAL,
        ping=PINGS[name],
        first_ping=0 if kind == "gated" else None,
        drain=0.2 if kind == "endless" else None,
        farewell=Ping.event("stopping") if kind == "endless" else None,
    )


def blindly_pinged(app: ASGIApp) -> ASGIApp:
    """Ping as the package must not: on a timer, whatever the app is sending."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        ping = PINGS[scope["path"].split("/")[2]].payload

        async def tick() -> None:
            while True:
                await asyncio.sleep(INTERVAL)
                await say(send, ping.replace(b"\n", newline(scope)))

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                task.cancel()
            await send(message)

        task = asyncio.create_task(tick())
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, sending)

    return served


def signal_of(scope: Scope) -> AbortSignal:
    return record(scope).signal.signal


kept = KeepaliveMiddleware(router, routes=policy_of, abort=signal_of)
blind = blindly_pinged(router)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a path kept alive, pinged blindly, or not pinged at all."""
    path = scope["path"].removeprefix("/blind")
    is_plain = path.startswith("/stream/none/")
    serve = blind if path != scope["path"] else router if is_plain else kept
    await serve({**scope, "path": path}, receive, send)
