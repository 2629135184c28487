"""The head of a response: is it a stream to keep alive, and what does it need to be one.

Law: a start message in, a verdict out. Knows no clock, no event loop and no stream.

Sources: ASGI "Response Start"; RFC 9110, sections 6.4.1, 8.3, 8.4 and 8.6.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, TypeAlias, cast

from ._asgi import Message
from ._policy import Placed, Policy, placed_ping

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
Fields: TypeAlias = list[tuple[bytes, bytes]]

ANTI_BUFFERING: Final = (
    (b"x-accel-buffering", b"no"),
    (b"cache-control", b"no-cache, no-transform"),
)

_CONTENT_TYPE: Final = b"content-type"
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


def may_be_stream(message: Message, policy: Policy) -> bool:
    """Whether a start message is worth a closer look; asked of every response, hence quick."""
    try:
        headers: Headers = message["headers"]
        if headers.__class__ is not list or policy.formats or message["status"] < 200:
            return True
        for name, value in headers:
            if len(name) == 12 and (name == _CONTENT_TYPE or name.lower() == _CONTENT_TYPE):
                return bool(value.lstrip()[:17].lower() == _EVENT_STREAM)
    except (AttributeError, KeyError, TypeError, ValueError):
        return True
    return False


def judge(message: Message, policy: Policy) -> Verdict:
    """Return the verdict on a readable start message; one that makes no sense is hands off."""
    try:
        status: int = message["status"]
        if status < 200:
            return INFORMATIONAL
        headers: Headers = message.get("headers", ())
        fields = lowered(headers)
        media_type = media_type_in(fields)
        placed = placed_ping(policy, media_type)
        lengths = [value for name, value in fields if name == b"content-length"]
        if placed is None or status in (204, 304) or any(lengths):
            return HANDS_OFF
        if is_encoded(fields):
            return COMPRESSED
        return Verdict(placed, media_type)
    except (AttributeError, KeyError, TypeError, ValueError):
        return HANDS_OFF


def lowered(headers: Headers) -> Fields:
    """Return header fields with names and values in lower case."""
    return [(name.lower(), value.strip().lower()) for name, value in headers]


def media_type_in(fields: Fields) -> str:
    """Return a response's media type, without parameters; empty where there is none."""
    types = [value for name, value in fields if name == _CONTENT_TYPE] or [b""]
    return types[0].split(b";", 1)[0].rstrip().decode("latin-1")


def is_encoded(fields: Fields) -> bool:
    """Whether a response is compressed, or otherwise not what its media type says."""
    encodings = {value for name, value in fields if name == b"content-encoding"}
    return bool(encodings - {b"", b"identity"})


def with_anti_buffering(message: Message) -> Message:
    """Return a start message with the headers added that the app has not set."""
    headers: Headers = message["headers"]
    present = {name.lower() for name, _ in headers}
    added = [pair for pair in ANTI_BUFFERING if pair[0] not in present]
    return {**message, "headers": [*headers, *added]}
