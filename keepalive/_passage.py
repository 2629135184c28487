"""The passage: what each message of the app's does to the place where its stream stands.

Law: messages in, the same messages out, but for one BOM. Knows no clock, no event loop, no
policy and no sending.
"""

from typing_extensions import Buffer

from ._asgi import BODY, PATH_SEND, ZERO_COPY_SEND, Message
from ._frames import BomFilter, Position


class Passage(Position):
    """A position that is told by ASGI messages."""

    __slots__ = ("_bom", "finishing")

    finishing: bool
    """Whether the last body message has gone by."""

    def __init__(self) -> None:
        super().__init__()
        self._bom: BomFilter | None = None
        self.finishing = False

    def take(self, message: Message) -> tuple[Message, int]:
        """Return the message to send for one of the app's, and the size of its body."""
        body = message.get("body", b"")
        if type(body) is not bytes or self._bom is not None or message.get("type") != BODY:
            return self._look_closer(message)
        if body:
            self.feed(body)
        if not message.get("more_body", False):
            self.finishing = True
        return message, len(body)

    def pinged(self) -> None:
        """Take note of a ping: in front of the app's first bytes it makes their BOM wrong."""
        if self._bom is None and self.untouched:
            self._bom = BomFilter()

    def _look_closer(self, message: Message) -> tuple[Message, int]:
        kind = message.get("type")
        if kind == PATH_SEND:
            self.finishing = True
            return message, 0
        if kind not in (BODY, ZERO_COPY_SEND):
            return message, 0
        self.finishing |= not message.get("more_body", False)
        body = _bytes_of(message.get("body", b"")) if kind == BODY else None
        if body is None:
            self.lose()
            return message, 0
        if self._bom is not None and (body or self.finishing):
            body = self._without_bom(self._bom, body)
            message = {**message, "body": body}
        if body:
            self.feed(body)
        return message, len(body)

    def _without_bom(self, bom: BomFilter, body: bytes) -> bytes:
        body, decided = bom.feed(body, more=not self.finishing)
        if decided:
            self._bom = None
            self.leave_head()
        return body


def _bytes_of(body: object) -> bytes | None:
    """Return a body as `bytes`; `None` where the server must tell the app what it thinks."""
    return memoryview(body).tobytes() if isinstance(body, Buffer) else None
