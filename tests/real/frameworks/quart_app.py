"""Quart, with asynchronous generators.

Law: what it serves is in `stage`; here is how its users write that. Knows no client.
"""

from quart import Quart, Response
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

from keepalive import KeepaliveMiddleware
from keepalive._asgi import ASGIApp


def app() -> Quart:
    """Return the app."""
    made = Quart(__name__)

    @made.get("/events")
    async def events() -> Response:
        made.add_background_task(background, TOKEN.get())
        body = told(tuple(f"data: {name}\n\n" for name in EVENTS))
        response = Response(body, content_type="text/event-stream")
        response.timeout = None
        return response

    @made.get("/records")
    async def records() -> Response:
        return Response(told(RECORDS), content_type=NDJSON)

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
