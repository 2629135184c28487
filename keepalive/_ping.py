"""Pings: the bytes that are inserted into an idle stream, and the boundary that they need.

Sources: WHATWG HTML, "Server-sent events", sections 9.2.5 (parsing) and 9.2.6
(interpreting); RFC 8259, section 2 (white space before a JSON value).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, final

from ._types import EVENT_STREAM, log_errors

Boundary: TypeAlias = Literal["event", "line"]
Text: TypeAlias = str | Callable[[], str]

LF: Final = b"\n"
CRLF: Final = b"\r\n"
BLANK_LINE: Final = b"\n\n"

_LINE_END = re.compile("\r\n|\r|\n")


@final
@dataclass(frozen=True, slots=True)
class Ping:
    r"""What is inserted into an idle stream: some bytes, and the boundary that they need.

    Create one with `event`, `comment`, `blank_line`, `space` or `raw`. A ping is an
    immutable value that any number of streams can share.

    Attributes:
        payload: The bytes that are sent; if the text is a callable, the bytes that are sent if
            it fails.
        at: Where the payload may be inserted: `"event"`, at the start of the stream or after
            a blank line; `"line"`, at the start of any line.

    Raises:
        ValueError: The payload is empty, or neither ends at its own boundary nor consists
            of spaces.
        TypeError: The payload is not `bytes`.

    Example:
        >>> Ping.event("tick", data="a\nb").payload
        b'event: tick\ndata: a\ndata: b\n\n'
        >>> Ping.comment().payload, Ping.comment().at
        (b': ping\n', 'line')
    """

    payload: bytes
    at: Boundary
    _verbatim: bool = field(default=True, repr=False)
    _render: Callable[[], bytes] | None = field(default=None, repr=False)
    _has_blank_line: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.payload) is not bytes:
            raise TypeError(f"Ping.payload must be bytes, got {self.payload!r}")
        if self.at not in ("event", "line"):
            raise ValueError(f'Ping.at must be "event" or "line", got {self.at!r}')
        if not self.payload:
            raise ValueError(f"Ping.payload must not be empty, got {self.payload!r}")
        if not (is_spaces(self.payload) or ends_at(self.at, b"\n\n" + self.payload)):
            raise ValueError(
                f"Ping.payload must end at its own boundary ({self.at!r}) or consist of "
                f"spaces, got {self.payload!r}"
            )
        object.__setattr__(self, "_has_blank_line", b"\n\n" in b"\n" + _lf(self.payload))

    @classmethod
    def event(cls, name: str = "ping", data: Text = "") -> "Ping":
        r"""Return a ping that is an event of its own: `event: ping\ndata: \n\n`.

        Browsers dispatch it to listeners of that name. Clients that parse the data of every
        event as JSON break on it; use `comment` for them.

        Args:
            name: The event's name, a single line.
            data: The event's data. Several lines become several `data:` fields. A callable
                is called for each ping; if it raises or does not return text, the data of
                that ping is empty and the error is logged.

        Raises:
            ValueError: `name` is empty or contains CR or LF; or a text can't be encoded.
            TypeError: `name` is not a `str`, or `data` is neither a `str` nor callable.
        """
        name_line = f"event: {_single_line('name', name, least=1)}"

        def frame(text: object) -> bytes:
            lines = _LINE_END.split(_text("data", text))
            return _encoded([name_line, *(f"data: {line}" for line in lines), "", ""])

        return _built(frame, data, fallback="", at="event")

    @classmethod
    def comment(cls, text: Text = "ping") -> "Ping":
        r"""Return a ping that is a comment: `: ping\n`, which is valid even within an event.

        Parsers that follow the specification ignore it, and so does a browser's
        `EventSource`.

        Args:
            text: The comment, a single line. A callable is called for each ping; if it raises
                or does not return a single line, `ping` is sent and the error is logged.

        Raises:
            ValueError: `text` contains CR or LF, or can't be encoded.
            TypeError: `text` is neither a `str` nor callable.
        """

        def frame(text: object) -> bytes:
            return _encoded([f": {_single_line('text', text, least=0)}", ""])

        return _built(frame, text, fallback="ping", at="line")

    @classmethod
    def blank_line(cls) -> "Ping":
        r"""Return a ping that is an empty line, for line-based formats such as NDJSON.

        In `text/event-stream` a blank line would end an event, so there it is sent only
        between events.
        """
        return cls(LF, "line", _verbatim=False)

    @classmethod
    def space(cls) -> "Ping":
        """Return a ping that is one space, which JSON allows before a value (RFC 8259).

        Every NDJSON client that was tested accepts it if a record follows. Not valid for
        `text/event-stream`, where it would become part of the next field's name.
        """
        return cls(b" ", "line")

    @classmethod
    def raw(cls, payload: bytes, *, at: Boundary) -> "Ping":
        """Return a ping of your own bytes, sent as given.

        Args:
            payload: The bytes; they must end at the boundary they need, or be spaces.
            at: The boundary they need: `"event"` or `"line"`.

        Raises:
            ValueError: The payload is empty or ends elsewhere, or the boundary is unknown.
            TypeError: The payload is not `bytes`.
        """
        return cls(payload, at)


def frame_of(ping: Ping, newline: bytes) -> bytes:
    r"""Return the bytes to send into a stream whose lines end with `newline`.

    Raises:
        Exception: Whatever the ping's callable raised; `TypeError` or `ValueError` for a text
            that can't be sent.
    """
    payload = ping.payload if ping._render is None else ping._render()
    return _with_newlines(ping, payload, newline)


def static_payload(ping: Ping) -> bytes | None:
    """Return the bytes of a ping in a stream whose lines end with LF; `None` if they vary."""
    return ping.payload if ping._render is None else None


def frame_or_fallback(ping: Ping, newline: bytes) -> bytes:
    """Return the same, or the ping's `payload` if its callable fails; the error is logged."""
    with log_errors("a ping's callable failed"):
        return frame_of(ping, newline)
    return _with_newlines(ping, ping.payload, newline)


