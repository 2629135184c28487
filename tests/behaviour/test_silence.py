"""`max_silence`: a stream ends when its app has not sent a byte for that long."""

import itertools

import anyio
import pytest
from support.endings import BYE, FAREWELL, X, aborted, leaves_at
from support.harness import END, PING, START, body, http, play, start
from support.internals import BOUNDARY_TIMEOUT

from keepalive import KeepaliveMiddleware, Policy, StopReason

LIMIT = {"max_silence": 20, "farewell": FAREWELL}


def pings(*times):
    return [(when, PING) for when in times]


def test_pings_do_not_hide_a_silent_app(backend, log):
    world = play(backend, [(1, X), (1, log.listen)], prepare=log.prepare, **LIMIT)
    assert world.timeline == [(0, START), (1, X), *pings(16), (21, BYE), (21, END)]
    assert log == [(21, "http.disconnect")]
    assert (world.ended.reason, world.ended.duration) == (StopReason.SILENT, 21)


def test_it_counts_from_the_response_start(backend, log):
    world = play(backend, [(1, log.listen)], prepare=log.prepare, **LIMIT)
    assert world.timeline == [(0, START), *pings(15), (20, BYE), (20, END)]


def test_every_byte_of_the_app_resets_it(backend, log):
    steps = [(10, X), (29, X), (48, X), (67, X), (67, log.listen)]
    world = play(backend, steps, prepare=log.prepare, **LIMIT)
    assert world.timeline[-2:] == [(87, BYE), (87, END)]
    assert [when for when, what in world.timeline if what == X] == [10, 29, 48, 67]


@pytest.mark.parametrize("drain", [5, 20])
def test_a_stream_that_ends_at_the_same_time_keeps_its_reason(backend, log, drain):
    world = aborted(
        backend, log, [(0, log.stay)], at=20 - drain, max_silence=20, drain=drain, interval=60
    )
    assert world.timeline == [(0, START), (20, BYE), (20, END)]
    assert world.ended.reason is StopReason.ABORTED


def test_an_app_that_ends_its_stream_at_the_limit_has_completed_it(backend):
    world = play(backend, [(0, X), (20, END)], max_silence=20)
    assert world.timeline[-1] == (20, END)
    assert world.ended.reason is StopReason.COMPLETED


def test_an_app_that_is_never_silent_is_not_ended(backend):
    steps = [*((when, X) for when in range(5, 200, 15)), (200, END)]
    world = play(backend, steps, max_silence=16)
    assert world.ended.reason is StopReason.COMPLETED
    assert world.timeline[-1] == (200, END)


@pytest.mark.parametrize("pacing", ["idle", "steady"])
@pytest.mark.parametrize("first_ping", [None, 0, 3])
def test_pings_do_not_reset_it(backend, log, pacing, first_ping):
    options = {"pacing": pacing, "first_ping": first_ping, "interval": 4} | LIMIT
    world = play(backend, [(1, X), (1, log.listen)], prepare=log.prepare, **options)
    assert world.timeline[-2:] == [(21, BYE), (21, END)]
    assert len(world.pings) >= 4


def test_empty_bodies_do_not_reset_it(backend, log):
    steps = [(1, X), (10, b""), (19, b""), (19, log.listen)]
    world = play(backend, steps, prepare=log.prepare, **LIMIT)
    assert world.timeline[-1] == (21, END)


def test_files_reset_it(backend, log):
    file = {"type": "http.response.zerocopysend", "file": 3, "more_body": True}
    world = play(backend, [(12, file), (12, log.listen)], prepare=log.prepare, **LIMIT)
    assert world.timeline[-1] == (32 + BOUNDARY_TIMEOUT, END)  # no boundary is known


def test_data_at_the_same_time_goes_first(backend, log):
    steps = [(20, X), (40, X), (60, log.listen)]
    world = play(backend, steps, prepare=log.prepare, **LIMIT)
    assert [item for item in world.timeline if item[1] == X] == [(20, X), (40, X)]
    assert world.timeline[-1] == (60, END)


# Sends under way


def slow(log, delays):
    """Return a `prepare` that makes the sends take these times, one after the other."""
    delays = itertools.chain(delays, itertools.repeat(0))

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 0 if message.get("body") in (PING, BYE) else next(delays)

    return prepare


def test_it_pauses_while_a_send_is_in_progress(backend, log):
    steps = [(5, X), (50, log.listen)]
    world = play(backend, steps, prepare=slow(log, [0, 45]), **LIMIT)
    assert (50, X) in world.timeline
    assert world.timeline[-1] == (70, END)


@pytest.mark.parametrize(("takes", "end"), [(3, 23), (16, 36), (100, 120)])
def test_a_send_without_bytes_adds_the_time_that_it_takes(backend, log, takes, end):
    steps = [(5, b""), (5, log.listen)]
    world = play(backend, steps, prepare=slow(log, [0, takes]), **LIMIT)
    assert world.timeline[-1] == (end, END)


def test_a_start_that_blocks_is_a_send_in_progress(backend, log):
    world = play(backend, [(40, log.listen)], prepare=slow(log, [40]), **LIMIT)
    assert world.timeline[0] == (40, START)
    assert world.timeline[-1] == (60, END)


