"""Sanic over ASGI, with responses that are sent in parts.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

from collections.abc import AsyncIterator

from real.frameworks.streams import (
    EVENTS,
    NDJSON,
    OPTIONS,
    RECORDS,
    TOKEN,
    WHOLE,
    attentive,
    background,
    paced,
)
from sanic import HTTPResponse, Request, Sanic, json
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware

ALIVE = ("kept",)
"""The variants that get the lifespan."""

SSE_EVENTS = tuple(f"data: {name}\n\n" for name in EVENTS)


async def send(request: Request, content_type: str, body: AsyncIterator[str]) -> None:
    """Send a response in parts."""
    response = await request.respond(content_type=content_type)
    assert response is not None
    async for part in body:
        await response.send(part)
    await response.eof()


def app() -> Sanic:
    """Return the app."""
    made = Sanic("tests", configure_logging=False)

    @made.get("/events")
    async def events(request: Request) -> None:
        request.app.add_task(background(TOKEN.get()))
        await send(request, "text/event-stream", paced(SSE_EVENTS))

    @made.get("/attentive")
    async def listening(request: Request) -> None:
        body = attentive(SSE_EVENTS, request.scope)
        await send(request, "text/event-stream", body)

    @made.get("/records")
    async def records(request: Request) -> None:
        await send(request, NDJSON, paced(RECORDS))

    @made.get("/whole")
    async def whole(_: Request) -> HTTPResponse:
        return json(WHOLE)

    return made


def variants() -> dict[str, ASGIApp]:
    """Return the app plain and kept alive.

    It is one and the same, because a process can start no second one: Sanic rewrites its own
    classes as it starts.
    """
    made = app()
    return {"plain": made, "kept": KeepaliveMiddleware(made, **OPTIONS)}
