"""What can be seen of a stream: facts, reasons and log records.

Law: frozen facts, handed to a function. Knows no clock, no event loop and no ASGI.
"""

import logging
from dataclasses import dataclass, fields
from enum import StrEnum, unique
from typing import Final, Literal, Protocol, TypeAlias, final

from ._policy import Policy

LOGGER: Final = logging.getLogger("keepalive")


@final
@unique
class StopReason(StrEnum):
    """Why the pings of a stream have stopped: the first thing that happened.

    Example:
        >>> print(StopReason.MAX_LIFETIME)
        max_lifetime
        >>> StopReason("aborted") is StopReason.ABORTED
        True
    """

    COMPLETED = "completed"
    """The app sent its last body message, or returned."""
    DISCONNECTED = "disconnected"
    """`receive()` said `http.disconnect`, whoever asked; or a send raised `OSError`."""
    ABORTED = "aborted"
    """The abort signal, or `KeepaliveStream.abort`."""
    SHUTDOWN = "shutdown"
    """The owner, by `on_shutdown`'s callback or `KeepaliveMiddleware.shutdown`."""
    MAX_LIFETIME = "max_lifetime"
    """The policy's `max_lifetime` was over."""
    SEND_TIMEOUT = "send_timeout"
    """A write, the app's or a ping's, blocked for the policy's `send_timeout`."""
    WRITE_FAILED = "write_failed"
    """A ping's own send raised something other than `OSError`."""
    APP_FAILED = "app_failed"
    """The app raised, or was cancelled from outside."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStarted:
    """A response has started that will be kept alive.

    Attributes:
        path: The request's path, as in the ASGI scope.
        media_type: The response's, in lower case and without parameters.
        policy: The policy that its route was given; with `first` at 0 where the middleware
            has started the response.

    Example:
        >>> fact = StreamStarted(path="/", media_type="text/event-stream", policy=Policy())
        >>> fact.policy.interval
        15.0
    """

    path: str
    media_type: str
    policy: Policy


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PingSent:
    r"""A ping was handed to the server.

    Attributes:
        path: The request's path, as in the ASGI scope.
        count: How many pings the stream has had, this one included.
        payload: The bytes that were sent.

    Example:
        >>> PingSent(path="/", count=1, payload=Ping.event().payload)
        PingSent(path='/', count=1, payload=b'event: ping\ndata: \n\n')
    """

    path: str
    count: int
    payload: bytes


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded:
    """A stream is over: the last body message was sent, the client left, or the app ended.

    The last body message may have been the middleware's: see `Policy.drain`.

    Attributes:
        path: The request's path, as in the ASGI scope.
        reason: Why its pings stopped. After an abort, say, the app may have gone on.
        pings: How many pings were sent.
        duration: Seconds from the response's start to now.
        bytes_sent: Body bytes handed to the server, pings included.
        error: What was raised, with `APP_FAILED`, `WRITE_FAILED` and, from a send,
            `DISCONNECTED`. A cancellation of the app's call stands here too.
        started_by: Who started the response: `"app"`, or `"middleware"`, in the app's place;
            see `Policy.start_after`.
        late_status: The status that the app gave when the middleware had started the
            response; `None` where it gave none, or started the response itself.

    Example:
        >>> end = {"pings": 2, "duration": 31.5, "bytes_sent": 80}
        >>> end = StreamEnded(path="/", reason=StopReason.DISCONNECTED, **end)
        >>> end.started_by, end.late_status, end.error
        ('app', None, None)
    """

    path: str
    reason: StopReason
    pings: int
    duration: float
    bytes_sent: int
    error: BaseException | None = None
    started_by: Literal["app", "middleware"] = "app"
    late_status: int | None = None


Fact: TypeAlias = StreamStarted | PingSent | StreamEnded


class Observer(Protocol):
    """Any callable that takes one fact. It is called in the request's own context.

    It must be quick and must not block: it runs in the event loop. What it raises is
    logged, and harms no stream.

    Example:
        >>> def observer(event):
        ...     match event:
        ...         case StreamEnded(path=path, reason=reason, pings=pings):
        ...             print(path, reason, pings)
        >>> async def app(scope, receive, send): ...
        >>> app = KeepaliveMiddleware(app, observer=observer)
    """

    def __call__(self, event: Fact, /) -> object:
        """Take a fact: a `StreamStarted`, a `PingSent` or a `StreamEnded`."""
        ...  # pragma: no cover


def report(observer: Observer | None, fact: Fact) -> None:
    """Log a fact, and hand it to the observer. Never raises an `Exception`."""
    if type(fact) is not PingSent and LOGGER.isEnabledFor(logging.DEBUG):
        message = "stream started" if type(fact) is StreamStarted else "stream ended"
        extra = {item.name: getattr(fact, item.name) for item in fields(fact)}
        LOGGER.debug(message, extra=extra)
    if observer is not None:
        try:
            observer(fact)
        except Exception:
            LOGGER.exception("the observer raised", extra={"path": fact.path})
