"""The requests in flight that the server's shutdown waits for.

Some servers exit as soon as all responses are complete, without waiting for the apps
(docs/servers.md: hypercorn and daphne), so cleanup that is still to be done would be lost.
`lifespan.shutdown` is therefore forwarded to the app only when the calls whose streams are
being drained are over.
"""

import weakref
from typing import Any, Final

import anyio

from ._abort import AbortController
from ._scheduler import PingScheduler
from ._types import LIFESPAN_SHUTDOWN, Message, Receive

APP_EXIT_TIMEOUT: Final = 1.0
"""Seconds that ending a stream may take; after that, the app is cancelled."""


class InFlight:
    """The requests in flight of one middleware, by event loop.

    A server's lifespan, and the shutdown that it announces, apply to one event loop: another
    server may continue to serve the same middleware on another loop, or on the same one later.
    Requests and loops are referred to weakly, so that a loop which is closed while streams are
    open is forgotten with them.
    """

    __slots__ = ("_loops",)

    def __init__(self) -> None:
        self._loops = weakref.WeakKeyDictionary[PingScheduler, "_Requests"]()

    def __len__(self) -> int:
        return sum(len(requests.drains) for requests in self._loops.values())

    def add(self, scheduler: PingScheduler, request: Any, drain: float) -> None:
        """Make a shutdown wait for a request.

        Args:
            scheduler: That of the request's event loop.
            request: `shut_down()` is called on shutdown; if one is in progress, immediately.
            drain: Seconds that its drain may take.
        """
        requests = self._loops.get(scheduler)
        if requests is None:
            requests = self._loops[scheduler] = _Requests()
        requests.drains[request] = drain
        if requests.shutting_down:
            request.shut_down()

    def discard(self, scheduler: PingScheduler, request: object) -> None:
        """Forget a request. An unknown one is ignored."""
        requests = self._loops.get(scheduler)
        if requests is not None and request in requests.drains:
            del requests.drains[request]
            if not requests.drains:
                requests.empty.abort()

    def delaying_shutdown(self, receive: Receive) -> Receive:
        """Return a lifespan's `receive` that delays `lifespan.shutdown`.

        If requests of its event loop are in flight, they are shut down and waited for first.
        """
        delayed: list[Message] = []  # not to be lost if the wait is cancelled

        async def delayed_receive() -> Message:
            message = delayed[0] if delayed else await receive()
            if message["type"] == LIFESPAN_SHUTDOWN:
                delayed[:] = [message]
                await self.shut_down()
                delayed.clear()
            return message

        return delayed_receive

    async def shut_down(self) -> None:
        """Shut down the requests of the running event loop, and wait until none is in flight.

        It waits at most for the longest drain, and its end.
        """
        requests = self._loops.get(PingScheduler.current())
        if requests is not None and requests.drains:
            await requests.shut_down()


class _Requests:
    """The requests in flight of one event loop."""

    __slots__ = ("drains", "empty", "shutting_down")

    def __init__(self) -> None:
        self.drains = weakref.WeakKeyDictionary[Any, float]()
        self.empty = AbortController()
        self.shutting_down = False

    async def shut_down(self) -> None:
        longest = max(self.drains.values())
        self.shutting_down = True
        try:
            for request in [*self.drains]:
                request.shut_down()
            with anyio.move_on_after(longest + 2 * APP_EXIT_TIMEOUT):
                await self._wait()
        finally:
            self.shutting_down = False

    async def _wait(self) -> None:
        while self.drains:
            if self.empty.signal.aborted:  # others have been added since
                self.empty = AbortController()
            else:
                await self.empty.signal.wait()
