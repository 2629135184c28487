"""What an app sends after the middleware has started the response.

Messages in, bytes and header names out: the client is either sent the app's body, or a summary
of the app's response (an event, or one line of JSON).
"""

import json
from typing import Final

from ._headers import Headers, charset_in, is_encoded, media_type_in, normalized
from ._ping import Ping
from ._types import EVENT_STREAM, JSON, Message

MAX_SUMMARY_BODY: Final = 16 * 1024
"""Bytes of the app's body in a summary. Error pages are shorter; more would be buffered."""

_CONNECTION_HEADERS: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"content-type",
        b"date",
        b"keep-alive",
        b"server",
        b"transfer-encoding",
    )
)
"""Headers of the connection, or that servers set themselves: they are not missed."""


class LateResponse:
    """An app's response, after the middleware has started one.

    Args:
        started_as: The media type with which it was started.
        sent: The headers that were sent, besides the media type; names in lower case.
    """

    __slots__ = (
        "_body",
        "_charset",
        "_sent",
        "_started_as",
        "compatible",
        "dropped_headers",
        "encoded",
        "media_type",
        "status",
    )

    compatible: bool
    """Whether its body can continue the response that was started."""
    encoded: bool
    """Whether its body is compressed, or otherwise not what its media type says."""
    dropped_headers: tuple[str, ...]
    """The names of its headers that can't be sent any more."""
    media_type: str
    status: int | None

    def __init__(self, started_as: str, sent: Headers) -> None:
        self._started_as = started_as
        self._sent = {name for name, _ in sent}
        self._charset = "utf-8"
        self._body = b""
        self.encoded = False
        self.media_type = ""
        self.status = None

    def begin(self, message: Message) -> None:
        """Read the app's response start, or as much of it as is valid."""
        try:
            status: int = message["status"]
            fields = normalized(message.get("headers", ()))
            self.media_type = media_type_in(fields)
            self._charset = charset_in(fields)
            self.encoded = is_encoded(fields)
            dropped = {name for name, _ in fields} - self._sent - _CONNECTION_HEADERS
            self.dropped_headers = tuple(sorted(name.decode("latin-1") for name in dropped))
            same = 200 <= status < 300 and self.media_type == self._started_as
            # A client that reads JSON finds in it what went wrong, as it always would.
            self.compatible = not self.encoded and (same or self._started_as == JSON)
            self.status = status
        except (AttributeError, KeyError, TypeError, ValueError):
            self.compatible = False

    def feed(self, body: bytes) -> bool:
        """Add a part of its body; return whether there is more than a summary contains."""
        self._body += body[: MAX_SUMMARY_BODY + 1 - len(self._body)]
        return len(self._body) > MAX_SUMMARY_BODY

    @property
    def needs_body(self) -> bool:
        """Whether an empty body would be invalid in the response that was started."""
        return self._started_as == JSON

    @property
    def farewell(self) -> Ping:
        """The summary, as the farewell of a stream that is ended."""
        return Ping.raw(
            self.summary, at="event" if self._started_as == EVENT_STREAM else "line"
        )

    @property
    def summary(self) -> bytes:
        """What the client is sent in its place: an event, or one line of JSON."""
        details = {"status": self.status or 500, "media_type": self.media_type or None}
        data = json.dumps({**details, "body": self._text})
        if self._started_as == EVENT_STREAM:
            return Ping.event("error", data=data).payload
        return data.encode() + b"\n"

    @property
    def _text(self) -> str:
        body = b"" if self.encoded else self._body[:MAX_SUMMARY_BODY]
        try:
            return body.decode(self._charset, "replace")
        except (LookupError, ValueError):  # an unknown charset, or a codec that is not one
            return body.decode("utf-8", "replace")
