"""What can be observed about a stream: event objects, stop reasons and log records."""

import logging
from dataclasses import dataclass, fields
from enum import StrEnum, unique
from typing import Literal, Protocol, TypeAlias, final

from ._ping import Ping
from ._policy import Policy
from ._types import LOGGER, log_errors


@final
@unique
class StopReason(StrEnum):
    """Why the pings of a stream stopped: the first reason that occurred.

    Example:
        >>> print(StopReason.MAX_LIFETIME)
        max_lifetime
        >>> StopReason("aborted") is StopReason.ABORTED
        True
    """

    COMPLETED = "completed"
    """The app sent its last body message, or returned."""
    DISCONNECTED = "disconnected"
    """`receive()` returned `http.disconnect` to any caller, or a send raised `OSError`."""
    ABORTED = "aborted"
    """The abort signal was triggered, or `KeepaliveStream.abort` was called."""
    SHUTDOWN = "shutdown"
    """`KeepaliveMiddleware.shutdown` was called, or the server's lifespan has ended."""
    MAX_LIFETIME = "max_lifetime"
    """The stream reached its `max_lifetime` (a random 80 to 100 % of it)."""
    SILENT = "silent"
    """The app sent no bytes for `max_silence` seconds."""
    SEND_TIMEOUT = "send_timeout"
    """A write, by the app or of a ping, blocked for `send_timeout` seconds."""
    WRITE_FAILED = "write_failed"
    """Sending a ping raised something other than `OSError`."""
    APP_FAILED = "app_failed"
    """The app raised, or was cancelled from outside."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStarted:
    """A response that is kept alive has started.

    Attributes:
        path: The request's path, as in the ASGI scope.
        route: The pattern in `routes` that matched, or `"*"`. Unlike the path, it can be
            used as a metric label.
        media_type: The response's, in lower case and without parameters.
        policy: The policy of its route, as configured.
        ping: The ping in use. With `Policy.ping=None` it was chosen by looking at the request.

    Example:
        >>> start = {"media_type": "text/event-stream", "policy": Policy()}
        >>> event = StreamStarted(path="/", ping=Ping.event(), **start)
        >>> event.route, event.policy.interval
        ('*', 15.0)
    """

    path: str
    route: str = "*"
    media_type: str
    policy: Policy
    ping: Ping


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class PingSent:
    r"""A ping was passed to the server.

    Attributes:
        path: The request's path, as in the ASGI scope.
        route: The pattern in `routes` that matched, or `"*"`.
        count: How many pings the stream has sent so far, including this one.
        payload: The bytes that were sent.

    Example:
        >>> PingSent(path="/", count=1, payload=Ping.event().payload)
        PingSent(path='/', route='*', count=1, payload=b'event: ping\ndata: \n\n')
    """

    path: str
    route: str = "*"
    count: int
    payload: bytes


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEnded:
    """A stream has ended: the last body was sent, the client disconnected, or the app ended.

    The last body may have been sent by the middleware: see `Policy.drain`.

    Attributes:
        path: The request's path, as in the ASGI scope.
        route: The pattern in `routes` that matched, or `"*"`.
        reason: Why its pings stopped. After an abort, for example, the response may have
            continued.
        pings: How many pings were sent.
        duration: Seconds since the response started.
        bytes_sent: Body bytes passed to the server, including pings.
        error: The exception, with `APP_FAILED`, `WRITE_FAILED` and, if a send raised it,
            `DISCONNECTED`. With `APP_FAILED` it may be a cancellation of the app's call.
        started_by: `"app"`, or `"middleware"` if `start_after` was over.
        late_status: The status of the app's late response, if the middleware had started the
            response. `None` otherwise, or if the app sent no response.

    Example:
        >>> end = {"pings": 2, "duration": 31.5, "bytes_sent": 80}
        >>> end = StreamEnded(path="/", reason=StopReason.DISCONNECTED, **end)
        >>> end.started_by, end.late_status, end.error
        ('app', None, None)
    """

    path: str
    route: str = "*"
    reason: StopReason
    pings: int
    duration: float
    bytes_sent: int
    error: BaseException | None = None
    started_by: Literal["app", "middleware"] = "app"
    late_status: int | None = None


StreamEvent: TypeAlias = StreamStarted | PingSent | StreamEnded
"""The argument of an observer."""


class Observer(Protocol):
    """Any callable that takes one event object. It is called in the context of the request.

    It must be quick and must not block, because it runs in the event loop. Exceptions are
    logged and have no other effect.

    Example:
        >>> def observer(event):
        ...     match event:
        ...         case StreamEnded(path=path, reason=reason, pings=pings):
        ...             print(path, reason, pings)
        >>> async def app(scope, receive, send): ...
        >>> app = KeepaliveMiddleware(app, observer=observer)
    """

    def __call__(self, event: StreamEvent, /) -> object:
        """Handle an event: a `StreamStarted`, a `PingSent` or a `StreamEnded`."""


def is_observed(observer: Observer | None) -> bool:
    """Whether anything consumes the events of a start and an end, so that they are made."""
    return observer is not None or LOGGER.isEnabledFor(logging.DEBUG)


def emit(observer: Observer | None, event: StreamEvent) -> None:
    """Log an event and pass it to the observer, whose exceptions are logged."""
    if type(event) is not PingSent and LOGGER.isEnabledFor(logging.DEBUG):
        message = "stream started" if type(event) is StreamStarted else "stream ended"
        extra = {item.name: getattr(event, item.name) for item in fields(event)}
        LOGGER.debug(message, extra=extra)
    if observer is not None:
        with log_errors("the observer raised", path=event.path):
            observer(event)
