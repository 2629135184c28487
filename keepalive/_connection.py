"""A connection to the server that can be taken away from the app.

When the middleware ends a stream, the app must stop as if the client had disconnected. So the
server's `receive` and `send` are wrapped on routes on which that may happen. After the
connection is revoked, `receive` returns `http.disconnect` and `send` raises an `OSError`, as
ASGI 2.4 specifies for a client that has disconnected.

Source: ASGI 2.4, "Disconnected Client - send exception".
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

import anyio

from ._types import DISCONNECT, Message, Receive, Send, do_nothing

ConnectionState: TypeAlias = Literal["direct", "timed", "revoked"]

DIRECT: Final = "direct"
"""The response is not known to be a stream: messages are passed to the server as they are."""
TIMED: Final = "timed"
"""A stream is open: its sends are under the send timeout, and may be interrupted."""
REVOKED: Final = "revoked"
"""The app sees a client that has disconnected."""


class ClientDisconnected(ConnectionError):  # noqa: N818  # as Starlette's ClientDisconnect
    """Raised by the app's `send` after the middleware has ended its stream."""


def caused_by_disconnect(error: BaseException) -> bool:
    """Whether an app raised an error because of a `ClientDisconnected`.

    Some frameworks raise an error of their own in its place, such as Starlette's
    `ClientDisconnect`.
    """
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return all(map(caused_by_disconnect, group.exceptions))
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ClientDisconnected):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


@dataclass(slots=True, eq=False)
class RevocableConnection:
    """The server's `receive` and `send` of one request.

    The send timeout is in seconds, and applies to each send while the stream is open.
    """

    _receive: Receive
    _send: Send
    _send_timeout: float | None
    _scopes: set[anyio.CancelScope] = field(default_factory=set[anyio.CancelScope])
    """Of the calls under way."""
    state: ConnectionState = DIRECT
    reason: object = None
    """Why the stream was ended, for the error's message."""
    on_send_timeout: Callable[[], None] = do_nothing
    """Called when a send has taken longer than the send timeout."""

    @property
    def error(self) -> ClientDisconnected:
        """What a send raises after the connection was revoked."""
        return ClientDisconnected(f"the stream has been ended: {self.reason}")

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message to the server."""
        return self._send(message) if self.state is DIRECT else self._timed_send(message)

    async def _timed_send(self, message: Message) -> None:
        if self.state is REVOKED:
            raise self.error
        with anyio.move_on_after(self._send_timeout) as scope:
            self._scopes.add(scope)
            try:
                await self._send(message)
            finally:
                self._scopes.remove(scope)
        if scope.cancelled_caught:
            self.on_send_timeout()
            raise self.error

    async def receive(self) -> Message:
        """Return the client's next message; `http.disconnect` once revoked."""
        if self.state is not REVOKED:
            with anyio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    return await self._receive()
                finally:
                    self._scopes.remove(scope)
        return {"type": DISCONNECT}

    def revoke(self, reason: object) -> None:
        """Make the app see a client that has disconnected, from its next call on."""
        self.state = REVOKED
        self.reason = reason

    def interrupt(self) -> None:
        """Interrupt the calls under way."""
        for scope in [*self._scopes]:
            scope.cancel()
