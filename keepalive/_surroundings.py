"""The surroundings: what the streams of one middleware have in common.

Law: names for what the middleware hands down, and nothing else.
"""

from collections.abc import Callable
from typing import NamedTuple

from ._abort import AbortSignal
from ._asgi import Scope
from ._calls import Calls
from ._observe import Observer


class Surroundings(NamedTuple):
    """What a stream is given by its middleware.

    Attributes:
        stops: Aborted, with the `StopReason`, when all streams are to stop.
        own_signal: Returns the signal of one stream's own, if it has any.
        calls: Those that a shutdown waits for.
        observer: Is told what happens.
        before_stream: To be called before a stream opens.
        warn_compressed: To be called with the route of a stream that is compressed.
        warn_lost: To be called with a route, and the names of headers that came too late.
    """

    stops: AbortSignal
    own_signal: Callable[[Scope], AbortSignal | None]
    calls: Calls
    observer: Observer | None
    before_stream: Callable[[], None]
    warn_compressed: Callable[[str], None]
    warn_lost: Callable[[str, tuple[str, ...]], None]
