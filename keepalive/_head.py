"""The head of a response: is it a stream to keep alive, and what does it need to be one.

Law: a start message in, a verdict out. Knows no clock, no event loop and no stream.

Sources: ASGI "Response Start"; RFC 9110, sections 6.4.1, 8.3, 8.4 and 8.6.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias, cast

from ._asgi import Message
from ._policy import Placed, Policy, placed_ping

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

ANTI_BUFFERING: Final = (
    (b"x-accel-buffering", b"no"),
    (b"cache-control", b"no-cache, no-transform"),
)

_EVENT_STREAM: Final = b"text/event-stream"


class Verdict(NamedTuple):
    """What is to be done with a response.

    `placed` is its ping and the boundary that needs, `None` for hands off; `final` is false
    for an informational response, which another start follows; `compressed` tells that only
    its content encoding stands in the way.
    """

    placed: Placed | None
    media_type: str = ""
    final: bool = True
    compressed: bool = False


HANDS_OFF: Final = Verdict(None)
INFORMATIONAL: Final = Verdict(None, final=False)
COMPRESSED: Final = Verdict(None, compressed=True)


def readable(message: Message) -> Message:
    """Return a start message whose headers may be read more than once."""
    headers = message.get("headers")
    if type(headers) is not list and isinstance(headers, Iterator):
        return {**message, "headers": list(cast("Iterator[object]", headers))}
    return message


def judge(message: Message, policy: Policy) -> Verdict:
    """Return the verdict on a readable start message.

    One that makes no sense is hands off: to refuse it is the server's part.
    """
    try:
        status: int = message["status"]
        headers: Headers = message.get("headers", ())
        if status < 200:
            return INFORMATIONAL
        content_type = _find(headers, b"content-type")
        if not (policy.formats or content_type.strip().lower().startswith(_EVENT_STREAM)):
            return HANDS_OFF  # nearly every response: no need to look closer
        media_type = content_type.split(b";", 1)[0].strip().lower().decode("latin-1")
        placed = placed_ping(policy, media_type)
        if placed is None or status in (204, 304) or _find(headers, b"content-length"):
            return HANDS_OFF
        encodings = {v.strip().lower() for n, v in headers if n.lower() == b"content-encoding"}
        if encodings - {b"", b"identity"}:
            return COMPRESSED
        return Verdict(placed, media_type)
    except (AttributeError, KeyError, TypeError, ValueError):
        return HANDS_OFF


def _find(headers: Headers, wanted: bytes) -> bytes:
    for name, value in headers:
        if len(name) == len(wanted) and name.lower() == wanted:
            return value
    return b""


def with_anti_buffering(message: Message) -> Message:
    """Return a start message with the headers added that the app has not set."""
    headers: Headers = message["headers"]
    present = {name.lower() for name, _ in headers}
    added = [pair for pair in ANTI_BUFFERING if pair[0] not in present]
    return {**message, "headers": [*headers, *added]}
