"""What the state machines and reviewers have found: minimal examples."""

import asyncio
import contextvars

import anyio
import pytest
from support.endings import BYE, FAREWELL, X, aborted, shut_down
from support.harness import END, PING, START, body, play, start

from keepalive import (
    AbortController,
    KeepaliveMiddleware,
    PingSent,
    StopReason,
    StreamEnded,
    StreamStarted,
    get_stream,
)

VALUE = contextvars.ContextVar("value")


def test_an_end_comes_as_soon_as_a_start_that_blocked_has_been_sent(backend, log):
    """With its farewell: the stream is then empty, which is an event boundary."""

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 25.25 if message["type"].endswith("start") else 0

    world = aborted(backend, log, [(1, log.listen)], prepare=prepare)  # at 20, drain 5
    assert world.timeline == [(25.25, START), (25.25, BYE), (25.25, END)]


@pytest.mark.parametrize("own", [False, True])
def test_an_abort_after_a_failed_ping_ends_the_stream(backend, log, own):
    """Whether the signal is that of all streams or the stream's own."""
    controller = AbortController()

    def prepare(world):
        log.prepare(world)
        world.failing = lambda message: ValueError() if message.get("body") == PING else None

    world = play(
        backend,
        [(20, X), (60, END)],
        abort=(lambda _: controller.signal) if own else controller.signal,
        at=[(30, controller.abort)],
        drain=5,
        farewell=FAREWELL,
        prepare=prepare,
    )
    assert world.ended.reason is StopReason.WRITE_FAILED
    assert world.timeline == [(0, START), (20, X), (35, BYE), (35, END)]


@pytest.mark.parametrize("leaves_at", [10**6, 22])
def test_a_last_body_that_blocks_is_abandoned_at_the_end_of_the_drain(backend, log, leaves_at):
    """Also if the client has left: somebody waits for the app."""

    def prepare(world):
        log.prepare(world)
        world.leave_at = leaves_at
        last = {"more_body": False}.items()
        world.slow = lambda message: 10**5 if last <= message.items() else 0

    async def be_blocked(scope, receive, send):
        with pytest.raises(OSError, match="has been ended"):
            await send(body(more=False))
        log.add("error")

    shut_down(backend, log, [(21, be_blocked)], prepare=prepare)  # at 20, drain 5
    ((when, what),) = log
    assert what == "error"
    assert 25 <= when <= 26


@pytest.mark.parametrize("error", [RuntimeError, OSError])
def test_a_server_that_reacts_to_an_interrupted_send_changes_nothing(backend, log, error):
    async def be_blocked(scope, receive, send):
        with pytest.raises(OSError, match="has been ended: send_timeout"):
            await send(body(X))
        log.add("error")

    def prepare(world):
        log.prepare(world)
        sent = world.send

        async def send(message):
            if message.get("body") == X:
                try:
                    await anyio.sleep(10**4)
                except BaseException:
                    raise error from None
            await sent(message)

        world.send = send

    world = play(backend, [(20, be_blocked)], prepare=prepare, send_timeout=5)
    assert log == [(25, "error")]
    assert world.ended.reason is StopReason.SEND_TIMEOUT


def test_a_server_that_reacts_to_an_interrupted_receive_changes_nothing(
    backend, log, monkeypatch
):
    monkeypatch.setattr("random.uniform", lambda _, most: most)

    def prepare(world):
        log.prepare(world)
        received = world.receive

        async def receive():
            try:
                return await received()
            except BaseException:
                raise RuntimeError from None

        world.receive = receive

    play(backend, [(1, log.listen)], prepare=prepare, max_lifetime=25)
    assert log == [(25, "http.disconnect")]


def test_an_internal_redirect_is_one_stream(backend):
    """The app calls the middleware again, with a copy of its scope."""

    def wrap(app, **options):
        async def redirect(scope, receive, send):
            if scope["path"] == "/new":
                await app(scope, receive, send)
            else:
                await middleware(dict(scope, path="/new"), receive, send)

        middleware = KeepaliveMiddleware(redirect, **options)
        return middleware

    world = play(backend, [(40, END)], wrap=wrap)
    assert world.timeline == [(0, START), (15, PING), (30, PING), (40, END)]
    assert [type(event) for event in world.events] == [
        StreamStarted,
        PingSent,
        PingSent,
        StreamEnded,
    ]


def test_a_second_last_body_that_is_refused_does_not_reopen_the_stream(backend, log):
    async def end_twice(scope, receive, send):
        await send(body(more=False))
        with pytest.raises(ValueError, match="refused"):
            await send(body(more=False))
        await anyio.sleep(30)
        log.add("done")

    def prepare(world):
        log.prepare(world)
        world.failing = lambda message: (
            ValueError("refused") if world.timeline[-1:] == [(18, END)] else None
        )

    shut_down(backend, log, [(18, end_twice)], prepare=prepare)  # at 20, drain 5
    assert log == [(48, "done")]


