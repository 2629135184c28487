"""Streams that send many events in a short time, which take a shorter path than others.

Nothing of that may be seen from outside: each test is one that holds for any stream. The third
body of a burst, and those after it, take the shorter path.
"""

import asyncio
import sys
import types

import anyio
import pytest
from support.harness import (
    END,
    PING,
    START,
    VirtualLoop,
    World,
    body,
    http,
    play,
    run,
    settle,
    start,
)

from keepalive import AbortController, KeepaliveMiddleware, Ping, StopReason

X = b"data: x\n\n"
BURST = 5
ROUTES = pytest.mark.parametrize(
    "limits",
    [{}, {"drain": 30}, {"max_silence": 500}, {"send_timeout": 300}, {"start_after": 30}],
    ids=lambda limits: next(iter(limits), "plain"),
)


def burst(when, *last, count=BURST):
    """Return steps that send events at the same time, and then other bodies."""
    return [*[(when, X)] * count, *((when, each) for each in last)]


def slow_at(number, delay):
    """Return a `prepare` that delays one of the app's bodies, by its number from 1 on."""

    def prepare(world):
        bodies = iter(range(1, 1000))
        world.slow = lambda message: delay if is_app_body(message, bodies, number) else 0

    return prepare


def is_app_body(message, bodies, number):
    is_own = message["type"] == "http.response.body" and message.get("body") != PING
    return is_own and next(bodies) == number


# The timer


@ROUTES
def test_a_burst_resets_the_timer_as_one_event_does(backend, limits):
    world = play(backend, [*burst(10), (50, END)], **limits)
    assert world.timeline == [
        (0, START),
        *[(10, X)] * BURST,
        (25, PING),
        (40, PING),
        (50, END),
    ]
    assert world.ended.bytes_sent == BURST * len(X) + 2 * len(PING)


@ROUTES
def test_a_ping_comes_at_most_a_tenth_of_a_second_early(backend, limits):
    events = [(number / 20, X) for number in range(1, 150)]
    world = play(backend, [*events, (40, END)], **limits)
    (ping, *_) = world.pings
    assert 15 - 0.1 <= ping - events[-1][0] <= 15


def test_a_stream_that_is_always_busy_gets_no_ping(backend):
    events = [(number / 20, X) for number in range(1, 1000)]
    assert play(backend, [*events, (50, END)]).pings == []


@pytest.mark.parametrize("interval", [0.5, 4.9])
def test_with_a_short_interval_the_exact_clock_is_used(backend, interval):
    world = play(backend, [*burst(1), (1.07, X), (10, END)], interval=interval)
    assert next(when for when in world.pings if when > 1.07) == pytest.approx(1.07 + interval)


def test_steady_pings_keep_to_their_grid(backend):
    steps = [*burst(10), *burst(14.99), *burst(31), (50, END)]
    assert play(backend, steps, pacing="steady").pings == [15, 30, 45]


class TickingLoop(VirtualLoop):
    """Records when the coarse clock's timer is set."""

    def __init__(self):
        super().__init__()
        self.ticks = []

    def call_at(self, when, callback, *args, **options):
        if "_tick" in repr(callback):
            self.ticks.append(self.time())
        return super().call_at(when, callback, *args, **options)


def test_busy_streams_share_one_timer():
    async def app(scope, receive, send):
        await send(start())
        for _ in range(100):
            for _ in range(20):
                await send(body(X))
            await anyio.sleep(0.01)

    async def main():
        middleware = KeepaliveMiddleware(app)
        async with anyio.create_task_group() as group:
            for _ in range(50):
                group.start_soon(middleware, http(), World().receive, take)
        return asyncio.get_running_loop().ticks

    async def take(message):
        pass

    with asyncio.Runner(loop_factory=TickingLoop) as runner:
        ticks = runner.run(main())
    assert 5 <= len(ticks) <= 15, "ten a second, for one second"


@pytest.mark.parametrize(("when", "last"), [("idle", 15), ("stopped", 1), ("nested", 15)])
def test_the_clock_stops_when_no_stream_is_busy(when, last):
    """At the latest when the stream is polled; never for one that has stopped."""
    controller = AbortController()

    async def app(scope, receive, send):
        await send(start())
        for _ in range(2):
            await anyio.sleep(1)
            for _ in range(BURST):
                await send(body(X))
            if when == "stopped":
                controller.abort()
                await settle()
        await anyio.sleep(200)

    async def main():
        began = anyio.current_time()
        middleware = KeepaliveMiddleware(app, abort=controller.signal)
        if when == "nested":
            middleware = KeepaliveMiddleware(middleware)
        await middleware(http(), World().receive, World().send)
        return [tick - began for tick in asyncio.get_running_loop().ticks]

    with asyncio.Runner(loop_factory=TickingLoop) as runner:
        ticks = runner.run(main())
    assert ticks[0] == 1
    assert last - 1 <= ticks[-1] <= last + 0.1


