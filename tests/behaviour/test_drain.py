"""The drain that follows an abort or a shutdown: what an app may still send, and its end."""

import anyio
import pytest
from support.endings import BYE, X, aborted, blocked_send, shut_down, slow_to_send
from support.harness import END, PING, START, body
from support.internals import APP_EXIT_TIMEOUT, BOUNDARY_TIMEOUT, LAST_SEND_TIMEOUT

from keepalive import StopReason, get_stream


def test_a_non_listening_app_is_ended_after_the_drain_and_cancelled_last(backend, log):
    world = aborted(backend, log, [(1, X), (1, log.stay)])
    assert world.timeline == [(0, START), (1, X), (16, PING), (25, BYE), (25, END)]
    assert log == [(25 + APP_EXIT_TIMEOUT, "cancelled")]
    assert (world.ended.reason, world.ended.duration) == (StopReason.ABORTED, 25)
    assert (world.ended.pings, world.ended.bytes_sent) == (1, len(X + PING + BYE))


def test_without_a_drain_the_stream_stays_the_apps(backend, log):
    world = aborted(backend, log, [(100, X), (100, END)], drain=None, max_lifetime=999)
    assert world.timeline == [(0, START), (15, PING), (100, X), (100, END)]


def test_a_drain_of_0_ends_at_once(backend, log):
    world = aborted(backend, log, [(1, X), (1, log.listen)], drain=0)
    assert world.timeline == [(0, START), (1, X), (16, PING), (20, BYE), (20, END)]
    assert log == [(20, "http.disconnect")]


def test_no_farewell_unless_it_is_asked_for(backend, log):
    world = aborted(backend, log, [(1, log.listen)], farewell=None)
    assert world.timeline == [(0, START), (15, PING), (25, END)]


def test_an_app_that_ends_within_the_drain_completes_by_itself(backend, log):
    async def background(scope, receive, send):
        await anyio.sleep(100)
        log.add("done")

    world = aborted(backend, log, [(22, X), (24, END), (24, background)])
    assert world.timeline == [(0, START), (15, PING), (22, X), (24, END)]
    assert (world.ended.reason, world.ended.duration) == (StopReason.ABORTED, 24)
    assert log == [(124, "done")]


def test_what_another_task_has_the_app_send_at_the_very_end_goes_first_too(backend, log):
    async def be_fed(scope, receive, send):
        food = anyio.Event()

        async def feed():
            await log.world.sleep_until(25)
            food.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed)
            await food.wait()
            await send(body(X))
            await log.listen(scope, receive, send)

    world = aborted(backend, log, [(1, be_fed)])
    assert world.timeline[-3:] == [(25, X), (25, BYE), (25, END)]


@pytest.mark.parametrize("last", [X, END])
def test_what_the_app_sends_at_the_very_end_of_the_drain_goes_first(backend, log, last):
    world = aborted(backend, log, [(25, last), (25, log.listen)])
    rest = [(25, X), (25, BYE), (25, END)] if last == X else [(25, END)]
    assert world.timeline == [(0, START), (15, PING), *rest]


def test_the_end_waits_for_the_end_of_an_event(backend, log):
    steps = [(24, b"data: a\n"), (25.3, b"data: b\n\n"), (25.3, log.listen)]
    world = aborted(backend, log, steps)
    assert world.timeline[2:] == [
        (24, b"data: a\n"), (25.3, b"data: b\n\n"), (25.3, BYE), (25.3, END)
    ]  # fmt: skip
    assert log == [(25.3, "http.disconnect")]
    assert world.ended.duration == pytest.approx(25.3)


@pytest.mark.parametrize("half", [b"data: a", b"data: a\n"])
def test_an_app_stuck_within_an_event_is_ended_there(backend, log, half):
    world = aborted(backend, log, [(24, half), (24, log.stay)])
    assert world.timeline[2:] == [(24, half), (25 + BOUNDARY_TIMEOUT, END)]
    assert log == [(25 + APP_EXIT_TIMEOUT, "cancelled")]


def test_an_app_stuck_within_an_event_whose_client_does_not_read_is_abandoned(backend, log):
    prepare = slow_to_send(b"", 10**6, log)
    steps = [(24, b"data: a"), (24, log.listen)]
    world = aborted(backend, log, steps, prepare=prepare)
    assert world.timeline[2:] == [(24, b"data: a")]
    assert log == [(25 + BOUNDARY_TIMEOUT + LAST_SEND_TIMEOUT, "http.disconnect")]


def test_the_end_waits_for_a_send_of_the_apps(backend, log):
    async def send_slowly(scope, receive, send):
        await send(body(b"data: slow\n\n"))
        log.add("sent")
        await log.listen(scope, receive, send)

    prepare = slow_to_send(b"data: slow\n\n", 2, log)
    world = aborted(backend, log, [(23.3, send_slowly)], prepare=prepare)
    assert world.timeline[2:] == [(25.3, b"data: slow\n\n"), (25.3, BYE), (25.3, END)]
    assert log == [(25.3, "sent"), (25.3, "http.disconnect")]


