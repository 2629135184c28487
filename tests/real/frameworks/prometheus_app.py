"""prometheus-fastapi-instrumentator around an app, and its metrics at `/metrics`."""

from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from prometheus_client import CollectorRegistry
from prometheus_fastapi_instrumentator import Instrumentator
from real.frameworks.around import ENDING
from real.frameworks.streams import EVENTS, OPTIONS, note, paced
from support.internals import ASGIApp

from keepalive import KeepaliveMiddleware


def app() -> FastAPI:
    """Return the app."""
    made = FastAPI()

    @made.get("/events")
    async def events(request: Request) -> StreamingResponse:
        async def body() -> AsyncIterator[str]:
            async for name in paced(EVENTS):
                yield f"data: {name}\n\n"

        note("context", found=request.headers["x-token"])
        return StreamingResponse(body(), media_type="text/event-stream")

    return made


def measured(made: FastAPI) -> FastAPI:
    """Instrument an app."""
    instrumentator = Instrumentator(registry=CollectorRegistry())
    instrumentator.instrument(made).expose(made)
    return made


def inside(options: dict[str, object]) -> FastAPI:
    """Return an app with the metrics outside of ours."""
    made = app()
    made.add_middleware(KeepaliveMiddleware, **options)
    return measured(made)


def variants() -> dict[str, ASGIApp]:
    """Return the app without ours, and with ours on both sides of the metrics."""
    return {
        "plain": measured(app()),
        "kept": inside(OPTIONS),
        "outside": KeepaliveMiddleware(measured(app()), **OPTIONS),
        "ended": inside(ENDING),
        "ended-outside": KeepaliveMiddleware(measured(app()), **ENDING),
    }