# The position


@ROUTES
def test_a_ping_waits_for_the_end_of_an_event_that_a_burst_has_begun(backend, limits):
    steps = [*burst(1, b"data: half"), (20, b" whole"), (21, b"\n\n"), (40, END)]
    assert play(backend, steps, **limits).pings == [21, 36]


@pytest.mark.parametrize("line", [b"\r\n", b"\n"])
def test_line_endings_of_a_burst_are_followed(backend, line):
    event = b"data: x" + 2 * line
    world = play(backend, [*[(1, event)] * 4, (1, X), (1, event), (1, X), (20, END)])
    assert (16, PING.replace(b"\n", line)) in world.timeline


@pytest.mark.parametrize("piece", [b"\n", b"a\n", b"data: ", b"\r", b"data: x\r"])
def test_short_and_split_bodies_in_a_burst(backend, piece):
    steps = burst(1, piece, X, piece, b"\n\n", b"data: whole\n\n")
    world = play(backend, [*steps, (20, END)], ping=Ping.event())
    sent = b"".join(each for when, each in world.timeline if when == 1)
    assert sent == X * BURST + piece + X + piece + b"\n\ndata: whole\n\n"
    assert [round(when) for when in (each[0] for each in world.timeline)].count(16) == 1


@pytest.mark.parametrize("data", [memoryview(X), bytearray(X)])
def test_bodies_of_another_type_in_a_burst(backend, data):
    world = play(backend, [*burst(1), *[(1, body(data))] * 3, (20, END)])
    assert world.pings == [16]
    assert world.ended.bytes_sent == (BURST + 3) * len(X) + len(PING)


def test_a_body_without_more_body_completes_a_burst(backend):
    last = {"type": "http.response.body", "body": X}
    world = play(backend, [*burst(1), (1, last), (100, anyio.lowlevel.checkpoint)][:-1])
    assert world.timeline == [(0, START), *[(1, X)] * (BURST + 1), (1, END)]
    assert world.ended.reason is StopReason.COMPLETED


# Sends that block or fail


@ROUTES
def test_a_ping_is_not_sent_while_a_body_of_a_burst_is(backend, limits):
    world = play(backend, [*burst(1), (60, END)], prepare=slow_at(4, 20), **limits)
    assert world.timeline[1:6] == [*[(1, X)] * 3, (21, X), (21, X)]
    assert world.pings == [36, 51]


def test_a_steady_ping_is_sent_right_after_it(backend):
    world = play(backend, [*burst(1), (40, END)], prepare=slow_at(4, 20), pacing="steady")
    assert world.timeline[1:7] == [*[(1, X)] * 3, (21, X), (21, PING), (21, X)]


@ROUTES
@pytest.mark.parametrize("error", [OSError, RuntimeError])
@pytest.mark.parametrize("delay", [0, 3])
def test_a_body_that_fails(backend, limits, error, delay):
    def prepare(world):
        slow_at(4, delay)(world)
        bodies = iter(range(1, 100))
        world.failing = lambda message: error() if is_app_body(message, bodies, 4) else None

    world = play(backend, [*burst(1), (40, END)], prepare=prepare, raises=error, **limits)
    assert world.timeline == [(0, START), *[(1, X)] * 3]
    expected = StopReason.DISCONNECTED if error is OSError else StopReason.APP_FAILED
    assert (world.ended.reason, type(world.ended.error)) == (expected, error)
    assert world.ended.bytes_sent == 3 * len(X)


@ROUTES
def test_after_a_failed_body_no_boundary_is_known(backend, limits):
    async def send_and_go_on(scope, receive, send):
        with pytest.raises(RuntimeError):
            await send(body(X))

    def prepare(world):
        bodies = iter(range(1, 100))
        world.failing = lambda each: RuntimeError() if is_app_body(each, bodies, 4) else None

    steps = [*burst(1, count=3), (1, send_and_go_on), (30, X), (50, END)]
    assert play(backend, steps, prepare=prepare, **limits).pings == [30, 45]


@ROUTES
def test_an_app_may_give_up_a_body_that_blocks(backend, limits):
    async def give_up(scope, receive, send):
        with anyio.move_on_after(3) as waiting:
            await send(body(X))
        assert waiting.cancelled_caught

    steps = [*burst(1, count=3), (1, give_up), (30, X), (50, END)]
    world = play(backend, steps, prepare=slow_at(4, 10), **limits)
    assert world.timeline[4:] == [(30, X), (30, PING), (45, PING), (50, END)]