def test_an_app_whose_every_send_has_to_wait_is_ended_after_one_of_them(backend, log):
    """It is sending whenever anybody looks."""

    async def send_and_send(scope, receive, send):
        while True:
            try:
                await send(body(X))
            except OSError:
                log.add("gone")
                return

    prepare = slow_to_send(X, 0.3, log)
    world = aborted(backend, log, [(24, send_and_send)], prepare=prepare)
    assert world.timeline[-3:] == [(25.2, X), (25.2, BYE), (25.2, END)]
    assert log == [(25.2, "gone")]


def test_a_blocked_send_is_abandoned(backend, log):
    prepare = slow_to_send(b"data: never\n\n", 10**6, log)
    steps = [(22, blocked_send(log, b"data: never\n\n"))]
    world = aborted(backend, log, steps, prepare=prepare)
    assert world.timeline == [(0, START), (15, PING)]
    assert log == [
        (25 + BOUNDARY_TIMEOUT, "the stream has been ended: aborted"),
        (25 + APP_EXIT_TIMEOUT, "cancelled"),
    ]  # fmt: skip
    assert (world.ended.reason, world.ended.duration) == (
        StopReason.ABORTED,
        25 + BOUNDARY_TIMEOUT,
    )


def test_a_blocked_last_body_of_the_apps_own_is_abandoned(backend, log):
    """It has begun before the drain does."""

    async def end_for_ever(scope, receive, send):
        try:
            await send(body(b"data: never\n\n", more=False))
        except OSError as error:
            log.add(str(error))

    prepare = slow_to_send(b"data: never\n\n", 10**6, log)
    for stop in (aborted, shut_down):
        world = stop(backend, log, [(18, end_for_ever)], prepare=prepare)
        assert world.timeline == [(0, START), (15, PING)]
        assert log == [
            (25 + BOUNDARY_TIMEOUT, f"the stream has been ended: {world.ended.reason}")
        ]
        log.clear()


def test_a_blocked_ping_is_abandoned(backend, log):
    prepare = slow_to_send(PING, 10**6, log)
    world = aborted(backend, log, [(21, blocked_send(log, X))], prepare=prepare)
    assert world.timeline == [(0, START)]
    assert log == [
        (25 + BOUNDARY_TIMEOUT, "the stream has been ended: aborted"),
        (25 + APP_EXIT_TIMEOUT, "cancelled"),
    ]
    assert world.ended.pings == 0


@pytest.mark.parametrize("behind", [[], [(24.9, b"data: a\n"), (25.1, b"\n")]])
@pytest.mark.parametrize("blocked", [BYE, b""])
def test_an_end_that_is_blocked_is_abandoned(backend, log, blocked, behind):
    """Be it sent by the app's own task, behind its send, or by another."""
    prepare = slow_to_send(blocked, 10**6, log)
    world = aborted(backend, log, [*behind, (25.2, log.listen)], prepare=prepare)
    assert END not in [what for _, what in world.timeline]
    ((when, what),) = log
    assert what == "http.disconnect"
    assert 25 + BOUNDARY_TIMEOUT <= when < 25 + APP_EXIT_TIMEOUT
    assert world.ended.duration == pytest.approx(when)


def test_a_send_that_waits_for_an_end_that_is_blocked_is_alone_when_that_is_abandoned(
    backend, log
):
    prepare = slow_to_send(BYE, 10**6, log)
    world = aborted(backend, log, [(25.1, blocked_send(log, X))], prepare=prepare)
    assert world.timeline == [(0, START), (15, PING)]
    assert log == [
        (25 + BOUNDARY_TIMEOUT, "the stream has been ended: aborted"),
        (25 + APP_EXIT_TIMEOUT, "cancelled"),
    ]


def test_an_end_that_the_server_refuses_is_not_an_error_of_the_app(backend, log):
    def prepare(world):
        log.prepare(world)
        world.failing = lambda message: (
            ValueError("no") if message.get("body") == BYE else None
        )

    world = aborted(backend, log, [(1, log.listen)], prepare=prepare)
    assert world.timeline == [(0, START), (15, PING)]
    assert log == [(25, "http.disconnect")]
    assert (world.ended.reason, world.ended.error) == (StopReason.ABORTED, None)


def test_the_apps_signal_is_aborted_at_once(backend, log):
    async def say_goodbye(scope, receive, send):
        log.add(await get_stream(scope).signal.wait())
        await anyio.sleep(4)
        await send(body(b"data: bye\n\n", more=False))

    world = aborted(backend, log, [(1, say_goodbye)])
    assert log == [(20, StopReason.ABORTED)]
    assert world.timeline == [(0, START), (15, PING), (24, b"data: bye\n\n"), (24, END)]
