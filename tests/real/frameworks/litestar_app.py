"""Litestar, with `ServerSentEvent` and `Stream`; and compressed by its own middleware.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

from typing import Any

from litestar import Litestar, get
from litestar.background_tasks import BackgroundTask
from litestar.config.compression import CompressionConfig
from litestar.middleware import DefineMiddleware
from litestar.middleware.compression import CompressionMiddleware
from litestar.response import ServerSentEvent, Stream
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
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware


@get("/events")
async def events() -> ServerSentEvent:
    """Stream events; with a task for afterwards."""
    return ServerSentEvent(paced(EVENTS), background=BackgroundTask(background, TOKEN.get()))


@get("/records")
async def records() -> Stream:
    """Stream NDJSON."""
    return Stream(paced(RECORDS), media_type=NDJSON)


@get("/whole")
async def whole() -> dict[str, str]:
    """Answer with something that is no stream."""
    return WHOLE


def app(*middleware: DefineMiddleware, **options: Any) -> ASGIApp:
    """Return the app with middlewares around its handlers, the first outermost."""
    handlers: list[Any] = [events, records, whole]
    made: Any = Litestar(handlers, middleware=list(middleware), openapi_config=None, **options)
    return made


def variants() -> dict[str, ASGIApp]:
    """Return the app plain, kept alive, and with compression on either side of that."""
    keep = DefineMiddleware(KeepaliveMiddleware, **OPTIONS)
    keep_by_route = DefineMiddleware(
        KeepaliveMiddleware,
        **OPTIONS,
        routes={"/events": OPTIONS["interval"], "/records": OPTIONS["interval"]},
    )
    config = CompressionConfig(backend="gzip")
    return {
        "plain": app(),
        "kept": app(keep),
        "probed": Probe(app(DefineMiddleware(Probe)), "outside"),
        "gzip-alone": app(compression_config=config),
        "gzip-inside": app(keep_by_route, compression_config=config),
        "gzip-outside": app(
            DefineMiddleware(CompressionMiddleware, config=config), keep_by_route
        ),
    }
