"""ASGI apps without a framework, and the two middlewares that ours is measured against.

What is served is identical, whatever wraps it.

Paths: `/idle` is silent after one event and listens for the disconnect; `/idle-non-listening`
is silent and never calls `receive`; `/busy?n=N&turn=T` sends N events; `/ticking?every=S` one
each S seconds; `/plain` is no stream;
`/cpu` and `/memory` tell what the process has used.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import parse_qsl

import footprint

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]

TEXT: Final = "0123456789012345678901234567890123456789"
EVENT: Final = f"data: {TEXT}\n\n".encode()
PING: Final = b"event: ping\ndata: \n\n"
TICK: Final = b"data: a ping of the app's own\n\n"
"""An event that the client counts as it counts pings."""
SENDS_PER_TURN: Final = 64
"""How many pings the floor sends before it lets others have a turn."""


def start_of(media_type: bytes, *more: tuple[bytes, bytes]) -> Message:
    """Return the message that starts a response."""
    headers = [(b"content-type", media_type), *more]
    return {"type": "http.response.start", "status": 200, "headers": headers}


def part(body: bytes) -> Message:
    """Return a body message that is not the last."""
    return {"type": "http.response.body", "body": body, "more_body": True}


async def until_gone(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def for_ever() -> None:
    """Wait for what never comes."""
    await asyncio.get_running_loop().create_future()


async def first_event(send: Send) -> None:
    """Start a stream and send its first event."""
    await send(start_of(b"text/event-stream"))
    await send(part(EVENT))


async def idle(_: dict[str, Any], receive: Receive, send: Send) -> None:
    """Be silent, and listen for the client's leaving."""
    await first_event(send)
    await until_gone(receive)


async def idle_non_listening(_: dict[str, Any], __: Receive, send: Send) -> None:
    """Be silent, and never ask whether the client is there."""
    await first_event(send)
    await for_ever()


async def busy(scope: dict[str, Any], _: Receive, send: Send) -> None:
    """Send events as fast as they go.

    A server's `send` suspends only when the client is behind, so an app with an event on its
    hands at all times would hold the loop. This one lets others have a turn after every
    `turn` events: 1 is an app that awaits each event (one write to the socket for each), a
    higher number one that has them in batches (one write for many).
    """
    count, turn = how_busy(scope["query_string"].decode())
    await send(start_of(b"text/event-stream"))
    for number in range(1, count + 1):
        await send(part(EVENT))
        if number % turn == 0:
            await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


async def ticking(scope: dict[str, Any], _: Receive, send: Send) -> None:
    """Send an event now and then, as one of many streams."""
    seconds = float(dict(parse_qsl(scope["query_string"].decode()))["every"])
    await first_event(send)
    while True:
        await asyncio.sleep(seconds)
        await send(part(TICK))


def how_busy(query: str) -> tuple[int, int]:
    """Return how many events are asked for, and how many in one turn of the loop."""
    asked = dict(parse_qsl(query))
    return int(asked["n"]), int(asked["turn"])


async def answer(send: Send, media_type: bytes, body: bytes) -> None:
    """Send a response that is no stream."""
    length = (b"content-length", str(len(body)).encode())
    await send(start_of(media_type, length))
    await send({"type": "http.response.body", "body": body})


async def plain(_: dict[str, Any], __: Receive, send: Send) -> None:
    """Send a small text."""
    await answer(send, b"text/plain", b"Hello, world!")


async def cpu(_: dict[str, Any], __: Receive, send: Send) -> None:
    """Send the CPU time used so far."""
    await answer(send, b"application/json", json.dumps(footprint.cpu()).encode())


async def memory(_: dict[str, Any], __: Receive, send: Send) -> None:
    """Send the memory in use."""
    await answer(send, b"application/json", json.dumps(footprint.memory()).encode())


APPS: Final[dict[str, App]] = {
    "/idle": idle,
    "/idle-non-listening": idle_non_listening,
    "/busy": busy,
    "/ticking": ticking,
    "/plain": plain,
    "/cpu": cpu,
    "/memory": memory,
}


async def unwrapped(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Serve each path by its own app."""
    await APPS[scope["path"]](scope, receive, send)


def forward_only(app: App) -> App:
    """Return the app in a middleware that wraps both ends and only forwards."""

    async def middleware(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        async def forward_receive() -> Message:
            return await receive()

        async def forward_send(message: Message) -> None:
            await send(message)

        await app(scope, forward_receive, forward_send)

    return middleware


def floor(interval: float) -> App:
    """Return the unwrapped app, whose idle streams one task pings: the least that it takes.

    It is no keep-alive to use: a client that has stopped reading would hold up all others,
    and a ping may fall into anything that the app sends.
    """
    sends: dict[Send, None] = {}
    tasks: list[asyncio.Task[None]] = []

    async def send_all() -> None:
        while True:
            await asyncio.sleep(interval)
            for number, send in enumerate(list(sends), start=1):
                await send(part(PING))
                if number % SENDS_PER_TURN == 0:
                    await asyncio.sleep(0)

    async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] != "/idle":
            await unwrapped(scope, receive, send)
            return
        if not tasks:
            tasks.append(asyncio.create_task(send_all()))
        await first_event(send)
        sends[send] = None
        await until_gone(receive)
        del sends[send]

    return app
