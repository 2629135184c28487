"""Which apps are cancelled after the end of their streams, and which are not."""

import asyncio
import contextlib
import threading

import anyio
import pytest
import trio
from support.endings import BYE, CANCELLED, FAREWELL, X, aborted
from support.harness import (
    END,
    PING,
    START,
    World,
    asyncio_running,
    body,
    http,
    run,
    settle,
    start,
)
from support.internals import APP_EXIT_TIMEOUT

from keepalive import AbortController, KeepaliveMiddleware


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


def test_a_task_that_only_sends_is_cancelled_with_its_app(backend, log):
    """As a Starlette response without an `await`, whose client does not read."""

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 10**6 if message.get("body") == X else 0

    async def feed(send):
        try:
            for _ in range(1000):  # a real one has no end
                await send(body(X))
                pass_time(0.01)
            log.add("not cancelled")
        finally:
            log.add("left")

    async def respond(scope, receive, send):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(feed, send)
            await log.listen(scope, receive, send)
            tasks.cancel_scope.cancel()

    aborted(backend, log, [(1, respond)], prepare=prepare)
    (_, notified), (left_at, left) = log
    assert (notified, left) == ("http.disconnect", "left")
    # On trio, the task may already notice the cancellation of its group in the blocked send.
    assert 25 < left_at < 25.1 + APP_EXIT_TIMEOUT


def pass_time(seconds):
    """Let the virtual clock go on, as it does not while a task always has something to do."""
    if asyncio_running():
        asyncio.get_running_loop()._jumping.now += seconds
    else:
        trio.lowlevel.current_clock().jump(seconds)


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
