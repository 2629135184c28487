"""FastAPI: a slow model, for browsers and for OpenAI's SDKs.

Run it:

    uvicorn --app-dir docs/examples fastapi_app:app
    curl -N http://127.0.0.1:8000/think
    curl -N -X POST http://127.0.0.1:8000/v1/chat/completions

`?silence=3` sets the seconds that the model needs. OpenAI's SDKs parse the data of every event
as JSON, so their route always gets comments.
"""

import json
from collections.abc import AsyncIterator
from typing import Annotated

import anyio
from fastapi import FastAPI, Query
from fastapi.responses import StreamingResponse

from keepalive import KeepaliveMiddleware, Ping

INTERVAL = 2.0
SILENCE = 9.0

Seconds = Annotated[float, Query(ge=0)]

app = FastAPI()
app.add_middleware(
    KeepaliveMiddleware,
    interval=INTERVAL,
    routes={"/v1/{rest:path}": {"ping": Ping.comment()}},
)


@app.get("/think")
async def think(silence: Seconds = SILENCE) -> StreamingResponse:
    """Stream an answer after a pause."""

    async def body() -> AsyncIterator[str]:
        yield "data: thinking\n\n"
        await anyio.sleep(silence)
        yield "data: 42\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


@app.post("/v1/chat/completions")
async def complete(silence: Seconds = SILENCE) -> StreamingResponse:
    """Stream a chat completion in OpenAI's format."""

    async def body() -> AsyncIterator[str]:
        for word in ("The", " answer"):
            yield chunk(word)
        await anyio.sleep(silence)
        yield chunk(" is 42.")
        yield "data: [DONE]\n\n"

    return StreamingResponse(body(), media_type="text/event-stream")


def chunk(text: str) -> str:
    """Return one event of a chat completion."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice]}
    return f"data: {json.dumps(event)}\n\n"
