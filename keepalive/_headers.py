"""Determines from headers whether a response can be kept alive, or started early.

Sources: ASGI, "Response Start"; RFC 9110, sections 6.4.1, 8.3, 8.4 and 8.6 (responses), 9.3,
10.1.1 (Expect), 12.5.1 (Accept), 13.1 (conditional requests) and 14.2 (Range).
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, cast

from ._policy import Policy
from ._types import EVENT_STREAM, PATH_SEND, ZERO_COPY_SEND, Message, Scope

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
Fields: TypeAlias = list[tuple[bytes, bytes]]

ANTI_BUFFERING: Final = (
    (b"x-accel-buffering", b"no"),  # nginx
    (b"cache-control", b"no-cache, no-transform"),  # compressing middlewares and proxies
)

NEVER_STARTED_EARLY: Final = frozenset(("HEAD", "OPTIONS", "CONNECT", "TRACE"))
"""Methods whose responses have no body, or one that is not the app's."""

_PRECONDITIONS: Final = frozenset(
    (b"expect", b"if-modified-since", b"if-none-match", b"range")
)
"""Request headers that may call for a status other than 200.

Expect, because a client that has a response need not send its body any more.
"""

EarlyBasis: TypeAlias = Literal["nothing", "accept", "body", "start_as"]

NOTHING: Final = "nothing"
"""The request's response is never started early."""
BY_ACCEPT: Final = "accept"
"""Its `Accept` header names an event stream and not JSON."""
BY_BODY: Final = "body"
"""Its body may ask for an event stream; otherwise `start_as` decides."""
BY_START_AS: Final = "start_as"
"""It can't ask for an event stream, so that `start_as` decides."""

_CONTENT_TYPE: Final = b"content-type"
_EVENT_STREAM: Final = b"text/event-stream"
_JSON: Final = b"application/json"
_NOT_ACCEPTED: Final = re.compile(rb"\s*q\s*=\s*0(\.0*)?\s*")


def with_lower_names(headers: Headers) -> Fields:
    """Return headers with their names in lower case."""
    return [(name.lower(), value) for name, value in headers]


def normalized(headers: Headers) -> Fields:
    """Return headers with their names and values in lower case."""
    return [(name, value.strip().lower()) for name, value in with_lower_names(headers)]


# Responses


class Classification(NamedTuple):
    """What a response start means for keeping the response alive.

    Attributes:
        kind: `"stream"`: it can be kept alive; `"informational"`: another start follows;
            `"compressed"`: only its content encoding prevents it; `"other"`: not a stream.
        media_type: Of a stream, in lower case and without parameters.
    """

    kind: Literal["stream", "informational", "compressed", "other"]
    media_type: str = ""


def with_reusable_headers(message: Message) -> Message:
    """Return a response start whose headers can be read more than once.

    Sanic's are a generator.
    """
    headers = message.get("headers")
    if type(headers) is not list and isinstance(headers, Iterator):
        return {**message, "headers": list(cast("Iterator[object]", headers))}
    return message


def may_be_stream(message: Message, other_types: bool) -> bool:
    """Whether a response start is worth `classify`.

    It is called for every response, so it is fast, and errs on the side of `True`.

    Args:
        message: The response start.
        other_types: Whether media types other than `text/event-stream` are kept alive.
    """
    try:
        headers: list[tuple[bytes, bytes]] = message["headers"]
        if headers.__class__ is not list or other_types or message["status"] < 200:
            return True
        for name, value in headers:
            # Comparing lengths first skips nearly all headers with one cheap operation.
            if len(name) == 12 and (name == _CONTENT_TYPE or name.lower() == _CONTENT_TYPE):
                if len(value) < 17 or (value[5] | 0x20 != 0x65 and value[0] > 0x20):
                    return False  # too short, or text/x, application/x, ...
                return value.lstrip()[:17].lower() == _EVENT_STREAM
    except (AttributeError, KeyError, TypeError, ValueError):
        return True
    return False


