"""Frames and boundaries: which bytes are injected, and where they may stand.

Law: bytes in, bytes out. Knows no clock, no event loop and no ASGI.

Sources: WHATWG HTML, "Server-sent events", sections 9.2.5 (parsing) and 9.2.6
(interpreting); RFC 8259, section 2 (white space before a JSON value).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, final

Boundary: TypeAlias = Literal["event", "line"]
Text: TypeAlias = str | Callable[[], str]

BOM: Final = b"\xef\xbb\xbf"
LF: Final = b"\n"
CRLF: Final = b"\r\n"
BLANK_LINE: Final = b"\n\n"

_LINE_END = re.compile("\r\n|\r|\n")


@final
@dataclass(frozen=True, slots=True)
class Ping:
    r"""What is injected into a silent stream: some bytes, and the boundary they need.

    Make one with `event`, `comment`, `blank_line`, `space` or `raw`. A ping is an
    immutable value; one may serve any number of streams.

    Attributes:
        payload: The bytes that are sent. Where the text is a callable, the bytes that are
            sent should the callable fail.
        at: Where the payload may stand: `"event"`, at the start of the stream or after a
            blank line; `"line"`, at the start of any line.

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
    _own_lines: bool = field(default=True, repr=False)
    _render: Callable[[], bytes] | None = field(default=None, repr=False)
    _ends_events: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.payload) is not bytes:
            raise TypeError(f"Ping.payload must be bytes, got {self.payload!r}")
        if self.at not in ("event", "line"):
            raise ValueError(f'Ping.at must be "event" or "line", got {self.at!r}')
        if not self.payload:
            raise ValueError(f"Ping.payload must not be empty, got {self.payload!r}")
        if not (is_spaces(self.payload) or _ends_at(self.at, b"\n\n" + self.payload)):
            raise ValueError(
                f"Ping.payload must end at its own boundary ({self.at!r}) or consist of "
                f"spaces, got {self.payload!r}"
            )
        # Found out once: a search for two bytes takes longer than all the rest of a start.
        blank = b"\n\n" in b"\n" + _unified(self.payload)
        object.__setattr__(self, "_ends_events", blank)

    @classmethod
    def event(cls, name: str = "ping", data: Text = "") -> "Ping":
        r"""Return a ping that is an event of its own: `event: ping\ndata: \n\n`.

        Browsers dispatch it to listeners of that name. Clients that parse the data of every
        event as JSON break on it; use `comment` for them.

        Args:
            name: The event's name, a single line.
            data: The event's data. Several lines become several `data:` fields. A callable
                is asked for each ping; should it raise or not return text, that ping's data
                is empty and the error is logged.

        Raises:
            ValueError: The name is empty or holds CR or LF; or a text can't be encoded.
            TypeError: The name is no `str`, or the data neither `str` nor callable.
        """
        head = f"event: {_single_line('name', name, least=1)}"

        def frame(text: object) -> bytes:
            lines = _LINE_END.split(_text("data", text))
            return _encoded([head, *(f"data: {line}" for line in lines), "", ""])

        return _built(frame, data, fallback="", at="event")

    @classmethod
    def comment(cls, text: Text = "ping") -> "Ping":
        r"""Return a ping that is a comment: `: ping\n`, which may stand inside an event.

        Parsers that follow the specification ignore it, a browser's `EventSource` too.

        Args:
            text: The comment, a single line. A callable is asked for each ping; should it
                raise or not return a single line, `ping` is sent and the error is logged.

        Raises:
            ValueError: The text holds CR or LF, or can't be encoded.
            TypeError: The text is neither `str` nor callable.
        """

        def frame(text: object) -> bytes:
            return _encoded([f": {_single_line('text', text, least=0)}", ""])

        return _built(frame, text, fallback="ping", at="line")

    @classmethod
    def blank_line(cls) -> "Ping":
        r"""Return a ping that is an empty line, for line-based formats such as NDJSON.

        In `text/event-stream` a blank line ends an event, so there it waits for the end of
        the app's own.
        """
        return cls(LF, "line", _own_lines=False)

    @classmethod
    def space(cls) -> "Ping":
        """Return a ping that is one space, which JSON allows before a value (RFC 8259).

        Every NDJSON reader tried takes it if a record follows. Not for `text/event-stream`,
        where it would become part of the next field's name.
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
        Exception: Whatever the ping's callable raised, `TypeError` or `ValueError` for a text
            that can't be sent. The ping's payload is then the thing to send.
    """
    if ping._render is not None:
        return with_newlines(ping, ping._render(), newline)
    return ping.payload if newline == LF else with_newlines(ping, ping.payload, newline)


