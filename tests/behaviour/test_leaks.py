"""Streams that are opened and closed at random leave nothing behind."""

import asyncio
import contextlib
import gc
import importlib.metadata
import random
import weakref

import anyio
import pytest
from support.harness import (
    END,
    asyncio_running,
    body,
    http,
    play,
    run,
    scheduled_streams,
    settle,
    start,
    tasks_left,
)
from support.internals import MAX_STALE, PingScheduler, Responder

from keepalive import (
    AbortController,
    KeepaliveMiddleware,
    StopReason,
    StreamEnded,
    StreamStarted,
    get_stream,
)

ANYIO = tuple(map(int, importlib.metadata.version("anyio").split(".")[:2]))
BOUNDS = {"drain": 0.5, "max_lifetime": 60, "send_timeout": 5}
EARLY = {"start_after": 20}
STREAMS = 300
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("frozen_heap")]


class Gone(Exception):
    pass


@pytest.mark.parametrize(
    "policy",
    [{}, BOUNDS, EARLY, EARLY | BOUNDS],
    ids=["plain", "limited", "early", "early and limited"],
)
def test_streams_that_are_over_leave_nothing_behind(backend, policy):
    choose = random.Random(5)
    controller, started, reasons, references = AbortController(), [], [], []

    def observer(event):
        if isinstance(event, StreamStarted):
            started.append(event)
        elif isinstance(event, StreamEnded):
            reasons.append(event.reason)

    async def app(scope, receive, send):
        if "start_after" in policy:
            await anyio.sleep(choose.uniform(0, 40))
        await send(start())
        if scope["kind"] == "listen":
            while (await receive())["type"] != "http.disconnect":
                pass
        await anyio.sleep(scope["life"])
        if scope["kind"] == "raise":
            raise Gone
        if scope["kind"] == "abort":
            get_stream(scope).abort()
            await anyio.sleep(1)
        await send(body(b"x\n\n", more=False))

    async def serve(middleware):
        kind = choose.choice(["end", "raise", "listen", "abort", "cancel", "broken"])
        life = choose.uniform(0, 100)
        left = anyio.Event()

        async def receive():
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if kind == "broken" and b"ping" in message.get("body", b""):
                raise ValueError

        references.append(weakref.ref(send))  # the stream refers to it

        async def leave():
            await anyio.sleep(life)
            left.set()

        await anyio.sleep(choose.uniform(0, 100))
        async with anyio.create_task_group() as group:
            if kind == "listen":
                group.start_soon(leave)
            if kind == "cancel":
                group.cancel_scope.deadline = anyio.current_time() + life
            with contextlib.suppress(Gone):
                accept = [(b"accept", b"text/event-stream")]
                scope = http(kind=kind, life=life, headers=accept)
                await middleware(scope, receive, send)

    async def main():
        middleware = KeepaliveMiddleware(
            app, observer=observer, abort=controller.signal, **policy
        )
        async with anyio.create_task_group() as group:
            for _ in range(STREAMS):
                group.start_soon(serve, middleware)
        await settle()
        assert scheduled_streams() == 0
        assert tasks_left() == 0
        assert not middleware._config.stop_signal._callbacks
        assert not middleware._config.in_flight
        gc.collect()
        assert [reference() for reference in references if reference() is not None] == []
        assert not [o for o in gc.get_objects() if isinstance(o, Responder)]

    run(backend, main)
    gc.collect()
    assert not [o for o in gc.get_objects() if isinstance(o, PingScheduler)]
    assert len(references) == STREAMS
    # Some calls are cancelled before anybody has started their response.
    least = STREAMS * 0.95 if "start_after" in policy else STREAMS
    assert len(reasons) == len(started) >= least
    assert {*reasons} - {StopReason.MAX_LIFETIME} == {
        StopReason.COMPLETED, StopReason.APP_FAILED, StopReason.DISCONNECTED,
        StopReason.ABORTED, StopReason.WRITE_FAILED,
    }  # fmt: skip
    assert (StopReason.MAX_LIFETIME in reasons) is ("max_lifetime" in policy)


async def send_ping(how):
    """Fail, or wait, as servers do."""
    if how is ValueError:
        raise ValueError
    if how == "stalled":
        await anyio.sleep_forever()
    if how == "future" and asyncio_running():
        await failing_future()


