"""What all requests of one middleware share."""

from collections.abc import Callable
from dataclasses import dataclass

from ._abort import AbortSignal
from ._events import Observer
from ._inflight import InFlight
from ._types import Scope


@dataclass(frozen=True, slots=True, eq=False)
class Config:
    """What the middleware passes to each of its requests.

    Attributes:
        stop_signal: Aborted, with the `StopReason`, when all streams are to stop.
        signal_for: Returns a request's own abort signal, if it has one.
        in_flight: The requests that `lifespan.shutdown` waits for.
        observer: Called with events.
        before_stream: To be called before a stream opens.
        warn_compressed: To be called with the route of a compressed stream.
        warn_lost: To be called with a route and the names of headers that came too late.
    """

    stop_signal: AbortSignal
    signal_for: Callable[[Scope], AbortSignal | None]
    in_flight: InFlight
    observer: Observer | None
    before_stream: Callable[[], None]
    warn_compressed: Callable[[str], None]
    warn_lost: Callable[[str, tuple[str, ...]], None]
