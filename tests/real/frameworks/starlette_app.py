"""Starlette, with `StreamingResponse`; and compressed, by its own middleware or another."""

from typing import Any

from real.frameworks.stage import (
    EVENTS,
    NDJSON,
    OPTIONS,
    RECORDS,
    TOKEN,
    WHOLE,
    background,
    told,
)
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route
from starlette_compress import CompressMiddleware

from keepalive import KeepaliveMiddleware
from keepalive._asgi import ASGIApp

SSE = "text/event-stream"


async def events(_: Request) -> StreamingResponse:
    """Stream events; with a task for afterwards."""
    body = told(tuple(f"data: {name}\n\n" for name in EVENTS))
    task = BackgroundTask(background, TOKEN.get())
    return StreamingResponse(body, media_type=SSE, background=task)


async def records(_: Request) -> StreamingResponse:
    """Stream NDJSON."""
    return StreamingResponse(told(RECORDS), media_type=NDJSON)


async def whole(_: Request) -> JSONResponse:
    """Answer with something that is no stream."""
    return JSONResponse(WHOLE)


def app(*middleware: Middleware) -> Starlette:
    """Return the app with middlewares around it, the first outermost."""
    endpoints = (events, records, whole)
    routes = [Route(f"/{each.__name__}", each) for each in endpoints]
    return Starlette(routes=routes, middleware=list(middleware))


def variants() -> dict[str, ASGIApp]:
    """Return the app plain, kept alive, and with compression on either side of that."""
    kept = app()
    kept.add_middleware(KeepaliveMiddleware, **OPTIONS)
    keep = Middleware(
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
            f"{name}-outside": app(compress, keep),
            f"{name}-inside": app(keep, compress),
        }
    return {"plain": app(), "kept": kept, **stacks}
