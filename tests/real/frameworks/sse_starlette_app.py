"""sse-starlette's `EventSourceResponse`, which pings by itself, in a Starlette app.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

from real.frameworks.streams import EVENTS, OPTIONS, TOKEN, WHOLE, background, paced
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware


async def events(request: Request) -> EventSourceResponse:
    """Stream events; `ping` may be given in the query, and is sse-starlette's own if not."""
    ping = request.query_params.get("ping")
    task = BackgroundTask(background, TOKEN.get())
    every = None if ping is None else float(ping)
    return EventSourceResponse(paced(EVENTS), ping=every, background=task)


async def whole(_: Request) -> JSONResponse:
    """Answer with something that is no stream."""
    return JSONResponse(WHOLE)


def app() -> Starlette:
    """Return the app."""
    return Starlette(routes=[Route("/events", events), Route("/whole", whole)])


def variants() -> dict[str, ASGIApp]:
    """Return the app plain, kept alive, and kept alive at longer and at steady intervals."""
    apps = {name: app() for name in ("plain", "kept", "rarely", "steadily")}
    apps["kept"].add_middleware(KeepaliveMiddleware, **OPTIONS)
    rarely = OPTIONS | {"interval": 5.0}
    apps["rarely"].add_middleware(KeepaliveMiddleware, **rarely)
    apps["steadily"].add_middleware(KeepaliveMiddleware, **OPTIONS, pacing="steady")
    return {**apps}
