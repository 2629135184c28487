"""Gradio apps mounted in a FastAPI app, with the middleware around it.

All of them are the same app, and each has a path of its own: `/kept` with Gradio's heartbeat
as the ping, `/default` with the default ping, and `/excluded` with Gradio's routes excluded.
uvicorn serves `application`.
"""

import signal
from collections.abc import AsyncIterator
from typing import Any, Final

import gradio
from fastapi import FastAPI, Response
from real.frameworks.streams import EVENTS, GATES, INTERVAL, note, paced
from support.internals import Receive, Scope, Send

from keepalive import (
    KeepaliveMiddleware,
    Ping,
    PingSent,
    StreamEnded,
    StreamStarted,
    on_signals,
)

HEARTBEAT: Final = Ping.raw(b'data: {"msg": "heartbeat"}\n\n', at="event")
"""Gradio's own heartbeat as a ping. Gradio sends the key `event_id` as well."""

PATHS: Final = ("kept", "default", "excluded")
ROUTES: Final[dict[str, Any]] = {
    "/kept/gradio_api/queue/data": {"ping": HEARTBEAT},
    "/excluded/gradio_api/{path:path}": None,
}


def observer(event: StreamStarted | PingSent | StreamEnded) -> None:
    """Write down what the middleware tells, and the path."""
    facts = {"reason": event.reason} if isinstance(event, StreamEnded) else {}
    note(type(event).__name__, path=event.path, **facts)


async def name(token: str) -> AsyncIterator[str]:
    """Stream names, with silences that the test ends."""
    async for each in paced(EVENTS, token):
        yield each


def blocks() -> gradio.Blocks:
    """Return a Gradio app with one function, `/name`."""
    with gradio.Blocks() as made:
        gradio.State()  # makes the clients open the stream `heartbeat`
        token, result = gradio.Textbox(label="token"), gradio.Textbox(label="result")
        gradio.Button("Run").click(
            name, token, result, api_name="name", concurrency_limit=None
        )
    return made


def app() -> FastAPI:
    """Return the app that Gradio's are mounted in, and that opens the gates."""
    made = FastAPI()

    @made.post("/gate/{token}")
    async def open_gate(token: str) -> Response:
        GATES[token].release()
        return Response(status_code=204)

    for path in PATHS:
        gradio.mount_gradio_app(made, blocks(), path=f"/{path}")
    return made


mounted = app()
kept = KeepaliveMiddleware(
    mounted,
    interval=INTERVAL,
    drain=0.5,
    on_shutdown=on_signals(signal.SIGTERM),
    observer=observer,
    routes=ROUTES,
)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the app; without the middleware where a header says so."""
    is_plain = (b"x-plain", b"yes") in scope.get("headers", ())
    await (mounted if is_plain else kept)(scope, receive, send)
