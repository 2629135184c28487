"""Keep the streaming responses of any ASGI app alive while they are silent.

Law: names, and nothing else.
"""

from ._abort import AbortController, AbortSignal
from ._frames import Ping
from ._middleware import KeepaliveMiddleware
from ._observe import Observer, PingSent, StopReason, StreamEnded, StreamStarted
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
