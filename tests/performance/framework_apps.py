"""The same streams, in frameworks: without pings, with a framework's own, and with ours.

One app for each framework and way to ping, as its users would write it.

Each function imports its own framework, so that a process holds no other.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import footprint
from raw_apps import EVENT, TEXT, TICK, for_ever


async def idle_events(event: Any) -> AsyncIterator[Any]:
    """Yield one event, then be silent for ever."""
    yield event
    await for_ever()


async def ticking_events(event: Any, seconds: float) -> AsyncIterator[Any]:
    """Yield one event, then a small one each so many seconds; see `raw_apps.ticking`."""
    yield event
    while True:
        await asyncio.sleep(seconds)
        yield TICK


async def busy_events(event: Any, count: int, turn: int) -> AsyncIterator[Any]:
    """Yield events as fast as they go; see `raw_apps.busy`."""
    for number in range(1, count + 1):
        yield event
        if number % turn == 0:
            await asyncio.sleep(0)


def _starlette_app(stream: Any, event: Any) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.routing import Route

    async def idle(_: Any) -> Any:
        return stream(idle_events(event))

    async def busy(request: Any) -> Any:
        count, turn = (int(request.query_params[name]) for name in ("n", "turn"))
        return stream(busy_events(event, count, turn))

    async def ticking(request: Any) -> Any:
        return stream(ticking_events(event, float(request.query_params["every"])))

    async def plain(_: Any) -> Any:
        return PlainTextResponse("Hello, world!")

    async def cpu(_: Any) -> Any:
        return JSONResponse(footprint.cpu())

    async def memory(_: Any) -> Any:
        return JSONResponse(footprint.memory())

    endpoints = (idle, busy, ticking, plain, cpu, memory)
    return Starlette(routes=[Route(f"/{each.__name__}", each) for each in endpoints])


def starlette(_: float) -> Any:
    """Return streams of ready-made bytes, without pings."""
    from starlette.responses import StreamingResponse

    def stream(events: AsyncIterator[Any]) -> Any:
        return StreamingResponse(events, media_type="text/event-stream")

    return _starlette_app(stream, EVENT)


def starlette_with_ours(interval: float) -> Any:
    """Return the same, with this package around it."""
    from keepalive import KeepaliveMiddleware

    app = starlette(interval)
    app.add_middleware(KeepaliveMiddleware, interval=interval)
    return app


def sse_starlette(interval: float) -> Any:
    """Return streams of sse-starlette.

    It renders each event from the text that was yielded, which `StreamingResponse` does not:
    a part of what an event costs here is that, and not the keep-alive. It could be given
    bytes, but that is not what it is for. Its interval is whole seconds.
    """
    from sse_starlette import EventSourceResponse

    return _starlette_app(lambda events: EventSourceResponse(events, ping=int(interval)), TEXT)


def _fastapi_app() -> Any:
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI()

    @app.get("/plain", response_class=PlainTextResponse)
    async def plain() -> str:
        return "Hello, world!"

    app.get("/cpu")(_endpoint(footprint.cpu))
    app.get("/memory")(_endpoint(footprint.memory))
    return app


def _endpoint(read: Any) -> Any:
    """Return an endpoint that runs in the loop's own thread: it starts no thread pool."""

    async def endpoint() -> dict[str, float]:
        return read()

    return endpoint


def fastapi(_: float) -> Any:
    """Return streams of ready-made bytes, without pings."""
    from fastapi.responses import StreamingResponse

    app = _fastapi_app()

    @app.get("/idle")
    async def idle() -> StreamingResponse:
        return StreamingResponse(idle_events(EVENT), media_type="text/event-stream")

    @app.get("/busy")
    async def busy(n: int, turn: int) -> StreamingResponse:
        events = busy_events(EVENT, n, turn)
        return StreamingResponse(events, media_type="text/event-stream")

    return app


def fastapi_native(interval: float) -> Any:
    """Return streams of FastAPI's own kind; they ping by themselves.

    The interval is no setting of FastAPI's but a constant of its routing module, 15 s. It is
    replaced here, in the benchmark's own process, to have enough pings to count. Each event
    is validated and rendered as JSON, which `StreamingResponse` does not do.
    """
    import fastapi.routing
    from fastapi.sse import EventSourceResponse

    fastapi.routing._PING_INTERVAL = interval
    app = _fastapi_app()

    @app.get("/idle", response_class=EventSourceResponse)
    async def idle() -> AsyncIterable[str]:
        yield TEXT
        await for_ever()

    @app.get("/busy", response_class=EventSourceResponse)
    async def busy(n: int, turn: int) -> AsyncIterable[str]:
        for number in range(1, n + 1):
            yield TEXT
            if number % turn == 0:
                await asyncio.sleep(0)

    return app
