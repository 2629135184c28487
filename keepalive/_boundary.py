"""Where a stream is: at the start of a line, at the start of an event, or in between.

A ping may be inserted only at a boundary, or it would become part of the app's own event. The
position is determined from the bytes that were handed to the server, however they are split
into messages. Nothing is parsed or kept but the last three bytes: they are enough to tell the
end of a line from the end of an event. Two are not: CR LF is a blank line only after another
line ending.

The app's bytes are never changed, with one exception: a BOM is omitted if a ping was sent
before it (`BomFilter`).

Source: WHATWG HTML, "Server-sent events", section 9.2.5 (parsing) and 9.2.6 (interpreting).
"""

from typing import Final

from typing_extensions import Buffer

from ._ping import BLANK_LINE, CRLF, LF, Boundary, ends_at
from ._types import BODY, PATH_SEND, ZERO_COPY_SEND, Message

BOM: Final = b"\xef\xbb\xbf"

_UNKNOWN: Final = b"???"
"""A placeholder for last bytes that are unknown or part of a line."""


class BoundaryTracker:
    """Determines from an app's messages whether a ping may be inserted now.

    Pings are not fed to it: each ends at the boundary at which it was inserted.
    """

    __slots__ = ("_bom", "_tail", "newline", "saw_last_body")

    _bom: "_Bom | None"
    """What a BOM at the start depends on; `None` once the first bytes have decided it."""

    newline: bytes
    """The stream's line ending: LF until the app has sent CR LF."""

    saw_last_body: bool
    """Whether the app's last body message has been fed."""

    def __init__(self) -> None:
        self._tail = BLANK_LINE
        self._bom = _Bom()
        self.newline = LF
        self.saw_last_body = False

    @property
    def is_empty(self) -> bool:
        """Whether the app has not sent a byte yet."""
        return self._bom is not None and not self._bom.prefix

    def is_at(self, boundary: Boundary) -> bool:
        """Whether a ping that needs this boundary may be sent now."""
        return self._tail is BLANK_LINE or ends_at(boundary, self._tail)

    def shorten_tail(self) -> None:
        """Drop those of the last bytes that are not needed."""
        if self._tail.endswith(BLANK_LINE):
            self._tail = BLANK_LINE  # one object for all idle streams: see `is_at`
        else:
            self._tail = self._tail[-3:]

    def _discard_bom(self) -> None:
        """Forget the start of the stream, unless a filter holds bytes of it."""
        if self._bom is not None and self._bom.filter is None:
            self._bom = None

    def mark_unknown(self) -> None:
        """Forget the position: there is no boundary until the app reaches one again."""
        self._tail = _UNKNOWN
        if self._bom is not None:
            self._bom.prefix = None
            self._discard_bom()

    def restart(self) -> None:
        """Start over: what was sent so far is not part of the stream that follows."""
        self._tail, self._bom = BLANK_LINE, _Bom()
        self.filter_bom()

    def filter_bom(self) -> None:
        """Omit a BOM at the start of the app's bytes from now on.

        After a ping it would no longer be the stream's first character, and so become part of
        the name of the app's first field.
        """
        if self._bom is not None and self._bom.filter is None:
            self._bom.filter = BomFilter()

    def without_late_bom(self, message: Message) -> Message:
        """Return a message of the app as it is to be sent: without a BOM after a ping."""
        bom, body = self._bom, _bytes_of(message.get("body", b""))
        if bom is None or bom.filter is None or body is None or message.get("type") != BODY:
            return message
        last = not message.get("more_body", False)
        if not (body or last):
            return message
        body, decided = bom.filter.feed(body, more=not last)
        if decided:
            self._bom = None
        return {**message, "body": body}

    def feed_message(self, message: Message) -> int:
        """Advance by a message that is handed to the server; return the size of its body."""
        # The fast path: this is done for every message of a busy stream.
        try:
            kind, body, more = message["type"], message["body"], message["more_body"]
        except KeyError:
            return self._feed_unusual(message)
        if kind != BODY or type(body) is not bytes:
            return self._feed_unusual(message)
        if not more:
            self.saw_last_body = True
        whole_events = (
            self._tail is BLANK_LINE
            and self._bom is None
            and body.endswith(BLANK_LINE)
            and 0x0D not in body
        )
        if body and not whole_events:  # whole events leave the position as it is
            self.feed(body)
        return len(body)

    def _feed_unusual(self, message: Message) -> int:
        """Advance by a message that lacks a key, has another type, or whose body is a view."""
        kind = message.get("type")
        if kind == PATH_SEND:
            self.saw_last_body = True
            return 0
        if kind not in (BODY, ZERO_COPY_SEND):
            return 0
        self.saw_last_body |= not message.get("more_body", False)
        body = _bytes_of(message.get("body", b"")) if kind == BODY else None
        if body is None:
            self.mark_unknown()
            return 0
        if body:
            self.feed(body)
        return len(body)

    def feed(self, data: bytes) -> None:
        """Advance by bytes that are handed to the server. At least one."""
        if (
            self._bom is not None
            and self._bom.prefix is not None
            and not (data := self._after_bom(self._bom, self._bom.prefix + data))
        ):
            return
        # A search for one byte is many times faster than one for two.
        if self.newline is LF and (
            (0x0D in data and CRLF in data) or (data[0] == 0x0A and self._tail.endswith(b"\r"))
        ):
            self.newline = CRLF
        self._tail = data if len(data) > 2 else self._tail + data
        self.shorten_tail()

    def _after_bom(self, bom: "_Bom", start: bytes) -> bytes:
        """Return what follows a BOM at the start; nothing while it may still be one."""
        if BOM.startswith(start):
            bom.prefix = start
            self._tail = BLANK_LINE if start == BOM else _UNKNOWN
            return b""
        bom.prefix, self._tail = None, BLANK_LINE
        self._discard_bom()
        return start.removeprefix(BOM)


class _Bom:
    """What a BOM at the start of the app's bytes depends on, until they have come."""

    __slots__ = ("filter", "prefix")

    prefix: bytes | None
    """The app's first bytes, while they may still be part of a BOM; `None` after that."""
    filter: "BomFilter | None"
    """Set by a ping before the first bytes."""

    def __init__(self) -> None:
        self.prefix = b""
        self.filter = None


def is_last_body(message: Message) -> bool:
    """Whether a message completes the body of a response."""
    completes = message.get("type") in (BODY, PATH_SEND, ZERO_COPY_SEND)
    return completes and not message.get("more_body", False)


def has_data(message: Message) -> bool:
    """Whether a message contains bytes of the body, or names a file of them."""
    kind = message.get("type")
    return kind in (PATH_SEND, ZERO_COPY_SEND) or (kind == BODY and bool(message.get("body")))


class BomFilter:
    """Omits a BOM at the start of the app's bytes.

    Bytes that may be the beginning of a BOM are held until the next ones decide.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes, *, more: bool) -> tuple[bytes, bool]:
        """Return the bytes to send now, and whether the start is decided."""
        start = self._held + data
        if more and len(start) < len(BOM) and BOM.startswith(start):
            self._held = start
            return b"", False
        return start.removeprefix(BOM), True


def _bytes_of(body: object) -> bytes | None:
    """Return a body as `bytes`; `None` for what only the server can judge."""
    return memoryview(body).tobytes() if isinstance(body, Buffer) else None
