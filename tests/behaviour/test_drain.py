"""The end that follows an abort or a shutdown: what an app gets, and in which order."""

import asyncio
import contextlib
import threading
from itertools import pairwise

import anyio
import pytest
from support.endings import (
    BYE,
    CANCELLED,
    FAREWELL,
    X,
    aborted,
    blocked_send,
    leaves_at,
    shut_down,
    slow_to_send,
)
from support.harness import (
    END,
    PING,
    START,
    World,
    body,
    http,
    play,
    run,
    scheduled_streams,
    settle,
    start,
    tasks_left,
)

from keepalive import AbortController, KeepaliveMiddleware, Ping, StopReason, get_stream
from keepalive._ending import BOUNDARY_TIMEOUT, LAST_SEND_TIMEOUT
from keepalive._inflight import APP_EXIT_TIMEOUT

# drain


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


def test_an_app_stuck_within_an_event_whose_client_does_not_read_is_given_up(backend, log):
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


def test_an_app_whose_every_send_has_to_wait_is_ended_behind_one_of_them(backend, log):
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


def test_a_blocked_send_is_given_up(backend, log):
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


def test_a_blocked_last_body_of_the_apps_own_is_given_up(backend, log):
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


def test_a_blocked_ping_is_given_up(backend, log):
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
def test_an_end_that_is_blocked_is_given_up(backend, log, blocked, behind):
    """Be it sent by the app's own task, behind its send, or by another."""
    prepare = slow_to_send(blocked, 10**6, log)
    world = aborted(backend, log, [*behind, (25.2, log.listen)], prepare=prepare)
    assert END not in [what for _, what in world.timeline]
    ((when, what),) = log
    assert what == "http.disconnect"
    assert 25 + BOUNDARY_TIMEOUT <= when < 25 + APP_EXIT_TIMEOUT
    assert world.ended.duration == pytest.approx(when)


def test_a_send_that_waits_for_an_end_that_is_blocked_is_alone_when_that_is_given_up(
    backend, log
):
    prepare = slow_to_send(BYE, 10**6, log)
    world = aborted(backend, log, [(25.1, blocked_send(log, X))], prepare=prepare)
    assert world.timeline == [(0, START), (15, PING)]
    assert log == [
        (25 + BOUNDARY_TIMEOUT, "the stream has been ended: aborted"),
        (25 + APP_EXIT_TIMEOUT, "cancelled"),
    ]


def test_an_end_that_the_server_refuses_is_no_error_of_anybodys(backend, log):
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


# what a gone client looks like


def test_a_pending_receive_hears_of_the_end_and_so_does_every_later_one(backend, log):
    async def ask_thrice(scope, receive, send):
        assert (await receive())["type"] == "http.request"
        for _ in range(3):
            log.add((await receive())["type"])

    aborted(backend, log, [(1, ask_thrice)])
    assert log == [(25, "http.disconnect")] * 3


def test_an_app_that_asks_only_then_hears_of_the_end_too(backend, log):
    """Nobody else has listened yet: it is before the first poll."""

    async def ask(scope, receive, send):
        for _ in range(2):
            log.add((await receive())["type"])

    aborted(backend, log, [(1, log.listen)], at=0.5, drain=0)
    aborted(backend, log, [(1, ask)], at=0.5, drain=0)
    assert log == [(1, "http.disconnect")] * 3


def test_an_app_that_only_sends_hears_of_the_end_by_an_error(backend, log):
    async def only_send(scope, receive, send):
        for _ in range(2):
            with pytest.raises(OSError, match="has been ended: aborted"):
                while True:
                    await send(body(X))
                    await anyio.sleep(1)
            log.add("gone")

    world = aborted(backend, log, [(0.5, only_send)])
    assert log == [(25.5, "gone")] * 2
    assert world.timeline[-3:] == [(24.5, X), (25, BYE), (25, END)]


