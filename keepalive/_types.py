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
SendNow: TypeAlias = Callable[[Message], Any]
"""As `Send`; but while a stream is open, it returns `None` if the message was sent at once."""
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

REQUEST: Final = "http.request"
DISCONNECT: Final = "http.disconnect"
START: Final = "http.response.start"
BODY: Final = "http.response.body"
TRAILERS: Final = "http.response.trailers"
PATH_SEND: Final = "http.response.pathsend"
ZERO_COPY_SEND: Final = "http.response.zerocopysend"
LIFESPAN: Final = "lifespan"
LIFESPAN_SHUTDOWN: Final = "lifespan.shutdown"

EVENT_STREAM: Final = "text/event-stream"
JSON: Final = "application/json"

LOGGER: Final = logging.getLogger("keepalive")


def do_nothing() -> None:
    """Do nothing: for a callback that has no work to do."""


class log_errors:  # noqa: N801  # as contextlib.suppress
    """A context manager for calls of the user's functions that logs exceptions.

    No exception may affect a stream. That includes what is not an `Exception`, such
    as the `CancelledError` of a future's `result()`: a system task of trio that raises it
    would end the whole run. `KeyboardInterrupt` and `SystemExit` are passed on.

    Args:
        message: The message of the log record.
        **extra: The record's attributes.
    """

    __slots__ = ("_extra", "_message")

    def __init__(self, message: str, **extra: object) -> None:
        self._message = message
        self._extra = extra

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, traceback: object) -> bool:
        if error is None or isinstance(error, KeyboardInterrupt | SystemExit):
            return False
        LOGGER.error(self._message, exc_info=error, extra=self._extra)
        return True
