"""Rare cases of nested middlewares: failed pings, rejected starts, calls within calls."""

import copy

import anyio
import pytest
from support.endings import X, leaves_at
from support.harness import END, PING, START, body, http, play, start
from support.nesting import EARLY, NDJSON, Nest, bye

from keepalive import KeepaliveMiddleware, Ping, PingSent, StopReason


def test_a_ping_that_cannot_be_sent_is_a_disconnect_for_both(backend, log):
    def prepare(world):
        log.prepare(world)
        world.failing = lambda message: OSError() if message.get("body") == PING else None

    nest = Nest({"drain": 5}, {})
    play(backend, [(1, X), (40, END)], wrap=nest, prepare=prepare)
    assert nest.reasons == (StopReason.DISCONNECTED,) * 2


def test_a_ping_that_an_outer_one_gives_up_is_not_counted(backend, log):
    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 100 if message.get("body") == PING else 0

    nest = Nest({"send_timeout": 4}, {})
    play(backend, [(1, log.listen)], wrap=nest, prepare=prepare)
    assert log == [(19, "http.disconnect")]
    assert nest.reasons == (StopReason.SEND_TIMEOUT,) * 2
    assert not [event for event in nest.events["inner"] if isinstance(event, PingSent)]


def test_a_ping_that_is_given_up_while_the_app_stays_is_not_counted(backend, log):
    """The app listens, so that messages are discarded; a ping that was is not one sent."""

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 100 if message.get("body") == PING else 0

    async def listen_and_stay(scope, receive, send):
        await log.listen(scope, receive, send)
        await anyio.sleep(1)
        log.add("left")

    nest = Nest({"send_timeout": 5}, {})
    world = play(backend, [(1, listen_and_stay)], wrap=nest, prepare=prepare)
    assert world.timeline == [(0, START)]
    assert log == [(20, "http.disconnect"), (21, "left")]
    assert nest.reasons == (StopReason.SEND_TIMEOUT,) * 2
    assert not [event for event in nest.events["inner"] if isinstance(event, PingSent)]


def test_a_ping_after_which_an_outer_one_ends_the_stream_is_counted(backend, log):
    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 1.25 if message.get("body") == PING else 0

    nest = Nest({"drain": 0}, {})
    at = [(16, nest.stop("outer", "abort"))]
    world = play(backend, [(1, log.listen)], wrap=nest, prepare=prepare, at=at)
    assert world.timeline == [(0, START), (16.25, PING), (16.25, bye("outer")), (16.25, END)]
    assert sum(isinstance(event, PingSent) for event in nest.events["inner"]) == 1
    assert nest.ended("inner").pings == 1


def test_a_ping_that_fails_while_the_middle_one_of_three_ends_the_stream(backend, log):
    """The failure reaches the middle one's `Terminator` within its own call to the server."""

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 1.25 if message.get("body") == PING else 0
        world.failing = lambda message: OSError() if message.get("body") == PING else None

    async def stay(scope, receive, send):
        await send(start())  # with the first ping
        try:
            await anyio.sleep(5)
        finally:
            log.add("cancelled")

    nest = Nest({"drain": 0}, {"first_ping": 0})
    at = [(1, nest.stop("outer", "abort"))]
    world = play(
        backend, [(0, stay)], head=None, prepare=prepare, at=at,
        wrap=lambda app, **_: KeepaliveMiddleware(nest(app)),
    )  # fmt: skip
    assert world.timeline == [(0, START)]
    assert log == [(2, "cancelled")]
    assert nest.reasons == (StopReason.ABORTED,) * 2


def test_a_farewell_of_an_inner_one_that_takes_long_is_the_only_one(backend, log):
    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 0.2 if message.get("body") == bye("inner") else 0

    nest = Nest({"drain": 5}, {"drain": 5})
    at = [(20, nest.stop("inner", "abort")), (20.05, nest.stop("outer", "abort"))]
    world = play(backend, [(1, log.listen)], wrap=nest, prepare=prepare, at=at)
    assert world.timeline[-2:] == [(25.2, bye("inner")), (25.2, END)]


@pytest.mark.parametrize("media_type", [b"text/event-stream", NDJSON.encode()])
def test_after_a_rejected_start_the_response_decides_again(backend, log, media_type):
    def prepare(world):
        world.failing = lambda message: ValueError() if message.get("status") == 299 else None

    async def try_again(scope, receive, send):
        with pytest.raises(ValueError):
            await send(start(status=299))
        await send(start([(b"content-type", media_type)]))

    nest = Nest({"interval": 4, "media_types": {NDJSON: Ping.space()}}, {"interval": 6})
    steps = [(0, try_again), (9, END)]
    world = play(backend, steps, head=None, wrap=nest, prepare=prepare)
    pings = [(6, PING)] if media_type != NDJSON.encode() else [(4, b" "), (8, b" ")]
    assert world.timeline == [(0, START), *pings, (9, END)]


