"""An app's view of its own stream."""

from typing import final

from ._abort import AbortSignal
from ._responder import SCOPE_KEY, Responder
from ._types import Scope


@final
class KeepaliveStream:
    """An app's own stream. Get it with `get_stream`.

    Example:
        >>> async def app(scope, receive, send):
        ...     own = get_stream(scope)
        ...     print(own.signal.aborted)
        >>> import anyio
        >>> anyio.run(KeepaliveMiddleware(app), {"type": "http", "path": "/"}, None, None)
        False
    """

    __slots__ = ("_responder",)

    def __init__(self, responder: Responder) -> None:
        self._responder = responder

    @property
    def signal(self) -> AbortSignal:
        """Aborted, with the `StopReason`, as soon as the pings stop for any reason."""
        return self._responder.signal

    def abort(self) -> None:
        """Stop the pings of this stream, with `StopReason.ABORTED`.

        Thread-safe and signal-safe. No ping is started after this call. The response
        continues until the app ends it, or until `drain` is over. If the response has not
        started yet, its pings are stopped as soon as it starts.
        """
        self._responder.abort_stream()


def get_stream(scope: Scope) -> KeepaliveStream:
    """Return the stream of the request that an app is serving.

    It can be called before the response starts, and for non-streaming responses. Those have no
    pings, and their signal is aborted when the app's call is over.

    Args:
        scope: The scope that the app was called with, or a copy of it.

    Raises:
        LookupError: There is no `KeepaliveMiddleware` around the app, or the scope is not an
            HTTP request's. The scope itself, though not a copy of it, no longer has a stream
            when the app's call is over.

    Example:
        >>> get_stream({"type": "http", "path": "/"})
        Traceback (most recent call last):
        LookupError: no KeepaliveMiddleware is serving this scope
    """
    found = scope.get(SCOPE_KEY)
    if not isinstance(found, Responder):
        raise LookupError("no KeepaliveMiddleware is serving this scope")
    return KeepaliveStream(found)
