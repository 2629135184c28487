"""The owner of a pulse: what the sends of a stream ask of the stream itself.

Law: a promise, and nothing else.
"""

from collections.abc import Awaitable
from typing import Protocol

from ._abort import AbortSignal
from ._asgi import Message
from ._observe import StopReason


class Owner(Protocol):
    """What a pulse asks of its stream."""

    def pass_on(self, message: Message, /) -> Awaitable[None]:
        """Hand a message to the server."""
        ...  # pragma: no cover

    @property
    def alive(self) -> bool:
        """Whether nothing has stopped the stream."""
        ...  # pragma: no cover

    @property
    def ended(self) -> bool:
        """Whether the stream's end has been reported."""
        ...  # pragma: no cover

    @property
    def stops(self) -> AbortSignal:
        """What stops the stream, and many others."""
        ...  # pragma: no cover

    def attend(self) -> bool:
        """See that somebody listens for the disconnect; tell whether that has just begun."""
        ...  # pragma: no cover

    def heed(self) -> None:
        """See what the signals say."""
        ...  # pragma: no cover

    def pinged(self, payload: bytes) -> None:
        """Take note of a ping."""
        ...  # pragma: no cover

    def stop(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Stop the pings."""
        ...  # pragma: no cover

    def end(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Stop the pings: the stream is over."""
        ...  # pragma: no cover
