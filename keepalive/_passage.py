"""The passage: what each message of the app's does to the place where its stream stands.

Law: messages in, the same messages out, but for one BOM. Knows no clock, no event loop, no
policy and no sending.
"""

from typing_extensions import Buffer

from ._asgi import BODY, PATH_SEND, ZERO_COPY_SEND, Message
from ._frames import BLANK_LINE, BomFilter, Position


class Passage(Position):
    """A position that is told by ASGI messages."""

    __slots__ = ("_bom", "finishing")

    finishing: bool
    """Whether the last body message has gone by."""

    def __init__(self) -> None:
        super().__init__()
        self._bom: BomFilter | None = None  # only behind a ping that came first
        self.finishing = False

    def take(self, message: Message) -> int:
        """Move on by a message that is handed to the server; return the size of its body."""
        try:
            kind, body, more = message["type"], message["body"], message["more_body"]
        except KeyError:
            return self._look_closer(message)
        if kind != BODY or type(body) is not bytes:
            return self._look_closer(message)
        if not more:
            self.finishing = True
        whole_events = (
            self._tail is BLANK_LINE
            and self._head is None
            and body.endswith(BLANK_LINE)
            and 0x0D not in body
        )
        if body and not whole_events:  # they leave the stream where it stands
            self.feed(body)
        return len(body)

    def readied(self, message: Message) -> Message:
        """Return a message of the app's as it is to be sent: less a BOM behind a ping."""
        bom, body = self._bom, _bytes_of(message.get("body", b""))
        if bom is None or body is None or message.get("type") != BODY:
            return message
        last = not message.get("more_body", False)
        if not (body or last):
            return message
        body, decided = bom.feed(body, more=not last)
        if decided:
            self._bom = None
            self.leave_head()
        return {**message, "body": body}

    def filter_bom(self) -> None:
        """Leave out a BOM from now on: a ping in front of the first bytes makes it wrong."""
        if self._bom is None:
            self._bom = BomFilter()

    def _look_closer(self, message: Message) -> int:
        kind = message.get("type")
        if kind == PATH_SEND:
            self.finishing = True
            return 0
        if kind not in (BODY, ZERO_COPY_SEND):
            return 0
        self.finishing |= not message.get("more_body", False)
        body = _bytes_of(message.get("body", b"")) if kind == BODY else None
        if body is None:
            self.lose()
            return 0
        if body:
            self.feed(body)
        return len(body)


def _bytes_of(body: object) -> bytes | None:
    """Return a body as `bytes`; `None` where the server must tell the app what it thinks."""
    return memoryview(body).tobytes() if isinstance(body, Buffer) else None