def test_several_sends_at_once_are_one_pause(backend, log):
    async def send_two(scope, receive, send):
        async with anyio.create_task_group() as both:
            both.start_soon(send, body(b"", more=True))
            await anyio.sleep(4)
            both.start_soon(send, body(b"", more=True))
        await log.listen(scope, receive, send)

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 10 if message == body(b"", more=True) else 0

    world = play(backend, [(5, send_two)], prepare=prepare, wrap=unserialised, **LIMIT)
    assert world.timeline[-1] == (20 + 20, END)


def unserialised(app, **options):
    """Wrap an app for a server that completes one send after the other."""
    middleware = KeepaliveMiddleware(app, **options)

    async def serve(scope, receive, send):
        lock = anyio.Lock()

        async def send_in_turn(message):
            async with lock:
                await send(message)

        await middleware(scope, receive, send_in_turn)

    return serve


# With other limits


def test_the_first_limit_wins(backend, log, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    for max_lifetime, end in (10, 10), (30, 20):
        limits = LIMIT | {"max_lifetime": max_lifetime}
        world = play(backend, [(1, log.listen)], prepare=log.prepare, **limits)
        reason = StopReason.MAX_LIFETIME if end == 10 else StopReason.SILENT
        assert (world.timeline[-1], world.ended.reason) == ((end, END), reason)


def test_it_applies_within_a_drain_and_the_first_reason_wins(backend, log):
    world = aborted(backend, log, [(15, X), (15, log.listen)], drain=60, max_silence=20)
    assert world.timeline[-2:] == [(35, BYE), (35, END)]
    assert world.ended.reason is StopReason.ABORTED


def test_it_applies_after_an_abort_without_a_drain(backend, log):
    limits = {"drain": None, "max_silence": 20}
    world = aborted(backend, log, [(15, X), (15, log.listen)], **limits)
    assert (world.timeline[-1], world.ended.reason) == ((35, END), StopReason.ABORTED)


def test_a_client_that_leaves_ends_it(backend, log):
    world = play(backend, [(1, log.stay)], prepare=leaves_at(10, log), raises=None, **LIMIT,
                 wrap=within(30))  # fmt: skip
    assert world.ended.reason is StopReason.DISCONNECTED
    assert log == [(30, "cancelled")]  # not before


def within(seconds):
    def wrap(app, **options):
        async def limited(scope, receive, send):
            with anyio.move_on_after(seconds):
                await KeepaliveMiddleware(app, **options)(scope, receive, send)

        return limited

    return wrap


def test_a_completed_stream_is_not_silent(backend, log):
    async def background(scope, receive, send):
        await anyio.sleep(100)
        log.add("done")

    steps = [(1, X), (2, END), (2, background)]
    world = play(backend, steps, prepare=log.prepare, **LIMIT)
    assert log == [(102, "done")]
    assert world.ended.reason is StopReason.COMPLETED


def test_a_rejected_start_begins_nothing(backend, log):
    def prepare(world):
        log.prepare(world)
        world.failing = lambda message: ValueError() if message.get("status") == 299 else None

    async def try_again(scope, receive, send):
        with pytest.raises(ValueError):
            await send(start(status=299))
        await anyio.sleep(30)
        await send(start())
        await log.listen(scope, receive, send)

    world = play(backend, [(0, try_again)], head=None, prepare=prepare, **LIMIT)
    assert world.timeline == [(30, START), *pings(45), (50, BYE), (50, END)]


def test_a_route_may_switch_it_off_or_on(backend, log):
    for options, end in (
        ({"max_silence": 20, "routes": {"/": {"max_silence": None}}}, (100, END)),
        ({"routes": {"/": {"max_silence": 20}}}, (20, END)),
        ({"max_silence": 20, "routes": {"/": Policy()}}, (100, END)),
    ):
        world = play(backend, [(100, END)], prepare=log.prepare, **options)
        assert world.timeline[-1] == end


# Early starts


@pytest.mark.parametrize("read", [True, False])
def test_it_counts_from_the_middlewares_start_and_reports_a_504(backend, log, read):
    scope = http(headers=[(b"accept", b"text/event-stream")])
    options = {
        "start_after": 5,
        "max_silence": 20,
        "interval": 8,
        "scope": scope,
        "head": None,
    }
    steps = [(0, log.listen)] if read else [(0, log.stay)]
    world = play(backend, steps, prepare=log.prepare, **options)
    assert world.timeline[:-2] == [(5, START), *pings(5, 13, 21)]
    (when, error), end = world.timeline[-2:]
    assert (when, end) == (25, (25, END))
    assert error.startswith(b"event: error\ndata: ")
    assert b'"status": 504' in error
    assert world.ended.reason is StopReason.SILENT
    assert log == [(25, "http.disconnect") if read else (26, "cancelled")]


def test_a_late_answer_resets_it(backend, log):
    scope = http(headers=[(b"accept", b"text/event-stream")])
    options = {"start_after": 5, "scope": scope, "head": None} | LIMIT
    steps = [(24, start()), (24, X), (24, log.listen)]
    world = play(backend, steps, prepare=log.prepare, **options)
    assert world.timeline[-2:] == [(44, BYE), (44, END)]
