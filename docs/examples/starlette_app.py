"""Starlette: end the streams of a user who logs out, and all streams with their owner.

Run it:

    uvicorn --app-dir docs/examples starlette_app:app
    curl -N http://127.0.0.1:8000/events/ada
    curl -X POST http://127.0.0.1:8000/logout/ada     # in another terminal
    curl -X POST http://127.0.0.1:8000/stop           # or end everybody's streams

`?silence=1` sets the seconds between two events. A real app would take the user from a
session, and would not let everybody stop it.
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
    """Who is logged in: for each user the controller that ends the user's streams."""

    def __init__(self) -> None:
        self._controllers: dict[str, AbortController] = {}

    def signal_of(self, scope: MutableMapping[str, Any]) -> AbortSignal | None:
        """Return the signal that a new stream is to follow."""
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


class Owner:
    """Whoever decides that the process is to stop: a job runner, say."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Remember whom to call."""
        self._callbacks.append(callback)

    def stop(self) -> None:
        """Call them."""
        for callback in self._callbacks:
            callback()


sessions = Sessions()
owner = Owner()


async def events(request: Request) -> StreamingResponse:
    """Stream until the user logs out or the owner stops."""
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
    """Stop all streams, by their owner."""
    owner.stop()
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
            on_shutdown=owner.on_shutdown,
        )
    ],
)