def with_newlines(ping: Ping, payload: bytes, newline: bytes) -> bytes:
    """Return a payload of a ping's with the stream's own line endings, unless it is raw."""
    return payload if ping._own_lines or newline == LF else payload.replace(LF, newline)


def is_spaces(payload: bytes) -> bool:
    """Whether a payload is nothing but spaces."""
    return not payload.strip(b" ")


def boundary_in(media_type: str, ping: Ping) -> Boundary:
    """Return the boundary that a ping needs in a stream of that media type.

    It is the ping's own, but for a payload with a blank line in `text/event-stream`: there
    it would end the event that it stands in.
    """
    return "event" if ping._ends_events and media_type == "text/event-stream" else ping.at


def _built(
    frame: Callable[[object], bytes], text: Text, *, fallback: str, at: Boundary
) -> Ping:
    if callable(text):
        return Ping(frame(fallback), at, _own_lines=False, _render=lambda: frame(text()))
    return Ping(frame(text), at, _own_lines=False)


def _text(field_name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"Ping {field_name} must be str or a callable, got {value!r}")
    return value


def _single_line(field_name: str, value: object, *, least: int) -> str:
    line = _text(field_name, value)
    if _LINE_END.search(line):
        raise ValueError(f"Ping {field_name} must not hold CR or LF, got {line!r}")
    if len(line) < least:
        raise ValueError(f"Ping {field_name} must not be empty, got {line!r}")
    return line


def _encoded(lines: list[str]) -> bytes:
    return "\n".join(lines).encode()


def _unified(data: bytes) -> bytes:
    return data.replace(CRLF, LF).replace(b"\r", LF) if 0x0D in data else data


def _ends_at(boundary: Boundary, data: bytes) -> bool:
    """Whether a stream whose end is `data` stands at a boundary.

    A trailing CR does not count: the LF of a CRLF may follow.
    """
    if data.endswith(b"\r"):
        return False
    return _unified(data).endswith(b"\n\n" if boundary == "event" else b"\n")


class Position:
    """Where a stream stands, told by the bytes the app has sent so far.

    The last three bytes are enough to know whether a line or an event has ended: two can't
    tell CR LF, one line end, from the second line end of a blank line. Pings leave the
    position alone, because each ends at the boundary it was sent at.
    """

    __slots__ = ("_head", "_tail", "newline")

    newline: bytes
    """The stream's own line ending: LF until the app has sent CRLF."""

    def __init__(self) -> None:
        self._tail = BLANK_LINE
        self._head: bytes | None = b""
        self.newline = LF

    @property
    def untouched(self) -> bool:
        """Whether the app has sent no byte yet."""
        return self._head == b""

    def feed(self, data: bytes) -> None:
        """Move on by bytes that were handed to the server."""
        if self._head is not None and not (data := self._past_bom(self._head + data)):
            return
        # First for one byte, which is many times faster than for two.
        if self.newline is LF and (
            (0x0D in data and CRLF in data) or (data[0] == 0x0A and self._tail.endswith(b"\r"))
        ):
            self.newline = CRLF
        if data.endswith(BLANK_LINE):
            self._tail = BLANK_LINE  # one object for all streams that wait
        else:
            self._tail = data[-3:] if len(data) > 2 else (self._tail + data)[-3:]

    def leave_head(self) -> None:
        """Take what comes next for the app's own text, no longer for a BOM."""
        self._head = None

    def lose(self) -> None:
        """Forget where the stream stands: no boundary until the app reaches one again."""
        self._head, self._tail = None, b"???"

    def stands_at(self, boundary: Boundary) -> bool:
        """Whether a ping that needs this boundary may be sent now."""
        return self._tail is BLANK_LINE or _ends_at(boundary, self._tail)

    def _past_bom(self, head: bytes) -> bytes:
        """Return what follows a BOM at the start; nothing while it may still be one."""
        if BOM.startswith(head):
            self._head = head
            self._tail = BLANK_LINE if head == BOM else b"???"
            return b""
        self._head, self._tail = None, BLANK_LINE
        return head.removeprefix(BOM)


class BomFilter:
    """Leaves out a BOM at the head of the app's bytes.

    For a stream whose first bytes were a ping: a BOM behind it would spoil the app's first
    field. Bytes that may be the beginning of a BOM are held until the next ones decide.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes, *, more: bool) -> tuple[bytes, bool]:
        """Return the bytes that go on, and whether the head is decided."""
        head = self._held + data
        if more and len(head) < len(BOM) and BOM.startswith(head):
            self._held = head
            return b"", False
        return head.removeprefix(BOM), True
