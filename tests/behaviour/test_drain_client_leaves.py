"""Clients that leave while their stream is drained, and shutdowns behind them."""

import threading

import anyio
import pytest
from support.endings import BYE, X, aborted, blocked_send, leaves_at, shut_down, slow_to_send
from support.harness import END, PING, START, body, play
from support.internals import APP_EXIT_TIMEOUT

from keepalive import KeepaliveMiddleware, StopReason


def test_a_client_that_leaves_within_the_drain_ends_the_stream(backend, log):
    def prepare(world):
        log.prepare(world)
        world.leave_at = 22

    world = aborted(backend, log, [(1, log.listen)], prepare=prepare)
    assert (world.timeline, log) == ([(0, START), (15, PING)], [(22, "http.disconnect")])
    assert (world.ended.reason, world.ended.duration) == (StopReason.ABORTED, 22)


def test_a_non_listening_app_whose_client_leaves_within_the_drain_has_no_longer(backend, log):
    def prepare(world):
        log.prepare(world)
        world.leave_at = 22

    world = aborted(backend, log, [(1, log.stay)], prepare=prepare)
    assert world.timeline == [(0, START), (15, PING)]  # nothing is sent to who has left
    assert log == [(25 + APP_EXIT_TIMEOUT, "cancelled")]
    assert world.ended.duration == 22


def test_an_app_that_knows_of_its_clients_disconnect_is_not_cancelled_at_a_shutdown(
    backend, log
):
    made = []

    def wrap(app, **options):
        async def read_first(scope, receive, send):
            while (await receive())["type"] != "http.disconnect":
                pass
            await app(scope, receive, send)

        made.append(KeepaliveMiddleware(read_first, **options))
        return made[0]

    at = [(20, lambda: made[0].shutdown())]
    world = play(
        backend, [(1, log.stay)], prepare=leaves_at(0, log), wrap=wrap, at=at, drain=5
    )
    assert log == []
    assert world.ended.reason is StopReason.DISCONNECTED


def test_a_shutdown_in_the_very_moment_of_the_end(backend, log):
    """The event loop gets the error when the call is over."""
    made, terminators = [], []

    def wrap(app, **options):
        made.append(KeepaliveMiddleware(app, **options))
        return made[0]

    async def shut_down_and_return(scope, receive, send):
        terminators.append(scope["asgi-keepalive"].hooks.opened.__self__)
        made[0].shutdown()

    def prepare(world):
        log.prepare(world)
        world.failing = lambda message: (
            ValueError("no") if message.get("body") == PING else None
        )

    play(backend, [(20, shut_down_and_return)], prepare=prepare, wrap=wrap, drain=5)
    terminators[0]._on_shutdown()  # from a thread that was just about to


@pytest.mark.parametrize("leave_at", [0, 17])
def test_an_app_that_outlives_its_client_does_not_outlast_a_shutdown(backend, log, leave_at):
    """A non-listening app continues after a disconnect, and would block the server's end."""
    prepare = leaves_at(leave_at, log)
    world = shut_down(backend, log, [(1, log.stay)], prepare=prepare, max_lifetime=10**5)
    assert log == [(25 + APP_EXIT_TIMEOUT, "cancelled")]
    assert world.ended.reason is StopReason.DISCONNECTED


def test_no_app_is_cancelled_because_its_client_has_left(backend, log):
    async def go_on(scope, receive, send):
        await anyio.sleep(1000)
        log.add("done")

    limits = {"drain": 1, "max_lifetime": 40, "send_timeout": 1}
    play(backend, [(1, go_on)], prepare=leaves_at(17, log), **limits)
    assert log == [(1001, "done")]


def test_nor_by_a_shutdown_if_there_is_no_drain(backend, log):
    async def go_on(scope, receive, send):
        await anyio.sleep(1000)
        log.add("done")

    limits = {"drain": None, "farewell": None, "max_lifetime": 40}
    shut_down(backend, log, [(1, go_on)], prepare=leaves_at(17, log), **limits)
    assert log == [(1001, "done")]


def test_pings_that_have_failed_keep_no_stream_from_a_shutdown(backend, log):
    def prepare(world):
        log.prepare(world)
        world.failing = lambda message: (
            ValueError("no") if message.get("body") == PING else None
        )

    world = shut_down(backend, log, [(1, log.listen)], prepare=prepare)
    assert world.timeline == [(0, START), (25, BYE), (25, END)]
    assert world.ended.reason is StopReason.WRITE_FAILED


def test_a_shutdown_in_another_thread_than_the_streams(backend, log):
    """Also where the stream's pings have stopped before."""

    def prepare(world):
        log.prepare(world)
        world.failing = lambda message: (
            ValueError("no") if message.get("body") == PING else None
        )

    made = []

    def wrap(app, **options):
        made.append(KeepaliveMiddleware(app, **options))
        return made[0]

    async def from_a_thread(scope, receive, send):
        thread = threading.Thread(target=made[0].shutdown)
        thread.start()
        thread.join()
        await log.stay(scope, receive, send)

    world = play(backend, [(20, from_a_thread)], wrap=wrap, prepare=prepare, drain=5)
    assert world.timeline == [(0, START), (25, END)]
    assert log == [(25 + APP_EXIT_TIMEOUT, "cancelled")]


def test_a_shutdown_while_a_stream_is_abandoned_prolongs_nothing(backend, log):
    prepare = slow_to_send(X, 10**6, log)
    steps = [(14.5, blocked_send(log, X))]
    world = shut_down(backend, log, steps, prepare=prepare, send_timeout=5, drain=0.1)
    assert world.ended.reason is StopReason.SEND_TIMEOUT
    assert log == [
        (19.5, "the stream has been ended: send_timeout"),
        (19.5 + APP_EXIT_TIMEOUT, "cancelled"),
    ]


@pytest.mark.parametrize("half", [b"", b"data: a\n"])
def test_nothing_is_sent_to_a_client_that_leaves_while_its_stream_is_being_ended(
    backend, log, half
):
    async def end_the_event(scope, receive, send):
        with pytest.raises(OSError, match="has been ended"):
            await send(body(b"\n"))
        log.add("gone")

    def prepare(world):
        log.prepare(world)
        world.leave_at = 25.2
        world.slow = lambda message: 0.4 if message.get("body") == BYE else 0

    world = aborted(backend, log, [(24, half), (25.3, end_the_event)], prepare=prepare)
    assert world.timeline[2:] == ([(24, half)] if half else [])
    assert log == [(25.3, "gone")]


def test_a_stream_that_opens_after_the_shutdown_has_its_drain(backend, log):
    world = shut_down(backend, log, [(1, log.listen)], at=0)
    assert world.timeline == [(0, START), (5, BYE), (5, END)]
    assert world.ended.reason is StopReason.SHUTDOWN