@ROUTES
def test_bodies_of_two_tasks_at_once(backend, limits):
    """Each is passed on as it comes; the position is that of the order in which they came."""
    taken = []

    async def app(scope, receive, send):
        await send(start())
        for _ in range(3):
            await send(body(X))
        async with anyio.create_task_group() as group:
            group.start_soon(send, body(b"data: slow"))
            await settle()
            group.start_soon(send, body(b" and the rest\n\n"))
        await anyio.sleep(20)

    async def take(message):
        if message.get("body") == b"data: slow":
            await anyio.sleep(5)
        taken.append((round(anyio.current_time() - began[0]), message.get("body")))

    async def main():
        began.append(anyio.current_time())
        await KeepaliveMiddleware(app, **limits)(http(), World().receive, take)

    began = []
    run(backend, main)
    bodies = [each for each in taken if each[1] not in (None, X)]
    assert bodies == [(0, b" and the rest\n\n"), (5, b"data: slow"), (20, PING)]


# Ends


@pytest.mark.parametrize("reason", ["drain", "send_timeout", "max_lifetime", "max_silence"])
def test_a_body_that_blocks_is_interrupted_by_an_end(backend, monkeypatch, reason):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    seen = []

    async def blocked(scope, receive, send):
        try:
            await send(body(X))
        except OSError as error:
            seen.append((anyio.current_time() - began[0], str(error)))
            raise

    async def main_app(scope, receive, send):
        began.append(anyio.current_time())
        await send(start())
        for _ in range(4):
            await send(body(X))
        await blocked(scope, receive, send)

    def wrap(_, **options):
        return KeepaliveMiddleware(main_app, **options)

    began = []
    options = {reason: 10}
    at = []
    if reason == "drain":
        controller = AbortController()
        options["abort"], at = controller.signal, [(2, controller.abort)]
    world = play(backend, [], at=at, prepare=slow_at(5, 1000), wrap=wrap, **options)
    ends = {"drain": 12.5, "send_timeout": 10, "max_lifetime": 10.5, "max_silence": None}
    if reason == "max_silence":  # a send in progress is not silence
        assert seen == []
        assert world.ended.duration == 1000
    else:
        ((when, text),) = seen
        assert when == pytest.approx(ends[reason])
        assert text.startswith("the stream has been ended")


def test_an_abort_after_a_burst_stops_the_pings(backend):
    controller = AbortController()
    steps = [*burst(1), *burst(8), (60, END)]
    world = play(backend, steps, at=[(5, controller.abort)], abort=controller.signal)
    assert world.pings == []
    assert world.ended.reason is StopReason.ABORTED


def test_max_silence_counts_from_the_last_body_of_a_burst(backend, log):
    steps = [*burst(1), *burst(8), (8, log.listen)]
    world = play(backend, steps, prepare=log.prepare, max_silence=20)
    assert world.timeline[-1] == (28, END)
    assert world.ended.reason is StopReason.SILENT


def test_a_busy_app_that_is_being_drained_ends_at_a_boundary(backend):
    controller = AbortController()
    options = {"at": [(5, controller.abort)], "abort": controller.signal, "drain": 3}
    events = [(number / 20, b"data: x\n" if number % 2 else b"\n") for number in range(1, 999)]
    world = play(backend, events, **options)
    assert world.body.endswith(b"data: x\n\n")
    assert world.timeline[-1][1] == END
    assert world.timeline[-1][0] == pytest.approx(8, abs=0.1)


def test_pings_of_an_inner_middleware_are_not_data_of_a_busy_stream(backend, log):
    """Though the outer middleware has no reason of its own to look at the stream."""

    def wrap(app, observer, **options):
        inner = KeepaliveMiddleware(app, **options)
        return KeepaliveMiddleware(inner, 100, max_silence=40, observer=observer)

    steps = [*burst(20), (20, log.listen)]
    world = play(backend, steps, prepare=log.prepare, wrap=wrap)
    assert world.pings == [15, 35, 50]
    assert world.timeline[-1] == (60, END)
    assert (world.ended.reason, world.ended.pings) == (StopReason.SILENT, 0)


# Servers


class Awaitable:
    """What a server's `send` may return instead of a coroutine."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __await__(self):
        if self.seconds:
            yield from anyio.sleep(self.seconds).__await__()


@types.coroutine
def generator(seconds):
    if seconds:
        yield from anyio.sleep(seconds).__await__()


@ROUTES
@pytest.mark.parametrize("kind", [Awaitable, generator, anyio.sleep])
@pytest.mark.parametrize("seconds", [0, 2])
def test_a_send_may_return_any_awaitable(backend, limits, kind, seconds):
    sent = []

    def send(message):
        sent.append((anyio.current_time() - began[0], message.get("body")))
        return kind(seconds if message.get("body") else 0)

    async def app(scope, receive, send):
        await send(start())
        for _ in range(4):
            await send(body(X))
        await anyio.sleep(20)

    async def main():
        began.append(anyio.current_time())
        await KeepaliveMiddleware(app, **limits)(http(), World().receive, send)

    began = []
    run(backend, main)
    assert [round(when) for when, what in sent if what == X] == [n * seconds for n in range(4)]
    assert [round(when) for when, what in sent if what == PING] == [4 * seconds + 15]


class NextAlone:
    """As granian's awaitables: it has neither `send` nor `throw` nor `close`."""

    def __init__(self, seconds):
        self.steps = anyio.sleep(seconds).__await__()

    def __await__(self):
        return self

    def __next__(self):
        return next(self.steps)


