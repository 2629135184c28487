"""Starlette, with `StreamingResponse`; and compressed, by its own middleware or another.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

from typing import Any

from real.frameworks.streams import (
    EVENTS,
    NDJSON,
    OPTIONS,
    RECORDS,
    TOKEN,
    WHOLE,
    Probe,
    background,
    paced,
)
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette_compress import CompressMiddleware
from support.internals import ASGIApp, Message, Receive, Scope, Send

from keepalive import KeepaliveMiddleware, Ping

SSE = "text/event-stream"


async def events(_: Request) -> StreamingResponse:
    """Stream events; with a task for afterwards."""
    body = paced(tuple(f"data: {name}\n\n" for name in EVENTS))
    task = BackgroundTask(background, TOKEN.get())
    return StreamingResponse(body, media_type=SSE, background=task)


async def records(_: Request) -> StreamingResponse:
    """Stream NDJSON."""
    return StreamingResponse(paced(RECORDS), media_type=NDJSON)


async def whole(_: Request) -> JSONResponse:
    """Answer with something that is no stream."""
    return JSONResponse(WHOLE)


def app(*layers: Middleware) -> Starlette:
    """Return the app with middlewares around it, each outside of those before it."""
    endpoints = (events, records, whole)
    made = Starlette(routes=[Route(f"/{each.__name__}", each) for each in endpoints])
    for layer in layers:
        made.add_middleware(layer.cls, *layer.args, **layer.kwargs)
    return made


def blind(inner: ASGIApp) -> ASGIApp:
    """Ping as the package must not: behind each part of a body, compressed or not."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and message.get("more_body"):
                await send({**message, "body": Ping.event().payload})

        await inner(scope, receive, sending)

    return served


def variants() -> dict[str, ASGIApp]:
    """Return the app plain, kept alive, and with compression on either side of that."""
    keep = Middleware(KeepaliveMiddleware, **OPTIONS)
    by_route = Middleware(
        KeepaliveMiddleware,
        **OPTIONS,
        routes={"/events": OPTIONS["interval"], "/records": OPTIONS["interval"]},
    )
    compressors: dict[str, Any] = {
        "gzip": Middleware(GZipMiddleware),
        "gzip-all": Middleware(GZipMiddleware, exclude_content_types=()),
        "compress": Middleware(CompressMiddleware),
    }
    stacks: dict[str, ASGIApp] = {}
    for name, compress in compressors.items():
        stacks |= {
            f"{name}-alone": app(compress),
            f"{name}-outside": app(by_route, compress),
            f"{name}-inside": app(compress, by_route),
        }
    stacks["gzip-blind"] = blind(app(compressors["gzip"]))
    stacks["probed"] = Probe(app(Middleware(Probe)), "outside")
    return {"plain": app(), "kept": app(keep), **stacks}
