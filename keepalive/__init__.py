"""Keep the streaming responses of any ASGI app alive while they are idle."""

from ._abort import AbortController, AbortSignal
from ._events import Observer, PingSent, StopReason, StreamEnded, StreamStarted
from ._middleware import KeepaliveMiddleware
from ._ping import Ping
from ._policy import Policy
from ._signals import SignalOwner, on_signals
from ._view import KeepaliveStream, stream

__all__ = [
    "AbortController",
    "AbortSignal",
    "KeepaliveMiddleware",
    "KeepaliveStream",
    "Observer",
    "Ping",
    "PingSent",
    "Policy",
    "SignalOwner",
    "StopReason",
    "StreamEnded",
    "StreamStarted",
    "on_signals",
    "stream",
]
