"""`keepalive.testing`: one request on a clock that jumps, on asyncio and on trio."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest
import trio.testing
from support.harness import PING, body, run, start

from keepalive import AbortController, KeepaliveMiddleware, Ping, StopReason, get_stream
from keepalive.testing import timeline


@pytest.fixture
def serve(backend):
    """`timeline`, on one backend."""

    def serve(app, path="/", **options):
        if backend == "asyncio":
            return timeline(app, path, **options)
        clock = trio.testing.MockClock(autojump_threshold=0)
        clock.jump(100)  # as one that has served before
        return timeline(app, path, clock=clock, **options)

    return serve


async def silent(scope, receive, send):
    await send(start())
    while (await receive())["type"] != "http.disconnect":
        pass


def response(data, media_type=b"text/plain"):
    """Return an app that answers at once."""

    async def app(scope, receive, send):
        await send(start([(b"content-type", media_type)], status=201))
        await send(body(data(scope), more=False))

    return app


def test_a_silent_stream_gets_its_pings_until_the_client_leaves(serve):
    app = KeepaliveMiddleware(silent)
    assert serve(app) == [(0, 200), (15, PING), (30, PING), (45, PING)]
    assert serve(app, seconds=31) == [(0, 200), (15, PING), (30, PING)]
    assert serve(app, seconds=30) == [(0, 200), (15, PING)]
    assert serve(silent) == [(0, 200)]
    tenths = KeepaliveMiddleware(silent, interval=0.1)
    assert serve(tenths, seconds=0.35)[1:] == [(0.1, PING), (0.2, PING), (0.3, PING)]


@pytest.mark.slow
def test_an_hour_takes_no_time_and_is_the_same_each_time(serve):
    app = KeepaliveMiddleware(silent, interval=1.0)
    first = serve(app, seconds=3600)
    assert first == [(0, 200), *((when, PING) for when in range(1, 3600))]
    assert serve(app, seconds=360) == first[:360]


def test_what_an_app_sends_is_recorded_up_to_its_end(serve):
    async def app(scope, receive, send):
        await anyio.sleep(0.25)
        await send(start(status=203))
        await send(body(b""))
        await send({"type": "http.response.debug"})
        await send(body(bytearray(b"data: a\n\n")))
        await anyio.sleep(20)
        await send({"type": "http.response.body", "body": b"data: b\n\n"})
        await send(body(b"data: c\n\n"))
        assert await receive() == {"type": "http.request", "body": b"", "more_body": False}
        assert await receive() == {"type": "http.disconnect"}

    sent = serve(app)
    assert {type(what) for _, what in sent} == {int, bytes, str}
    assert sent == [
        (0.25, 203), (0.25, b"data: a\n\n"), (20.25, b"data: b\n\n"), (20.25, "end")
    ]  # fmt: skip


def test_what_is_sent_when_the_client_has_left_is_not_recorded(serve):
    over = []

    async def app(scope, receive, send):
        await send(start())
        while True:
            over.append(anyio.current_time())
            await send(body(b"data: a\n\n"))
            await anyio.sleep(10)

    assert serve(app, seconds=15) == [(0, 200), (0, b"data: a\n\n"), (10, b"data: a\n\n")]
    assert len(over) == 8  # it is cancelled a minute after that
    assert serve(app, seconds=10) == [(0, 200), (0, b"data: a\n\n")]


def test_an_app_that_needs_a_while_to_clean_up_is_waited_for(serve):
    cleaned = []

    async def app(scope, receive, send):
        await silent(scope, receive, send)
        await anyio.sleep(59)
        cleaned.append(True)

    serve(app)
    assert cleaned == [True]


def test_the_request_is_as_given(serve):
    seen = {}

    async def app(scope, receive, send):
        seen.update(scope, body=await receive())
        await response(lambda _: b"x")(scope, receive, send)

    sent = serve(
        app,
        "/a%20b?c=d&e",
        method="POST",
        headers={"X-Who": "me", "Host": "there"},
        body=b"{}",
    )
    assert sent == [(0, 201), (0, b"x"), (0, "end")]
    assert seen["path"] == "/a b"
    assert seen["raw_path"] == b"/a%20b"
    assert seen["query_string"] == b"c=d&e"
    assert seen["method"] == "POST"
    assert seen["headers"] == [
        (b"host", b"there"), (b"content-length", b"2"), (b"x-who", b"me")
    ]  # fmt: skip
    assert seen["body"] == {"type": "http.request", "body": b"{}", "more_body": False}
    serve(app)
    assert seen["method"] == "GET"
    assert seen["headers"] == [(b"host", b"testserver")]


def test_something_else_happens_at_its_time(serve):
    reasons = []

    async def app(scope, receive, send):
        await send(start())
        reasons.append(await get_stream(scope).signal.wait())
        await anyio.sleep(60)

    controller = AbortController()
    wrapped = KeepaliveMiddleware(
        app, abort=controller.signal, drain=5, farewell=Ping.event("bye")
    )
    assert serve(wrapped, at={20: controller.abort, 100: reasons.clear}) == [
        (0, 200), (15, PING), (25, b"event: bye\ndata: \n\n"), (25, "end")
    ]  # fmt: skip
    assert reasons == [StopReason.ABORTED]  # and the other never came to be


class Wrong(Exception):
    pass


def test_what_the_app_raises_propagates_unchanged(serve):
    async def app(scope, receive, send):
        await send(start())
        await anyio.sleep(1)
        raise Wrong

    with pytest.raises(Wrong):
        serve(app)


def test_what_fails_at_its_time_propagates_unchanged(serve):
    def fail():
        raise Wrong

    over = []

    async def app(scope, receive, send):
        began = anyio.current_time()
        try:
            await anyio.sleep(50)
        finally:
            over.append(anyio.current_time() - began)

    with pytest.raises(Wrong):
        serve(app, at={5: fail})
    assert over == [5]


def test_time_waits_for_threads():
    """On asyncio. trio's clock has a threshold of its own for that."""

    async def app(scope, receive, send):
        await anyio.to_thread.run_sync(time.sleep, 0.02)
        await asyncio.to_thread(time.sleep, 0.02)
        await send(start())
        await asyncio.sleep(20)
        await anyio.to_thread.run_sync(time.sleep, 0.02)
        await send(body(b"data: a\n\n", more=False))

    assert timeline(KeepaliveMiddleware(app)) == [
        (0, 200), (15, PING), (20, b"data: a\n\n"), (20, "end")
    ]  # fmt: skip


def test_where_a_loop_runs_it_needs_a_thread_of_its_own(backend):
    async def main():
        with pytest.raises(RuntimeError, match="in a thread"):
            timeline(silent)
        with ThreadPoolExecutor() as threads:
            return threads.submit(timeline, silent).result()

    assert run(backend, main) == [(0, 200)]


def test_what_an_app_does_with_real_events_is_done():
    """A loop that waits for a file descriptor alone, or for nothing that has a time."""

    async def app(scope, receive, send):
        event, loop = asyncio.Event(), asyncio.get_running_loop()
        loop.call_soon_threadsafe(event.set)
        await event.wait()
        await response(lambda _: b"x")(scope, receive, send)

    assert timeline(app) == [(0, 201), (0, b"x"), (0, "end")]