def test_a_send_that_waits_for_the_end_meets_that_error(backend, log):
    async def send_beside_it(scope, receive, send):
        with pytest.raises(OSError, match="has been ended"):
            await send(body(X))
        log.add("gone")

    prepare = slow_to_send(BYE, 0.3, log)
    world = aborted(backend, log, [(25.1, send_beside_it)], prepare=prepare)
    assert world.timeline[2:] == [(25.3, BYE), (25.3, END)]
    assert log == [(25.3, "gone")]


async def send_in_vain(scope, receive, send):
    while True:
        await send(body(X))
        await anyio.sleep(1)


async def send_in_vain_in_a_group(scope, receive, send):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_in_vain, scope, receive, send)
        tasks.start_soon(send_in_vain, scope, receive, send)


@pytest.mark.parametrize("app", [send_in_vain, send_in_vain_in_a_group])
def test_that_error_goes_no_further_than_the_middleware(backend, log, app):
    world = aborted(backend, log, [(0.5, app)])
    assert world.timeline[-2:] == [(25, BYE), (25, END)]
    assert world.ended.error is None


def test_an_error_of_the_apps_own_comes_out_bare_after_the_end(backend, log):
    error = ZeroDivisionError("mine")

    async def fail(scope, receive, send):
        await log.listen(scope, receive, send)
        raise error

    world = aborted(backend, log, [(1, fail)], raises=ZeroDivisionError)
    assert (world.ended.reason, world.ended.error) == (StopReason.ABORTED, None)
    assert error.__context__ is None


def test_an_error_of_the_apps_own_comes_out_bare_without_an_end(backend, log):
    error = ZeroDivisionError("mine")

    async def fail(scope, receive, send):
        raise error

    world = play(backend, [(1, fail)], drain=5, raises=ZeroDivisionError)
    assert (world.ended.reason, world.ended.error) == (StopReason.APP_FAILED, error)
    assert error.__context__ is None


def test_an_os_error_of_the_apps_own_is_not_the_middlewares(backend, log):
    async def fail(scope, receive, send):
        await log.listen(scope, receive, send)
        raise ConnectionResetError("of a database, say")

    aborted(backend, log, [(1, fail)], raises=ConnectionResetError)


def test_what_is_still_sent_when_the_call_is_over_reaches_nobody(backend, log):
    """As from the inner tasks that Quart and Django leave behind."""
    late = []

    async def listen(scope, receive, send):
        late.extend((receive, send))
        await log.listen(scope, receive, send)

    world = aborted(backend, log, [(1, listen)])
    before = world.timeline

    async def main():
        receive, send = late
        await send(body(X))
        assert await receive() == {"type": "http.disconnect"}

    run(backend, main)
    assert world.timeline == before


def test_an_app_that_bounds_its_sends_may_give_up_the_end_as_well(backend, log):
    """It is the app's own task that ends the stream, behind its event."""

    async def send_briefly(scope, receive, send):
        for payload in (b"data: a\n", b"\n", X):
            with anyio.move_on_after(0.1):
                try:
                    await send(body(payload))
                except OSError:
                    log.add("gone")
            await anyio.sleep(0.1)
        await log.stay(scope, receive, send)

    for blocked in (BYE, b""):
        prepare = slow_to_send(blocked, 10**6, log)
        world = aborted(backend, log, [(24.95, send_briefly)], prepare=prepare)
        sent = [(25.05, b"\n"), *([(25.05, BYE)] if blocked == b"" else [])]
        assert world.timeline[2:] == [(24.95, b"data: a\n"), *sent]
        assert [what for _, what in log] == ["gone", "cancelled"]
        log.clear()


@pytest.mark.parametrize("limits", [{"drain": 1}, {"send_timeout": 5}])
def test_a_send_that_outlasts_the_call_leaves_nothing_behind(backend, log, limits):
    """As of an inner task that a framework does not wait for."""
    errors = []

    async def main():
        world = World()
        prepare(world)

        async def app(scope, receive, send):
            async def send_late():
                try:
                    await send(body(b"data: late\n\n"))
                except OSError as error:
                    errors.append((world.now(), str(error)))

            await send(start())
            tasks.start_soon(send_late)
            middleware.shutdown()
            await world.sleep_until(1.2)

        middleware = KeepaliveMiddleware(app, **limits)
        async with anyio.create_task_group() as tasks:
            await middleware(http(), world.receive, world.send)
        await settle()
        assert world.timeline == [(0, START), *sent]

    slow = 3 if "drain" in limits else 10
    sent = [(3, b"data: late\n\n")] if "drain" in limits else []
    prepare = slow_to_send(b"data: late\n\n", slow, log)
    run(backend, main)
    said = [] if "drain" in limits else [(5, "the stream has been ended: shutdown")]
    assert errors == said


