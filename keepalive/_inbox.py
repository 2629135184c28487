"""The inbox: the request's side of a stream, read once and lost never.

Law: the only reader of the server's `receive`. Knows nothing of responses, pings or time.

Why one reader: some servers tell a disconnect once, to one waiter, others hand a second
waiter empty duplicates. Why nothing is awaited before the server's own `receive`: Starlette's
`request.is_disconnected()` asks in a cancelled scope, and would never hear.
"""

from collections import deque
from typing import Final

import anyio

from ._asgi import DISCONNECT, REQUEST, Message, Receive

MOST_AHEAD: Final = 3
"""Messages kept for an app that asks for none."""


class Inbox:
    """Wraps a server's `receive`; what the app learns, the stream learns."""

    __slots__ = (
        "_ahead",
        "_deaf",
        "_more_body",
        "_news",
        "_reading",
        "_receive",
        "_reserved",
        "gone",
    )

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._reading = self._reserved = self._deaf = self.gone = False
        self._more_body: bool | None = None
        self._ahead: deque[Message] | None = None
        self._news: anyio.Event | None = None

    def on_disconnect(self) -> None:
        """Hear that the client has left; for those who inherit."""

    async def receive(self) -> Message:
        """Give the app its next message: the app's own `receive`."""
        while True:
            if self._ahead:
                return self._ahead.popleft()
            if self.gone:
                return {"type": DISCONNECT}
            if not self._reading:
                break
            await self._next_news()
        self._reading = True
        try:
            message = await self._receive()
        finally:
            self._reading = False
            self._tell()
        self._learn(message)
        return message

    @property
    def may_read_ahead(self) -> bool:
        """Whether nobody listens, and no more of the request's body is known to come."""
        return self._curious and not self._reading

    @property
    def _curious(self) -> bool:
        return not (self.gone or self._deaf or self._more_body)

    async def read_ahead(self) -> None:
        """Listen for the disconnect in the app's place; keep what else comes for the app.

        Never goes on behind a message that has `more_body`: the pace of an upload is the
        app's. The caller has called `begin_reading`.
        """
        if not self._reserved:
            return
        self._reserved = False
        try:
            while self._curious:
                message = await self._receive()
                self._learn(message)
                if not self.gone:
                    self._keep(message)
                self._tell()
        except Exception:  # the app meets the server's error when it asks itself
            self._deaf = True
        finally:
            self._reading = False
            self._tell()

    def begin_reading(self) -> None:
        """Take the reader's place, from now on and not from the task's first step."""
        self._reading = self._reserved = True

    def give_up_reading(self) -> None:
        """Give the reader's place up, after `read_ahead` was cancelled.

        Where it has begun, it does so itself as it ends: not before it has left the server's
        `receive`.
        """
        if self._reserved:
            self._reserved = self._reading = False
            self._tell()

    def _keep(self, message: Message) -> None:
        if self._ahead is None:
            self._ahead = deque()
        self._ahead.append(message)
        # So many without a disconnect come from a server, or a test, that answers at once
        # for ever.
        self._deaf = len(self._ahead) >= MOST_AHEAD

    def _learn(self, message: Message) -> None:
        kind = message.get("type")
        if kind == REQUEST:
            self._more_body = bool(message.get("more_body", False))
        elif kind == DISCONNECT and not self.gone:
            self.gone = True
            self.on_disconnect()

    async def _next_news(self) -> None:
        if self._news is None:
            self._news = anyio.Event()
        await self._news.wait()

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None
