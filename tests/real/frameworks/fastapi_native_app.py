"""FastAPI's native streams: `EventSourceResponse`, and JSON lines by default.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

import json
from collections.abc import AsyncIterable

from fastapi import BackgroundTasks, FastAPI
from fastapi.sse import EventSourceResponse
from pydantic import BaseModel
from real.frameworks.streams import EVENTS, OPTIONS, RECORDS, TOKEN, WHOLE, background, paced
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware


class Record(BaseModel):
    """One of the records."""

    n: int


def app() -> FastAPI:
    """Return the app."""
    api = FastAPI()

    @api.get("/events", response_class=EventSourceResponse)
    async def events(tasks: BackgroundTasks) -> AsyncIterable[str]:
        tasks.add_task(background, TOKEN.get())
        async for name in paced(EVENTS):
            yield name

    @api.get("/records")
    async def records() -> AsyncIterable[Record]:
        async for line in paced(RECORDS):
            yield Record(**json.loads(line))

    @api.get("/whole")
    async def whole() -> dict[str, str]:
        return WHOLE

    return api


def variants() -> dict[str, ASGIApp]:
    """Return the app plain and kept alive."""
    kept = app()
    kept.add_middleware(KeepaliveMiddleware, **OPTIONS)
    return {"plain": app(), "kept": kept}
