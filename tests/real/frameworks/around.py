"""An app for what goes around it: it writes down which context it runs in, and how it ends.

A module with a project's part calls `variants`. The token of a request is 32 hexadecimal
digits; the tests send it in the headers that the project reads.
"""

from collections.abc import AsyncIterator, Callable
from typing import Final

from real.frameworks.streams import EVENTS, OPTIONS, note, paced
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware, Ping

FAREWELL: Final = Ping.event("stopping")
ENDING: Final = OPTIONS | {"max_lifetime": 0.4, "farewell": FAREWELL}
"""What the middleware is given that ends the streams."""


def starlette_app(context: Callable[[Request], object]) -> Starlette:
    """Return an app.

    Args:
        context: What the app finds of its context; it should be the request's token.
    """

    async def events(request: Request) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            async for name in paced(EVENTS):
                note("context", found=context(request))
                yield f"data: {name}\n\n"

        async def afterwards() -> None:
            note("background ran")

        note("context", found=context(request))
        task = BackgroundTask(afterwards)
        return StreamingResponse(body(), media_type="text/event-stream", background=task)

    return Starlette(routes=[Route("/events", events)])


def variants(
    app: Callable[[], ASGIApp], around: Callable[[ASGIApp], ASGIApp]
) -> dict[str, ASGIApp]:
    """Return an app in a project's part: without ours, and with ours in it and around it.

    Args:
        app: Returns a new app.
        around: Puts the project's part around an app.
    """
    return {
        "plain": around(app()),
        "kept": around(KeepaliveMiddleware(app(), **OPTIONS)),
        "outside": KeepaliveMiddleware(around(app()), **OPTIONS),
        "ended": around(KeepaliveMiddleware(app(), **ENDING)),
        "ended-outside": KeepaliveMiddleware(around(app()), **ENDING),
    }
