"""ASGI's types and the names of its messages, and the constants that all layers share.

Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST: Final = "http.request"
DISCONNECT: Final = "http.disconnect"
START: Final = "http.response.start"
BODY: Final = "http.response.body"
PATH_SEND: Final = "http.response.pathsend"
ZERO_COPY_SEND: Final = "http.response.zerocopysend"
LIFESPAN: Final = "lifespan"
LIFESPAN_SHUTDOWN: Final = "lifespan.shutdown"

EVENT_STREAM: Final = "text/event-stream"
JSON: Final = "application/json"

LOGGER: Final = logging.getLogger("keepalive")


def do_nothing() -> None:
    """Do nothing: for a callback that has no work to do."""