@pytest.mark.parametrize("turns", range(6))
def test_a_call_that_is_over_as_its_end_is_written(backend, turns):
    async def main():
        world, controller = World(), AbortController()
        written, done = anyio.Event(), anyio.Event()

        async def send(message):
            if message["type"] == "http.response.body" and not message["more_body"]:
                await written.wait()

        async def app(scope, receive, send):
            await send(start())
            await done.wait()

        async def abort():
            await world.sleep_until(20)
            controller.abort()
            await world.sleep_until(25.1)
            written.set()
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            done.set()

        app = KeepaliveMiddleware(app, drain=5, abort=controller.signal)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(abort)
            await app(http(), world.receive, send)
        await settle()
        assert tasks_left() == 0

    for _ in range(5):  # trio runs its tasks in any order
        run(backend, main)


def test_what_is_left_of_a_call_opens_no_stream(backend, log):
    async def main():
        sends, world = [], World()

        async def app(scope, receive, send):
            sends.append(send)

        middleware = KeepaliveMiddleware(app, drain=5, max_lifetime=10, observer=log.append)
        await middleware(http(), world.receive, world.send)
        await sends[0](start())
        assert world.timeline == [(0, START)]
        assert log == []
        await middleware._config.in_flight.shut_down()
        assert world.now() == 0

    run(backend, main)


def test_a_late_receive_gets_the_disconnect(backend, log):
    """By a call whose app had not asked before."""
    receives = []

    async def send_only(scope, receive, send):
        receives.append(receive)
        with pytest.raises(OSError, match="has been ended"):
            while True:
                await send(body(X))
                await anyio.sleep(1)

    aborted(backend, log, [(0.5, send_only)], at=3, drain=0)

    async def main():
        assert await receives[0]() == {"type": "http.disconnect"}

    run(backend, main)


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
def test_an_error_that_a_framework_raises_in_its_place_goes_no_further_either(
    backend, log, spec
):
    """Starlette turns it into its own where the server says that a send may raise."""
    responses = pytest.importorskip("starlette.responses")

    async def news():
        while True:
            yield X
            await anyio.sleep(0.3)

    def wrap(_, **options):
        response = responses.StreamingResponse(news(), media_type="text/event-stream")
        return KeepaliveMiddleware(response, **options)

    scope = http(asgi={"version": "3.0", "spec_version": spec})
    world = aborted(backend, log, [], wrap=wrap, scope=scope)
    assert world.timeline[-2:] == [(25, BYE), (25, END)] or world.timeline[-3:-1] == [
        (world.timeline[-1][0], X), (world.timeline[-1][0], BYE)
    ]  # fmt: skip
    assert 25 <= world.timeline[-1][0] < 25.5


@pytest.mark.parametrize("why", ["disconnected", "write_failed"])
def test_work_behind_an_apps_own_end_is_not_cancelled_by_a_shutdown(backend, log, why):
    """Though its pings had stopped for another reason before."""

    def prepare(world):
        log.prepare(world)
        if why == "disconnected":
            world.leave_at = 17
        else:
            world.failing = lambda message: (
                ValueError("no") if message.get("body") == PING else None
            )

    async def background(scope, receive, send):
        await anyio.sleep(100)
        log.add("done")

    steps = [(18, X), (18, END), (18, background)]
    shut_down(backend, log, steps, prepare=prepare)
    assert log == [(118, "done")]


# cancellation


