"""A connection to the server that can be taken away from the app.

When the middleware ends a stream, the app must stop as if the client had disconnected. So the
server's `receive` and `send` are wrapped on routes on which that may happen: calls that are
under way can be interrupted, and later ones no longer reach the server.

Source: ASGI 2.4, "Disconnected Client - send exception".
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, cast

from ._eventloop import DONE, CancellableBlock, can_begin, cancellable, finish, steps_of
from ._events import StopReason
from ._types import DISCONNECT, Message, Receive, Send, do_nothing

ConnectionState: TypeAlias = Literal["direct", "open", "revoked"]

DIRECT: Final = "direct"
"""The response is not known to be a stream: messages are passed to the server unchanged."""
OPEN: Final = "open"
"""A stream is open: its calls may be interrupted, and its sends have a time limit."""
REVOKED: Final = "revoked"
"""The app sees a disconnect; nothing reaches the server."""


class ClientDisconnected(ConnectionError):  # noqa: N818  # as Starlette's ClientDisconnect
    """Raised by the app's `send` after the middleware has ended its stream."""

    @classmethod
    def after(cls, reason: StopReason | None) -> "ClientDisconnected":
        """Return the error for a stream whose pings have stopped for that reason."""
        return cls(f"the stream has been ended: {reason or StopReason.COMPLETED}")


def caused_by_disconnect(error: BaseException) -> bool:
    """Whether an app raised an error because of a `ClientDisconnected`.

    Some frameworks raise an error of their own instead, such as Starlette's
    `ClientDisconnect`. In a group, every member must have been caused by one.
    """
    members = [error]
    for member in members:
        if isinstance(member, BaseExceptionGroup):
            members.extend(cast("BaseExceptionGroup[BaseException]", member).exceptions)
        elif not any(isinstance(each, ClientDisconnected) for each in _related(member)):
            return False
    return True


def _related(error: BaseException) -> list[BaseException]:
    """Return an error and, recursively, its causes, its contexts and the members of groups.

    Each is visited once: Python does not prevent circular causes, and `raise error from
    error` is one.
    """
    found, visited = [error], {id(error)}
    for each in found:
        nearest = [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            nearest += cast("BaseExceptionGroup[BaseException]", each).exceptions
        for other in nearest:
            if other is not None and id(other) not in visited:
                visited.add(id(other))
                found.append(other)
    return found


@dataclass(slots=True, eq=False)
class RevocableConnection:
    """The server's `receive` and `send` of one request.

    The send timeout is in seconds, and applies to each send while the stream is open.
    """

    _receive: Receive
    _send: Send
    _send_timeout: float | None
    _calls: set[CancellableBlock] = field(default_factory=set[CancellableBlock])
    """Calls to the server that are in progress."""
    state: ConnectionState = DIRECT
    on_send_timeout: Callable[[], None] = do_nothing
    """Called when a send has taken longer than the send timeout."""
    _can_begin: bool = field(default_factory=can_begin)
    discard: Callable[[], Awaitable[None]] = field(init=False)
    """Called instead of a send that no longer reaches the server. Must be set."""

    def send(self, message: Message) -> Awaitable[None] | None:
        """Pass a message to the server.

        Returns an awaitable; or, while a stream is open, `None` if the server has sent the
        message without having to wait. Nearly all sends are of that kind, and what can be
        interrupted costs more than they do.
        """
        if self.state is not OPEN:
            return self._send(message) if self.state is DIRECT else self.discard()
        sending = self._send(message)
        if not self._can_begin:
            return self._interruptible(sending)
        awaited = next(steps := steps_of(sending), DONE)
        return None if awaited is DONE else self._interruptible(finish(steps, awaited))

    async def _interruptible(self, sending: Awaitable[None]) -> None:
        call = cancellable(self._send_timeout)
        self._calls.add(call)
        try:
            with call:
                await sending
        except Exception:
            if not call.cancel_called:  # else it is the server's reaction to the cancellation
                raise
        finally:
            self._calls.remove(call)
        if call.cancel_called:
            if self.state is OPEN:
                self.on_send_timeout()
            await self.discard()

    async def receive(self) -> Message:
        """Return the client's next message; `http.disconnect` once revoked."""
        if self.state is not REVOKED:
            call = cancellable()
            self._calls.add(call)
            try:
                with call:
                    return await self._receive()
            except Exception:
                if not call.cancel_called:
                    raise
            finally:
                self._calls.remove(call)
        return {"type": DISCONNECT}

    def interrupt(self) -> None:
        """Interrupt the calls in progress."""
        for call in [*self._calls]:
            call.cancel()
