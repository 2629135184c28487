"""Calls: those of a middleware's streams that a shutdown of the server has to wait for.

Law: counts who is there, and holds `lifespan.shutdown` back while somebody is. Knows nothing
of streams.

Why: some servers exit without waiting for their apps once the responses are complete; what
an app still had to clean up would be lost.
"""

from collections.abc import Callable

import anyio

from ._abort import AbortController
from ._asgi import LIFESPAN_SHUTDOWN, Message, Receive
from ._policy import STEP


class Calls:
    """The open calls of one middleware; of any number of event loops."""

    __slots__ = ("_drains", "_left")

    def __init__(self) -> None:
        self._drains: dict[object, float] = {}
        self._left = AbortController()

    def join(self, call: object, drain: float) -> None:
        """Have a call waited for, as long as its drain may take."""
        self._drains[call] = drain

    def leave(self, call: object) -> None:
        """Forget a call. One that was never there is no error."""
        if self._drains.pop(call, None) is not None and not self._drains:
            self._left.abort()

    async def wait(self) -> None:
        """Wait until there are none; for an end, and a clean-up behind it, at most."""
        with anyio.move_on_after(max(self._drains.values(), default=0.0) + 2 * STEP):
            while self._drains:
                if self._left.signal.aborted:  # there were none, and then others came
                    self._left = AbortController()
                else:
                    await self._left.signal.wait()

    def held_back(self, receive: Receive, shutdown: Callable[[], None]) -> Receive:
        """Return a lifespan's `receive`, which shuts down and waits before it says so."""

        async def wait_and_receive() -> Message:
            message = await receive()
            if message["type"] == LIFESPAN_SHUTDOWN and self._drains:
                shutdown()
                await self.wait()
            return message

        return wait_and_receive