def test_an_app_that_stops_by_itself_is_not_cancelled(backend, log):
    async def stop_slowly(scope, receive, send):
        await log.listen(scope, receive, send)
        await anyio.sleep(0.9 * APP_EXIT_TIMEOUT)
        log.add("stopped")

    aborted(backend, log, [(1, stop_slowly)])
    assert log == [(25, "http.disconnect"), (25 + 0.9 * APP_EXIT_TIMEOUT, "stopped")]


def test_on_asyncio_the_clean_up_of_a_cancelled_app_may_wait(log):
    async def clean_up(scope, receive, send):
        try:
            await anyio.sleep(10**6)
        finally:
            await anyio.sleep(3)
            log.add("clean")
            assert asyncio.current_task().cancelling() == 1

    aborted("asyncio", log, [(1, clean_up)])
    assert log == [(25 + APP_EXIT_TIMEOUT + 3, "clean")]


def test_on_trio_the_clean_up_of_a_cancelled_app_may_wait_in_a_shield(log):
    async def clean_up(scope, receive, send):
        try:
            await anyio.sleep(10**6)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(3)
                log.add("clean")

    aborted("trio", log, [(1, clean_up)])
    assert log == [(25 + APP_EXIT_TIMEOUT + 3, "clean")]


def test_an_app_that_survives_its_cancellation_may_return(backend, log):
    async def survive(scope, receive, send):
        try:
            await anyio.sleep(10**6)
        except CANCELLED:
            log.add("survived")

    aborted(backend, log, [(1, survive)])
    assert log == [(25 + APP_EXIT_TIMEOUT, "survived")]


@pytest.mark.parametrize("when", [22, 25.2, 25 + APP_EXIT_TIMEOUT])
def test_a_cancellation_from_outside_passes(backend, log, when):
    async def main():
        world = World()
        log.prepare(world)
        controller = AbortController()

        async def app(scope, receive, send):
            await send(start())
            await log.stay(scope, receive, send)

        app = KeepaliveMiddleware(app, abort=controller.signal, drain=5)
        async with anyio.create_task_group() as tasks:

            async def abort():
                await world.sleep_until(20)
                controller.abort()

            tasks.start_soon(abort)
            with anyio.CancelScope(deadline=anyio.current_time() + when) as scope:
                await app(http(), world.receive, world.send)
        if when < 25 + APP_EXIT_TIMEOUT:
            assert scope.cancelled_caught
        assert log == [(when, "cancelled")]

    run(backend, main)


def stuck(controller):
    """Return an app that aborts its stream, and then stays forever."""

    async def app(scope, receive, send):
        await send(start())
        controller.abort()
        await asyncio.sleep(10**6)

    return app


def test_the_task_is_not_left_cancelled():
    """asyncio counts who has cancelled a task; what comes behind must not be misled."""

    async def main():
        controller = AbortController()
        world = World()
        app = KeepaliveMiddleware(stuck(controller), abort=controller.signal, drain=0)
        async with asyncio.timeout(100):
            await app(http(), world.receive, world.send)
            assert asyncio.current_task().cancelling() == 0
        await settle()

    run("asyncio", main)


def test_a_task_that_was_cancelled_before_is_none_of_the_middlewares_business():
    """asyncio counts that too: it says no more than that somebody has swallowed it."""

    async def main():
        controller = AbortController()
        task = asyncio.current_task()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        world = World()
        app = KeepaliveMiddleware(stuck(controller), abort=controller.signal, drain=0)
        await app(http(), world.receive, world.send)
        assert task.cancelling() == 1
        task.uncancel()

    run("asyncio", main)


def test_a_task_that_somebody_else_cancels_too_is_cancelled(log):
    async def main():
        controller = AbortController()

        async def app(scope, receive, send):
            await send(start())
            controller.abort()
            try:
                await asyncio.sleep(10**6)
            finally:
                asyncio.current_task().cancel()

        world = World()
        app = KeepaliveMiddleware(app, abort=controller.signal, drain=0)
        await app(http(), world.receive, world.send)

    with pytest.raises(asyncio.CancelledError):
        run("asyncio", main)


