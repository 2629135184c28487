"""An app that takes long to start its responses; the middleware starts them in its place.

The first segment of a path names the variant, the last what is served. Where the middleware
is around the app, the app does not start its response before it has been pinged a few times.
In the variants `both` and `bare` it is an API such as OpenAI's and Anthropic's: its requests
ask for a stream or do not, and their `model` says what is served.
"""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import anyio
from support.internals import ASGIApp, Receive, Scope, Send
from support.sent_pings import sent_pings

from keepalive import KeepaliveMiddleware, Ping, Policy, get_stream

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
OVERLOADED: Final = {
    "type": "error",
    "error": {"type": "overloaded_error", "message": "too many requests"},
}


def completion() -> bytes:
    """Return the events of a completion, as OpenAI's protocol has them."""
    chunks = [
        {**CHUNK, "choices": [{"index": 0, "delta": {"content": word}}]} for word in WORDS
    ]
    lines = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def completion_as_json() -> bytes:
    """Return the same completion in one piece."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "".join(WORDS)}}
    whole = {**CHUNK, "object": "chat.completion", "choices": [choice]}
    return json.dumps(whole).encode()


MESSAGE: Final = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


def message() -> bytes:
    """Return the events of a message, as Anthropic's protocol has them."""
    events = [
        {"type": "message_start", "message": MESSAGE},
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": word},
            }
            for word in WORDS
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_stop"},
    ]
    return "".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events
    ).encode()


def message_as_json() -> bytes:
    """Return the same message in one piece."""
    content = [{"type": "text", "text": "".join(WORDS)}]
    return json.dumps({**MESSAGE, "content": content}).encode()


APIS: Final = {
    "completions": (completion, completion_as_json),
    "messages": (message, message_as_json),
}
"""How the path's last segment answers: in events, and in one piece."""
IN_TIME: Final = "in time"

ANSWERS: Final = {
    "events": (200, SSE, EVENTS),
    "report": (200, JSON, json.dumps(REPORT, indent=1).encode()),
    "refused": (503, JSON, json.dumps(REFUSAL).encode()),
    "overloaded": (529, JSON, json.dumps(OVERLOADED).encode()),
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
    await respond(what, send)


async def api(scope: Scope, receive: Receive, send: Send) -> None:
    """Think, unless it is to be in time, and answer as the request says."""
    request = b""
    while (message := await receive())["type"] == "http.request":
        request += message["body"]
        if not message["more_body"]:
            break
    asked = json.loads(request)
    as_events, as_json = APIS[scope["path"].rpartition("/")[2]]
    own = (200, SSE, as_events()) if asked.get("stream") else (200, JSON, as_json())
    if asked["model"] != IN_TIME:
        await long_thought(scope)
    await respond(asked["model"], send, {IN_TIME: own, "answers": own})


async def respond(
    what: str, send: Send, more: Mapping[str, tuple[int, str, bytes]] = MappingProxyType({})
) -> None:
    """Send one of the answers."""
    if what == "raises":
        raise OnPurposeError
    status, media_type, body = {**ANSWERS, **more}[what]
    headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    if media_type == SSE:
        headers.pop()
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def early(app: ASGIApp = answer, **options: object) -> ASGIApp:
    """Return the app, started in its place where it takes long."""
    policy = Policy(**{"interval": INTERVAL, "start_after": START_AFTER, **options})
    return KeepaliveMiddleware(app, routes=lambda _: policy)


VARIANTS: Final[dict[str, ASGIApp]] = {
    "plain": answer,
    "accepted": early(),
    "json": early(start_as=JSON),
    "both": early(api, start_as=JSON, start_after=3 * START_AFTER, ping=Ping.comment()),
    "bare": api,
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
