"""What an app sends after the middleware has started the response.

Messages in, bytes and header names out: the client is either sent the app's body, or a summary
of the app's response (an event, or one line of JSON).

The summary is a JSON object of which the SDKs of OpenAI and Anthropic make the exception that
they raise for an error within a stream.

Sources: OpenAI, "Error codes"; Anthropic, "Errors" (the types, and the event `error`); RFC
9457, section 3.1 (`detail`).
"""

import json
from http import HTTPStatus
from typing import Final, cast

from ._headers import Headers, charset_in, is_encoded, media_type_in, normalized
from ._ping import Ping
from ._types import EVENT_STREAM, JSON, Message

MAX_SUMMARY_BODY: Final = 16 * 1024
"""The maximum size of the app's body in a summary. Error pages are shorter."""

TIMED_OUT: Final = 504
"""The status in the summary if a limit has ended the stream before the app has answered."""

_ERROR_TYPES: Final = (
    (401, "authentication_error"),
    (403, "permission_error"),
    (404, "not_found_error"),
    (413, "request_too_large"),
    (429, "rate_limit_error"),
    (TIMED_OUT, "timeout_error"),
    (529, "overloaded_error"),
)
"""Anthropic's error types, by status. OpenAI's depend on more than the status."""

_MESSAGE_KEYS: Final = ("detail", "message", "error")
"""Keys of the message in error bodies: FastAPI and RFC 9457, many frameworks, others."""

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
"""Headers of the connection, or that servers set themselves: dropping them is harmless."""


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
            # A client that reads JSON finds the error in it, as usual.
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
    def needs_newline(self) -> bool:
        """Whether its body consists of events, whose first line must not begin with spaces.

        A client reads them as events, whatever the media type, if it has asked for them.
        """
        return self._started_as == JSON and self.media_type == EVENT_STREAM

    @property
    def summary(self) -> bytes:
        """What is sent to the client instead: an event, or one line of JSON."""
        return self._summary(self.status or 500)

    @property
    def failure(self) -> bytes:
        """The same, if the app has raised an error before the first byte of its body."""
        status = self.status or 500
        return self._summary(status if status >= 400 else 500)

    @property
    def farewell(self) -> Ping:
        """The summary, as the farewell of a stream that is ended."""
        return self._farewell(self.summary)

    @property
    def timeout_farewell(self) -> Ping:
        """What is sent to the client if a stream is ended before the app has responded."""
        return self._farewell(self._summary(TIMED_OUT))

    def _farewell(self, summary: bytes) -> Ping:
        return Ping.raw(summary, at="event" if self._started_as == EVENT_STREAM else "line")

    def _summary(self, status: int) -> bytes:
        text, media_type = self._text, self.media_type or None
        # OpenAI's SDKs ignore an empty error object.
        error = _own_error(text) or _described(status, media_type, text)
        details = {"status": status, "media_type": media_type, "body": text}
        data = json.dumps({"type": "error", "error": error, **details})
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


def _own_error(text: str) -> dict[str, object] | None:
    """Return the `error` object of a JSON body; `None` if it has none."""
    error = _json_object(text).get("error")
    return cast("dict[str, object]", error) if isinstance(error, dict) else None


def _described(status: int, media_type: str | None, text: str) -> dict[str, object]:
    """Return an `error` object for a response that has none of its own."""
    if status >= 400:
        given = _json_object(text)
        texts = [given[key] for key in _MESSAGE_KEYS if isinstance(given.get(key), str)]
        message = next(filter(None, texts), None) or _phrase(status)
    else:
        named = " ".join(filter(None, (str(status), media_type)))
        message = f"the app sent an unexpected response: {named}"
    by_default = "invalid_request_error" if 400 <= status < 500 else "api_error"
    kind = dict(_ERROR_TYPES).get(status, by_default)
    return {"message": message, "type": kind, "code": str(status)}


def _json_object(text: str) -> dict[str, object]:
    """Return a body's JSON object, empty if it is not one that all clients can parse."""
    try:
        value: object = json.loads(text)
        json.dumps(value, allow_nan=False)
    except (RecursionError, ValueError):  # nested too deeply; not JSON, or NaN and Infinity
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"status {status}"
