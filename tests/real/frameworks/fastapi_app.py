"""FastAPI, with Starlette's `StreamingResponse`.

What it serves is defined in `stage`; this is how the framework's users write it.
"""

from fastapi import BackgroundTasks, FastAPI
from fastapi.responses import StreamingResponse
from real.frameworks.streams import (
    EVENTS,
    NDJSON,
    OPTIONS,
    RECORDS,
    TOKEN,
    WHOLE,
    background,
    paced,
)
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware


def app() -> FastAPI:
    """Return the app."""
    api = FastAPI()

    @api.get("/events")
    async def events(tasks: BackgroundTasks) -> StreamingResponse:
        tasks.add_task(background, TOKEN.get())
        body = paced(tuple(f"data: {name}\n\n" for name in EVENTS))
        return StreamingResponse(body, media_type="text/event-stream")

    @api.get("/records")
    async def records() -> StreamingResponse:
        return StreamingResponse(paced(RECORDS), media_type=NDJSON)

    @api.get("/whole")
    async def whole() -> dict[str, str]:
        return WHOLE

    return api


def variants() -> dict[str, ASGIApp]:
    """Return the app plain and kept alive."""
    kept = app()
    kept.add_middleware(KeepaliveMiddleware, **OPTIONS)
    return {"plain": app(), "kept": kept}
