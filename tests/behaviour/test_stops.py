"""What stops the pings, and what is reported of it."""

import asyncio
import contextvars
import gc
import logging
import signal
import threading

import anyio
import pytest
from support.harness import END, PING, START, body, http, play, run, start
from support.sent_pings import sent_pings

from keepalive import (
    AbortController,
    KeepaliveMiddleware,
    Ping,
    PingSent,
    Policy,
    StopReason,
    StreamEnded,
    StreamStarted,
    get_stream,
)

X = b"data: x\n\n"


def test_completed(backend):
    world = play(backend, [(20, X), (20, END)], scope=http("/p"))
    assert world.events == [
        StreamStarted(path="/p", media_type="text/event-stream", policy=Policy(),
                      ping=Ping.event()),
        PingSent(path="/p", count=1, payload=PING),
        StreamEnded(path="/p", reason=StopReason.COMPLETED, pings=1, duration=20,
                    bytes_sent=len(PING + X)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("routes", "route"),
    [
        (None, "*"),
        ({"/chat/{thread}": 5.0, "/{rest:path}": {}}, "/chat/{thread}"),
        ({"/other": 5.0, "/{rest:path}": {}}, "/{rest:path}"),
        ({"/other": 5.0}, "*"),
        (lambda _: 5.0, "*"),
    ],
)
def test_events_name_the_route(backend, routes, route):
    world = play(backend, [(20, X), (20, END)], scope=http("/chat/7"), routes=routes)
    assert {event.route for event in world.events} == {route}
    assert {event.path for event in world.events} == {"/chat/7"}
    assert {type(event) for event in world.events} == {StreamStarted, PingSent, StreamEnded}


def test_an_app_that_returns_without_an_end_has_completed(backend):
    world = play(backend, [(20, X)])
    assert (world.ended.reason, world.ended.duration) == (StopReason.COMPLETED, 20)


def test_background_work_comes_after_the_end(backend):
    async def background(scope, receive, send):
        await anyio.sleep(100)

    world = play(backend, [(20, END), (20, background)])
    assert (world.ended.duration, world.pings) == (20, [15])


# the abort signal


def test_an_abort_stops_the_pings_and_nothing_else(backend):
    controller = AbortController()
    world = play(
        backend, [(40, X), (50, END)], abort=controller.signal, at=[(20, controller.abort)]
    )
    assert world.timeline == [(0, START), (15, PING), (40, X), (50, END)]
    assert (world.ended.reason, world.ended.duration) == (StopReason.ABORTED, 50)


def test_an_abort_at_the_very_time_of_a_ping(backend):
    controller = AbortController()
    options = {"abort": controller.signal, "at": [(15, controller.abort)]}
    world = play(backend, [(16, END)], **options)
    assert world.ended.reason is StopReason.ABORTED
    assert len(world.pings) <= 1


def test_no_ping_is_begun_once_abort_has_returned(backend):
    controller = AbortController()

    async def abort(scope, receive, send):
        controller.abort()
        await send(body(b"\n"))

    steps = [(1, b"data: x\n"), (20, abort), (50, END)]
    assert play(backend, steps, abort=controller.signal).pings == []


def test_a_stream_that_opens_after_an_abort_has_no_pings(backend):
    controller = AbortController()
    controller.abort()
    world = play(backend, [(40, END)], abort=controller.signal, first_ping=0)
    assert world.timeline == [(0, START), (40, END)]
    assert world.ended.reason is StopReason.ABORTED


def test_each_stream_its_own_signal(backend):
    users = {b"ann": AbortController(), b"bob": AbortController()}

    def own(scope):
        controller = users.get(dict(scope["headers"]).get(b"user"))
        return controller and controller.signal

    for user, pings in {b"ann": [15, 30], b"bob": [15, 30, 45], b"eve": [15, 30, 45]}.items():
        scope = http(headers=[(b"user", user)])
        at = [(31, users[b"ann"].abort)]
        assert play(backend, [(50, END)], scope=scope, abort=own, at=at).pings == pings
        users[b"ann"] = AbortController()


@pytest.mark.parametrize("bad", [5, ZeroDivisionError])
def test_an_abort_callable_that_fails_costs_its_signal_and_is_logged(backend, caplog, bad):
    def own(scope):
        if bad == 5:
            return 5
        raise bad

    assert play(backend, [(20, END)], abort=own).pings == [15]
    (record,) = caplog.records
    assert record.message == "the abort callable failed"


def test_a_signal_forgets_the_streams_that_are_over(backend):
    controller = AbortController()
    made = []

    def wrap(app, **options):
        made.append(KeepaliveMiddleware(app, **options))
        return made[-1]

    for abort in (controller.signal, lambda _: controller.signal):
        play(backend, [(1, END)], abort=abort, wrap=wrap)
    assert len(controller.signal._callbacks) == 1  # the first middleware's own


def test_a_controller_for_a_signal_is_refused_with_a_hint():
    with pytest.raises(TypeError, match=r"pass its \.signal"):
        KeepaliveMiddleware(print, abort=AbortController())


# the owner


class Owner:
    def __init__(self):
        self.callbacks = []

    def on_shutdown(self, callback):
        self.callbacks.append(callback)

    def shut_down(self):
        for callback in self.callbacks:
            callback()


def test_the_owner_stops_the_pings(backend):
    owner = Owner()
    world = play(
        backend, [(50, END)], on_shutdown=owner.on_shutdown, at=[(20, owner.shut_down)]
    )
    assert world.timeline == [(0, START), (15, PING), (50, END)]
    assert world.ended.reason is StopReason.SHUTDOWN


def test_the_owner_may_call_any_number_of_times(backend):
    owner = Owner()
    at = [(20, owner.shut_down), (20, owner.shut_down), (25, owner.shut_down)]
    world = play(backend, [(50, END)], on_shutdown=owner.on_shutdown, at=at)
    assert (world.pings, world.ended.reason) == ([15], StopReason.SHUTDOWN)


def test_the_owner_is_subscribed_to_once_before_the_first_stream(backend):
    owner = Owner()

    async def main():
        async def app(scope, receive, send):
            await send(start([(b"content-type", scope["path"].encode())]))

        async def send(message):
            assert message["headers"][0][1] != b"text/event-stream" or owner.callbacks

        middleware = KeepaliveMiddleware(app, on_shutdown=owner.on_shutdown)
        counts = []
        for path in ["application/json", "text/event-stream", "text/event-stream"]:
            await middleware(http(path), anyio.sleep_forever, send)
            counts.append(len(owner.callbacks))
        return counts

    assert run(backend, main) == [0, 1, 1]


def test_an_owner_that_has_shut_down_already(backend):
    world = play(backend, [(20, END)], first_ping=0, on_shutdown=lambda callback: callback())
    assert (world.pings, world.ended.reason) == ([], StopReason.SHUTDOWN)


def test_an_owner_whose_function_fails_is_logged_and_asked_once(backend, caplog):
    def broken(callback):
        raise ZeroDivisionError

    assert play(backend, [(20, END)], on_shutdown=broken).pings == [15]
    (record,) = caplog.records
    assert record.message == "on_shutdown raised"


def test_the_owner_calls_from_a_thread(backend):
    owner = Owner()

    def from_a_thread():
        thread = threading.Thread(target=owner.shut_down)
        thread.start()
        thread.join()

    at = [(20, from_a_thread)]
    world = play(backend, [(50, END)], on_shutdown=owner.on_shutdown, at=at)
    assert (world.pings, world.ended.reason) == ([15], StopReason.SHUTDOWN)


def test_the_owner_calls_from_a_signal_handler(backend):
    def on_shutdown(callback):
        signal.signal(signal.SIGUSR1, lambda *_: callback())

    before = signal.getsignal(signal.SIGUSR1)
    try:
        at = [(20, lambda: signal.raise_signal(signal.SIGUSR1))]
        world = play(backend, [(50, END)], on_shutdown=on_shutdown, at=at)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (world.pings, world.ended.reason) == ([15], StopReason.SHUTDOWN)


def test_the_middlewares_own_shutdown(backend):
    made = []

    def wrap(app, **options):
        made.append(KeepaliveMiddleware(app, **options))
        return made[0]

    world = play(backend, [(50, END)], wrap=wrap, at=[(20, lambda: made[0].shutdown())])
    assert (world.pings, world.ended.reason) == ([15], StopReason.SHUTDOWN)


def test_a_shutdown_wakes_many_streams_at_once(backend):
    controller, reasons = AbortController(), []

    async def app(scope, receive, send):
        await send(start())
        reasons.append(await get_stream(scope).signal.wait())

    async def main():
        async def send(message): ...

        middleware = KeepaliveMiddleware(app, abort=controller.signal)
        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(middleware, http(), anyio.sleep_forever, send)
            await anyio.sleep(3)
            began = anyio.current_time()
            controller.abort()
        return anyio.current_time() - began

    assert run(backend, main) == 0
    assert reasons == [StopReason.ABORTED] * 300


# the first reason wins


@pytest.mark.parametrize("order", ["abort", "shutdown"])
def test_the_first_reason_wins(backend, order):
    controller, owner = AbortController(), Owner()
    times = (20, 25) if order == "abort" else (25, 20)
    world = play(
        backend,
        [(50, END)],
        abort=controller.signal,
        on_shutdown=owner.on_shutdown,
        at=[(times[0], controller.abort), (times[1], owner.shut_down)],
        prepare=lambda world: setattr(world, "leave_at", 40),
    )
    expected = StopReason.ABORTED if order == "abort" else StopReason.SHUTDOWN
    assert (world.ended.reason, world.pings) == (expected, [15])


@pytest.mark.parametrize("end", ["last body", "return", "raise"])
@pytest.mark.parametrize("how", ["own", "signal", "shutdown, own", "own, shutdown"])
def test_the_first_reason_wins_within_one_turn_of_the_loop_too(backend, end, how):
    made, controller = [], AbortController()

    def wrap(app, **options):
        made.append(KeepaliveMiddleware(app, abort=controller.signal, **options))
        return made[0]

    async def stop(scope, receive, send):
        actions = {
            "own": get_stream(scope).abort,
            "signal": controller.abort,
            "shutdown": made[0].shutdown,
        }
        for name in how.split(", "):
            actions[name]()
        if end == "last body":
            await send(body(more=False))
        elif end == "raise":
            raise ZeroDivisionError

    world = play(
        backend, [(20, stop)], wrap=wrap, raises=ZeroDivisionError if end == "raise" else None
    )
    shut_down = how.startswith("shutdown")
    assert world.ended.reason is (StopReason.SHUTDOWN if shut_down else StopReason.ABORTED)
    assert world.ended.error is None


# the client


def leave(when):
    return lambda world: setattr(world, "leave_at", when)


def test_a_client_that_leaves_an_app_that_never_asks(backend):
    world = play(backend, [(100, END)], prepare=leave(40))
    assert world.pings == [15, 30]
    assert (world.ended.reason, world.ended.duration) == (StopReason.DISCONNECTED, 40)


def test_a_client_that_left_before_the_first_ping_gets_none(backend):
    world = play(backend, [(100, END)], prepare=leave(5))
    assert (world.pings, world.ended.reason) == ([], StopReason.DISCONNECTED)


def test_a_client_that_leaves_an_app_that_listens(backend):
    async def listen(scope, receive, send):
        while (await receive())["type"] != "http.disconnect":
            pass

    world = play(backend, [(0, listen), (50, X)], prepare=leave(20))
    assert world.timeline == [(0, START), (15, PING), (50, X)]
    assert (world.ended.reason, world.ended.duration) == (StopReason.DISCONNECTED, 20)


def test_a_client_that_left_before_the_response_started(backend):
    async def main():
        events, sent = [], []

        async def app(scope, receive, send):
            while (await receive())["type"] != "http.disconnect":
                pass
            assert get_stream(scope).signal.reason is StopReason.DISCONNECTED
            await send(start())
            await anyio.sleep(40)

        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            sent.append(message["type"])

        await KeepaliveMiddleware(app, observer=events.append)(http(), receive, send)
        return sent, [type(event) for event in events], events[-1].reason

    sent, kinds, reason = run(backend, main)
    assert sent == ["http.response.start"]
    assert kinds == [StreamStarted, StreamEnded]
    assert reason is StopReason.DISCONNECTED


def test_a_disconnect_while_the_last_body_is_being_sent_is_none(backend):
    """hypercorn reports it before that send returns."""

    def prepare(world):
        sent = world.send

        async def send(message):
            await sent(message)
            if not message.get("more_body", True):
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()

        world.send = send

    world = play(backend, [(20, body(more=False))], prepare=prepare)
    assert (world.ended.reason, world.ended.duration) == (StopReason.COMPLETED, 20)


# failing sends


def failing(error, when):
    return lambda world: setattr(
        world, "failing", lambda message: error if when(message) else None
    )


def test_a_ping_whose_send_fails_stops_the_pings_and_harms_nothing(backend):
    error = ValueError("no")
    prepare = failing(error, lambda message: message.get("body") == PING)
    world = play(backend, [(50, X), (60, END)], prepare=prepare)
    assert world.timeline == [(0, START), (50, X), (60, END)]
    assert (world.ended.reason, world.ended.error) == (StopReason.WRITE_FAILED, error)
    assert world.ended.bytes_sent == len(X)


def test_a_ping_after_the_apps_own_send_fails_as_quietly(backend):
    prepare = failing(ValueError("no"), lambda message: message.get("body") == PING)
    world = play(backend, [(1, b"data: x\n"), (20, b"\n"), (60, END)], prepare=prepare)
    assert world.timeline[1:] == [(1, b"data: x\n"), (20, b"\n"), (60, END)]
    assert world.ended.reason is StopReason.WRITE_FAILED


def test_a_ping_that_finds_the_connection_gone(backend):
    error = BrokenPipeError()
    prepare = failing(error, lambda message: message.get("body") == PING)
    world = play(backend, [(50, X), (60, END)], prepare=prepare)
    assert (world.ended.reason, world.ended.error) == (StopReason.DISCONNECTED, error)
    assert world.ended.duration == 15


def test_an_app_that_finds_the_connection_gone_gets_its_own_error(backend):
    error = ConnectionResetError()
    prepare = failing(error, lambda message: message.get("body") == X)
    world = play(backend, [(20, X)], prepare=prepare, raises=ConnectionResetError)
    assert (world.ended.reason, world.ended.error) == (StopReason.DISCONNECTED, error)


def test_after_a_failed_send_the_position_is_unknown(backend):
    """Whether the bytes were written nobody knows; the next boundary is certain again."""
    caught = []

    async def try_to_send(scope, receive, send):
        with pytest.raises(ValueError, match="no"):
            await send(body(b"data: half"))
        caught.append(1)

    prepare = failing(ValueError("no"), lambda message: message.get("body") == b"data: half")
    world = play(backend, [(1, try_to_send), (40, X), (56, END)], prepare=prepare)
    assert caught
    assert world.timeline == [(0, START), (40, X), (40, PING), (55, PING), (56, END)]


def test_a_failed_message_without_bytes_leaves_the_stream_where_it_stood(backend):
    push = {"type": "http.response.push"}

    async def try_to_push(scope, receive, send):
        with pytest.raises(ValueError, match="no"):
            await send(push)

    prepare = failing(ValueError("no"), lambda message: message == push)
    assert play(backend, [(1, try_to_push), (40, END)], prepare=prepare).pings == [15, 30]


# the app


def test_an_app_that_fails_has_its_exception_propagate_unchanged(backend):
    error = ZeroDivisionError("mine")

    async def fail(scope, receive, send):
        raise error

    world = play(backend, [(20, fail)], raises=ZeroDivisionError)
    assert (world.ended.reason, world.ended.error) == (StopReason.APP_FAILED, error)
    assert world.pings == [15]
    names = [frame.name for frame in traceback_of(error)]
    assert names[-1] == "fail"
    assert error.__context__ is None


def traceback_of(error):
    import traceback

    return traceback.extract_tb(error.__traceback__)


def test_a_cancellation_passes(backend):
    async def main():
        events = []

        async def app(scope, receive, send):
            await send(start())
            await anyio.sleep_forever()

        async def send(message): ...

        app = KeepaliveMiddleware(app, observer=events.append)
        with anyio.move_on_after(20) as scope:
            await app(http(), anyio.sleep_forever, send)
        assert scope.cancelled_caught
        return events[-1]

    ended = run(backend, main)
    assert (ended.reason, ended.duration) == (StopReason.APP_FAILED, 20)
    assert type(ended.error).__name__ in ("Cancelled", "CancelledError")


def test_a_cancellation_of_one_send_passes_and_the_pings_go_on(backend):
    async def give_up(scope, receive, send):
        with anyio.move_on_after(3) as limit:
            await send(body(b"data: slow\n\n"))
        assert limit.cancelled_caught

    def prepare(world):
        world.slow = lambda message: 99 if b"slow" in message.get("body", b"") else 0

    world = play(backend, [(1, give_up), (40, X), (41, END)], prepare=prepare)
    assert world.timeline == [(0, START), (40, X), (40, PING), (41, END)]


def test_a_cancellation_of_a_send_that_waits_for_a_ping(backend):
    async def give_up(scope, receive, send):
        with anyio.move_on_after(3) as limit:
            await send(body(b"data: never\n\n"))
        assert limit.cancelled_caught

    def prepare(world):
        world.slow = lambda message: 20 if message.get("body") == PING else 0

    world = play(backend, [(16, give_up), (40, X), (41, END)], prepare=prepare)
    assert world.timeline == [(0, START), (35, PING), (40, X), (41, END)]


def test_a_ping_that_is_blocked_forever_is_abandoned_with_the_app(backend):
    def prepare(world):
        world.slow = lambda message: 10**6 if message.get("body") == PING else 0

    async def nothing(scope, receive, send): ...

    world = play(backend, [(40, nothing)], prepare=prepare)
    assert world.timeline == [(0, START)]
    assert (world.ended.reason, world.ended.duration) == (StopReason.COMPLETED, 40)


def test_a_ping_that_outlasts_its_stream_is_not_reported(backend):
    """The client leaves while the ping is blocked: the end is reported, then nothing."""

    def prepare(world):
        world.slow = lambda message: 20 if message.get("body") == PING else 0
        world.leave_at = 25

    world = play(backend, [(50, END)], prepare=prepare)
    assert [type(event) for event in world.events] == [StreamStarted, StreamEnded]
    assert (world.ended.duration, world.ended.pings, world.pings) == (25, 0, [])


def test_an_inline_ping_that_outlasts_its_stream_is_not_reported_either(backend):
    """It is sent in the app's own task, right behind the app's bytes."""

    def prepare(world):
        world.slow = lambda message: 20 if message.get("body") == PING else 0
        world.leave_at = 25

    world = play(backend, [(1, b"data: x\n"), (20, b"\n"), (50, END)], prepare=prepare)
    assert [type(event) for event in world.events] == [StreamStarted, StreamEnded]
    assert (world.ended.duration, world.ended.pings, world.pings) == (25, 0, [40])


def test_a_ping_blocked_forever_at_a_disconnect_blocks_no_send_of_the_app(backend):
    def prepare(world):
        world.slow = lambda message: 10**6 if message.get("body") == PING else 0
        world.leave_at = 20

    world = play(backend, [(18, X), (30, X)], prepare=prepare)
    assert world.timeline == [(0, START), (20, X), (30, X)]


def test_a_ping_in_flight_at_an_abort_is_counted(backend):
    def prepare(world):
        world.slow = lambda message: 20 if message.get("body") == PING else 0

    controller = AbortController()
    at = [(25, controller.abort)]
    world = play(backend, [(50, END)], prepare=prepare, abort=controller.signal, at=at)
    assert (world.ended.reason, world.ended.pings) == (StopReason.ABORTED, 1)


# the app's own view


def test_an_apps_signal_is_aborted_as_soon_as_its_stream_stops(backend):
    controller, seen = AbortController(), []

    async def listen(scope, receive, send):
        mine = get_stream(scope)
        assert (sent_pings(mine), mine.signal.aborted) == (0, False)
        reason = await mine.signal.wait()
        seen.append((sent_pings(mine), reason))
        await send(body(b"event: stopping\ndata: \n\n", more=False))

    world = play(backend, [(1, listen)], abort=controller.signal, at=[(40, controller.abort)])
    assert seen == [(2, StopReason.ABORTED)]
    assert world.timeline[-1] == (40, END)


def test_an_app_may_abort_its_own_stream(backend):
    async def abort(scope, receive, send):
        get_stream(scope).abort()

    world = play(backend, [(20, abort), (50, END)])
    assert (world.pings, world.ended.reason) == ([15], StopReason.ABORTED)


def test_an_app_may_abort_before_its_response_starts(backend):
    def wrap(app, **options):
        async def hasty(scope, receive, send):
            get_stream(scope).abort()
            await app(scope, receive, send)

        return KeepaliveMiddleware(hasty, **options)

    world = play(backend, [(50, END)], wrap=wrap)
    assert (world.pings, world.ended.reason) == ([], StopReason.ABORTED)


def test_an_abort_before_the_response_starts_is_reported_as_that_starts(backend):
    reasons = []

    def wrap(app, **options):
        async def hasty(scope, receive, send):
            mine = get_stream(scope)
            mine.signal.add_callback(lambda: reasons.append(mine.signal.reason))
            mine.abort()
            mine.abort()
            assert reasons == []
            await app(scope, receive, send)

        return KeepaliveMiddleware(hasty, **options)

    world = play(backend, [(50, END)], wrap=wrap)
    assert (world.pings, world.ended.reason) == ([], StopReason.ABORTED)
    assert (world.ended.duration, reasons) == (50, [StopReason.ABORTED])


def test_an_abort_of_a_response_that_is_not_a_stream_is_kept(backend):
    streams = []

    async def abort(scope, receive, send):
        streams.append(get_stream(scope))
        streams[0].abort()

    assert play(backend, [(0, abort), (50, END)], head=start([])).events == []
    assert streams[0].signal.reason is StopReason.ABORTED


def test_a_response_that_is_not_a_stream_ends_its_signal_too(backend):
    signals = []

    async def look(scope, receive, send):
        signals.append(get_stream(scope).signal)
        assert sent_pings(get_stream(scope)) == 0

    world = play(backend, [(0, look), (50, END)], head=start([]))
    assert world.events == []
    assert signals[0].reason is StopReason.COMPLETED


def test_a_client_that_left_before_a_response_that_is_not_a_stream(backend):
    streams = []

    def wrap(app, **options):
        async def patient(scope, receive, send):
            streams.append(get_stream(scope))
            while (await receive())["type"] != "http.disconnect":
                pass
            await app(scope, receive, send)

        return KeepaliveMiddleware(patient, **options)

    play(backend, [(1, END)], head=start([]), wrap=wrap, prepare=leave(5))
    assert streams[0].signal.reason is StopReason.DISCONNECTED


def test_an_app_that_empties_its_scope_has_its_own_error_come_out(backend):
    async def main():
        async def app(scope, receive, send):
            scope.clear()
            raise ValueError("the app's own")

        with pytest.raises(ValueError, match="the app's own"):
            await KeepaliveMiddleware(app)(http(), None, None)

    run(backend, main)


def test_outside_there_is_no_stream():
    for scope in (http(), {"type": "websocket"}, {"asgi-keepalive": 5}):
        with pytest.raises(LookupError, match="no KeepaliveMiddleware is serving this scope"):
            get_stream(scope)


def test_when_the_call_is_over_there_is_no_stream_any_more(backend):
    scope = http()
    play(backend, [(1, END)], scope=scope)
    with pytest.raises(LookupError):
        get_stream(scope)
    assert scope == http()


def test_a_signal_asked_for_after_the_stop_is_aborted(backend):
    controller, reasons = AbortController(), []
    controller.abort()

    async def look(scope, receive, send):
        reasons.append(get_stream(scope).signal.reason)

    play(backend, [(1, look), (2, END)], abort=controller.signal)
    assert reasons == [StopReason.ABORTED]


# events


def test_an_observer_that_raises_is_logged_and_harms_nothing(backend, caplog):
    def broken(event):
        raise ZeroDivisionError

    world = play(backend, [(20, END)], observer=broken, scope=http("/p"))
    assert world.timeline == [(0, START), (15, PING), (20, END)]
    assert [record.message for record in caplog.records] == ["the observer raised"] * 3
    assert {record.path for record in caplog.records} == {"/p"}


def test_the_observer_is_called_in_the_requests_own_context(backend):
    variable, seen = contextvars.ContextVar("request", default="none"), []

    def wrap(app, **options):
        async def outer(scope, receive, send):
            variable.set("mine")
            await KeepaliveMiddleware(app, **options)(scope, receive, send)

        return outer

    def observer(event):
        seen.append((type(event), variable.get()))

    controller = AbortController()
    play(
        backend, [(40, END)], wrap=wrap, observer=observer, abort=controller.signal,
        at=[(20, controller.abort)], prepare=leave(30),
    )  # fmt: skip
    assert seen == [(StreamStarted, "mine"), (PingSent, "mine"), (StreamEnded, "mine")]


def test_what_the_app_sets_in_its_context_is_seen_outside(backend):
    variable, seen = contextvars.ContextVar("app", default="none"), []

    def wrap(app, **options):
        async def outer(scope, receive, send):
            await KeepaliveMiddleware(app, **options)(scope, receive, send)
            seen.append(variable.get())

        return outer

    async def put(scope, receive, send):
        variable.set("app")

    play(backend, [(20, put), (30, END)], wrap=wrap)
    assert seen == ["app"]


def test_two_debug_records_for_each_stream(backend, caplog):
    caplog.set_level(logging.DEBUG, "keepalive")
    play(backend, [(20, END)], scope=http("/p"), observer=None)
    started, ended = (r for r in caplog.records if r.name == "keepalive")
    assert (started.msg, started.path, started.levelname) == ("stream started", "/p", "DEBUG")
    assert started.media_type == "text/event-stream"
    assert (ended.msg, ended.reason, ended.pings) == ("stream ended", "completed", 1)
    assert (ended.duration, ended.bytes_sent) == (20, len(PING))


def test_no_record_where_nobody_listens(backend, caplog):
    caplog.set_level(logging.INFO, "keepalive")
    play(backend, [(20, END)])
    assert [r for r in caplog.records if r.name == "keepalive"] == []


def test_a_coroutine_that_is_thrown_away_leaves_nothing():
    """As a loop does that is closed with its tasks undone."""
    events = []

    async def app(scope, receive, send):
        await send(start())
        await asyncio.sleep(100)

    async def send(message): ...

    async def main():
        call = KeepaliveMiddleware(app, observer=events.append)(http(), None, send)
        call.send(None)
        call.close()

    asyncio.run(main())
    gc.collect()
    assert [type(event) for event in events] == [StreamStarted, StreamEnded]
    assert type(events[-1].error) is GeneratorExit


def test_a_start_that_the_server_has_refused_leaves_nothing_on_a_signal(backend):
    controller = AbortController()
    callbacks = []

    async def try_twice(scope, receive, send):
        with pytest.raises(ValueError, match="refused"):
            await send(start(status=99_999))
        callbacks.append(len(controller.signal._callbacks))
        await send(start())
        callbacks.append(len(controller.signal._callbacks))

    def prepare(world):
        world.failing = lambda message: (
            ValueError("refused") if message.get("status") == 99_999 else None
        )

    options = {"head": None, "prepare": prepare, "abort": lambda _: controller.signal}
    world = play(backend, [(1, try_twice), (20, END)], **options)
    assert callbacks == [0, 1]
    assert world.timeline == [(1, START), (16, PING), (20, END)]


def test_a_stream_whose_first_start_was_refused_is_drained(backend):
    controller = AbortController()

    async def try_twice(scope, receive, send):
        with pytest.raises(ValueError, match="refused"):
            await send(start(status=99_999))
        await send(start())

    def prepare(world):
        world.failing = lambda message: (
            ValueError("refused") if message.get("status") == 99_999 else None
        )

    options = {"head": None, "prepare": prepare, "abort": controller.signal, "drain": 5}
    steps = [(1, try_twice), (10**6, END)]
    world = play(backend, steps, at=[(20, controller.abort)], **options)
    assert world.timeline == [(1, START), (16, PING), (25, END)]


def test_an_abort_while_the_start_is_sent_prevents_a_ping_at_once(backend):
    controller = AbortController()

    def prepare(world):
        world.slow = lambda message: 5 if message["type"].endswith("start") else 0

    at = [(3, controller.abort)]
    options = {"first_ping": 0, "abort": lambda _: controller.signal, "prepare": prepare}
    assert play(backend, [(20, END)], at=at, **options).pings == []