@ROUTES
@pytest.mark.parametrize("what", [X, PING])
def test_an_awaitable_needs_no_more_than_next(limits, what):
    """On asyncio, since trio sends values. The first ping takes another way."""
    sent = []

    def send(message):
        sent.append((anyio.current_time() - began[0], message.get("body")))
        return NextAlone(2 if message.get("body") == what else 0)

    async def app(scope, receive, send):
        await send(start())
        await send(body(X))
        await anyio.sleep(60)

    async def main():
        began.append(anyio.current_time())
        await KeepaliveMiddleware(app, **limits)(http(), World().receive, send)

    began = []
    run("asyncio", main)
    first = 17 if what == X else 15
    assert [round(when) for when, each in sent if each == PING][:2] == [first, 32]


def test_an_app_may_give_up_an_awaitable_that_cannot_be_told(monkeypatch):
    async def app(scope, receive, send):
        await send(start())
        with anyio.move_on_after(3) as waiting:
            await send(body(X))
        return waiting.cancelled_caught

    async def main():
        def send(message):
            return NextAlone(20 if message.get("body") == X else 0)

        await KeepaliveMiddleware(app, drain=5)(http(), World().receive, send)
        return round(anyio.current_time() - began[0])

    async def timed():
        began.append(anyio.current_time())
        return await main()

    began = []
    assert run("asyncio", timed) == 3


# What a reviewer has found


def test_a_pause_after_a_burst_is_not_silence(backend, log):
    def prepare(world):
        log.prepare(world)
        world.slow = lambda each: 20 if each.get("body") == b"" and each["more_body"] else 0

    async def empty(scope, receive, send):
        await send(body(b""))

    events = [(number / 20, X) for number in range(1, 200)]
    steps = [*events, (9.95, empty), (9.95, log.listen)]
    world = play(backend, steps, prepare=prepare, max_silence=30, interval=5)
    assert world.timeline[-1][0] == pytest.approx(59.95, abs=0.1)


@pytest.mark.parametrize("split", [(b"data: b\r", b"\ndata: c\n\n"), (b"data: b\r\n", X)])
def test_a_line_ending_that_is_split_between_bodies_of_a_burst(backend, split):
    steps = [(1, X), (1.01, X), (1.02, split[0]), (1.03, split[1]), (1.04, X), (40, END)]
    world = play(backend, steps)
    assert PING.replace(b"\n", b"\r\n") in [what for _, what in world.timeline]


def test_after_the_event_loop_was_blocked_a_burst_is_not_dated_too_early(log):
    """The clock stood still while the loop was blocked; a timer sets it right."""

    async def block(scope, receive, send):
        asyncio.get_running_loop()._jumping.now += 4.0  # as `time.sleep` does

    steps = [*burst(1), (1, block), (5, X), (5, log.listen)]
    world = play("asyncio", steps, prepare=log.prepare, interval=5, max_silence=5)
    assert world.timeline[-1][0] == pytest.approx(10, abs=0.1)
    assert world.pings == []


def test_no_body_is_kept_after_the_next_poll(backend):
    large = b"data: " + bytes(60_000)

    async def look(scope, receive, send):
        assert len(scope["asgi-keepalive"].live._tail) < 10

    play(backend, [*burst(1), (1, large), (15.1, look), (20, END)])


def test_a_large_body_is_not_kept_until_the_next_poll(backend):
    large = b"data: " + bytes(100_000) + b"\n\n"

    async def look(scope, receive, send):
        assert len(scope["asgi-keepalive"].live._tail) < 10

    play(backend, [*burst(1), (1, large), (1, look), (2, END)])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")
def test_a_send_that_begins_within_a_ping_goes_on_after_it():
    """As one does that a server's `send` starts in an eager task."""
    sends, tasks, taken = [], [], []

    async def app(scope, receive, send):
        sends.append(send)
        await send(start())
        await anyio.sleep(40)

    async def take(message):
        taken.append(message.get("body"))
        if taken.count(PING) == 2 and not tasks:  # the first one is sent in another way
            tasks.append(asyncio.create_task(sends[0](body(X))))

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        await KeepaliveMiddleware(app)(http(), World().receive, take)

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())
    assert taken[1:] == [PING, PING, X]
    assert tasks[0].done()
