"""Others' pings, as the page "Comparison" has them: what resets their timer, where they stand.

Each is called in this process, with no server, on a clock that jumps.
"""

import inspect
import json
import re
from unittest.mock import patch

import anyio
import pytest
from real import parts
from real.frameworks.mcp_client import metadata
from support.harness import BACKENDS, END, START, World, http, run

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


async def encoded(events):
    """Send the same as bytes."""
    async for event in events():
        yield event if isinstance(event, bytes) else b"data: x\n\n"


def starlette(content):
    from starlette.responses import StreamingResponse

    return StreamingResponse(content, media_type="text/event-stream")


def ours(events):
    return KeepaliveMiddleware(
        starlette(encoded(events)), INTERVAL, ping=Ping.raw(b": ping\n\n", at="event")
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


OLDER, NEWER = "2025-06-18", "2026-07-28"
REPORTS = 11
"""One a second, so that the last is made after ten seconds."""


def mcp_server():
    """Return an MCP server whose tool may report progress, and then is silent."""
    from mcp.server.mcpserver import Context, MCPServer

    server = MCPServer("tests")

    @server.tool()
    async def work(reports: int, ctx: Context) -> str:
        for number in range(reports):
            await ctx.report_progress(number, reports)
            await anyio.sleep(1)
        await anyio.sleep(33)
        return "done"

    return server


def mcp_call(version, reports):
    """Return the scope and the body of a call of that tool."""
    meta = metadata(version)
    params = {"name": "work", "arguments": {"reports": reports}, "_meta": meta}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "host": "127.0.0.1:8000",
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": version,
        "mcp-method": "tools/call",
        "mcp-name": "work",
    }
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {**SCOPE, "method": "POST", "path": "/mcp", "headers": raw}
    return scope, json.dumps(message).encode()


def mcp_sends(backend, version, reports, wrap=lambda app: app):
    """Return what the server sends during such a call, and when."""
    parts.need("mcp")

    async def main():
        server, world = mcp_server(), World()
        app = wrap(server.streamable_http_app(stateless_http=True))
        scope, body = mcp_call(version, reports)
        world.requests = [{"type": "http.request", "body": body, "more_body": False}]
        async with server.session_manager.run():
            await app(scope, world.receive, world.send)
        assert b"done" in world.body
        return world.timeline

    return run(backend, main)


@on_both
@pytest.mark.usefixtures("no_watcher")
def test_data_does_not_reset_the_timer_of_mcps_older_protocols(backend):
    timeline = mcp_sends(backend, OLDER, REPORTS)
    assert timeline[0] == (0, START)
    assert pings(timeline) == [15, 30]
    assert [body[:9] for _, body in timeline if body[:1] == b":"] == [b": ping - "] * 2


@on_both
def test_data_resets_the_timer_of_mcps_newer_protocol(backend):
    timeline = mcp_sends(backend, NEWER, REPORTS)
    assert timeline[0] == (0, START)
    assert pings(timeline) == [25, 40]
    assert [body for _, body in timeline if body[:1] == b":"] == [b": ping\r\n\r\n"] * 2


@on_both
def test_mcps_newer_protocol_starts_the_response_of_a_silent_tool_after_an_interval(backend):
    timeline = mcp_sends(backend, NEWER, 0)
    assert timeline[0] == (15, START)
    assert pings(timeline) == [15, 30]


@on_both
@pytest.mark.usefixtures("no_watcher")
def test_mcps_pings_are_data_to_ours_even_for_the_limit_on_silence(backend):
    def wrap(app):
        return KeepaliveMiddleware(app, 20.0, max_silence=20.0)

    timeline = mcp_sends(backend, OLDER, 0, wrap)
    assert pings(timeline) == [15, 30]
    assert timeline[-1] == (33, END)


@pytest.fixture
def litellm(monkeypatch):
    parts.need("litellm", "starlette")
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it would be downloaded
    import litellm
    from litellm.proxy.common_utils import sse_keepalive  # noqa: F401

    return litellm


def anthropics_messages(litellm, events):
    """Wrap a stream as LiteLLM's proxy wraps those of `/v1/messages`."""
    wrap = litellm.proxy.common_utils.sse_keepalive.wrap_sse_stream_with_keepalive_pings
    return starlette(wrap(encoded(events), INTERVAL))


def passed_through(litellm, events):
    """Wrap a stream as LiteLLM's proxy wraps those of its pass-through routes."""
    module = litellm.proxy.common_utils.sse_keepalive
    wrap = module.wrap_passthrough_sse_bytes_with_keepalive_pings
    return starlette(wrap(encoded(events), INTERVAL, {"content-type": "text/event-stream"}))


def test_litellm_pings_by_default_only_in_anthropics_protocol(litellm):
    assert litellm.anthropic_sse_ping_interval_seconds == 15
    assert litellm.sse_keepalive_ping_interval_seconds is None


@pytest.mark.parametrize(
    ("wrapped", "ping"),
    [
        (anthropics_messages, b'event: ping\ndata: {"type": "ping"}\n\n'),
        (passed_through, b": ping\n\n"),
    ],
)
def test_data_resets_litellms(litellm, wrapped, ping):
    timeline = sent("asyncio", lambda: wrapped(litellm, busy), 20)
    assert [when for when, body in timeline if body == ping] == [13, 16, 19]


def test_litellms_stand_inside_an_event_of_anthropics_protocol_that_comes_in_pieces(litellm):
    timeline = sent("asyncio", lambda: anthropics_messages(litellm, in_pieces))
    assert [when for when, body in timeline if body[:11] == b"event: ping"] == [3, 6, 9]


def test_litellms_are_left_out_inside_an_event_that_comes_in_pieces(litellm):
    assert pings(sent("asyncio", lambda: passed_through(litellm, in_pieces), 14)) == [13]
