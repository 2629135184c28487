"""A stand-in for vLLM's server: how it takes `--middleware`, and how it answers a chat.

It uses FastAPI, and what was read in vLLM's source in November 2026.

- A middleware's path is imported. A class is given to FastAPI's `add_middleware`, a coroutine
  function to `app.middleware("http")`; anything else is refused.
- While a handler works, a task beside it waits for the client's disconnect.
- A streamed answer is a `StreamingResponse` of `text/event-stream`, returned before there is a
  token.
"""

import asyncio
import importlib
import inspect
import json
import os
import sys
from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from support.sent_pings import sent_pings

from keepalive import get_stream

MIDDLEWARE: Final = "VLLM_LIKE_MIDDLEWARE"
"""The variable that has what follows `--middleware`."""

WORDS: Final = ["forty", "-", "two"]


def imported(path: str) -> Any:
    """Return what a middleware's path names, if it is of a kind that is taken."""
    module, _, name = path.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    if not (inspect.isclass(found) or inspect.iscoroutinefunction(found)):
        raise ValueError(f"{path} must be a class or a coroutine function")
    return found


def chunk(word: str) -> str:
    """Return an event of a chat's answer."""
    choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
    data = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "m",
        "choices": [choice],
    }
    return f"data: {json.dumps(data)}\n\n"


async def tokens(request: Request) -> AsyncIterator[str]:
    """Read a prompt for as long as two pings take, and answer."""
    own = get_stream(request.scope)
    while sent_pings(own) < 2:
        await asyncio.sleep(0.01)
    for word in WORDS:
        yield chunk(word)
    yield "data: [DONE]\n\n"


async def disconnect(request: Request) -> None:
    """Wait until the client has gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def build(path: str) -> FastAPI:
    """Return the app, with a middleware around it."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def chat(body: dict[str, Any], request: Request) -> StreamingResponse:
        watch = asyncio.create_task(disconnect(request))
        await asyncio.sleep(0.01)
        watch.cancel()
        return StreamingResponse(tokens(request), media_type="text/event-stream")

    found = imported(path)
    if inspect.isclass(found):
        app.add_middleware(found)
    else:
        app.middleware("http")(found)
    return app


def app() -> FastAPI:
    """Return the app with the middleware that the environment names."""
    return build(os.environ[MIDDLEWARE])


def command(port: int) -> list[str]:
    """Return what serves it."""
    words = ["uvicorn", "--factory", "real.docs.vllm_like:app", "--port", str(port)]
    return [sys.executable, "-m", *words]
