"""BlackSheep, with server-sent events and `StreamedContent`.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

from collections.abc import AsyncIterator
from functools import partial

from blacksheep import Application, Request, Response, Router, StreamedContent, json
from blacksheep.server.sse import ServerSentEventsResponse, TextServerSentEvent
from real.frameworks.streams import EVENTS, NDJSON, OPTIONS, RECORDS, WHOLE, attentive, paced
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware

SSE_EVENTS = tuple(TextServerSentEvent(name) for name in EVENTS)


async def lines() -> AsyncIterator[bytes]:
    """Yield NDJSON."""
    async for line in paced(RECORDS):
        yield line.encode()


def app() -> Application:
    """Return the app."""
    made = Application(router=Router())  # the default one is shared

    async def events() -> Response:
        return ServerSentEventsResponse(partial(paced, SSE_EVENTS))

    async def listening(request: Request) -> Response:
        return ServerSentEventsResponse(partial(attentive, SSE_EVENTS, request.scope))

    async def records() -> Response:
        return Response(200, content=StreamedContent(NDJSON.encode(), lines))

    async def whole() -> Response:
        return json(WHOLE)

    made.router.add_get("/events", events)
    made.router.add_get("/attentive", listening)
    made.router.add_get("/records", records)
    made.router.add_get("/whole", whole)
    return made


def variants() -> dict[str, ASGIApp]:
    """Return the app plain and kept alive."""
    return {"plain": app(), "kept": KeepaliveMiddleware(app(), **OPTIONS)}