def test_a_rejected_start_does_not_undo_an_exclusion(backend):
    def prepare(world):
        world.failing = lambda message: ValueError() if message.get("status") == 299 else None

    async def try_again(scope, receive, send):
        with pytest.raises(ValueError):
            await send(start(status=299))
        await send(start([(b"content-type", NDJSON.encode())]))

    def wrap(app, **_):
        app = KeepaliveMiddleware(KeepaliveMiddleware(app), routes={"/": None})
        return KeepaliveMiddleware(app, 4, media_types={NDJSON: Ping.space()})

    steps = [(0, try_again), (9, END)]
    world = play(backend, steps, head=None, wrap=wrap, prepare=prepare)
    assert world.timeline == [(0, START), (9, END)]


def test_a_late_answer_that_an_outer_one_reports_ends_the_inner_stream(backend):
    nest = Nest({"start_after": 5}, {})
    steps = [(20, start(status=503)), (20, END)]
    world = play(backend, steps, wrap=nest, **EARLY)
    assert world.timeline[-1] == (20, END)
    assert b"event: error" in world.body
    assert nest.reason("outer") is StopReason.COMPLETED


def test_after_a_rejected_early_start_the_inner_one_pings(backend):
    rejected = []

    def prepare(world):
        def reject_once(message):
            if message["type"] == "http.response.start" and not rejected:
                rejected.append(world.now())
                return ValueError()
            return None

        world.failing = reject_once

    nest = Nest({"start_after": 5, "interval": 4}, {"interval": 6})
    steps = [(20, start()), (27, END)]
    world = play(backend, steps, wrap=nest, prepare=prepare, **EARLY)
    assert rejected == [5]
    assert world.timeline == [(20, START), (26, PING), (27, END)]


# Calls within a call


@pytest.mark.parametrize("routes", [None, {"/": None}])
def test_after_an_inner_call_the_outer_one_sends_the_pings_of_its_own_response(
    backend, routes
):
    """As where an app asks another for a response of which it makes its own."""

    def wrap(app, **_):
        async def silent(scope, receive, send):
            await send(start())
            await send(body(X, more=False))

        inner = KeepaliveMiddleware(silent, routes=routes)

        async def ask_first(scope, receive, send):
            async def discard(message):
                pass

            await inner({**scope}, receive, discard)
            await app(scope, receive, send)

        return KeepaliveMiddleware(ask_first)

    world = play(backend, [(20, END)], wrap=wrap)
    assert world.timeline == [(0, START), (15, PING), (20, END)]


def test_a_copy_of_the_scope_of_a_call_that_is_over_nests_in_nothing(backend):
    kept = []

    def wrap(app, **_):
        async def keep(scope, receive, send):
            kept.append(copy.copy(scope))
            await send(start([]))
            await send(body(more=False))

        async def twice(scope, receive, send):
            async def discard(message):
                pass

            await KeepaliveMiddleware(keep)(scope, receive, discard)
            await KeepaliveMiddleware(app)(kept[0], receive, send)

        return twice

    world = play(backend, [(20, END)], wrap=wrap)
    assert world.timeline == [(0, START), (15, PING), (20, END)]


def test_an_inner_call_that_outlives_the_outer_one_leaves_nothing_in_the_scope(backend):
    scope = http()

    def wrap(app, **_):
        async def start_another(inner_scope, receive, send):
            async def later():
                await KeepaliveMiddleware(app)(inner_scope, receive, ignore)

            tasks.start_soon(later)
            await anyio.sleep(1)
            await send(start([]))
            await send(body(more=False))

        async def serve(scope, receive, send):
            nonlocal tasks
            async with anyio.create_task_group() as tasks:
                await KeepaliveMiddleware(start_another)(scope, receive, send)

        async def ignore(message):
            pass

        tasks = None
        return serve

    play(backend, [(5, END)], scope=scope, wrap=wrap)
    assert "asgi-keepalive" not in scope


# A silence that is over before a blocked send is


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_disconnect_the_silence_is_the_apps_own_affair(backend, log, fails):
    def prepare(world):
        leaves_at(30, log)(world)
        world.slow = lambda message: 40 if message.get("body") == X else 0
        world.failing = lambda message: OSError() if fails and message.get("body") else None

    async def clean_up(scope, receive, send):
        try:
            await send(body(X))
        except OSError:
            log.add("failed")
        await anyio.sleep(60)
        log.add("cleaned up")

    play(backend, [(1, clean_up)], prepare=prepare, max_silence=10, interval=5)
    assert log == [(41, "failed"), (101, "cleaned up")][not fails :]


def test_a_send_that_outlives_the_call_resumes_no_silence(backend, log):
    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 40 if message.get("body") == X else 0

    def wrap(app, **options):
        async def serve(scope, receive, send):
            async def outlive(scope, receive, send):
                await send(start())
                tasks.start_soon(send, body(X))
                await anyio.sleep(20)

            async with anyio.create_task_group() as tasks:
                await KeepaliveMiddleware(outlive, **options)(scope, receive, send)

        return serve

    world = play(backend, [], wrap=wrap, prepare=prepare, max_silence=10)
    assert world.ended.reason is StopReason.COMPLETED
