"""What uvicorn serves: the variants of one framework's app, chosen by a header.

It is ASGI in front of ASGI: it passes the app's messages on unchanged and keeps the journal.
The framework is the one that `FRAMEWORK` names.
"""

import asyncio
import contextlib
import importlib
import logging
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from real.frameworks.streams import GATES, TOKEN, Warnings, note
from support.internals import ASGIApp, Message, Receive, Scope, Send

logging.getLogger("keepalive").addHandler(Warnings(logging.WARNING))

FRAMEWORK = importlib.import_module(f"real.frameworks.{os.environ['FRAMEWORK']}_app")
APPS: dict[str, ASGIApp] = FRAMEWORK.variants()


@contextlib.asynccontextmanager
async def alive(app: ASGIApp) -> AsyncIterator[None]:
    """Run an app's lifespan; one that does not support it raises."""
    questions: asyncio.Queue[Message] = asyncio.Queue()
    answers: asyncio.Queue[Message] = asyncio.Queue()
    scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    life = asyncio.ensure_future(app(scope, questions.get, answers.put))
    for question in ("startup", "shutdown"):
        await questions.put({"type": f"lifespan.{question}"})
        answer = asyncio.ensure_future(answers.get())
        await asyncio.wait([answer, life], return_when=asyncio.FIRST_COMPLETED)
        assert life.done() or answer.result()["type"] == f"lifespan.{question}.complete"
        answer.cancel()
        if question == "startup":
            yield
    await asyncio.wait([life])


async def lifespan(receive: Receive, send: Send) -> None:
    """Run the lifespan of all apps for as long as the server's."""
    async with contextlib.AsyncExitStack() as stack:
        await receive()
        for name in getattr(FRAMEWORK, "ALIVE", APPS):
            await stack.enter_async_context(alive(APPS[name]))
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


def has_gone(send: Send) -> bool:
    """Whether uvicorn knows that the client has gone.

    It knows before an app does that never asks; to call `receive` here would take the message
    away from an app that does.
    """
    cycle: Any = getattr(send, "__self__", None)
    return bool(cycle.disconnected)


async def departure(send: Send) -> None:
    """Wait until the client has gone."""
    while not has_gone(send):
        await asyncio.sleep(0.01)
    note("client gone")


async def request(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one request of a test's."""
    headers = dict(scope["headers"])
    TOKEN.set(headers[b"x-token"].decode())
    timed = b"x-timed" in headers

    async def sending(message: Message) -> None:
        if timed and message["type"] == "http.response.body":
            note("sent", at=time.monotonic(), body=message.get("body", b"").decode())
        await send(message)

    watch = asyncio.create_task(departure(send))
    how = "returned"
    try:
        await APPS[headers[b"x-variant"].decode()](scope, receive, sending)
    except BaseException as error:
        how = type(error).__name__
        raise
    finally:
        if watch.cancel() and has_gone(send):
            note("client gone")
        note("call over", how=how)


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the apps, and the gates."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
    elif scope["path"].startswith("/gate/"):
        GATES[scope["path"].removeprefix("/gate/")].release()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
    else:
        await request(scope, receive, send)