def _with_newlines(ping: Ping, payload: bytes, newline: bytes) -> bytes:
    unchanged = newline == LF or ping._verbatim
    return payload if unchanged else payload.replace(LF, newline)


def is_spaces(payload: bytes) -> bool:
    """Whether a payload consists of spaces only."""
    return not payload.strip(b" ")


def is_event(ping: Ping) -> bool:
    """Whether a ping is more than comments and blank lines in `text/event-stream`.

    SDKs that parse the data of each event as JSON break on one.
    """
    lines = _lf(ping.payload).split(LF)
    return any(line and not line.startswith(b":") for line in lines)


def boundary_in(media_type: str, ping: Ping) -> Boundary:
    """Return the boundary that a ping needs in a stream of that media type.

    It is the ping's own, except for a payload with a blank line in `text/event-stream`: at a
    mere line boundary it would end the event that it was inserted into.
    """
    return "event" if ping._has_blank_line and media_type == EVENT_STREAM else ping.at


def ends_at(boundary: Boundary, data: bytes) -> bool:
    """Whether a stream that ends with `data` is at a boundary.

    A trailing CR does not count, since an LF may follow.
    """
    if data.endswith(b"\r"):
        return False
    return _lf(data).endswith(b"\n\n" if boundary == "event" else b"\n")


def _built(
    frame: Callable[[object], bytes], text: Text, *, fallback: str, at: Boundary
) -> Ping:
    if callable(text):
        return Ping(frame(fallback), at, _verbatim=False, _render=lambda: frame(text()))
    return Ping(frame(text), at, _verbatim=False)


def _text(field_name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"Ping {field_name} must be str or a callable, got {value!r}")
    return value


def _single_line(field_name: str, value: object, *, least: int) -> str:
    line = _text(field_name, value)
    if _LINE_END.search(line):
        raise ValueError(f"Ping {field_name} must not contain CR or LF, got {line!r}")
    if len(line) < least:
        raise ValueError(f"Ping {field_name} must not be empty, got {line!r}")
    return line


def _encoded(lines: list[str]) -> bytes:
    return "\n".join(lines).encode()


def _lf(data: bytes) -> bytes:
    """Return the data with LF as the only line ending."""
    return data.replace(CRLF, LF).replace(b"\r", LF) if 0x0D in data else data
