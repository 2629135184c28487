"""The app of the chaos test: streams of many kinds, and what is left of them in the process.

The path names the kind and a token: `/feed/7-3`. Every event of the app's carries a number and
a checksum, of the token too, so that a client notices what is lost, doubled, mixed up with
another stream's, or broken by a ping. `/left` tells, as JSON, what the process holds.
"""

import asyncio
import gc
import json
import random
import signal
import sys
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any, Final

from support.internals import _HOLDER, BOUNDARY_TIMEOUT, Responder

from keepalive import (
    KeepaliveMiddleware,
    Ping,
    Policy,
    StopReason,
    StreamEnded,
    StreamStarted,
    get_stream,
    on_signals,
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INTERVAL: Final = 0.2
SHORT_INTERVAL: Final = INTERVAL / 2
DRAIN: Final = 1.0
MAX_LIFETIME: Final = 4.0
SEND_TIMEOUT: Final = 1.5
MUCH: Final = 64 * 1024
"""Letters in an event of the flood: as many as uvicorn lets wait before a send does."""

FAREWELL: Final = Ping.event("stopping")
LATE: Final = "late with an event: "
"""What is printed before the token of a stream whose app has paused too long within an event.

An end waits for the rest of an event, but not forever: a busy machine may cut one in half.
"""

counts: Counter[str] = Counter()


class OnPurposeError(Exception):
    """What the app raises that is to fail."""


def checksum(token: str, number: int, text: bytes) -> int:
    """Return what an event carries to be known by."""
    return zlib.crc32(b"%b %d %b" % (token.encode(), number, text))


def event(token: str, number: int, size: int, name: bytes = b"news") -> bytes:
    """Return one event."""
    text = b"abcdefghijklmnopqrstuvwxyz"[number % 26 :][:1] * size
    mark = checksum(token, number, text)
    return b"id: %d\nevent: %b\ndata: %b\ndata: %08x\n\n" % (number, name, text, mark)


class Call:
    """One request for a stream."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.token = scope["path"].split("/")[2]
        self.receive, self._send = receive, send
        self._signal = get_stream(scope).signal
        self._number = 0

    @property
    def left(self) -> bool:
        """Whether the client has; an app that never asks must look."""
        return self._signal.reason is StopReason.DISCONNECTED

    async def say(self, body: bytes, *, more: bool = True) -> None:
        """Send a body message."""
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def next(self, size: int = 20, name: bytes = b"news") -> bytes:
        """Return the next event."""
        self._number += 1
        return event(self.token, self._number, size, name)


async def feed(call: Call) -> None:
    """Send an event now and then, sooner and later than a ping is due."""
    while not call.left:
        await call.say(call.next(random.randrange(500)))
        await asyncio.sleep(random.uniform(0, 2 * INTERVAL))


async def flood(call: Call) -> None:
    """Send more than a slow client reads."""
    while not call.left:
        await call.say(call.next(MUCH))
        await asyncio.sleep(INTERVAL / 10)


async def silent(call: Call) -> None:
    """Say one thing, and listen until the client has gone."""
    await call.say(call.next())
    while (await call.receive())["type"] != "http.disconnect":
        pass


async def chunks(call: Call) -> None:
    """Send each event in pieces, with a pause within it in which a ping is due."""
    while not call.left:
        whole = call.next(random.randrange(200))
        began = time.monotonic()
        try:
            await in_pieces(call, whole)
        finally:
            if time.monotonic() - began > 0.9 * BOUNDARY_TIMEOUT:
                print(f"{LATE}{call.token}", flush=True)
        await asyncio.sleep(random.uniform(0, 2 * INTERVAL))


async def in_pieces(call: Call, whole: bytes) -> None:
    """Send an event in four pieces, with a pause behind one of the first three."""
    cuts = sorted(random.sample(range(1, len(whole)), 3))
    pauses = random.sample([1.3 * SHORT_INTERVAL, 0, 0], 3)  # short, that an end may wait
    for start, end, pause in zip([0, *cuts], cuts, pauses, strict=False):
        await call.say(whole[start:end])
        await asyncio.sleep(pause)
    await call.say(whole[cuts[-1] :])


async def non_listening(call: Call) -> None:
    """Never call `receive`, and send little."""
    while not call.left:
        await call.say(call.next())
        await asyncio.sleep(4 * INTERVAL)


async def stubborn(call: Call) -> None:
    """Ignore the end; only cancellation stops it."""
    await call.say(call.next())
    while not call.left:
        await asyncio.sleep(INTERVAL)


async def short(call: Call) -> None:
    """End by itself."""
    for _ in range(random.randrange(4)):
        await call.say(call.next())
        await asyncio.sleep(random.uniform(0, 2 * INTERVAL))
    more = random.random() < 0.5
    await call.say(call.next(name=b"end"), more=more)
    if more:
        await call.say(b"", more=False)


async def raising(call: Call) -> None:
    """Fail, between two events or within one."""
    await call.say(call.next())
    await asyncio.sleep(random.uniform(0, 2 * INTERVAL))
    await call.say(call.next()[: random.choice([10, None])])
    raise OnPurposeError("on purpose")


KINDS: Final = {
    kind.__name__: kind
    for kind in (feed, flood, silent, chunks, non_listening, stubborn, short, raising)
}


def count(fact: object) -> None:
    """Keep the books."""
    if isinstance(fact, StreamStarted):
        counts["started"] += 1
    elif isinstance(fact, StreamEnded):
        counts["ended"] += 1
        counts[fact.reason] += 1


def left() -> dict[str, Any]:
    """Return what the process holds."""
    gc.collect()
    holder = _HOLDER.get(None)
    scheduler = None if holder is None else holder.reference()
    objects = gc.get_objects()
    return {
        "counts": counts,
        "open": counts["started"] - counts["ended"],
        "waited for": len(app._config.in_flight),
        "scheduler": 0 if scheduler is None else len(scheduler),
        "streams": sum(isinstance(one, Responder) for one in objects),  # this request's, one
        "timers": len(getattr(asyncio.get_running_loop(), "_scheduled", ())),
        "tasks": sorted(task.get_coro().__qualname__ for task in asyncio.all_tasks()),
        "objects": len(objects),
        "blocks": sys.getallocatedblocks(),
        "pages": int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]),
    }


async def tell(send: Send) -> None:
    """Answer with what the process holds."""
    body = json.dumps(left()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive: Receive, send: Send) -> None:
    """Start and stop with the server."""
    for what in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{what}.complete"})


async def serve(scope: Message, receive: Receive, send: Send) -> None:
    """Serve a stream of the kind that the path names."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"] == "/left":
        await tell(send)
    else:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await KINDS[scope["path"].split("/")[1]](Call(scope, receive, send))


BOUNDS: Final = {
    "drain": DRAIN,
    "farewell": FAREWELL,
    "max_lifetime": MAX_LIFETIME,
    "send_timeout": SEND_TIMEOUT,
}
app = KeepaliveMiddleware(
    serve,
    INTERVAL,
    routes={
        "/chunks/{token}": Policy(interval=SHORT_INTERVAL, pacing="steady", **BOUNDS),
        # However long a busy machine takes to fill a client's buffers: they are filled.
        "/flood/{token}": Policy(interval=INTERVAL, **(BOUNDS | {"max_lifetime": None})),
    },
    on_shutdown=on_signals(signal.SIGTERM, signal.SIGINT),
    observer=count,
    **BOUNDS,
)
