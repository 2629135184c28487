"""a2wsgi's `WSGIMiddleware`, with a generator in a thread.

What it serves is defined in `streams`; this is how the framework's users write it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from a2wsgi import WSGIMiddleware
from real.frameworks.around import ENDING
from real.frameworks.streams import EVENTS, NDJSON, OPTIONS, RECORDS, WHOLE, paced
from support.internals import ASGIApp, Receive, Scope, Send

from keepalive import KeepaliveMiddleware

T = TypeVar("T")

LOOP: Final[ContextVar[asyncio.AbstractEventLoop]] = ContextVar("LOOP")
"""The server's; a2wsgi runs a thread in the context of its request."""


def in_thread(source: AsyncIterator[T]) -> Iterator[T]:
    """Iterate in a thread over what comes in the event loop."""
    loop = LOOP.get()

    async def following() -> T | None:
        return await anext(source, None)

    while (item := asyncio.run_coroutine_threadsafe(following(), loop).result()) is not None:
        yield item


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Serve a request."""
    kinds = {"/events": "text/event-stream", "/records": NDJSON}
    kind = kinds.get(environ["PATH_INFO"], "application/json")
    start_response("200 OK", [("Content-Type", kind)])
    if environ["PATH_INFO"] == "/events":
        return (f"data: {name}\n\n".encode() for name in in_thread(paced(EVENTS)))
    if environ["PATH_INFO"] == "/records":
        return (line.encode() for line in in_thread(paced(RECORDS)))
    return [json.dumps(WHOLE).encode()]


def app() -> ASGIApp:
    """Return the app."""
    threaded = WSGIMiddleware(wsgi)

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        LOOP.set(asyncio.get_running_loop())
        await threaded(scope, receive, send)

    return served


def variants() -> dict[str, ASGIApp]:
    """Return the app plain, kept alive, and with its streams ended."""
    return {
        "plain": app(),
        "kept": KeepaliveMiddleware(app(), **OPTIONS),
        "ended": KeepaliveMiddleware(app(), **ENDING),
    }


ALIVE: tuple[str, ...] = ()
"""It has no lifespan."""
