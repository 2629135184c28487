"""Nested middlewares: the innermost one sends the pings, the others keep everything else."""

import anyio
import pytest
from support.endings import X, leaves_at
from support.harness import END, PING, START, play, start
from support.internals import APP_EXIT_TIMEOUT
from support.nesting import EARLY, HOW, NDJSON, Nest, bye
from support.sent_pings import sent_pings

from keepalive import (
    AbortController,
    KeepaliveMiddleware,
    Ping,
    PingSent,
    StopReason,
    StreamEnded,
    StreamStarted,
    get_stream,
)


@pytest.fixture(autouse=True)
def _longest(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["outer", "inner"])
def test_each_stops_the_pings(backend, name, how):
    nest = Nest()
    world = play(backend, [(60, END)], wrap=nest, at=[(20, nest.stop(name, how))])
    assert world.timeline == [(0, START), (15, PING), (60, END)]
    outer = HOW[how] if name == "outer" else StopReason.COMPLETED
    assert nest.reasons == (outer, HOW[how])


@pytest.mark.parametrize("how", HOW)
def test_a_stop_of_an_outer_one_aborts_the_apps_signal(backend, log, how):
    async def wait(scope, receive, send):
        log.add(await get_stream(scope).signal.wait())

    nest = Nest()
    at = [(20, nest.stop("outer", how))]
    play(backend, [(1, wait), (60, END)], wrap=nest, at=at, prepare=log.prepare)
    assert log == [(20, HOW[how])]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("drains", [(5, None), (5, 9), (9, 5), (None, 5)])
def test_each_has_its_own_drain_and_the_first_end_wins(backend, log, how, drains):
    outer, inner = drains
    nest = Nest({"drain": outer} if outer else {}, {"drain": inner} if inner else {})
    world = play(
        backend, [(1, X), (1, log.listen)], wrap=nest, prepare=log.prepare,
        at=[(20, nest.stop("outer", how))],
    )  # fmt: skip
    name = "outer" if inner is None or (outer and outer < inner) else "inner"
    end = 20 + min(filter(None, drains))
    assert world.timeline[-2:] == [(end, bye(name)), (end, END)]
    assert world.body.count(b"event: inner") + world.body.count(b"event: outer") == 1
    assert nest.reasons == (HOW[how], HOW[how])
    assert log == [(end, "http.disconnect")]


@pytest.mark.parametrize("drain", [0, 5])
def test_equal_drains_end_with_one_farewell(backend, log, drain):
    nest = Nest({"drain": drain}, {"drain": drain})
    world = play(
        backend, [(1, log.listen)], wrap=nest, prepare=log.prepare,
        at=[(20, nest.stop("outer", "shutdown"))],
    )  # fmt: skip
    assert [when for when, what in world.timeline if what == END] == [20 + drain]
    assert world.body.count(b"event: inner") + world.body.count(b"event: outer") == 1


@pytest.mark.parametrize("how", HOW)
def test_a_drain_of_an_inner_one_completes_the_outer_one(backend, log, how):
    nest = Nest({"drain": 60}, {"drain": 5})
    at = [(20, nest.stop("inner", how))]
    world = play(backend, [(1, log.listen)], wrap=nest, prepare=log.prepare, at=at)
    assert world.timeline[-2:] == [(25, bye("inner")), (25, END)]
    assert nest.reasons == (StopReason.COMPLETED, HOW[how])


@pytest.mark.parametrize(
    ("limit", "reason"),
    [
        ({"max_lifetime": 20}, StopReason.MAX_LIFETIME),
        ({"max_silence": 20}, StopReason.SILENT),
    ],
)
@pytest.mark.parametrize("name", ["outer", "inner"])
def test_each_has_its_own_limits(backend, log, name, limit, reason):
    nest = Nest(**{name: limit})
    world = play(backend, [(1, log.listen)], wrap=nest, prepare=log.prepare)
    assert world.timeline == [(0, START), (15, PING), (20, bye(name)), (20, END)]
    other = reason if name == "outer" else StopReason.COMPLETED
    assert nest.reasons == (other, reason)
    assert log == [(20, "http.disconnect")]


