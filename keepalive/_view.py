"""The view that an app has of its own stream.

Law: what an app may see and do, and nothing else. Knows no bytes and no clock.
"""

from typing import final

from ._abort import AbortSignal
from ._asgi import Scope
from ._stream import SCOPE_KEY, Stream


@final
class KeepaliveStream:
    """An app's view of its own stream; get it with `stream`.

    Example:
        >>> async def app(scope, receive, send):
        ...     own = stream(scope)
        ...     print(own.pings, own.signal.aborted)
        >>> import anyio
        >>> anyio.run(KeepaliveMiddleware(app), {"type": "http", "path": "/"}, None, None)
        0 False
    """

    __slots__ = ("_stream",)

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def signal(self) -> AbortSignal:
        """Aborted, with the `StopReason`, as soon as the pings stop for any reason."""
        return self._stream.signal

    @property
    def pings(self) -> int:
        """How many pings have been sent so far."""
        return self._stream.pings

    def abort(self) -> None:
        """Stop the pings of this stream, with `StopReason.ABORTED`.

        From any thread or signal handler. The response itself stays the app's, unless its
        policy has a `drain`. Once this has returned, no further ping is begun. Before the
        response has started, it takes effect as that starts.
        """
        self._stream.abort()


def stream(scope: Scope) -> KeepaliveStream:
    """Return the stream of the request that an app is serving.

    It may be asked for before the response starts, and for responses that turn out to be no
    streams; those have no pings, and their signal is aborted when the app's call is over.

    Args:
        scope: The scope that the app was called with, or a copy of it.

    Raises:
        LookupError: No `KeepaliveMiddleware` is around the app, or the scope is not an HTTP
            request's. When the app's call is over, the scope itself, though not a copy of
            it, has lost its stream too.

    Example:
        >>> stream({"type": "http", "path": "/"})
        Traceback (most recent call last):
        LookupError: no KeepaliveMiddleware is serving this scope
    """
    found = scope.get(SCOPE_KEY)
    if not isinstance(found, Stream):
        raise LookupError("no KeepaliveMiddleware is serving this scope")
    return KeepaliveStream(found)
