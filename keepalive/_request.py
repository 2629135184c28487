"""The head of a request: may its response be started in the app's place, and as what.

Law: a scope in, a media type out. Knows no clock, no event loop and no stream.

Sources: RFC 9110, sections 9.3, 10.1.1 (Expect), 12.5.1 (Accept), 13.1 (conditional requests)
and 14.2 (Range).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

from ._asgi import PATH_SEND, ZERO_COPY_SEND, Scope
from ._policy import EVENT_STREAM, Policy

METHODS_LEFT_ALONE: Final = frozenset(("HEAD", "OPTIONS", "CONNECT", "TRACE"))

HEADERS_LEFT_ALONE: Final = frozenset(
    (
        b"expect",  # a client that has a response need not send its body any more
        b"if-modified-since",
        b"if-none-match",
        b"range",
    )
)

_NOT_WANTED: Final = re.compile(rb"\s*q\s*=\s*0(\.0*)?\s*", re.IGNORECASE)


def early_type(scope: Scope, policy: Policy) -> str | None:
    """Return the media type that a response may be started as; `None`: not at all."""
    headers: object = scope.get("headers", ())
    # What can be read but once is the app's.
    if scope.get("method") in METHODS_LEFT_ALONE or not isinstance(headers, Sequence):
        return None
    try:
        pairs = cast("Sequence[tuple[bytes, bytes]]", headers)
        fields = [(name.lower(), value) for name, value in pairs]
        if any(name in HEADERS_LEFT_ALONE for name, _ in fields):
            return None
        accepts = _accepts(value for name, value in fields if name == b"accept")
    except (AttributeError, TypeError, ValueError):  # no request of any server's
        return None
    return policy.start_as or (EVENT_STREAM if accepts else None)


def announces_body(scope: Scope) -> bool:
    """Whether a request's head says that a body follows."""
    return any(
        name.lower() == b"transfer-encoding"
        or (name.lower() == b"content-length" and value.strip() != b"0")
        for name, value in scope.get("headers", ())
    )


def less_whole_bodies(scope: Scope) -> None:
    """Hide from an app that it may have a file sent as its body.

    That would be a whole body, and can't be sent behind a ping.
    """
    extensions: object = scope.get("extensions")
    if isinstance(extensions, Mapping):
        known = cast("Mapping[str, object]", extensions)
        hidden = (PATH_SEND, ZERO_COPY_SEND)
        scope["extensions"] = {name: known[name] for name in known if name not in hidden}


def _accepts(values: Iterable[bytes]) -> bool:
    """Whether `Accept` names event streams; `*/*` does not."""
    for value in values:
        for item in value.split(b","):
            media_type, *parameters = item.split(b";")
            if media_type.strip().lower() == EVENT_STREAM.encode():
                return not any(map(_NOT_WANTED.fullmatch, parameters))
    return False