def test_pings_of_an_inner_one_do_not_reset_an_outer_silence(backend, log):
    for ping in None, Ping.comment(), Ping.event("x", lambda: "tick"), Ping.blank_line():
        nest = Nest({"max_silence": 20}, {"interval": 3, "ping": ping})
        world = play(backend, [(12, X), (12, log.listen)], wrap=nest, prepare=log.prepare)
        assert world.timeline[-2:] == [(32, bye("outer")), (32, END)]
        assert len(world.timeline) >= 10


def test_bytes_of_the_app_that_equal_a_ping_reset_it(backend, log):
    nest = Nest({"max_silence": 20}, {"interval": 6})
    steps = [(7, PING), (8, PING), (8, log.listen)]
    world = play(backend, steps, wrap=nest, prepare=log.prepare)
    assert world.timeline[-1] == (28, END)


def test_spaces_of_an_inner_one_do_not_hide_a_boundary(backend, log):
    media_types = {NDJSON: Ping.space()}
    head = start([(b"content-type", NDJSON.encode())])
    farewell = Ping.raw(b'{"bye": true}\n', at="line")
    nest = Nest(
        {"max_lifetime": 20, "farewell": farewell, "media_types": media_types},
        {"interval": 3, "media_types": media_types},
    )
    steps = [(1, b"{}\n"), (1, log.listen)]
    world = play(backend, steps, head=head, wrap=nest, prepare=log.prepare)
    assert world.timeline[-2:] == [(20, farewell.payload), (20, END)]


@pytest.mark.parametrize("name", ["outer", "inner"])
def test_each_has_its_own_send_timeout(backend, log, name):
    nest = Nest(**{name: {"send_timeout": 4}})

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 10**6 if message.get("body") == X else 0

    async def send_blocked(scope, receive, send):
        with pytest.raises(OSError):
            await send({"type": "http.response.body", "body": X, "more_body": True})
        log.add("failed")

    play(backend, [(10, send_blocked)], wrap=nest, prepare=prepare)
    assert log == [(14, "failed")]
    assert nest.reason("inner") is StopReason.SEND_TIMEOUT


@pytest.mark.parametrize("inner", [{}, {"drain": 5}, {"max_silence": 100}])
def test_an_app_that_never_listens_gets_an_error_from_an_outer_end(backend, log, inner):
    """What the inner middleware reads ahead is not the app listening."""

    async def send_all_the_time(scope, receive, send):
        try:
            while True:
                await send({"type": "http.response.body", "body": X, "more_body": True})
                await anyio.sleep(1)
        except OSError:
            log.add("failed")

    nest = Nest({"max_lifetime": 20.5}, inner | {"interval": 0.3})
    play(backend, [(1, send_all_the_time)], wrap=nest, prepare=log.prepare)
    assert log == [(21, "failed")]


@pytest.mark.parametrize("inner", [{}, {"drain": 5}])
def test_an_app_that_listens_gets_no_error_from_an_outer_end(backend, log, inner):
    async def listen_and_send(scope, receive, send):
        async def send_all_the_time():
            while True:
                await send({"type": "http.response.body", "body": X, "more_body": True})
                await anyio.sleep(1)

        async with anyio.create_task_group() as both:
            both.start_soon(send_all_the_time)
            await log.listen(scope, receive, send)
            await anyio.sleep(0.3)
            both.cancel_scope.cancel()

    nest = Nest({"max_lifetime": 20.5}, inner)
    play(backend, [(1, listen_and_send)], wrap=nest, prepare=log.prepare)
    assert log == [(20.5, "http.disconnect")]


