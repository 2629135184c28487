"""Keep the streaming responses of any ASGI app alive while they are idle."""

from ._abort import AbortController, AbortSignal
from ._events import Observer, PingSent, StopReason, StreamEnded, StreamEvent, StreamStarted
from ._middleware import KeepaliveMiddleware
from ._ping import Ping
from ._policy import Policy, PolicyOptions
from ._routing import RouteValue
from ._signals import on_signals
from ._view import KeepaliveStream, get_stream

__all__ = [
    "AbortController",
    "AbortSignal",
    "KeepaliveMiddleware",
    "KeepaliveStream",
    "Observer",
    "Ping",
    "PingSent",
    "Policy",
    "PolicyOptions",
    "RouteValue",
    "StopReason",
    "StreamEnded",
    "StreamEvent",
    "StreamStarted",
    "get_stream",
    "on_signals",
]

# Tracebacks, `repr` and documentation name the public objects as they are imported. The two
# unions have no such attribute.
for _name in __all__:
    if getattr(globals()[_name], "__module__", "").startswith("keepalive."):
        globals()[_name].__module__ = __name__