def classify(message: Message, media_types: Container[str]) -> Classification:
    """Classify a response start. An invalid one is left to the server to reject.

    Args:
        message: With headers that can be read more than once.
        media_types: Those that can be kept alive.
    """
    try:
        status: int = message["status"]
        if status < 200:
            return Classification("informational")
        headers: Headers = message.get("headers", ())
        fields = normalized(headers)
        media_type = media_type_in(fields)
        lengths = [value for name, value in fields if name == b"content-length"]
        if media_type not in media_types or status in (204, 304) or any(lengths):
            return Classification("other")
        if is_encoded(fields):
            return Classification("compressed")
        return Classification("stream", media_type)
    except (AttributeError, KeyError, TypeError, ValueError):
        return Classification("other")


def is_informational(start: Message) -> bool:
    """Whether a response start is a 1xx, after which another start follows."""
    status = start.get("status")
    return isinstance(status, int) and status < 200


def media_type_in(fields: Fields) -> str:
    """Return a response's media type, without parameters; empty if there is none."""
    types = [value for name, value in fields if name == _CONTENT_TYPE] or [b""]
    return types[0].split(b";", 1)[0].rstrip().decode("latin-1")


def charset_in(fields: Fields) -> str:
    """Return the charset of a response's media type; UTF-8 if there is none."""
    for name, value in fields:
        if name == _CONTENT_TYPE:
            for parameter in value.decode("latin-1").split(";")[1:]:
                key, _, charset = parameter.partition("=")
                if key.strip() == "charset":
                    return charset.strip()
    return "utf-8"


def is_encoded(fields: Fields) -> bool:
    """Whether a body is compressed, or otherwise not what its media type says."""
    encodings = {value for name, value in fields if name == b"content-encoding"}
    return bool(encodings - {b"", b"identity"})


def with_anti_buffering(message: Message) -> Message:
    """Return a response start with those anti-buffering headers that the app did not set."""
    headers: Headers = message["headers"]
    present = {name for name, _ in with_lower_names(headers)}
    added = [field for field in ANTI_BUFFERING if field[0] not in present]
    return {**message, "headers": [*headers, *added]}


# Requests


def early_basis(scope: Scope, policy: Policy) -> EarlyBasis:
    """Return what decides whether, and as what, a response is started early."""
    headers: object = scope.get("headers", ())
    # Headers that can be read only once are the app's.
    if scope.get("method") in NEVER_STARTED_EARLY or not isinstance(headers, Sequence):
        return NOTHING
    try:
        fields = with_lower_names(cast("Headers", headers))
        names = {name for name, _ in fields}
        accepted = _accepted(value for name, value in fields if name == b"accept")
    except (AttributeError, TypeError, ValueError):  # no server sends such headers
        return NOTHING
    if names & _PRECONDITIONS:
        return NOTHING
    if _EVENT_STREAM in accepted and _JSON not in accepted:
        return BY_ACCEPT
    # HTTP/2 need not announce a body, and only GET requests are known to have none then.
    may_have_body = scope.get("method") != "GET" or has_request_body(scope)
    is_readable = may_have_body and b"content-encoding" not in names
    if is_readable and policy.start_as != EVENT_STREAM:
        return BY_BODY
    return NOTHING if policy.start_as is None else BY_START_AS


def has_request_body(scope: Scope) -> bool:
    """Whether a request's headers announce a body."""
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0")
        for name, value in with_lower_names(scope.get("headers", ()))
    )


def request_body_size(scope: Scope) -> int | None:
    """Return the size of a request's body, if its headers say it."""
    for name, value in with_lower_names(scope.get("headers", ())):
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


def hide_sendfile_extensions(scope: Scope) -> None:
    """Hide from an app the extensions by which the server sends a file as the body.

    Such a body is complete, and can't follow a ping.
    """
    extensions: object = scope.get("extensions")
    if isinstance(extensions, Mapping):
        known = cast("Mapping[str, object]", extensions)
        hidden = (PATH_SEND, ZERO_COPY_SEND)
        scope["extensions"] = {name: known[name] for name in known if name not in hidden}


def _accepted(values: Iterable[bytes]) -> set[bytes]:
    """Return the media types that `Accept` names; a range such as `*/*` names none."""
    accepted: set[bytes] = set()
    for value in values:
        for item in value.lower().split(b","):
            media_type, *parameters = item.split(b";")
            if not any(map(_NOT_ACCEPTED.fullmatch, parameters)):
                accepted.add(media_type.strip())
    return accepted
