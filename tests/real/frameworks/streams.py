"""What the apps of all frameworks play: silences that a client ends, and a journal of it all.

Gates and the journal belong to one process.

An app is silent until a client opens the gate of its token, by another request, so that no
test has to guess how long a silence lasts. Facts go, as JSON lines, to the file that `JOURNAL`
names.
"""

import asyncio
import json
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, TypeVar

from support.internals import ASGIApp, Receive, Scope, Send

from keepalive import Ping, PingSent, StreamEnded, StreamStarted, get_stream

T = TypeVar("T")

INTERVAL: Final = 0.1
"""Seconds that a stream may be silent."""

NDJSON: Final = "application/x-ndjson"
JSON_LINES: Final = "application/jsonl"
EVENTS: Final = ("one", "two")
RECORDS: Final = ('{"n":1}\n', '{"n":2}\n')
WHOLE: Final = {"answer": "whole"}

TOKEN: ContextVar[str] = ContextVar("TOKEN")
"""Of the request that is served; it tells one test's stream from all others."""

GATES: Final[defaultdict[str, asyncio.Semaphore]] = defaultdict(lambda: asyncio.Semaphore(0))


def note(kind: str, token: str | None = None, **facts: Any) -> None:
    """Write a fact down."""
    fact = {"kind": kind, "token": token or TOKEN.get("none"), **facts}
    with Path(os.environ["JOURNAL"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(fact) + "\n")


def observer(event: StreamStarted | PingSent | StreamEnded) -> None:
    """Write down what the middleware tells."""
    if isinstance(event, StreamStarted):
        note("StreamStarted", media_type=event.media_type)
    elif isinstance(event, StreamEnded):
        note("StreamEnded", reason=event.reason, pings=event.pings)


class Warnings(logging.Handler):
    """Writes down what the middleware warns of."""

    def emit(self, record: logging.LogRecord) -> None:
        """Add one record."""
        note("warning", text=record.getMessage())


OPTIONS: Final[dict[str, Any]] = {
    "interval": INTERVAL,
    "ping": Ping.event(),  # whatever the client: MCP's would be sent comments
    "observer": observer,
    "media_types": {NDJSON: Ping.space(), JSON_LINES: Ping.space()},
}
"""What the middleware is given, in every framework."""


async def silence(token: str) -> None:
    """Say nothing until the gate is opened."""
    note("silent", token)
    await GATES[token].acquire()


async def paced(items: tuple[T, ...], token: str | None = None) -> AsyncIterator[T]:
    """Yield items, silent before each and behind the last; write down how that ends."""
    token = token or TOKEN.get()
    how = "completed"
    try:
        for item in items:
            await silence(token)
            yield item
        await silence(token)
    except BaseException as error:
        how = type(error).__name__
        raise
    finally:
        note("over", token, how=how)


async def attentive(items: tuple[T, ...], scope: Scope) -> AsyncIterator[T]:
    """Do the same, but stop as soon as the stream's own signal says so."""
    stopping = asyncio.ensure_future(get_stream(scope).signal.wait())
    source = paced(items)
    try:
        while True:
            item = asyncio.ensure_future(anext(source, None))
            await asyncio.wait([item, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not item.done():
                item.cancel()
                await asyncio.wait([item])
            if item.cancelled() or (found := item.result()) is None:
                return
            yield found
    finally:
        stopping.cancel()


class Probe:
    """A middleware that writes down what it is called with."""

    def __init__(self, app: ASGIApp, place: str = "inside") -> None:
        self.app = app
        self.place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        note("scope", self.place, type=scope["type"])
        await self.app(scope, receive, send)


def background_gate(token: str) -> str:
    """Return the name of the gate that a background task waits at."""
    return f"{token}-background"


async def background(token: str) -> None:
    """Be a task for after the response."""
    await GATES[background_gate(token)].acquire()
    note("background ran", token)
