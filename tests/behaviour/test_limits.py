"""What a policy ends by itself, with what farewell, and who has nothing to do with it."""

import asyncio
import contextvars
import logging

import anyio
import pytest
from support.endings import BYE, FAREWELL, X, aborted, blocked_send, slow_to_send
from support.harness import END, PING, START, World, body, http, play, run, start
from support.internals import APP_EXIT_TIMEOUT, BOUNDARY_TIMEOUT

from keepalive import KeepaliveMiddleware, Ping, Policy, StopReason, get_stream

# max_lifetime


@pytest.fixture(params=[0, 1], ids=["shortest", "longest"])
def share(request, monkeypatch):
    """Make every random share the smallest possible, or the largest."""
    monkeypatch.setattr("random.uniform", lambda *ends: ends[request.param])
    return request.param


def test_a_stream_ends_when_its_lifetime_is_over(backend, log, share):
    limits = {"max_lifetime": 50, "farewell": FAREWELL}
    world = play(backend, [(1, X), (1, log.listen)], prepare=log.prepare, **limits)
    end = [40, 50][share]
    pings = [(when, PING) for when in (16, 31, 46) if when < end]
    assert world.timeline == [(0, START), (1, X), *pings, (end, BYE), (end, END)]
    assert log == [(end, "http.disconnect")]
    assert (world.ended.reason, world.ended.duration) == (StopReason.MAX_LIFETIME, end)


def test_lifetimes_are_random():
    async def main():
        async def live():
            world = World()
            await app(http(), world.receive, world.send)
            return world.timeline[-1]

        async def silent(scope, receive, send):
            await send(start())
            while (await receive())["type"] != "http.disconnect":
                pass

        app = KeepaliveMiddleware(silent, max_lifetime=10, interval=60)
        return await asyncio.gather(*(live() for _ in range(100)))

    ends = run("asyncio", main)
    assert all(8 <= when <= 10 and what == END for when, what in ends)
    assert len(set(ends)) > 90
    assert min(ends)[0] < 8.5
    assert max(ends)[0] > 9.5


def test_a_lifetime_is_the_streams_and_not_the_requests(backend, log, share):
    def wrap(app, **options):
        async def think_first(scope, receive, send):
            await anyio.sleep(100)
            await app(scope, receive, send)

        return KeepaliveMiddleware(think_first, **options)

    world = play(backend, [(1, log.listen)], prepare=log.prepare, wrap=wrap, max_lifetime=10)
    assert world.timeline == [(100, START), (100 + [8, 10][share], END)]


def test_a_non_listening_app_is_cancelled_when_its_lifetime_is_over(backend, log, share):
    play(backend, [(1, log.stay)], prepare=log.prepare, max_lifetime=10)
    assert log == [([8, 10][share] + APP_EXIT_TIMEOUT, "cancelled")]


def test_an_app_may_end_before_its_lifetime_is_over(backend, log):
    async def background(scope, receive, send):
        await anyio.sleep(100)
        log.add("done")

    steps = [(5, X), (6, END), (6, background)]
    world = play(backend, steps, prepare=log.prepare, max_lifetime=10)
    assert world.timeline == [(0, START), (5, X), (6, END)]
    assert log == [(106, "done")]
    assert world.ended.reason is StopReason.COMPLETED


def test_an_apps_signal_is_aborted_when_its_lifetime_is_over(backend, log, share):
    async def wait(scope, receive, send):
        log.add(await get_stream(scope).signal.wait())

    play(backend, [(1, wait)], prepare=log.prepare, max_lifetime=10)
    assert log == [([8, 10][share], StopReason.MAX_LIFETIME)]


def test_its_callbacks_run_in_the_requests_own_context(backend, log):
    variable, seen = contextvars.ContextVar("request", default="none"), []

    def wrap(app, **options):
        async def outer(scope, receive, send):
            variable.set("mine")
            await KeepaliveMiddleware(app, **options)(scope, receive, send)

        return outer

    async def add_callback(scope, receive, send):
        get_stream(scope).signal.add_callback(lambda: seen.append(variable.get()))
        await log.listen(scope, receive, send)

    options = {"max_lifetime": 10, "observer": lambda _: seen.append(variable.get())}
    play(backend, [(1, add_callback)], wrap=wrap, prepare=log.prepare, **options)
    assert seen == ["mine"] * 3  # a start, the signal, an end


@pytest.mark.parametrize(("drain", "end"), [(None, 50), (10, 30), (100, 50)])
def test_the_earlier_of_drain_and_lifetime_counts(backend, log, monkeypatch, drain, end):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    limits = {"drain": drain, "max_lifetime": 50, "farewell": FAREWELL}
    world = aborted(backend, log, [(1, log.listen)], **limits)
    assert world.timeline == [(0, START), (15, PING), (end, BYE), (end, END)]
    assert world.ended.reason is StopReason.ABORTED  # the first


def test_a_lifetime_that_is_over_while_the_stream_ends_prolongs_nothing(
    backend, log, monkeypatch
):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    limits = {"drain": 5, "max_lifetime": 25.2}
    world = aborted(backend, log, [(24, b"data: half"), (24, log.stay)], **limits)
    assert world.timeline[-1] == (25 + BOUNDARY_TIMEOUT, END)
    assert log == [(25 + APP_EXIT_TIMEOUT, "cancelled")]


