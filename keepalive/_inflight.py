"""The requests in flight that the server's shutdown waits for.

Some servers exit as soon as all responses are complete, without waiting for the apps
(docs/servers.md: hypercorn and daphne), so cleanup that is still to be done would be lost.
`lifespan.shutdown` is therefore forwarded to the app only when the calls whose streams are
being drained are over.
"""

import weakref
from typing import Final, Protocol

import anyio

from ._abort import AbortController
from ._scheduler import PingScheduler
from ._types import LIFESPAN_SHUTDOWN, Message, Receive

APP_EXIT_TIMEOUT: Final = 1.0
"""Seconds that ending a stream may take; after that, the app is cancelled."""


class DrainingRequest(Protocol):
    """A request that a shutdown waits for."""

    def shut_down(self) -> float:
        """Start its drain, unless that has begun.

        Returns when the drain is over, in loop time. It counts from when all streams were
        stopped: a stream that was stopped alone before gets the whole time.
        """
        ...


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
        return sum(len(requests.waited_for) for requests in self._loops.values())

    def add(self, scheduler: PingScheduler, request: DrainingRequest) -> None:
        """Make a shutdown wait for a request.

        Args:
            scheduler: That of the request's event loop.
            request: `shut_down()` is called on shutdown; if one is in progress, immediately.
        """
        requests = self._loops.get(scheduler)
        if requests is None:
            requests = self._loops[scheduler] = _Requests()
        requests.waited_for[request] = None
        if requests.shutting_down:
            requests.shut_down_one(request)

    def discard(self, scheduler: PingScheduler, request: DrainingRequest) -> None:
        """Forget a request. An unknown one is ignored."""
        requests = self._loops.get(scheduler)
        if requests is not None and request in requests.waited_for:
            del requests.waited_for[request]
            if not requests.waited_for:
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

        It waits at most until the last drain is over, and a little longer for the apps. Drains
        may have begun before: a server waits for responses first, until its own timeout.
        """
        scheduler = PingScheduler.current()
        requests = self._loops.get(scheduler)
        if requests is not None and requests.waited_for:
            await requests.shut_down(scheduler)


class _Requests:
    """The requests in flight of one event loop."""

    __slots__ = ("empty", "shutting_down", "waited_for", "waits_until")

    def __init__(self) -> None:
        # A dictionary as a set that keeps its order: the stream that is stopped last is given
        # the whole drain, and that is the one that was opened last.
        self.waited_for = weakref.WeakKeyDictionary[DrainingRequest, None]()
        self.empty = AbortController()
        self.shutting_down = False
        self.waits_until = 0.0  # in loop time

    async def shut_down(self, scheduler: PingScheduler) -> None:
        self.shutting_down = True
        try:
            for request in [*self.waited_for]:
                self.shut_down_one(request)
            while self.waited_for and (left := self.waits_until - scheduler.time()) > 0:
                with anyio.move_on_after(left):
                    await self._wait()
        finally:
            self.shutting_down = False

    def shut_down_one(self, request: DrainingRequest) -> None:
        limit = request.shut_down() + 2 * APP_EXIT_TIMEOUT
        self.waits_until = max(self.waits_until, limit)

    async def _wait(self) -> None:
        while self.waited_for:
            if self.empty.signal.aborted:  # others have been added since
                self.empty = AbortController()
            else:
                await self.empty.signal.wait()
