"""Requests whose response the middleware may start, and what it reports of a late response."""

import json
from http import HTTPStatus

from support.harness import http, play

from keepalive import Ping

SSE_START = [
    (b"content-type", b"text/event-stream"),
    (b"x-accel-buffering", b"no"),
    (b"cache-control", b"no-cache, no-transform"),
]
JSON = [(b"content-type", b"application/json")]
ACCEPTS = [(b"accept", b"text/event-stream")]


def wanting(*headers, **scope):
    """Return the scope of a request whose response may be started early."""
    return http(headers=[*ACCEPTS, *headers], **scope)


def slow(backend, steps, **options):
    """Play an app that starts when its steps say so; after 20 s it is done in its place."""
    asks = options.get("start_as") in (None, "text/event-stream")
    scope = wanting() if asks else http(method="POST")
    options = {"scope": scope, "start_after": 20, "ping": Ping.event()} | options
    return play(backend, steps, head=None, **options)


TYPES = {400: "invalid_request_error", 404: "not_found_error", 504: "timeout_error"}


def summary_of(status, media_type, text, message=None):
    """Return the object that stands for an app's response."""
    unexpected = f"the app sent an unexpected response: {status} {media_type or ''}".rstrip()
    phrase = HTTPStatus(status).phrase if status >= 400 else unexpected
    error = {
        "message": message or phrase,
        "type": TYPES.get(status, "api_error"),
        "code": str(status),
    }
    details = {"status": status, "media_type": media_type, "body": text}
    return {"type": "error", "error": error, **details}


def error_event(*details):
    """Return that object as the event that is sent in a stream of events."""
    return b"event: error\ndata: %s\n\n" % json.dumps(summary_of(*details)).encode()


def raising(error):
    """Return a step that raises this error."""

    async def fail(scope, receive, send):
        raise error

    return fail


class OnPurposeError(Exception):
    """The app's own."""
