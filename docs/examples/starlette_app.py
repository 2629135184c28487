"""Starlette: end the streams of a user who logs out, or all streams.

Run it:

    uvicorn --app-dir docs/examples starlette_app:app
    curl -N http://127.0.0.1:8000/events/ada
    curl -X POST http://127.0.0.1:8000/logout/ada     # in another terminal
    curl -X POST http://127.0.0.1:8000/stop           # end the streams of all users

`?silence=1` sets the seconds between two events. A real app would get the user from a
session, and would not let everyone stop all streams.
"""

from collections.abc import AsyncIterator, Callable, MutableMapping
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from keepalive import AbortController, AbortSignal, KeepaliveMiddleware, get_stream

INTERVAL = 2.0
SILENCE = 9.0


class Sessions:
    """The controllers that end the streams of each user."""

    def __init__(self) -> None:
        self._controllers: dict[str, AbortController] = {}

    def signal_of(self, scope: MutableMapping[str, Any]) -> AbortSignal | None:
        """Return the abort signal for a new stream."""
        user = scope["path_params"].get("user")
        if user is None:
            return None
        return self._controllers.setdefault(user, AbortController()).signal

    def log_out(self, user: str) -> bool:
        """End the user's streams; false if there were none."""
        controller = self._controllers.pop(user, None)
        if controller is not None:
            controller.abort("logged out")
        return controller is not None


class Lifecycle:
    """Decides when all streams stop, for example as part of a job runner."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Register a shutdown callback."""
        self._callbacks.append(callback)

    def stop(self) -> None:
        """Call the registered callbacks."""
        for callback in self._callbacks:
            callback()


sessions = Sessions()
lifecycle = Lifecycle()


async def events(request: Request) -> StreamingResponse:
    """Stream until the user logs out or all streams are stopped."""
    silence = float(request.query_params.get("silence", SILENCE))
    stopping = get_stream(request.scope).signal

    async def body() -> AsyncIterator[str]:
        while not stopping.aborted:
            yield "data: news\n\n"
            with anyio.move_on_after(silence):
                await stopping.wait()
        yield f"event: bye\ndata: {stopping.reason}\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


async def log_out(request: Request) -> PlainTextResponse:
    """Log a user out."""
    found = sessions.log_out(request.path_params["user"])
    return PlainTextResponse("logged out\n" if found else "no streams\n")


async def stop(request: Request) -> PlainTextResponse:
    """Stop all streams."""
    lifecycle.stop()
    return PlainTextResponse("stopping\n")


app = Starlette(
    routes=[
        Route("/events/{user}", events),
        Route("/logout/{user}", log_out, methods=["POST"]),
        Route("/stop", stop, methods=["POST"]),
    ],
    middleware=[
        Middleware(
            KeepaliveMiddleware,
            interval=INTERVAL,
            abort=sessions.signal_of,
            on_shutdown=lifecycle.on_shutdown,
        )
    ],
)
