"""Servers of the protocols that take more than one request: GraphQL over SSE, and Gradio's.

Each is silent before, between and behind its events until pings have gone out, as
`silence.quiet` has it.
"""

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import parse_qs

from real.clients.protocol_events import data
from real.clients.silence import quiet
from support.internals import ASGIApp, Receive, Scope, Send

TOKEN: Final = b"x-graphql-event-stream-token"
RESULTS: Final = tuple({"data": {"count": text}} for text in ("Hello", ", world"))
JSON: Final = "application/json"
SSE: Final = "text/event-stream"

OPERATIONS: Final[defaultdict[str, asyncio.Queue[str]]] = defaultdict(asyncio.Queue)
"""The operations of each single connection, by its token."""


async def answer(send: Send, body: object = None, status: int = 200) -> None:
    """Send a whole response: text as it is, anything else as JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    kind = "text/plain" if isinstance(body, str) else JSON
    headers = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode()})


async def start(send: Send) -> None:
    """Start an event stream."""
    headers = [(b"content-type", SSE.encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def say(send: Send, body: bytes, *, more: bool = True) -> None:
    """Send a part of a stream."""
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def body_of(receive: Receive) -> Any:
    """Read a request's body as JSON."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return json.loads(body)


async def until_gone(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def results(scope: Scope, send: Send, event: Callable[[str, object], bytes]) -> None:
    """Send the results of a subscription, and its end."""
    for number, result in enumerate(RESULTS):
        await quiet(scope, 2 + number % 2)
        await say(send, event("next", result))
    await quiet(scope)
    await say(send, event("complete", None))


async def distinct(scope: Scope, send: Send) -> None:
    """Serve a subscription on a connection of its own."""
    await start(send)
    await results(scope, send, lambda name, result: data(result, name))
    await quiet(scope, 3)
    await say(send, b"", more=False)


async def single(scope: Scope, receive: Receive, send: Send, token: str) -> None:
    """Serve all the operations of a token on one stream, until the client leaves."""
    await start(send)
    gone = asyncio.ensure_future(until_gone(receive))
    while not gone.done():
        operation = asyncio.ensure_future(OPERATIONS[token].get())
        await asyncio.wait({operation, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not operation.done():
            operation.cancel()
            continue
        known = {"id": operation.result()}

        def event(name: str, result: object, known: dict[str, str] = known) -> bytes:
            return data(known if result is None else {**known, "payload": result}, name)

        await results(scope, send, event)


async def graphql(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve GraphQL over SSE, in both of its modes."""
    token = dict(scope["headers"]).get(TOKEN, b"").decode()
    if scope["method"] == "PUT":
        await answer(send, uuid.uuid4().hex, 201)
    elif scope["method"] == "GET":
        await single(scope, receive, send, token)
    elif scope["method"] == "DELETE":
        await answer(send)
    elif token:
        operation = (await body_of(receive))["extensions"]["operationId"]
        OPERATIONS[token].put_nowait(operation)
        await answer(send, status=202)
    else:
        await distinct(scope, send)


TEXTBOX: Final = {"type": "textbox", "props": {}, "api_info": {"type": "string"}}
CONFIG: Final = {
    "version": "6.0.0",
    "protocol": "sse_v3",
    "api_prefix": "/gradio_api",
    "connect_heartbeat": True,
    "components": [{"id": 1, **TEXTBOX}, {"id": 2, **TEXTBOX}],
    "dependencies": [
        {"id": 0, "api_name": "count", "inputs": [1], "outputs": [2], "backend_fn": True}
        | {"cancels": [], "types": {"generator": True, "cancel": False}}
    ],
}
PARAMETER: Final = {"parameter_has_default": False, "component": "Textbox", "type": {}}
INFO: Final = {
    "named_endpoints": {
        "/count": {
            "parameters": [{**PARAMETER, "label": "text", "parameter_name": "text"}],
            "returns": [{"label": "count", "component": "Textbox", "type": {}}],
        }
    },
    "unnamed_endpoints": {},
}
EVENT_ID: Final = "e1"


def _messages() -> list[bytes]:
    head = {"event_id": EVENT_ID}
    output = {"is_generating": True, "duration": 0.1, "average_duration": 0.1}
    first, second = ({"data": [text], **output} for text in ("Hello", "Hello, world"))
    replaced = {**second, "data": [[["replace", [], "Hello, world"]]]}
    parts = (
        {"msg": "estimation", "rank": 0, "queue_size": 1, "rank_eta": 0.1, **head},
        {"msg": "process_starts", "eta": 0.1, **head},
        {"msg": "process_generating", "output": first, "success": True, **head},
        {"msg": "process_generating", "output": replaced, "success": True, **head},
        {"msg": "process_completed", "output": second, "success": True, **head},
        {"msg": "close_stream", "event_id": None},
    )
    return [data(part) for part in parts]


async def gradio_queue(scope: Scope, send: Send) -> None:
    """Send the messages of a session."""
    await start(send)
    for number, message in enumerate(_messages()):
        await quiet(scope, 2 + number % 2)
        await say(send, message)
    await say(send, b"", more=False)


async def gradio(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve an app of Gradio's with one function, as its clients see it."""
    name = scope["path"].partition("/gradio/")[2]
    session = parse_qs(scope["query_string"]).get(b"session_hash")
    if name == "gradio_api/queue/data" and session:
        await gradio_queue(scope, send)
    elif name == "gradio_api/queue/join":
        await answer(send, {"event_id": EVENT_ID})
    elif name.startswith("gradio_api/heartbeat/"):
        await start(send)
        await say(send, b"data: ALIVE\n\n")
        await until_gone(receive)
    else:
        await answer(send, CONFIG if name == "config" else INFO)


APPS: Final[dict[str, ASGIApp]] = {"graphql": graphql, "gradio": gradio}
"""By protocol."""