def test_a_stream_after_a_refused_start_has_an_end_of_its_own(backend, log, monkeypatch):
    """The first start blocked beyond its lifetime, and an end waited for it."""
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    errors = [ValueError("refused")]

    async def start_twice(scope, receive, send):
        with pytest.raises(ValueError, match="refused"):
            await send(start())
        await send(start())
        await send(body(X))

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 25.2 if errors else 0
        world.failing = lambda message: errors.pop() if errors else None

    steps = [(0, start_twice), (30, END)]
    world = play(backend, steps, head=None, prepare=prepare, max_lifetime=25)
    assert world.timeline == [(25.2, START), (25.2, X), (30, END)]


def test_a_cancellation_does_not_outlive_the_call_of_an_app_that_blocked_the_loop(log):
    """Its last send comes when it is to be cancelled, and it ends without a wait."""

    def wrap(app, **options):
        middleware = KeepaliveMiddleware(app, **options)

        async def outer(scope, receive, send):
            await middleware(scope, receive, send)
            await anyio.sleep(1)
            log.add("not cancelled")

        return outer

    async def block_the_loop(scope, receive, send):
        await log.world.sleep_until(25.1)
        asyncio.get_running_loop()._jumping.now += 2
        with pytest.raises(OSError, match="has been ended"):
            await send(body(X))

    aborted("asyncio", log, [(1, block_the_loop)], wrap=wrap)
    assert [what for _, what in log] == ["not cancelled"]


def test_the_first_ping_is_in_time_after_a_start_that_blocked(backend):
    def prepare(world):
        world.slow = lambda message: 4 if message["type"].endswith("start") else 0

    world = play(backend, [(30, END)], prepare=prepare, first_ping=3)
    assert world.timeline == [(4, START), (7, PING), (22, PING), (30, END)]


def test_one_ping_is_sent_if_the_loop_is_blocked_while_the_first_one_is_prepared(log):
    """The next poll then sends it, and finds that the server has to wait."""

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 0.5 if message.get("body") == PING else 0
        receive = world.receive

        async def block_the_loop():
            if world.asked == 0:
                asyncio.get_running_loop()._jumping.now += 15
            return await receive()

        world.receive = block_the_loop

    world = play("asyncio", [(60, END)], prepare=prepare)
    assert world.timeline == [(0, START), (30.5, PING), (46, PING), (60, END)]


def test_nothing_is_sent_after_a_start_that_blocked_to_who_has_left(backend, log):
    """The app has been notified of that before, and the owner has shut down."""
    made = []

    def prepare(world):
        log.prepare(world)
        world.leave_at = 1
        world.slow = lambda message: 0.25 if message["type"].endswith("start") else 0

    def wrap(app, **options):
        made.append(KeepaliveMiddleware(app, **options))
        return made[0]

    steps = [(0, log.listen), (3, start()), (9, log.listen)]
    at = [(2, lambda: made[0].shutdown())]
    world = play(backend, steps, head=None, wrap=wrap, at=at, drain=0, prepare=prepare)
    assert world.timeline == [(3.25, START)]


def test_a_failed_ping_whose_stream_nobody_reads(backend, caplog):
    """The app's receive was the only reader, and has been cancelled while the ping blocks."""
    VALUE.set("a context that is not empty")

    def prepare(world):
        world.slow = lambda message: 3 if message.get("body") == PING else 0
        world.failing = lambda message: ValueError() if message.get("body") == PING else None

    async def ask(scope, receive, send):
        await receive()
        with anyio.move_on_after(15):
            await receive()

    world = play(backend, [(1, ask), (30, END)], prepare=prepare)
    assert world.ended.reason is StopReason.WRITE_FAILED
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize("around", [0, 1])
def test_the_signal_has_the_reason_that_is_reported(backend, log, around):
    """Some servers report a disconnect before their send of the last body returns."""

    def wrap(app, **options):
        made = KeepaliveMiddleware(app, **options)
        for _ in range(around):
            made = KeepaliveMiddleware(made)

        async def call(scope, receive, send):
            async def send_and_report(message):
                if message.get("more_body") is False:
                    log.world.leave_at = 0
                    log.world._done.set()
                    for _ in range(4):
                        await anyio.lowlevel.checkpoint()
                await send(message)

            await made(scope, receive, send_and_report)

        return call

    async def ask(scope, receive, send):
        signal = get_stream(scope).signal
        signal.add_callback(lambda: log.append(signal.reason))

    steps = [(1, ask), (20, body(more=False))]
    world = play(backend, steps, wrap=wrap, prepare=log.prepare)
    assert world.ended.reason is StopReason.COMPLETED
    assert log == [StopReason.COMPLETED]
