"""`on_signals`: which handlers it stands in front of, and when it gets out of the way."""

import contextlib
import os
import signal
import subprocess
import sys
import threading

import pytest
from support.endings import BYE, FAREWELL, Log
from support.harness import END, START, play, run

from keepalive import KeepaliveMiddleware, StopReason, on_signals
from keepalive._signals import SignalOwner

# Signals that nobody else in the test process minds.
ONE, TWO = signal.SIGUSR1, signal.SIGUSR2


@pytest.fixture(autouse=True)
def _handlers():
    """Put back whatever a test leaves behind."""
    numbers = (ONE, TWO, signal.SIGINT, signal.SIGURG)
    found = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in found.items():
        signal.signal(number, handler)


class Server:
    """Handlers as a server sets them."""

    def __init__(self, *numbers):
        self.numbers, self.received = numbers, []
        self.found = {number: signal.signal(number, self.handle) for number in numbers}

    def handle(self, number, frame):
        self.received.append((number, frame is not None))

    def restore(self):
        for number, handler in self.found.items():
            signal.signal(number, handler)


def kill(number):
    os.kill(os.getpid(), number)


def test_the_streams_hear_of_it_first_and_then_the_server_does_what_it_would_have_done():
    server, order = Server(ONE), []
    owner = on_signals(ONE)
    assert signal.getsignal(ONE) == server.handle  # nothing happens before it is used
    owner(lambda: order.append(list(server.received)))
    kill(ONE)
    assert order == [[]]
    assert server.received == [(ONE, True)]


def test_a_second_signal_goes_the_same_way():
    server, calls = Server(ONE, TWO), []
    on_signals(ONE, TWO)(lambda: calls.append(1))
    for number in (ONE, ONE, TWO):
        kill(number)
    assert [number for number, _ in server.received] == [ONE, ONE, TWO]
    assert calls == [1, 1, 1]


def test_a_second_interrupt_forces_the_end():
    """As with uvicorn, whose handler counts; and Python's own raises each time."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    calls = []
    on_signals(signal.SIGINT)(lambda: calls.append(1))
    for count in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            kill(signal.SIGINT)
        assert calls == [1] * count


def test_a_signal_that_is_ignored_stays_ignored():
    signal.signal(ONE, signal.SIG_IGN)
    calls = []
    on_signals(ONE)(lambda: calls.append(1))
    kill(ONE)
    assert (signal.getsignal(ONE), calls) == (signal.SIG_IGN, [])


def test_a_callback_that_raises_keeps_nobody_from_hearing(caplog):
    server, calls = Server(ONE), []
    owner = on_signals(ONE)
    owner(lambda: 1 / 0)
    owner(lambda: calls.append(1))
    kill(ONE)
    assert (len(server.received), calls) == (1, [1])
    assert [record.message for record in caplog.records] == ["an on_shutdown callback raised"]


def child(code, number):
    """Run a program, send it a signal once it says so, and return its status and output."""
    program = f"import os, signal, time\nfrom keepalive import on_signals\n{code}"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        said = process.stdout.read()
    return process.returncode, said


def test_a_signal_that_ends_a_process_by_default_still_does():
    # In a signal handler `print` may fail, where it interrupts another `print`; and a signal
    # that arrives just before `signal.pause` doesn't wake it.
    code = """
on_signals(signal.SIGTERM)(lambda: os.write(1, b"notified\\n"))
print("ready", flush=True)
while True:
    time.sleep(0.01)
"""
    assert child(code, signal.SIGTERM) == (-signal.SIGTERM, "notified\n")


def test_a_signal_that_by_default_ends_nothing_is_heard_again():
    code = """
notified = []
on_signals(signal.SIGCONT)(lambda: notified.append(1))
print("ready", flush=True)
while not notified:
    time.sleep(0.01)