def test_the_end_waits_for_a_ping_that_is_being_sent(backend, log, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    prepare = slow_to_send(PING, 0.3, log)
    options = {"prepare": prepare, "max_lifetime": 15.1, "farewell": FAREWELL}
    world = play(backend, [(1, log.listen)], **options)
    assert world.timeline == [(0, START), (15.3, PING), (15.3, BYE), (15.3, END)]
    assert log == [(15.3, "http.disconnect")]


def test_the_end_waits_for_a_ping_and_for_who_waits_for_it(backend, log, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    prepare = slow_to_send(PING, 0.3, log)
    options = {"prepare": prepare, "max_lifetime": 15.1, "farewell": FAREWELL}
    for when in (15.05, 15.15):
        world = play(backend, [(when, X), (when, log.listen)], **options)
        pings = [(15.3, PING), (15.3, X)]
        assert world.timeline == [(0, START), *pings, (15.3, BYE), (15.3, END)]


@pytest.mark.parametrize(
    ("leave_at", "half"), [(25.1, b""), (25.2, b"data: a\n"), (25.3, b"data: slow\n\n")]
)
def test_a_client_that_leaves_while_its_stream_is_being_ended(
    backend, log, monkeypatch, leave_at, half
):
    """The app sees the disconnect and is cancelled, as if its stream had been ended."""
    monkeypatch.setattr("random.uniform", lambda _, most: most)

    def prepare(world):
        log.prepare(world)
        world.leave_at = leave_at
        world.slow = lambda message: 0.4 if message.get("body") == BYE else 0

    options = {"prepare": prepare, "max_lifetime": 25, "farewell": FAREWELL}
    world = play(backend, [(24, half), (24, log.stay)], **options)
    assert (25, END) not in world.timeline
    assert log == [(25 + APP_EXIT_TIMEOUT, "cancelled")]
    assert world.ended.reason is StopReason.MAX_LIFETIME
    assert world.ended.duration == pytest.approx(leave_at)


def test_a_client_comes_back_with_its_last_event_id(backend, log):
    """What it sends then reaches the app as it is."""
    headers = [(b"Last-Event-ID", b"41"), (b"cookie", b"a=b")]
    seen = []

    async def look(scope, receive, send):
        seen.extend(scope["headers"])

    scope = http(headers=list(headers))
    play(backend, [(1, look)], scope=scope, max_lifetime=10, drain=5, send_timeout=5)
    assert seen == headers


# send_timeout


def test_an_app_whose_write_blocks_loses_its_client(backend, log):
    prepare = slow_to_send(X, 10**6, log)
    world = play(backend, [(3, blocked_send(log, X))], prepare=prepare, send_timeout=5)
    assert world.timeline == [(0, START)]
    assert log == [
        (8, "the stream has been ended: send_timeout"),
        (8 + APP_EXIT_TIMEOUT, "cancelled"),
    ]
    assert (world.ended.reason, world.ended.duration) == (StopReason.SEND_TIMEOUT, 8)


def test_a_ping_that_blocks_loses_the_client_too(backend, log):
    prepare = slow_to_send(PING, 10**6, log)
    world = play(backend, [(1, log.listen)], prepare=prepare, send_timeout=5)
    assert world.timeline == [(0, START)]
    assert log == [(20, "http.disconnect")]
    assert (world.ended.reason, world.ended.pings) == (StopReason.SEND_TIMEOUT, 0)


def test_what_waits_for_a_ping_that_blocks_meets_the_error(backend, log):
    prepare = slow_to_send(PING, 10**6, log)
    steps = [(17, blocked_send(log, X))]
    play(backend, steps, prepare=prepare, send_timeout=5)
    assert log == [
        (20, "the stream has been ended: send_timeout"),
        (20 + APP_EXIT_TIMEOUT, "cancelled"),
    ]


def test_writes_that_take_less_have_no_effect(backend, log):
    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 4.9 if message.get("body") in (X, PING) else 0

    world = play(backend, [(1, X), (2, X), (30, END)], prepare=prepare, send_timeout=5)
    assert world.timeline == [(0, START), (5.9, X), (10.8, X), (30.7, PING), (30.7, END)]
    assert world.ended.reason is StopReason.COMPLETED


def test_each_of_two_writes_at_once_has_its_time(backend, log):
    def prepare(world):
        log.prepare(world)

    async def both(scope, receive, send):
        async def write(payload):
            with pytest.raises(OSError, match="send_timeout"):
                await send(body(payload))
            log.add(payload)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, b"data: 1\n\n")
            await anyio.sleep(1)
            tasks.start_soon(write, b"data: 2\n\n")

    async def blocked(message):
        if message.get("body"):
            await anyio.sleep(10**6)

    def wrap(app, **options):
        middleware = KeepaliveMiddleware(app, **options)

        async def patient_server(scope, receive, send):
            await middleware(scope, receive, blocked)

        return patient_server

    play(backend, [(3, both)], prepare=prepare, wrap=wrap, send_timeout=5)
    assert sorted(log) == [(8, b"data: 1\n\n"), (8, b"data: 2\n\n")]


def test_a_response_that_is_not_a_stream_is_not_timed(backend, log):
    prepare = slow_to_send(b"{}", 100, log)
    limits = {"send_timeout": 5, "max_lifetime": 5, "drain": 1}
    head = start([(b"content-type", b"application/json")])
    world = aborted(backend, log, [(1, b"{}"), (1, END)], prepare=prepare, head=head, **limits)
    assert world.timeline == [(0, START), (101, b"{}"), (101, END)]
    assert world.events == []


def test_a_stop_that_came_first_keeps_its_reason(backend, log):
    prepare = slow_to_send(X, 10**6, log)
    steps = [(17, blocked_send(log, X))]
    world = aborted(backend, log, steps, prepare=prepare, drain=None, send_timeout=5,
                    farewell=None)  # fmt: skip
    assert log[0] == (22, "the stream has been ended: aborted")
    assert (world.ended.reason, world.ended.duration) == (StopReason.ABORTED, 22)


# the farewell


def test_a_farewell_has_the_streams_own_line_endings(backend, log):
    world = aborted(backend, log, [(1, b"data: x\r\n\r\n"), (1, log.listen)])
    assert world.timeline[-2:] == [(25, BYE.replace(b"\n", b"\r\n")), (25, END)]


def test_a_farewell_may_be_asked_for_at_the_time(backend, log):
    farewell = Ping.event("stopping", lambda: str(log.world.now()))
    world = aborted(backend, log, [(1, log.listen)], farewell=farewell)
    assert world.timeline[-2] == (25, b"event: stopping\ndata: 25.0\n\n")


def test_a_farewell_that_fails_is_sent_without_its_text(backend, log, caplog):
    farewell = Ping.event("stopping", lambda: 1 / 0)
    world = aborted(backend, log, [(1, log.listen)], farewell=farewell)
    assert world.timeline[-2:] == [(25, BYE), (25, END)]
    assert [record.message for record in caplog.records] == ["a ping's callable failed"]


NDJSON = [(b"content-type", b"application/x-ndjson")]
RECORD = b'{"stopping": true}\n'


@pytest.mark.parametrize(
    ("ping", "farewell", "said"),
    [
        (Ping.space(), Ping.raw(RECORD, at="line"), [RECORD]),
        (Ping.space(), FAREWELL, []),  # it would break the reader
        (Ping.event("p"), FAREWELL, [BYE]),  # a format like `text/event-stream`
        (Ping.space(), None, []),
    ],
)
def test_a_farewell_in_another_format(backend, log, ping, farewell, said):
    media_types = {"application/x-ndjson": ping}
    options = {"media_types": media_types, "farewell": farewell, "head": start(NDJSON)}
    world = aborted(backend, log, [(17, b"{}\n\n"), (17, log.listen)], **options)
    assert world.timeline[-len(said) - 2 :] == [
        (17, b"{}\n\n"), *((25, what) for what in said), (25, END)
    ]  # fmt: skip


def test_another_format_ends_at_its_own_boundary(backend, log):
    options = {"media_types": {"application/x-ndjson": Ping.space()}, "head": start(NDJSON)}
    steps = [(17, b'{"a":'), (25.2, b" 1}\n"), (25.2, log.listen)]
    world = aborted(backend, log, steps, farewell=Ping.raw(RECORD, at="line"), **options)
    assert world.timeline[-2:] == [(25.2, RECORD), (25.2, END)]


# several of its kind, and none


def test_routes_without_bounds_have_plain_streams(backend):
    """They pay nothing for what they don't ask for."""
    kinds = {}

    async def look(scope, receive, send):
        kinds[scope["path"]] = scope["asgi-keepalive"].hooks

    routes = {"/plain": Policy(), "/limited": Policy(drain=1), "/quick": 5.0}
    for path in routes:
        play(backend, [(1, look)], scope=http(path), routes=routes)
    assert kinds["/plain"] is kinds["/quick"] is None
    assert kinds["/limited"] is not None


def test_a_route_has_its_own_drain(backend, log):
    routes = {"/a": Policy(drain=1), "/b": 15.0}
    for path, end in {"/a": 21, "/b": 22, "/c": 22}.items():
        options = {"routes": routes, "drain": 2, "farewell": None}
        world = aborted(backend, log, [(1, log.listen)], scope=http(path), **options)
        assert world.timeline[-1] == (end, END)


def test_head_and_excluded_paths_have_no_limits(backend, log):
    for options in ({"scope": http(method="HEAD")}, {"routes": {"/": None}}):
        world = aborted(backend, log, [(1, X), (100, END)], max_lifetime=9, **options)
        assert world.timeline == [(0, START), (1, X), (100, END)]


def test_two_debug_records_and_no_other(backend, log, caplog):
    caplog.set_level(logging.DEBUG, "keepalive")
    aborted(backend, log, [(1, log.stay)])
    said = [record.message for record in caplog.records if record.name == "keepalive"]
    assert said == ["stream started", "stream ended"]