def test_a_shutdown_ends_the_streams_of_several_loops_in_several_threads(backend):
    opened, worlds = threading.Barrier(4), []

    async def app(scope, receive, send):
        await send(start())
        opened.wait(20)
        while (await receive())["type"] != "http.disconnect":
            pass

    middleware = KeepaliveMiddleware(app, drain=5, farewell=FAREWELL)

    async def serve():
        worlds.append(World())
        await middleware(http(), worlds[-1].receive, worlds[-1].send)

    threads = [threading.Thread(target=run, args=(backend, serve)) for _ in range(3)]
    for thread in threads:
        thread.start()
    opened.wait(20)
    middleware.shutdown()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    for world in worlds:
        assert [what for _, what in world.timeline if what != PING] == [START, BYE, END]
    assert not middleware._config.in_flight


# the client


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
    """The loop hears of it when the call is over."""
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
def test_what_a_client_left_behind_does_not_outlast_a_shutdown(backend, log, leave_at):
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


def test_a_shutdown_while_a_stream_is_given_up_prolongs_nothing(backend, log):
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


# many streams


def ends_of(backend, count, *, listening=False, signal=None, **options):
    """Return when each of some streams has ended that were all stopped at 20."""

    async def main():
        worlds = [World() for _ in range(count)]
        controller = AbortController()

        async def app(scope, receive, send):
            if listening:
                assert not get_stream(scope).signal.aborted
            await send(start())
            while (await receive())["type"] != "http.disconnect":
                pass

        if signal is not None:
            options["abort"] = signal(controller)
        app = KeepaliveMiddleware(app, **options)
        async with anyio.create_task_group() as tasks:
            for world in worlds:
                tasks.start_soon(app, http(), world.receive, world.send)
            await worlds[0].sleep_until(20)
            controller.abort() if signal else app.shutdown()
        assert scheduled_streams() == 0
        return sorted(dict(map(reversed, world.timeline))[END] for world in worlds)

    return run(backend, main)


@pytest.mark.parametrize("signal", [None, lambda controller: controller.signal])
def test_the_ends_of_many_are_spread_over_the_second_half_of_the_drain(backend, signal):
    """A herd of clients that come back in the same instant would be a fault."""
    ends = ends_of(backend, 200, drain=10, signal=signal)
    assert 25 <= ends[0] < 26
    assert 29 < ends[-1] <= 30
    assert len(set(ends)) > 150
    assert max(b - a for a, b in pairwise(ends)) < 1


def test_a_stream_that_stands_alone_has_the_whole_drain(backend):
    for _ in range(10):
        assert ends_of(backend, 1, drain=10) == [30]


def test_apps_that_have_asked_for_their_signal_have_the_whole_drain(backend):
    assert ends_of(backend, 20, drain=10, listening=True) == [30] * 20


def test_streams_that_are_stopped_one_by_one_have_the_whole_drain(backend):
    def own_signals(controller):
        return lambda _: controller.signal

    assert ends_of(backend, 20, drain=10, signal=own_signals) == [30] * 20


# fine print


def test_a_last_body_within_an_event_has_its_own_time(backend, log):
    prepare = slow_to_send(b"", 0.2, log)
    world = aborted(backend, log, [(24, b"data: half\n"), (24, log.listen)], prepare=prepare)
    assert world.timeline[-1] == (25 + BOUNDARY_TIMEOUT + 0.2, END)


def test_a_non_listening_app_whose_client_leaves_after_a_shutdown_has_no_longer(backend, log):
    shut_down(backend, log, [(1, log.stay)], prepare=leaves_at(22, log))
    assert log == [(25 + APP_EXIT_TIMEOUT, "cancelled")]


def test_the_end_waits_for_all_of_an_event(backend, log):
    steps = [(24, b"data: a\n"), (25.2, b"data: b\n"), (25.3, b"\n"), (25.3, log.listen)]
    world = aborted(backend, log, steps)
    assert world.timeline[-4:] == [
        (25.2, b"data: b\n"),
        (25.3, b"\n"),
        (25.3, BYE),
        (25.3, END),
    ]


