"""The same streams in aiohttp, without pings and with those of aiohttp-sse.

One app for each way to ping, as its users would write it.
"""

import asyncio
from typing import Any

import footprint
from aiohttp import web
from aiohttp_sse import sse_response
from raw_apps import EVENT, TEXT, for_ever, how_busy


async def plain(_: web.Request) -> web.Response:
    """Answer with a small text."""
    return web.Response(text="Hello, world!")


async def cpu(_: web.Request) -> web.Response:
    """Send the CPU time used so far."""
    return web.json_response(footprint.cpu())


async def memory(_: web.Request) -> web.Response:
    """Send the memory in use."""
    return web.json_response(footprint.memory())


async def _opened(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    return response


async def idle(request: web.Request) -> web.StreamResponse:
    """Be silent after one event."""
    response = await _opened(request)
    await response.write(EVENT)
    await for_ever()
    return response


async def busy(request: web.Request) -> web.StreamResponse:
    """Send events as fast as they go; see `raw_apps.busy`."""
    count, turn = how_busy(request.query_string)
    response = await _opened(request)
    for number in range(1, count + 1):
        await response.write(EVENT)
        if number % turn == 0:
            await asyncio.sleep(0)
    return response


def _app(*endpoints: Any) -> web.Application:
    app = web.Application()
    for endpoint in (*endpoints, plain, cpu, memory):
        app.router.add_get(f"/{endpoint.__name__}", endpoint)
    return app


def unwrapped(_: float) -> web.Application:
    """Return streams of ready-made bytes, without pings."""
    return _app(idle, busy)


def aiohttp_sse(interval: float) -> web.Application:
    """Return streams of aiohttp-sse, which renders each event from a text."""

    async def idle(request: web.Request) -> web.StreamResponse:
        async with sse_response(request, ping_interval=interval) as response:
            await response.send(TEXT)
            await response.wait()
        return response

    async def busy(request: web.Request) -> web.StreamResponse:
        count, turn = how_busy(request.query_string)
        async with sse_response(request, ping_interval=interval) as response:
            for number in range(1, count + 1):
                await response.send(TEXT)
                if number % turn == 0:
                    await asyncio.sleep(0)
        return response

    return _app(idle, busy)


async def serve(app: web.Application, sock: Any, backlog: int) -> None:
    """Serve for ever, and print the port once connections are accepted."""
    # As ASGI servers do it, what serves a client that has left is to end.
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.SockSite(runner, sock, backlog=backlog).start()
    print(sock.getsockname()[1], flush=True)
    await for_ever()
