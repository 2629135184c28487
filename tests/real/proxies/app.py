"""The app that stands behind the proxies, served plain and kept alive in several ways.

The first segment of a path names the variant, the second what is served, the last is a token
that tells one test's stream from all others. Whoever asks the app itself, past the proxies,
gets the journal of a token (`/journal/TOKEN`) and opens its gate (`/open/TOKEN`).
"""

import asyncio
import contextlib
import json
import time
from dataclasses import asdict
from typing import Final

from real.proxies.journal import GATES, JOURNAL, note, token_of
from support.internals import ASGIApp, Message, Receive, Scope, Send
from support.sent_pings import sent_pings

from keepalive import KeepaliveMiddleware, Ping, Policy, get_stream

INTERVAL: Final = 0.1
PATIENCE: Final = 20.0
SILENCE: Final = 4.5
"""Seconds that the kept streams are silent for: more than two of the proxies' limits."""

PINGS: Final = round(SILENCE / INTERVAL) + 2
"""That many pings, at least, fill such a silence; some are a little early."""

SSE: Final = "text/event-stream"
NDJSON: Final = "application/x-ndjson"
JSON: Final = "application/json"
START_AFTER: Final = 0.5
FIRST: Final = b"data: first\n\n"
LONG: Final = b"data: %b\n\n" % b"long ".ljust(1000, b"x")
"""An event that a proxy thinks worth compressing."""

LAST: Final = b"event: last\nid: 2\ndata: two\ndata: lines\n\n"
TALK: Final = b"data: talk\n\n"
RECORDS: Final = (b'{"n": 1}\n', b'{"n": 2}\n')
REPORT: Final = b'{"answer": 42}'
PLAIN_TEXT: Final = b"whole ".ljust(1000, b"x")


class Call:
    """One request, with the verbs that the apps below are made of."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.token = token_of(scope["path"])
        self.entry = JOURNAL[self.token]
        self._receive = receive
        self._send = send

    async def start(self, media_type: str = SSE) -> None:
        headers = [(b"content-type", media_type.encode())]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        self.entry.started = True

    async def say(self, body: bytes, *, more: bool = True) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def gone(self) -> None:
        """Wait until the client is gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.entry.left = True

    async def hush(self) -> None:
        """Say nothing until the pings have filled a silence."""
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            await self._hush()
        self.entry.silence = time.monotonic() - began

    async def say_and_hush(self, body: bytes) -> None:
        """Say one thing, and no more until the pings have filled a silence; unkept, for ever.

        The clock starts first, so that a slow machine can't make a silence look short.
        """
        began = time.monotonic()
        await self.say(body)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await self._hush()
        self.entry.silence = time.monotonic() - began

    async def _hush(self) -> None:
        try:
            own = get_stream(self.scope)
        except LookupError:
            await self.gone()
            return
        enough = sent_pings(own) + PINGS
        while sent_pings(own) < enough and not own.signal.aborted:
            await asyncio.sleep(0.01)

    async def gate(self) -> bool:
        """Wait for the gate or for the client's leaving; tell whether it was the gate."""
        waiting = [
            asyncio.create_task(GATES[self.token].wait()),
            asyncio.create_task(self.gone()),
        ]
        await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        return GATES[self.token].is_set()


async def silent(call: Call) -> None:
    """Be silent between two events."""
    await call.start()
    await call.say_and_hush(FIRST)
    await call.say(LAST, more=False)


async def records(call: Call) -> None:
    """Be silent between two records."""
    await call.start(NDJSON)
    await call.say_and_hush(RECORDS[0])
    await call.say(RECORDS[1], more=False)


async def mute(call: Call) -> None:
    """Be silent before the response starts."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await call.gone()
    await call.start()
    await call.say(LAST, more=False)


async def tardy(call: Call) -> None:
    """Be pinged for long before the response starts."""
    await call.hush()
    await call.start()
    await call.say(LAST, more=False)


async def report(call: Call) -> None:
    """Be pinged for long before JSON comes."""
    await call.hush()
    await call.start(JSON)
    await call.say(REPORT, more=False)


async def talking(call: Call) -> None:
    """Say something as often as a ping would be sent, for as long as the kept are silent."""
    await call.start()
    for _ in range(PINGS):
        await call.say(TALK)
        await asyncio.sleep(INTERVAL)
    await call.say(LAST, more=False)


async def gated(call: Call) -> None:
    """Send an event, and the other when the gate is opened."""
    await call.start()
    await call.say(FIRST)
    if await call.gate():
        await call.say(LAST, more=False)


async def long(call: Call) -> None:
    """Send a long event, and the other when the gate is opened."""
    await call.start()
    await call.say(LONG)
    if await call.gate():
        await call.say(LAST, more=False)


async def headed(call: Call) -> None:
    """Send the headers, and the rest when the gate is opened."""
    await call.start()
    if await call.gate():
        await call.say(LAST, more=False)


async def endless(call: Call) -> None:
    """Say one thing, and nothing more until nobody listens."""
    await call.start()
    await call.say(FIRST)
    await call.gone()


async def whole(call: Call) -> None:
    """Answer with something that is no stream."""
    await call.start("text/plain")
    await call.say(PLAIN_TEXT, more=False)


APPS: Final = {
    app.__name__: app
    for app in (
        silent,
        records,
        mute,
        tardy,
        report,
        talking,
        gated,
        long,
        headed,
        endless,
        whole,
    )
}


async def router(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve what the path names."""
    name = scope["path"].split("/")[1]
    await APPS[name](Call(scope, receive, send))


def with_header(app: ASGIApp, name: bytes, value: bytes) -> ASGIApp:
    """Be an app that sets a header of its own."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (name, value)]}
            await send(message)

        await app(scope, receive, sending)

    return served


def kept(**options: object) -> ASGIApp:
    """Return the app kept alive, with some options of its own."""
    media_types = {NDJSON: Ping.space()}
    policy = Policy(**{"interval": INTERVAL, "media_types": media_types, **options})
    return KeepaliveMiddleware(router, routes=lambda _: policy, observer=note)


VARIANTS: Final[dict[str, ASGIApp]] = {
    "plain": router,
    "kept": kept(),
    "bare": kept(anti_buffering=False),
    "accel": with_header(kept(anti_buffering=False), b"x-accel-buffering", b"no"),
    "transform": with_header(kept(anti_buffering=False), b"cache-control", b"no-transform"),
    "late": kept(interval=60.0),
    "first": kept(interval=60.0, first_ping=0),
    "first-bare": kept(interval=60.0, first_ping=0, anti_buffering=False),
    "mortal": kept(max_lifetime=1.0),
    "early": kept(start_after=START_AFTER, start_as=SSE),
    "early-json": kept(start_after=START_AFTER, start_as=JSON),
}


async def answer(send: Send, body: object) -> None:
    """Answer with JSON."""
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the variant that the path names, or the journal, or the gate."""
    if scope["type"] != "http":
        return
    name, _, rest = scope["path"].removeprefix("/").partition("/")
    if name == "open":
        GATES[rest].set()
        await answer(send, None)
    elif name == "journal":
        await answer(send, asdict(JOURNAL[rest]))
    else:
        await VARIANTS[name]({**scope, "path": f"/{rest}"}, receive, send)