def test_what_is_over_is_not_kept(backend, log):
    async def look(scope, receive, send):
        for _ in range(3):
            await send(body(X))
        assert not scope["asgi-keepalive"].server_send.__self__._calls
        await receive()
        assert not scope["asgi-keepalive"].server_send.__self__._calls

    play(backend, [(1, look)], drain=5)


def test_a_second_stop_ends_nothing_more(backend, log):
    async def background(scope, receive, send):
        get_stream(scope).abort()
        await anyio.sleep(100)
        log.add("done")

    aborted(backend, log, [(22, X), (24, END), (24, background)])
    assert log == [(124, "done")]


def test_a_shutdown_ends_no_background_task_of_a_complete_response(backend, log):
    async def background(scope, receive, send):
        await anyio.sleep(100)
        log.add("done")

    shut_down(backend, log, [(22, X), (24, END), (24, background)], at=30)
    assert log == [(124, "done")]


def test_a_stream_that_is_over_no_longer_listens_for_a_shutdown(backend, log):
    made = []

    def wrap(app, **options):
        made.append(KeepaliveMiddleware(app, **options))
        return made[0]

    play(backend, [(20, X)], prepare=leaves_at(17, log), wrap=wrap, drain=5)
    assert not made[0]._config.stop_signal._callbacks


def test_a_lifetime_that_was_dropped_is_forgotten(backend, log, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    shut_down(backend, log, [(1, log.stay)], prepare=leaves_at(17, log), max_lifetime=18)
    assert log == [(25 + APP_EXIT_TIMEOUT, "cancelled")]


def test_an_end_that_is_refused_is_logged(backend, log, caplog):
    caplog.set_level("DEBUG", "keepalive")

    def prepare(world):
        log.prepare(world)
        world.failing = lambda m: ValueError("no") if m.get("body") == BYE else None

    aborted(backend, log, [(1, log.listen)], prepare=prepare)
    assert "a stream could not be ended cleanly" in [r.message for r in caplog.records]


def test_no_end_beside_a_ping(backend, log):
    prepare = slow_to_send(PING, 10**6, log)
    world = aborted(backend, log, [(1, log.listen)], prepare=prepare)
    assert world.timeline == [(0, START)]
    assert log == [(25 + BOUNDARY_TIMEOUT, "http.disconnect")]


def test_a_farewell_stands_between_events_wherever_pings_may_stand(backend, log):
    steps = [(24, b"data: a\n"), (25.3, b"\n"), (25.3, log.listen)]
    world = aborted(backend, log, steps, ping=Ping.comment())
    assert world.timeline[-3:] == [(25.3, b"\n"), (25.3, BYE), (25.3, END)]


def test_on_asyncio_a_second_cancellation_that_arrives_passes(log):
    async def clean_up(scope, receive, send):
        try:
            await anyio.sleep(10**6)
        finally:
            asyncio.current_task().cancel()
            await asyncio.sleep(1)

    async def main():
        world = World()

        async def app(scope, receive, send):
            await send(start())
            await clean_up(scope, receive, send)

        app = KeepaliveMiddleware(app, drain=0)
        app.shutdown()
        with pytest.raises(asyncio.CancelledError):
            await app(http(), world.receive, world.send)

    run("asyncio", main)


def test_what_a_cancelled_app_raises_comes_out(backend, log):
    async def fail(scope, receive, send):
        try:
            await anyio.sleep(10**6)
        except CANCELLED:
            raise ZeroDivisionError from None

    aborted(backend, log, [(1, fail)], raises=ZeroDivisionError)


def test_who_left_when_pings_had_failed_and_all_was_shut_down_is_cancelled_behind_that(
    backend, log
):
    """The reason is the ping's failure; the shutdown still has its due."""

    def prepare(world):
        leaves_at(22, log)(world)
        world.failing = lambda message: ValueError() if message.get("body") == PING else None

    world = shut_down(backend, log, [(0, log.stay)], prepare=prepare)
    assert world.ended.reason == StopReason.WRITE_FAILED
    assert log == [(26, "cancelled")]
