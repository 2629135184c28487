"""Falcon, with `resp.sse` and `resp.stream`.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

from collections.abc import AsyncIterator
from functools import partial

import falcon.asgi
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
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware

SSE_EVENTS = tuple(falcon.asgi.SSEvent(text=name) for name in EVENTS)


class Events:
    """Streams events; with a task for afterwards."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer."""
        resp.schedule(partial(background, TOKEN.get()))
        resp.sse = paced(SSE_EVENTS)


class Attentive:
    """Streams events, and listens to its stream's signal."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer."""
        resp.sse = attentive(SSE_EVENTS, req.scope)


class Records:
    """Streams NDJSON."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer."""

        async def body() -> AsyncIterator[bytes]:
            async for line in paced(RECORDS):
                yield line.encode()

        resp.content_type = NDJSON
        resp.stream = body()


class Whole:
    """Answers with something that is no stream."""

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer."""
        resp.media = WHOLE


def app() -> falcon.asgi.App:
    """Return the app."""
    made = falcon.asgi.App()
    for resource in (Events(), Attentive(), Records(), Whole()):
        made.add_route(f"/{type(resource).__name__.lower()}", resource)
    return made


def variants() -> dict[str, ASGIApp]:
    """Return the app plain and kept alive."""
    return {"plain": app(), "kept": KeepaliveMiddleware(app(), **OPTIONS)}
