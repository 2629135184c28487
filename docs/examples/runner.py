"""A serverless runner: it works for one client, for as long as that client's stream is open.

Run it:

    python docs/examples/runner.py
    curl -N http://127.0.0.1:8000/

The first event names the runner; then there is a ping every second. Press Ctrl-C in either
terminal. In curl's, the client leaves: the runner shuts down, gracefully. In the server's, the
runner shuts down by itself: the stream ends with `event: stopping`. Either way the call lasts
until the runner has stopped, though not for ever, and one log record says why the stream has
ended.
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
PATIENCE = 10.0
"""Seconds that a runner is waited for."""

LOGGER = logging.getLogger("runner")


class Runner:
    """What the stream is about. It may be shut down from any thread, or a signal handler."""

    def __init__(self, wind_down: float = 2.0) -> None:
        """Make a runner that needs some seconds to stop."""
        self.id = uuid4().hex
        self._wind_down = wind_down
        self._stopping, self._stopped = AbortController(), AbortController()
        self.stopped = self._stopped.signal

    def on_shutdown(self, callback: Callable[[], None]) -> None:
        """Call back when the runner begins to shut down."""
        self._stopping.signal.add_callback(callback)

    def shut_down(self) -> None:
        """Begin to shut down; any number of times."""
        self._stopping.abort()

    async def run(self) -> None:
        """Work until the runner is shut down, and finish what it has begun."""
        await self._stopping.signal.wait()
        await anyio.sleep(self._wind_down)
        self._stopped.abort()


def app_of(runner: Runner, abort: AbortController) -> App:
    """Return the app that serves a runner's stream."""

    async def events(scope: Scope, receive: Receive, send: Send) -> None:
        # Whatever stops the pings, be it the client that leaves, shuts the runner down.
        get_stream(scope).signal.add_callback(runner.shut_down)
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        hello = f"event: runner\ndata: {runner.id}\n\n".encode()
        await send({"type": "http.response.body", "body": hello, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass

    def report(fact: object) -> None:
        if isinstance(fact, StreamEnded):
            LOGGER.info("the stream of runner %s has ended: %s", runner.id, fact.reason)

    kept_alive = KeepaliveMiddleware(
        events,
        interval=INTERVAL,
        abort=abort.signal,
        on_shutdown=runner.on_shutdown,
        drain=0,  # when the runner shuts down, or the stream is aborted, it ends at once,
        farewell=Ping.event("stopping"),  # with this
        observer=report,
    )

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(runner, receive, send)
            return
        try:
            await kept_alive(scope, receive, send)
        finally:  # out here, for inside an app is cancelled that outlasts its stream's end
            with anyio.move_on_after(PATIENCE, shield=True):
                await runner.stopped.wait()

    return serve


async def lifespan(runner: Runner, receive: Receive, send: Send) -> None:
    """Run the runner, and tell it of the server's signals before the server hears of them."""
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
    """Serve on port 8000 of this machine alone."""
    logging.basicConfig(level=logging.INFO)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(app, host="127.0.0.1", port=8000)


if __name__ == "__main__":
    main()
