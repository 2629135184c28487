"""Others' pings, as the page "Comparison" has them: what resets their timer, where they stand.

Each is called in this process, with no server, on a clock that jumps.
"""

import inspect
import re
from unittest.mock import patch

import anyio
import pytest
from real import parts
from support.harness import BACKENDS, World, http, run

from keepalive import KeepaliveMiddleware, Ping

pytestmark = [pytest.mark.real, pytest.mark.parts]
on_both = pytest.mark.parametrize("backend", BACKENDS)

INTERVAL = 3
SCOPE = http(http_version="1.1", query_string=b"", asgi={"version": "3.0"}, state={})


def sent(backend, make, seconds=12):
    """Return what an app sends, and when, to a client that leaves after a time."""

    async def main():
        world = World()
        world.leave_at = seconds
        with anyio.move_on_after(seconds):
            await make()({**SCOPE}, world.receive, world.send)
        return world.timeline

    return run(backend, main)


def pings(timeline):
    return [when for when, body in timeline if isinstance(body, bytes) and body[:1] == b":"]


async def busy():
    """Send an event each second for ten seconds, and nothing then."""
    for _ in range(11):
        yield {"data": "x"}
        await anyio.sleep(1)
    await anyio.sleep_forever()


async def in_pieces():
    """Send an event in two pieces, with ten seconds between."""
    yield b"data: a\r\n"
    await anyio.sleep(10)
    yield b"data: b\r\n\r\n"
    await anyio.sleep_forever()


def starlette(events):
    from starlette.responses import StreamingResponse

    async def text():
        async for event in events():
            yield event if isinstance(event, bytes) else b"data: x\n\n"

    return StreamingResponse(text(), media_type="text/event-stream")


def ours(events):
    return KeepaliveMiddleware(
        starlette(events), INTERVAL, ping=Ping.raw(b": ping\n\n", at="event")
    )


def sse_starlette(events):
    from sse_starlette import EventSourceResponse

    return EventSourceResponse(events(), ping=INTERVAL)


def fastapi_app(events):
    from fastapi import FastAPI
    from fastapi.sse import EventSourceResponse

    app = FastAPI()
    app.get("/", response_class=EventSourceResponse)(events)
    return app


@on_both
def test_data_resets_our_timer(backend):
    parts.need("starlette")
    assert pings(sent(backend, lambda: ours(busy), 20)) == [13, 16, 19]


@on_both
def test_a_ping_of_ours_waits_for_the_end_of_an_event(backend):
    parts.need("starlette")
    assert pings(sent(backend, lambda: ours(in_pieces), 14)) == [10, 13]


@pytest.fixture
def no_watcher():
    """Make sse-starlette leave no task behind."""
    parts.need("sse-starlette")
    name = "sse_starlette.sse._ensure_watcher_started_on_this_loop"
    with patch(name, lambda: None):
        yield


@on_both
@pytest.mark.usefixtures("no_watcher")
def test_data_does_not_reset_sse_starlettes(backend):
    assert pings(sent(backend, lambda: sse_starlette(busy))) == [3, 6, 9]


@on_both
@pytest.mark.usefixtures("no_watcher")
def test_sse_starlettes_stand_inside_an_event_that_comes_in_pieces(backend):
    assert pings(sent(backend, lambda: sse_starlette(in_pieces))) == [3, 6, 9]


def test_what_sse_starlette_replaces_at_import():
    parts.need("sse-starlette", "uvicorn")
    import sse_starlette
    import uvicorn

    assert uvicorn.Server.handle_exit == sse_starlette.sse.AppStatus.handle_exit


@on_both
def test_data_resets_fastapis_whose_interval_is_fixed(backend):
    parts.need("fastapi")
    import fastapi.sse

    assert fastapi.sse._PING_INTERVAL == 15
    assert pings(sent(backend, lambda: fastapi_app(busy), 42)) == [25, 40]
    assert fastapi.sse.KEEPALIVE_COMMENT == b": ping\n\n"


def test_litestar_has_a_comment_in_front_and_nothing_to_set_a_ping_with():
    parts.need("litestar")
    from litestar.response import ServerSentEvent

    names = inspect.signature(ServerSentEvent).parameters
    assert "comment_message" in names
    assert not [name for name in names if re.search("ping|keep|interval|beat", name)]
