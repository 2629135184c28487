"""Quart, with asynchronous generators.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

from quart import Quart, Response
from real.frameworks.streams import (
    EVENTS,
    NDJSON,
    OPTIONS,
    RECORDS,
    TOKEN,
    WHOLE,
    background,
    paced,
)
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware


def app() -> Quart:
    """Return the app."""
    made = Quart(__name__)

    @made.get("/events")
    async def events() -> Response:
        made.add_background_task(background, TOKEN.get())
        body = paced(tuple(f"data: {name}\n\n" for name in EVENTS))
        response = Response(body, content_type="text/event-stream")
        response.timeout = None
        return response

    @made.get("/records")
    async def records() -> Response:
        return Response(paced(RECORDS), content_type=NDJSON)

    @made.get("/whole")
    async def whole() -> dict[str, str]:
        return WHOLE

    return made


def variants() -> dict[str, ASGIApp]:
    """Return the app plain and kept alive, and with little time for a response."""
    apps = {name: app() for name in ("plain", "kept", "hurried")}
    for name in ("kept", "hurried"):
        apps[name].asgi_app = KeepaliveMiddleware(apps[name].asgi_app, **OPTIONS)
    apps["hurried"].config["RESPONSE_TIMEOUT"] = 0.5
    return {**apps}
