"""Whether a request's body asks for an event stream: `{"stream": true, ...}`.

The APIs of OpenAI and Anthropic serve streaming and non-streaming responses on one path, and
their SDKs send the same headers for both. Only the body tells which one a client expects.

Sources: OpenAI, "Create chat completion", and Anthropic, "Create a Message": `stream`; RFC
8259, section 8.1 (JSON is UTF-8, and is sent without a BOM).
"""

import json
from typing import Final, Literal, TypeAlias, cast

from ._types import REQUEST, Message

MAX_EXAMINED_BODY: Final = 256 * 1024
"""The maximum size of a body that is examined, in bytes.

Parsing it blocks the event loop for 0.3 ms (a conversation) to 11 ms (nothing but short
floats), once in a request that is slow anyway (CPython 3.11).
"""

BodyState: TypeAlias = Literal["collecting", "complete", "released"]

COLLECTING: Final = "collecting"
"""The app has not read all of the body."""
COMPLETE: Final = "complete"
"""The app has read all of the body."""
RELEASED: Final = "released"
"""Nothing is kept: the body has been examined, can't be, or need not be."""


class RequestBody:
    """The chunks of a request's body that the app has read, kept by reference."""

    __slots__ = ("_size", "chunks", "state")

    state: BodyState

    def __init__(self) -> None:
        self.state = COLLECTING
        self.chunks: list[bytes | bytearray] = []
        self._size = 0

    def feed(self, message: Message) -> None:
        """Keep the body of a message that the app has received. Only while `COLLECTING`."""
        if message.get("type") != REQUEST:
            return
        chunk: object = message.get("body", b"")
        if not isinstance(chunk, bytes | bytearray):
            self.release()
            return
        self.chunks.append(chunk)
        self._size += len(chunk)
        if self._size > MAX_EXAMINED_BODY:
            self.release()
        elif not message.get("more_body", False):
            self.state = COMPLETE

    def release(self) -> None:
        """Keep nothing, now and later."""
        self.state = RELEASED
        self.chunks = []

    def asks_for_stream(self, announced_size: int | None) -> bool:
        """Whether the body asks for an event stream. Releases the body.

        Args:
            announced_size: The request's `Content-Length`. hypercorn and granian send the end
                of a body as another message, for which not every app waits.
        """
        if self.state is not COMPLETE and self._size != announced_size:
            return False
        body = b"".join(self.chunks)
        self.release()
        return asks_for_stream(body)


def asks_for_stream(body: bytes) -> bool:
    """Whether a complete body is a JSON object whose `stream` is `true`."""
    if not body.startswith(b"{"):
        return False
    try:
        value = cast("dict[str, object]", json.loads(body.decode()))
    except (RecursionError, ValueError):  # too deeply nested; neither UTF-8 nor JSON
        return False
    return value.get("stream") is True