def failing_future():
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(1, future.set_exception, OSError())
    return future


@pytest.mark.parametrize(
    "limits",
    [{}, BOUNDS, BOUNDS | {"max_lifetime": 18}, EARLY | {"start_after": 5}],
    ids=["plain", "limited", "ended", "early"],
)
@pytest.mark.parametrize(
    "how", ["end", Gone, "cancel", OSError, ValueError, "stalled", "future"]
)
def test_a_stream_needs_no_garbage_collector(backend, how, limits):
    """Nor does a response that is none: no reference cycle is made for a request."""
    if limits and backend == "asyncio" and ANYIO < (4, 7):
        pytest.skip("cancel scopes of some anyio before 4.7 are garbage")

    async def main():
        references = []

        async def app(scope, receive, send):
            if "start_after" in limits:
                await anyio.sleep(8)
                if scope["how"] is Gone:
                    raise Gone
            await send(start([(b"content-type", scope["kind"])]))
            await anyio.sleep(20)
            if scope["how"] is Gone:
                raise Gone
            await send(body(b"data: x\n\n"))
            await send(body(more=False))

        async def serve(kind, how):
            async def send(message):
                if how is OSError and b"x" in message.get("body", b""):
                    raise OSError
                if b"ping" in message.get("body", b""):
                    await send_ping(how)

            async def receive():
                await anyio.sleep(17 if how == "stalled" else 1000)
                return {"type": "http.disconnect"}

            references.append(weakref.ref(send))
            scope = http(kind=kind, how=how, headers=[(b"accept", b"text/event-stream")])
            # As servers do: what sends knows its scope.
            send.scope = scope
            with (
                contextlib.suppress(Gone, OSError),
                anyio.move_on_after(10 if how == "cancel" else 100),
            ):
                await KeepaliveMiddleware(app, **limits)(scope, receive, send)

        gc.collect()
        gc.disable()
        try:
            for kind in (b"text/html", b"text/event-stream"):
                await serve(kind, how)
                await settle()
            return [reference() for reference in references]
        finally:
            gc.enable()

    assert run(backend, main) == [None, None]


def test_the_scheduler_forgets_streams_that_end_long_before_they_are_due(backend):
    """Many short streams beside one long one don't pile up until their interval ends."""

    async def main():
        scheduler = []

        async def app(scope, receive, send):
            await send(start())
            scheduler.append(PingScheduler.current())
            await anyio.sleep(scope["life"])

        async def send(message): ...

        middleware = KeepaliveMiddleware(app, 1000)
        async with anyio.create_task_group() as group:
            group.start_soon(middleware, http(life=900), None, send)
            await settle()
            for _ in range(500):
                await middleware(http(life=0.001), None, send)
            assert len(scheduler[0]) == 1
            assert len(scheduler[0]._queue._heap) <= MAX_STALE + 3
            assert {id(each) for each in scheduler} == {id(scheduler[0])}

    run(backend, main)


def test_each_loop_has_its_own_scheduler_and_none_when_it_is_over(backend):
    async def main():
        return weakref.ref(PingScheduler.current())

    first, second = run(backend, main), run(backend, main)
    gc.collect()
    assert first() is None
    assert second() is None


@pytest.mark.parametrize("interval", [0.05, 100])
def test_a_loop_that_is_closed_at_once_is_forgotten(interval):
    """Though a task that reads ahead had no turn of the loop to end in."""

    async def app(scope, receive, send):
        await send(start())
        await anyio.sleep(0.12)

    async def receive():
        await anyio.sleep(1000)

    async def send(message):
        pass

    loop = asyncio.new_event_loop()
    loop.run_until_complete(KeepaliveMiddleware(app, interval)(http(), receive, send))
    loop.close()
    reference = weakref.ref(loop)
    del loop
    asyncio.set_event_loop(None)
    gc.collect()
    assert reference() is None


def test_a_stream_that_listens_keeps_no_task_of_a_round_that_is_over(backend):
    """It fell due inside an event: it began to listen, and no ping was sent."""

    async def look(scope, receive, send):
        assert scope["asgi-keepalive"].live._rare.cancel_ping is None

    world = play(backend, [(10, b"data: half"), (26, look), (30, END)])
    assert world.pings == []
