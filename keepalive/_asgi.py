"""ASGI in types: what a server, a middleware and an app hand each other.

Law: types, and the names of messages. Knows no behaviour, no policy and no clock.

Source: ASGI 3.0, https://asgi.readthedocs.io/en/latest/specs/www.html
"""

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
