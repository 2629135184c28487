"""A serverless runner that works for one client, as long as the client's stream is open.

Run it:

    python docs/examples/runner.py
    curl -N http://127.0.0.1:8000/

The first event contains the runner's ID; then a ping is sent every second. Press Ctrl-C in
either terminal. In curl's, the client disconnects, and the runner shuts down gracefully. In
the server's, the runner shuts down by itself, and the stream ends with `event: stopping`. In
both cases the call lasts until the runner has stopped, for a limited time, and a log record
contains the reason why the stream ended.
"""

import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from uuid import uuid4

import anyio
import uvicorn

from keepalive import (
    AbortController,
    KeepaliveMiddleware,
    Ping,
    StreamEnded,
    get_stream,
    on_signals,
)

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

INTERVAL = 1.0
STOP_TIMEOUT = 10.0
"""Seconds to wait for a runner to stop."""

LOGGER = logging.getLogger("runner")


class Runner:
    """Does the work. It may be shut down from any thread or signal handler."""

    def __init__(self, wind_down: float = 2.0) -> None:
        """Create a runner that takes `wind_down` seconds to stop."""
        self.id = uuid4().hex
        self._wind_down = wind_down
        self._stopping, self._stopped = AbortController(), AbortController()
        self.stopped = self._stopped.signal

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Register a callback for when the runner begins to shut down."""
        self._stopping.signal.add_callback(callback)

    def shut_down(self) -> None:
        """Begin to shut down. May be called any number of times."""
        self._stopping.abort()

    async def run(self) -> None:
        """Work until the runner is shut down, then finish the current work."""
        await self._stopping.signal.wait()
        await anyio.sleep(self._wind_down)
        self._stopped.abort()


def app_of(runner: Runner, abort: AbortController) -> App:
    """Return the app that serves a runner's stream."""

    async def events(scope: Scope, receive: Receive, send: Send) -> None:
        # Whatever stops the pings, for example a disconnect, shuts the runner down.
        get_stream(scope).signal.add_callback(runner.shut_down)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        hello = f"event: runner\ndata: {runner.id}\n\n".encode()
        await send({"type": "http.response.body", "body": hello, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    def report(event: object) -> None:
        if isinstance(event, StreamEnded):
            LOGGER.info("the stream of runner %s has ended: %s", runner.id, event.reason)

    kept_alive = KeepaliveMiddleware(
        events,
        interval=INTERVAL,
        abort=abort.signal,
        on_shutdown=runner.on_shutdown,
        drain=0,  # when the runner shuts down or the stream is aborted, end it immediately
        farewell=Ping.event("stopping"),
        observer=report,
    )

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(runner, receive, send)
            return
        try:
            await kept_alive(scope, receive, send)
        finally:  # not inside the middleware, which cancels apps that outlive their stream
            with anyio.move_on_after(STOP_TIMEOUT, shield=True):
                await runner.stopped.wait()

    return serve


async def lifespan(runner: Runner, receive: Receive, send: Send) -> None:
    """Run the runner, and shut it down on signals before the server shuts down."""
    await receive()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(runner.run)
        on_signals(signal.SIGTERM, signal.SIGINT)(runner.shut_down)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        runner.shut_down()
    await send({"type": "lifespan.shutdown.complete"})


app = app_of(Runner(), AbortController())


def main() -> None:
    """Serve on port 8000, on this machine only."""
    logging.basicConfig(level=logging.INFO)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(app, host="127.0.0.1", port=8000)


if __name__ == "__main__":
    main()
