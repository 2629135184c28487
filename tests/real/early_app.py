"""An app that takes long to start its responses; the middleware starts them in its place.

The first segment of a path names the variant, the last what is served. Where it is not plain,
the app does not start its response before it has been pinged a few times.
"""

import json
from typing import Final

import anyio
from sent_pings import sent_pings

from keepalive import KeepaliveMiddleware, Ping, Policy, get_stream
from keepalive._types import ASGIApp, Receive, Scope, Send

START_AFTER: Final = 0.1
INTERVAL: Final = 0.1
PINGS: Final = 3
SSE: Final = "text/event-stream"
JSON: Final = "application/json"

EVENTS: Final = b"data: one\n\nevent: update\ndata: two\n\n"
CHUNK: Final = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
WORDS: Final = ("all", " is", " well")
REPORT: Final = {"answer": 42, "lines": ["one", "two"]}
REFUSAL: Final = {"detail": "the model is not there"}


def completion() -> bytes:
    """Return the events of a completion, as OpenAI's protocol has them."""
    chunks = [
        {**CHUNK, "choices": [{"index": 0, "delta": {"content": word}}]} for word in WORDS
    ]
    lines = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


ANSWERS: Final = {
    "events": (200, SSE, EVENTS),
    "completions": (200, SSE, completion()),
    "report": (200, JSON, json.dumps(REPORT, indent=1).encode()),
    "refused": (503, JSON, json.dumps(REFUSAL).encode()),
}


class OnPurposeError(Exception):
    """The app's own."""


async def long_thought(scope: Scope) -> None:
    """Say nothing until a few pings have gone out; unkept, say it at once."""
    try:
        own = get_stream(scope)
    except LookupError:
        return
    with anyio.fail_after(20):
        while sent_pings(own) < PINGS and not own.signal.aborted:
            await anyio.sleep(0.01)


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """Think, and answer as the path's last segment says."""
    while (await receive()).get("more_body"):
        pass
    await long_thought(scope)
    what = scope["path"].rpartition("/")[2]
    if what == "raises":
        raise OnPurposeError
    status, media_type, body = ANSWERS[what]
    headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if media_type == SSE:
        headers.pop()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def early(**options: object) -> ASGIApp:
    """Return the app, started in its place where it takes long."""
    policy = Policy(**{"interval": INTERVAL, "start_after": START_AFTER, **options})
    return KeepaliveMiddleware(answer, routes=lambda _: policy)


VARIANTS: Final[dict[str, ASGIApp]] = {
    "plain": answer,
    "accepted": early(),
    "events": early(start_as=SSE, ping=Ping.comment()),
    "json": early(start_as=JSON),
}


async def page(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a page with nothing in it, and its icon."""
    body = b"<!doctype html><title>A page</title>"
    headers = [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the variant that the path names."""
    if scope["type"] != "http":
        return
    variant = VARIANTS.get(scope["path"].split("/")[1], page)
    await variant(scope, receive, send)