def test_a_silent_app_that_was_notified_is_left_alone(backend, log):
    async def work_after_the_disconnect(scope, receive, send):
        await log.listen(scope, receive, send)
        await anyio.sleep(30)
        log.add("done")

    nest = Nest({"max_lifetime": 20}, {})
    play(backend, [(1, work_after_the_disconnect)], wrap=nest, prepare=log.prepare)
    assert log == [(20, "http.disconnect"), (50, "done")]


def test_an_app_that_does_not_react_is_cancelled_by_the_outer_one(backend, log):
    nest = Nest({"max_lifetime": 20}, {})
    play(backend, [(1, log.stay)], wrap=nest, prepare=log.prepare)
    assert log == [(20 + APP_EXIT_TIMEOUT, "cancelled")]


def test_a_client_that_leaves_is_noticed_by_both(backend, log):
    nest = Nest({"drain": 5}, {})
    play(backend, [(1, log.listen)], wrap=nest, prepare=leaves_at(22, log))
    assert log == [(22, "http.disconnect")]
    assert nest.reasons == (StopReason.DISCONNECTED,) * 2


def test_both_observe_and_only_one_pings(backend):
    nest = Nest({"interval": 4, "pacing": "steady", "first_ping": 0}, {"interval": 10})
    world = play(backend, [(25, END)], wrap=nest)
    assert world.pings == [10, 20]
    kinds = {name: [type(event) for event in found] for name, found in nest.events.items()}
    assert kinds["inner"] == [StreamStarted, PingSent, PingSent, StreamEnded]
    assert kinds["outer"] == [StreamStarted, StreamEnded]
    assert [events[-1].pings for events in nest.events.values()] == [0, 2]


def test_an_inner_none_leaves_everything_but_the_pings(backend, log):
    nest = Nest({"max_lifetime": 40, "interval": 3}, {"routes": {"/": None}})
    world = play(backend, [(1, log.listen)], wrap=nest, prepare=log.prepare)
    assert world.timeline == [(0, START), (40, bye("outer")), (40, END)]
    assert (nest.reason("outer"), nest.events["inner"]) == (StopReason.MAX_LIFETIME, [])


def test_an_outer_none_removes_that_middleware(backend):
    nest = Nest({"max_lifetime": 40, "routes": {"/": None, "/x": 3}}, {})
    world = play(backend, [(50, END)], wrap=nest)
    assert world.timeline == [(0, START), *[(t, PING) for t in (15, 30, 45)], (50, END)]
    assert nest.events["outer"] == []


def test_an_inner_one_of_other_media_types_leaves_the_pings_to_the_outer_one(backend, log):
    head = start([(b"content-type", NDJSON.encode())])
    outer = {
        "interval": 4,
        "media_types": {NDJSON: Ping.space()},
        "drain": 5,
        "farewell": None,
    }
    nest = Nest(outer | {"farewell": None}, {"max_lifetime": 2})
    at = [(10, nest.stop("outer", "abort"))]
    steps = [(1, log.listen)]
    world = play(backend, steps, head=head, wrap=nest, prepare=log.prepare, at=at)
    assert world.timeline == [(0, START), (4, b" "), (8, b" "), (15, END)]


def test_each_adds_the_headers_that_are_missing(backend):
    own = [(b"content-type", b"text/event-stream"), (b"x-accel-buffering", b"yes")]
    for nest in Nest({}, {"anti_buffering": False}), Nest({"anti_buffering": False}, {}):
        world = play(backend, [(1, END)], head=start(own), wrap=nest)
        assert world.headers == [*own, (b"cache-control", b"no-cache, no-transform")]


# get_stream


@pytest.mark.parametrize("drain", [None, 5])
def test_get_stream_aborts_the_stream_that_is_kept_alive_and_none_outside(backend, log, drain):
    async def abort(scope, receive, send):
        get_stream(scope).abort()
        await log.listen(scope, receive, send)

    nest = Nest({"drain": 3}, {"drain": drain} if drain else {})
    world = play(backend, [(20, abort), (60, END)], wrap=nest, prepare=leaves_at(50, log))
    end = 25 if drain else 50
    assert log == [(end, "http.disconnect")]
    assert [when for when, what in world.timeline if what == PING] == [15]
    assert nest.reason("inner") is StopReason.ABORTED
    outer = StopReason.COMPLETED if drain else StopReason.DISCONNECTED
    assert nest.reason("outer") is outer