os.kill(os.getpid(), signal.SIGCONT)
print(len(notified), flush=True)
"""
    assert child(code, signal.SIGCONT) == (0, "2\n")


def test_and_in_this_process_too():
    found, calls = signal.getsignal(signal.SIGURG), []
    owner = on_signals(signal.SIGURG)
    owner(lambda: calls.append(1))
    assert found is signal.SIG_DFL
    kill(signal.SIGURG)
    kill(signal.SIGURG)
    assert calls == [1, 1]
    owner.restore()
    assert signal.getsignal(signal.SIGURG) is found


def test_a_handler_in_front_stays_when_a_default_ends_nothing():
    calls = []
    on_signals(signal.SIGURG)(lambda: calls.append(1))
    ours = signal.getsignal(signal.SIGURG)

    def in_front(number, frame):
        ours(number, frame)

    signal.signal(signal.SIGURG, in_front)
    kill(signal.SIGURG)
    assert signal.getsignal(signal.SIGURG) is in_front
    assert calls == [1]


def test_a_real_time_signal_may_be_chosen(monkeypatch, caplog):
    number, calls = signal.SIGRTMIN + 3, []
    server = Server(number)
    owner = on_signals(number)
    owner(lambda: calls.append(1))
    kill(number)
    assert (calls, len(server.received)) == ([1], 1)
    owner.restore()
    server.restore()
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    owner.watch()
    assert f"can't handle {number}: its handler" in caplog.text


# getting out of the way


def test_restore_puts_back_what_was_found():
    server = Server(ONE, TWO)
    owner = on_signals(ONE, TWO)
    owner(print)
    assert server.handle not in (signal.getsignal(ONE), signal.getsignal(TWO))
    owner.restore()
    assert server.handle == signal.getsignal(ONE) == signal.getsignal(TWO)
    owner.restore()
    assert signal.getsignal(ONE) == server.handle


def test_restore_leaves_the_handlers_of_others_alone():
    server = Server(ONE)
    owner = on_signals(ONE)
    owner(print)
    server.restore()
    other = Server(ONE)
    owner.restore()
    assert signal.getsignal(ONE) == other.handle


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_owners_in_one_line_may_be_restored_in_any_order(order):
    server, calls = Server(ONE), []
    owners = [on_signals(ONE), on_signals(ONE)]
    for number, owner in enumerate(owners):
        owner(lambda number=number: calls.append(number))
    owners[order[0]].restore()
    kill(ONE)
    assert (calls, len(server.received)) == ([order[1]], 1)
    owners[order[1]].restore()
    assert signal.getsignal(ONE) == server.handle


def test_nothing_is_left_when_the_server_restores_its_own():
    before = signal.getsignal(ONE)
    server = Server(ONE)
    on_signals(ONE)(print)
    server.restore()
    assert signal.getsignal(ONE) == before


def test_restore_without_use_does_nothing():
    server = Server(ONE)
    on_signals(ONE).restore()
    assert signal.getsignal(ONE) == server.handle


# one after the other, and beside each other


def serve(backend, app, middleware, *, lifespan=True):
    """Serve one stream as a server does, from its handlers to its restoring them."""
    server = Server(ONE)

    async def stream(scope, receive, send):
        kill(ONE)
        await app.listen(scope, receive, send)

    world = play(
        backend,
        [(1, stream)],
        prepare=app.prepare,
        wrap=lambda app, **_: middleware(app),
    )
    assert [number for number, _ in server.received] == [ONE]
    server.restore()
    return world


def test_a_signal_ends_the_streams(backend):
    def middleware(app):
        return KeepaliveMiddleware(
            app,
            on_shutdown=on_signals(ONE),
            drain=2,
            farewell=FAREWELL,
            observer=events.append,
        )

    events = []
    world = serve(backend, Log(), middleware)
    assert world.timeline == [(0, START), (3, BYE), (3, END)]
    assert events[-1].reason is StopReason.SHUTDOWN


def test_one_owner_serves_one_server_after_the_other(backend):
    owner = on_signals(ONE)
    for _ in range(3):
        world = serve(
            backend, Log(), lambda app: KeepaliveMiddleware(app, on_shutdown=owner, drain=2)
        )
        assert world.timeline == [(0, START), (3, END)]


def test_one_middleware_serves_one_server_after_the_other(backend):
    """The first ends without a signal, and takes its handlers with it."""
    steps = [(0, None)]

    async def app(scope, receive, send):
        await steps[0](scope, receive, send)

    middleware = KeepaliveMiddleware(app, on_shutdown=on_signals(ONE), drain=2)

    def serve(act, log):
        def wrap(app, **_):
            steps[0] = app
            return middleware

        server = Server(ONE)
        world = play(backend, [(1, act)], prepare=log.prepare, wrap=wrap)
        server.restore()
        return world.timeline, len(server.received)

    async def nothing(scope, receive, send): ...

    async def end_by_a_signal(scope, receive, send):
        kill(ONE)
        await log.listen(scope, receive, send)

    log = Log()
    assert serve(nothing, log) == ([(0, START)], 0)
    assert serve(end_by_a_signal, log) == ([(0, START), (3, END)], 1)


def test_two_owners_stand_in_one_line_however_often_streams_open():
    server, calls = Server(ONE), []
    owners = [on_signals(ONE), on_signals(ONE)]
    for number, owner in enumerate(owners):
        owner(lambda number=number: calls.append(number))
    for _ in range(5000):  # as streams of both open in turn
        for owner in owners:
            owner.watch()
    kill(ONE)
    assert (sorted(calls), len(server.received)) == ([0, 1], 1)


def test_a_handler_that_was_put_in_front_does_not_loop():
    server, calls = Server(ONE), []
    owner = on_signals(ONE)
    owner(lambda: calls.append(1))
    ours = signal.getsignal(ONE)

    def wrapper(number, frame):
        calls.append("wrapper")
        ours(number, frame)

    signal.signal(ONE, wrapper)
    for _ in range(3):
        owner.watch()
    kill(ONE)
    assert len(server.received) == 1
    assert calls.count("wrapper") == 1


# where handlers can't be set


def in_a_thread(function):
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def test_outside_the_main_thread_there_is_one_clear_warning_and_nothing_else(backend, caplog):
    server = Server(ONE, TWO)
    owner = on_signals(ONE, TWO)

    def serve():
        for _ in range(2):
            world = play(backend, [(1, b"\n"), (20, END)], on_shutdown=owner, drain=1)
            assert world.pings == [16]

    in_a_thread(serve)
    assert server.handle == signal.getsignal(ONE) == signal.getsignal(TWO)
    (record,) = caplog.records
    assert record.getMessage() == (
        "on_signals can't handle SIGUSR1: signal handlers can be installed in the main thread "
        "only; call the middleware's shutdown() instead"
    )


def test_a_handler_that_is_not_pythons_is_left_alone(monkeypatch, caplog):
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    monkeypatch.setattr(signal, "signal", None)
    on_signals(ONE)(print)
    (record,) = caplog.records
    assert "its handler was not installed from Python" in record.getMessage()


# what the middleware does with it


@pytest.mark.parametrize("on_shutdown", [on_signals(ONE), lambda callback: None])
def test_when_the_lifespan_is_over_the_handlers_are_put_back(backend, on_shutdown):
    server, found = Server(ONE), []

    async def nothing(scope, receive, send):
        found.append(signal.getsignal(ONE) == server.handle)

    play(backend, [(1, nothing)], on_shutdown=on_shutdown, drain=1)

    async def lifespan(scope, receive, send):
        found.append(signal.getsignal(ONE) == server.handle)

    middleware = KeepaliveMiddleware(lifespan, on_shutdown=on_shutdown, drain=1)

    def wrap(app, **_):
        return lambda scope, receive, send: middleware({"type": "lifespan"}, receive, send)

    play(backend, [], wrap=wrap)
    mine = isinstance(on_shutdown, SignalOwner)
    assert found == [not mine, not mine]
    assert signal.getsignal(ONE) == server.handle


# bad input


@pytest.mark.parametrize(
    ("signals", "error", "message"),
    [
        ((), ValueError, "on_signals needs at least one signal, got none"),
        ((signal.SIGKILL,), ValueError, "must be one that can be caught, got .*SIGKILL"),
        ((ONE, signal.SIGSTOP), ValueError, "must be one that can be caught, got .*SIGSTOP"),
        ((4711,), ValueError, "on_signals: a signal must exist, got 4711"),
        ((0,), ValueError, "on_signals: a signal must exist, got 0"),
        (("SIGTERM",), TypeError, "on_signals: a signal must be a number, got 'SIGTERM'"),
        ((True,), TypeError, "on_signals: a signal must be a number, got True"),
        (([ONE],), TypeError, "on_signals: a signal must be a number, got"),
    ],
)
def test_bad_input_is_refused(signals, error, message):
    with pytest.raises(error, match=message):
        on_signals(*signals)


def test_the_function_itself_is_rejected():
    with pytest.raises(TypeError, match=r"must be what on_signals\(...\) returns"):
        KeepaliveMiddleware(print, on_shutdown=on_signals)


def test_plain_numbers_will_do_and_count_once():
    server, calls = Server(ONE), []
    on_signals(int(ONE), ONE)(lambda: calls.append(1))
    kill(ONE)
    assert (len(server.received), calls) == (1, [1])


def test_restore_takes_only_ones_own_handlers_away():
    Server(ONE)
    first, second = on_signals(ONE), on_signals(ONE)
    first(print)
    second(print)
    ours = signal.getsignal(ONE)
    first.restore()
    assert signal.getsignal(ONE) is ours


@pytest.mark.parametrize(
    ("kind", "error"), [("websocket", None), ("lifespan", ZeroDivisionError)]
)
def test_handlers_are_put_back_by_a_lifespan_alone_even_one_that_fails(backend, kind, error):
    server = Server(ONE)
    owner = on_signals(ONE)
    owner(print)

    async def app(scope, receive, send):
        if error:
            raise error

    async def main():
        with contextlib.suppress(ZeroDivisionError):
            middleware = KeepaliveMiddleware(app, on_shutdown=owner, drain=1)
            await middleware({"type": kind}, None, None)

    run(backend, main)
    assert (signal.getsignal(ONE) == server.handle) == (kind == "lifespan")


def test_the_warning_names_the_signal(monkeypatch, caplog):
    monkeypatch.setattr(signal, "getsignal", lambda _: None)
    on_signals(ONE)(print)
    assert caplog.records[0].signal == "SIGUSR1"
