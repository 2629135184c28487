"""Apps for real servers; each is served plain, kept alive, and pinged blindly.

The first segment of a path says which (`/plain/...`, `/kept/...`, `/blind/...`), the second
names the app, the last is a token that tells one test's stream from another's. `/owned/...` is
kept alive by a middleware of its own, which SIGUSR1 shuts down.

Facts go, as JSON lines, to the file that `FACTS` names.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
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

INTERVAL = 0.1
PATIENCE = 15.0
"""Seconds after which an app gives up on what it waits for."""

SSE = b"text/event-stream"
NDJSON = b"application/x-ndjson"

SILENT = (
    b"data: one\n\n",
    b"event: update\nid: 7\nretry: 1000\ndata: two\ndata: lines\n\n",
    b": a comment\ndata: three\n\n",
)
CHUNKS = (b"event: up", b"date\nda", b"ta: first\nid: 1\n", b"\n", b"data:", b" second\n\n")
RECORDS = (b'{"n": 1}\n', b'{"n": 2, "text": "two words"}\n{"n": 3}\n', b'{"n": 4}\n')


def own_stream(scope: Scope) -> KeepaliveStream | None:
    """Return the stream of a request; nothing where no middleware keeps it alive."""
    with contextlib.suppress(LookupError):
        return get_stream(scope)
    return None


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def lull(scope: Scope) -> None:
    """Say nothing until two pings have gone out, or none will; unkept, for three intervals."""
    own = own_stream(scope)
    if own is None:
        await asyncio.sleep(3 * INTERVAL)
    else:
        enough = sent_pings(own) + 2
        await until(lambda: sent_pings(own) >= enough or own.signal.aborted)


api = FastAPI()


@api.get("/silent/{token}")
async def silent(request: Request, token: str) -> StreamingResponse:
    """Be silent before, between and behind the events."""

    async def body() -> AsyncIterator[bytes]:
        for event in SILENT:
            await lull(request.scope)
            yield event
        await lull(request.scope)

    return StreamingResponse(body(), media_type="text/event-stream")


@api.get("/chunks/{ending}/{token}")
async def chunks(request: Request, ending: str, token: str) -> StreamingResponse:
    """Send events in pieces, with pauses in which two pings would have their place."""
    newline = b"\r\n" if ending == "crlf" else b"\n"

    async def body() -> AsyncIterator[bytes]:
        for chunk in CHUNKS:
            yield chunk.replace(b"\n", newline)
            if chunk.endswith(b"\n") and chunk != CHUNKS[2]:
                await lull(request.scope)
            else:
                await asyncio.sleep(2.5 * INTERVAL)

    return StreamingResponse(body(), media_type="text/event-stream")


@api.get("/records/{token}")
async def records(request: Request, token: str) -> StreamingResponse:
    """Send NDJSON, with silence between the records."""

    async def body() -> AsyncIterator[bytes]:
        for record in RECORDS:
            await lull(request.scope)
            yield record

    return StreamingResponse(body(), media_type=NDJSON.decode())


@api.get("/whole/{token}")
async def whole(token: str) -> dict[str, str]:
    """Answer with something that is no stream."""
    return {"answer": "whole"}


@api.get("/fails/{token}")
async def fails(token: str) -> None:
    """Raise, so that the server logs a traceback."""
    raise LookupError("on purpose")


async def start(send: Send, media_type: bytes = SSE) -> None:
    """Start a response."""
    headers = [(b"content-type", media_type)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def say(send: Send, body: bytes, *, more: bool = True) -> None:
    """Send a body message."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def non_listening(scope: Scope, receive: Receive, send: Send) -> None:
    """Never call `receive`; go on until the stream's own signal says that nobody listens."""
    await start(send)
    await say(send, b"data: hello\n\n")
    own = own_stream(scope)
    if own is not None and "/patient/" in scope["path"]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await own.signal.wait()
    else:
        await lull(scope)
    await say(send, b"data: goodbye\n\n", more=False)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send each part of an upload back as it comes."""
    await start(send, NDJSON)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message.get("more_body", False)
        await say(send, message.get("body", b""), more=more)


async def owned(scope: Scope, receive: Receive, send: Send) -> None:
    """Say when the owner has stopped the pings, stay silent, and go on nevertheless."""
    own = get_stream(scope)
    await start(send)
    if "/late/" in scope["path"]:  # a stream that opens when the owner has gone
        await asyncio.sleep(3 * INTERVAL)
    else:
        await lull(scope)
        await say(send, b"data: before\n\n")
        if "/stopped/" in scope["path"]:
            await until(lambda: own.signal.aborted)
            await say(send, b"data: %b\n\n" % str(own.signal.reason).encode())
        await asyncio.sleep(3 * INTERVAL)
    await say(send, b"data: after\n\n", more=False)


async def router(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the raw apps and, for the rest, FastAPI's."""
    raw = {"non_listening": non_listening, "echo": echo, "owned": owned}
    name = scope["path"].split("/")[1] if scope["type"] == "http" else ""
    await raw.get(name, api)(scope, receive, send)


def blindly_pinged(app: ASGIApp) -> ASGIApp:
    """Ping as the package must not: on a timer, whatever the app is sending."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        async def ping() -> None:
            while True:
                await asyncio.sleep(INTERVAL)
                await say(sending, b"event: ping\ndata: \n\n")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                task.cancel()
            await send(message)

        task = asyncio.create_task(ping())
        await app(scope, receive, sending)

    return served


def note(event: StreamStarted | PingSent | StreamEnded) -> None:
    """Write a fact down, in the file that `FACTS` names."""
    fact = {"kind": type(event).__name__, "path": event.path}
    if isinstance(event, StreamEnded):
        fact |= {"reason": event.reason, "pings": event.pings, "bytes_sent": event.bytes_sent}
    if name := os.environ.get("FACTS"):
        with Path(name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(fact) + "\n")


def on_sigusr1(callback: Callable[[], None]) -> None:
    """Be an owner who learns of a shutdown from a signal."""
    signal.signal(signal.SIGUSR1, lambda *_: callback())


VARIANTS: dict[str, ASGIApp] = {
    "plain": router,
    "blind": blindly_pinged(router),
    "kept": KeepaliveMiddleware(
        router,
        interval=INTERVAL,
        ping=Ping.event(),  # for POST requests, too
        observer=note,
        routes={
            "/records/{token}": {"media_types": {NDJSON.decode(): Ping.space()}},
            "/echo/{token}": {"media_types": {NDJSON.decode(): Ping.blank_line()}},
        },
    ),
    "owned": KeepaliveMiddleware(
        router,
        interval=INTERVAL,
        ping=Ping.event(),
        observer=note,
        on_shutdown=on_sigusr1,
    ),
}


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the variant that the path names; lifespan goes through the kept one."""
    if scope["type"] != "http":
        await VARIANTS["kept"](scope, receive, send)
        return
    variant, _, rest = scope["path"].removeprefix("/").partition("/")
    await VARIANTS[variant]({**scope, "path": f"/{rest}"}, receive, send)
