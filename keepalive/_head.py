"""The head of a response: is it a stream to keep alive, and what does it need to be one.

Law: a start message in, a verdict out. Knows no clock, no event loop and no stream.

Sources: ASGI "Response Start"; RFC 9110, sections 6.4.1, 8.3, 8.4 and 8.6.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from ._asgi import Message
from ._policy import Placed, Policy, placed_ping

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]

ANTI_BUFFERING: Final = (
    (b"x-accel-buffering", b"no"),
    (b"cache-control", b"no-cache, no-transform"),
)


class Verdict(NamedTuple):
    """What is to be done with a response.

    `placed` is its ping and the boundary that needs, `None` for hands off; `final` is false
    for an informational response, which another start follows; `compressed` tells that only
    its content encoding stands in the way.
    """

    placed: Placed | None
    message: Message
    media_type: str = ""
    final: bool = True
    compressed: bool = False


def judge(message: Message, policy: Policy) -> Verdict:
    """Return the verdict on a start message, and the message to send on.

    A message that can't be read is hands off: to refuse it is the server's part.
    """
    try:
        status = message["status"]
        headers: Headers = message.get("headers", ())
        if not isinstance(headers, list):  # a generator, say, to be read once
            headers = list(headers)
            message = {**message, "headers": headers}
        content_type = _find(headers, b"content-type")
        media_type = content_type.split(b";", 1)[0].strip().lower().decode("latin-1")
        placed = placed_ping(policy, media_type)
        if placed is None or status < 200 or status in (204, 304):
            return Verdict(None, message, final=status >= 200)
        if _find(headers, b"content-length"):
            return Verdict(None, message)
        if _find(headers, b"content-encoding").strip().lower() not in (b"", b"identity"):
            return Verdict(None, message, compressed=True)
        if policy.headers:
            message = _with_anti_buffering(message, headers)
        return Verdict(placed, message, media_type)
    except (AttributeError, KeyError, TypeError, ValueError):
        return Verdict(None, message)


def _find(headers: Headers, wanted: bytes) -> bytes:
    for name, value in headers:
        if len(name) == len(wanted) and name.lower() == wanted:
            return value
    return b""


def _with_anti_buffering(message: Message, headers: Headers) -> Message:
    present = {name.lower() for name, _ in headers}
    added = [pair for pair in ANTI_BUFFERING if pair[0] not in present]
    return {**message, "headers": [*headers, *added]}
