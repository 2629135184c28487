"""Private names of the package that tests use, imported in one place.

A test in tests/unit imports what it tests from its own module.
"""

from keepalive._body import MAX_EXAMINED_BODY, RequestBody
from keepalive._boundary import BOM
from keepalive._defaultping import DefaultPing, choose_ping
from keepalive._ending import BOUNDARY_TIMEOUT, LAST_SEND_TIMEOUT
from keepalive._eventloop import cancellable, current_loop, run_in
from keepalive._inflight import APP_EXIT_TIMEOUT, InFlight
from keepalive._ping import CRLF, LF, boundary_in, frame_of, is_event
from keepalive._responder import Responder
from keepalive._scheduler import _HOLDER, PingScheduler
from keepalive._timerqueue import MAX_STALE
from keepalive._types import LOGGER, ASGIApp, Message, Receive, Scope, Send
from keepalive.testing import _JumpingSelector, _VirtualLoop

__all__ = [
    "APP_EXIT_TIMEOUT",
    "BOM",
    "BOUNDARY_TIMEOUT",
    "CRLF",
    "LAST_SEND_TIMEOUT",
    "LF",
    "LOGGER",
    "MAX_EXAMINED_BODY",
    "MAX_STALE",
    "_HOLDER",
    "ASGIApp",
    "DefaultPing",
    "InFlight",
    "Message",
    "PingScheduler",
    "Receive",
    "RequestBody",
    "Responder",
    "Scope",
    "Send",
    "_JumpingSelector",
    "_VirtualLoop",
    "boundary_in",
    "cancellable",
    "choose_ping",
    "current_loop",
    "frame_of",
    "is_event",
    "run_in",
]