def test_get_stream_between_the_two_finds_the_inner_stream(backend):
    found = []

    def wrap(app, **options):
        inner = KeepaliveMiddleware(app, **options)

        async def between(scope, receive, send):
            async def note(message):
                await send(message)
                found.append(sent_pings(get_stream(scope)))

            await inner(dict(scope), receive, note)

        return KeepaliveMiddleware(between)

    play(backend, [(20, X), (40, X), (41, END)], wrap=wrap)
    assert found[-1] == 2


# Early starts


@pytest.mark.parametrize(
    ("outer", "inner", "when"), [(20, 30, 20), (30, 20, 20), (20, 20, 20)]
)
def test_one_of_them_starts_early(backend, outer, inner, when):
    nest = Nest({"start_after": outer}, {"start_after": inner})
    world = play(backend, [(50, start()), (51, X), (52, END)], wrap=nest, **EARLY)
    pings = [(t, PING) for t in (when, when + 15)]
    assert world.timeline == [(when, START), *pings, (50, PING), (51, X), (52, END)]
    starts = {name: events[-1].started_by for name, events in nest.events.items()}
    assert starts["inner"] != "middleware" or inner <= outer
    assert starts["outer"] != "middleware" or outer <= inner


def test_an_outer_early_start_keeps_the_pings_and_the_inner_limits_apply(backend, log):
    nest = Nest({"start_after": 10, "interval": 20}, {"interval": 3, "max_lifetime": 45})
    steps = [(20, start()), (20, log.listen)]
    world = play(backend, steps, wrap=nest, prepare=log.prepare, **EARLY)
    pings = [(t, PING) for t in (10, 30, 50)]
    assert world.timeline == [(10, START), *pings, (65, bye("inner")), (65, END)]
    assert [events[-1].pings for events in nest.events.values()] == [3, 0]


def test_an_inner_none_prevents_an_outer_early_start(backend):
    nest = Nest({"start_after": 10}, {"routes": {"/": None}})
    world = play(backend, [(30, start()), (60, END)], wrap=nest, **EARLY)
    assert world.timeline == [(30, START), (60, END)]


# Three


@pytest.mark.parametrize("stopping", [0, 1, 2])
def test_a_stop_travels_through_all_that_are_within(backend, log, stopping):
    signals = [AbortController() for _ in range(3)]
    events = [[], [], []]

    def wrap(app, **_):
        for number in (2, 1, 0):  # the outermost one is the first
            app = KeepaliveMiddleware(
                app, abort=signals[number].signal, observer=events[number].append
            )
        return app

    at = [(20, signals[stopping].abort)]
    world = play(backend, [(60, END)], wrap=wrap, at=at)
    assert world.pings == [15]
    reasons = [found[-1].reason for found in events]
    completed = [StopReason.COMPLETED] * stopping
    assert reasons == [*completed, *[StopReason.ABORTED] * (3 - stopping)]


def test_a_ping_that_is_interrupted_by_the_end_of_an_outer_middleware_is_not_counted(backend):
    inner_events, controller = [], AbortController()

    def wrap(app, **options):
        inner = KeepaliveMiddleware(app, observer=inner_events.append)
        return KeepaliveMiddleware(inner, **options)

    async def listen(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass

    def prepare(world):
        world.slow = lambda message: 100 if message.get("body") == PING else 0

    options = {"abort": controller.signal, "drain": 2, "at": [(16, controller.abort)]}
    world = play(backend, [(1, X), (1, listen)], prepare=prepare, wrap=wrap, **options)
    assert world.pings == []
    (ended,) = [event for event in inner_events if isinstance(event, StreamEnded)]
    assert ended.pings == 0
    assert not any(isinstance(event, PingSent) for event in inner_events)
