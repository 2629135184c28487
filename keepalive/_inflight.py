"""The requests in flight that the server's shutdown waits for.

Some servers exit as soon as all responses are complete, without waiting for the apps
(docs/servers.md: hypercorn and daphne); whatever an app still has to clean up would be lost.
`lifespan.shutdown` is therefore forwarded to the app only when the streams that are being
drained have ended.
"""

from collections.abc import Callable
from typing import Final

import anyio

from ._abort import AbortController
from ._types import LIFESPAN_SHUTDOWN, Message, Receive

APP_EXIT_TIMEOUT: Final = 1.0
"""Seconds that a stream's end may take; after them, the app is cancelled."""


class InFlight:
    """The requests in flight of one middleware, on any number of event loops."""

    __slots__ = ("_drains", "_empty")

    def __init__(self) -> None:
        self._drains: dict[object, float] = {}
        self._empty = AbortController()

    def add(self, request: object, drain: float) -> None:
        """Make a shutdown wait for a request, for as long as its `drain` may take."""
        self._drains[request] = drain

    def discard(self, request: object) -> None:
        """Forget a request. An unknown one is ignored."""
        if self._drains.pop(request, None) is not None and not self._drains:
            self._empty.abort()

    async def wait(self) -> None:
        """Wait until no request is in flight, at most for the longest drain and its end."""
        limit = max(self._drains.values(), default=0.0) + 2 * APP_EXIT_TIMEOUT
        with anyio.move_on_after(limit):
            while self._drains:
                if self._empty.signal.aborted:  # others have been added since
                    self._empty = AbortController()
                else:
                    await self._empty.signal.wait()

    def delaying_shutdown(self, receive: Receive, shutdown: Callable[[], None]) -> Receive:
        """Return a lifespan's `receive` that delays `lifespan.shutdown`.

        If requests are in flight, it calls `shutdown` and waits for them first.
        """

        async def delayed_receive() -> Message:
            message = await receive()
            if message["type"] == LIFESPAN_SHUTDOWN and self._drains:
                shutdown()
                await self.wait()
            return message

        return delayed_receive
