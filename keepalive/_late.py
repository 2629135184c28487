"""A late response: what an app says when its response has been started in its place.

Law: messages in, bytes and names out. Knows no clock, no event loop and no stream.
"""

import json
from collections.abc import Iterable
from typing import Final

from ._asgi import Message
from ._frames import Ping
from ._head import Fields, is_encoded, lowered, media_type_in
from ._policy import EVENT_STREAM, JSON

MOST: Final = 16 * 1024
"""Bytes of a body that the client is told."""

_NOT_MISSED: Final = frozenset(
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
"""Headers that are of this very connection, or that servers set themselves."""


def is_informational(start: Message) -> bool:
    """Whether another start follows a start message."""
    status = start.get("status")
    return isinstance(status, int) and status < 200


class LateResponse:
    """An app's response, behind a start that was not its own.

    Args:
        started_as: The media type that the client was told.
        sent: The header fields that it was sent, by names in lower case.
    """

    __slots__ = (
        "_body",
        "_charset",
        "_sent",
        "_started_as",
        "encoded",
        "fits",
        "lost",
        "media_type",
        "status",
    )

    encoded: bool
    """Whether its body is compressed, or otherwise not what its media type says."""
    fits: bool
    """Whether its body can go on as the body of what was started."""
    lost: tuple[str, ...]
    """The names of its headers that can't be sent any more."""
    media_type: str
    status: int | None

    def __init__(self, started_as: str, sent: Fields) -> None:
        self._started_as = started_as
        self._sent = {name for name, _ in sent}
        self._charset = "utf-8"
        self._body = b""
        self.encoded = False
        self.fits = False
        self.lost = ()
        self.media_type = ""
        self.status = None

    def begin(self, message: Message) -> None:
        """Take the app's start; of one that makes no sense, no more than can be told."""
        try:
            status: int = message["status"]
            fields = lowered(message.get("headers", ()))
            self.media_type = media_type_in(fields)
            self._charset = _charset_in(fields)
            self.encoded = is_encoded(fields)
            self.lost = _names({name for name, _ in fields} - self._sent - _NOT_MISSED)
            alike = 200 <= status < 300 and self.media_type == self._started_as
            # A client that reads JSON whole finds in it what went wrong, as it always would.
            self.fits = not self.encoded and (alike or self._started_as == JSON)
            self.status = status
        except (AttributeError, KeyError, TypeError, ValueError):
            self.fits = False

    def feed(self, body: bytes) -> bool:
        """Take a part of its body; return whether there is more than can be told."""
        self._body += body[: MOST + 1 - len(self._body)]
        return len(self._body) > MOST

    @property
    def needs_body(self) -> bool:
        """Whether what was started is nothing without a body."""
        return self._started_as == JSON

    @property
    def farewell(self) -> Ping:
        """What is told, as the last of a stream that is ended."""
        return Ping.raw(self.told, at="event" if self._started_as == EVENT_STREAM else "line")

    @property
    def told(self) -> bytes:
        """What the client is told of it: an event, or one line of JSON."""
        facts = {"status": self.status or 500, "media_type": self.media_type or None}
        data = json.dumps({**facts, "body": self._text})
        if self._started_as == EVENT_STREAM:
            return Ping.event("error", data=data).payload
        return data.encode() + b"\n"

    @property
    def _text(self) -> str:
        body = b"" if self.encoded else self._body[:MOST]
        try:
            return body.decode(self._charset, "replace")
        except (LookupError, ValueError):  # a charset that nobody knows, or none of text
            return body.decode("utf-8", "replace")


def _names(names: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(sorted(name.decode("latin-1") for name in names))


def _charset_in(fields: Fields) -> str:
    for name, value in fields:
        if name == b"content-type":
            for parameter in value.decode("latin-1").split(";")[1:]:
                key, _, charset = parameter.partition("=")
                if key.strip() == "charset":
                    return charset.strip()
    return "utf-8"
