"""Starlette's streams with a background task each, that a middleware ends for all at once.

A path is `/variant/what`: `/quick/events`, `/slow/abort`, `/slow/counts`. The variants differ
in how long their background tasks take. Without the middleware: `/plain/...`.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

import anyio
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Mount, Route

from keepalive import AbortController, KeepaliveMiddleware

DRAIN: Final = 0.5
PERIOD: Final = 0.001
TASKS: Final = {"plain": 0.0, "quick": 0.0, "slow": 3.0}
"""Seconds that the background tasks of each variant take."""


def variant(name: str) -> Starlette:
    """Return the app of a variant."""
    counts: Counter[str] = Counter()
    controller = AbortController()

    async def events() -> AsyncIterator[str]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 60)
            while True:
                yield "data: x\n\n"
                await anyio.sleep(PERIOD)

    async def save() -> None:
        await anyio.sleep(TASKS[name])
        counts["saved"] += 1

    async def stream(_: Request) -> StreamingResponse:
        counts["opened"] += 1
        task = BackgroundTask(save)
        return StreamingResponse(events(), media_type="text/event-stream", background=task)

    async def abort(_: Request) -> Response:
        controller.abort()
        return Response()

    async def tell(_: Request) -> Response:
        return Response(json.dumps(counts), media_type="application/json")

    served = Starlette(routes=[Route("/", stream)])
    if name != "plain":
        served = KeepaliveMiddleware(served, abort=controller.signal, drain=DRAIN)
    return Starlette(
        routes=[
            Route("/abort", abort),
            Route("/counts", tell),
            Mount("/events", served),
        ]
    )


app = Starlette(routes=[Mount(f"/{name}", variant(name)) for name in TASKS])
