"""The inbox: the request's side of a stream, read once and lost never.

Law: the only reader of the server's `receive`. Knows nothing of responses, pings or time.

Why one reader: some servers tell a disconnect once, to one waiter, others hand a second
waiter empty duplicates. Why nothing is awaited before the server's own `receive`: Starlette's
`request.is_disconnected()` asks in a cancelled scope, and would never hear.
"""

from contextvars import Context
from typing import Final

import anyio

from ._asgi import DISCONNECT, REQUEST, Message, Receive, Scope
from ._backend import Cancel, Loop

MOST_AHEAD: Final = 3
"""Messages kept for an app that asks for none."""


def body_size(scope: Scope) -> int | None:
    """Return how long a request's body is, if its head tells."""
    for name, value in scope.get("headers", ()):
        if name.lower() == b"content-length" and value.isdigit():
            return int(value)
    return None


class _Mail:
    """What is needed only where more than one task asks, the stream's own among them."""

    __slots__ = ("cancel", "deaf", "kept", "news")

    def __init__(self) -> None:
        self.kept: list[Message] = []
        self.news: anyio.Event | None = None
        self.deaf = False
        self.cancel: Cancel | None = None

    async def wait(self) -> None:
        """Wait until a reader has something to tell, or has gone."""
        if self.news is None:
            self.news = anyio.Event()
        await self.news.wait()

    def tell(self) -> None:
        """Wake all who wait."""
        if self.news is not None:
            self.news.set()
            self.news = None


class Inbox:
    """Wraps a server's `receive`; what the app learns, the stream learns."""

    __slots__ = ("_mail", "_more_body", "_reading", "_receive", "gone")

    gone: bool
    """Whether the client has left."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._reading = self.gone = self._more_body = False
        self._mail: _Mail | None = None

    def on_disconnect(self) -> None:
        """Hear that the client has left; for those who inherit."""

    def goes_on(self, message: Message) -> bool:
        """Whether more of the request's body is to come; those who inherit may know better."""
        return bool(message.get("more_body", False))

    async def receive(self) -> Message:
        """Give the app its next message: the app's own `receive`."""
        if self._mail is not None or self._reading or self.gone:
            message = await self._wait_for_turn()
            if message is not None:
                return message
        self._reading = True
        try:
            message = await self._receive()
        finally:
            self._reading = False
            if self._mail is not None:
                self._mail.tell()
        if message.get("type") == REQUEST:
            self._more_body = message.get("more_body", False)
        else:
            self._learn(message)
        return message

    async def _wait_for_turn(self) -> Message | None:
        """Return a message that is there already; `None` when it's this task's turn to ask."""
        mail = self._open_mail()
        while True:
            if mail.kept:
                return mail.kept.pop(0)
            if self.gone:
                return {"type": DISCONNECT}
            if not self._reading:
                return None
            await mail.wait()

    @property
    def may_read_ahead(self) -> bool:
        """Whether nobody listens, and no more of the request's body is known to come."""
        return not self._reading and self._curious

    @property
    def _curious(self) -> bool:
        deaf = self._mail is not None and self._mail.deaf
        return not (self.gone or self._more_body or deaf)

    def read_ahead(self, loop: Loop, context: Context) -> None:
        """Listen for the disconnect in the app's place; keep what else comes for the app.

        Never goes on while more of the body is to come: the pace of an upload is the app's.
        """
        self._reading = True  # from now on, and not from the task's first step
        self._open_mail().cancel = loop.spawn(self._read, context, self._has_read)

    def stop_reading(self) -> None:
        """Listen no more in the app's place."""
        if self._mail is not None and self._mail.cancel is not None:
            self._mail.cancel()

    async def _read(self) -> None:
        mail = self._open_mail()
        try:
            while self._curious:
                message = await self._receive()
                self._learn(message)
                if not self.gone:
                    mail.kept.append(message)
                    # So many without a disconnect come from a server, or a test, that answers
                    # at once for ever.
                    mail.deaf = len(mail.kept) >= MOST_AHEAD
                mail.tell()
        except Exception:  # the app meets the server's error when it asks itself
            mail.deaf = True

    def _has_read(self) -> None:
        self._reading = False
        mail = self._open_mail()
        mail.cancel = None
        mail.tell()

    def _open_mail(self) -> _Mail:
        if self._mail is None:
            self._mail = _Mail()
        return self._mail

    def _learn(self, message: Message) -> None:
        kind = message.get("type")
        if kind == REQUEST:
            self._more_body = self.goes_on(message)
        elif kind == DISCONNECT and not self.gone:
            self.gone = True
            self.on_disconnect()
