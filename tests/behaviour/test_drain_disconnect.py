"""An app whose stream the middleware has ended sees a client that has disconnected."""

import anyio
import pytest
from support.endings import BYE, X, aborted, shut_down, slow_to_send
from support.harness import (
    END,
    PING,
    START,
    World,
    body,
    http,
    play,
    run,
    settle,
    start,
    tasks_left,
)

from keepalive import AbortController, KeepaliveMiddleware, StopReason


def test_a_pending_receive_is_notified_of_the_end_and_so_is_every_later_one(backend, log):
    async def ask_thrice(scope, receive, send):
        assert (await receive())["type"] == "http.request"
        for _ in range(3):
            log.add((await receive())["type"])

    aborted(backend, log, [(1, ask_thrice)])
    assert log == [(25, "http.disconnect")] * 3


def test_an_app_that_asks_only_then_is_notified_of_the_end_too(backend, log):
    """Nobody else has listened yet: it is before the first poll."""

    async def ask(scope, receive, send):
        for _ in range(2):
            log.add((await receive())["type"])

    aborted(backend, log, [(1, log.listen)], at=0.5, drain=0)
    aborted(backend, log, [(1, ask)], at=0.5, drain=0)
    assert log == [(1, "http.disconnect")] * 3


def test_an_app_that_only_sends_is_notified_of_the_end_by_an_error(backend, log):
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


def test_an_error_of_the_apps_own_propagates_unchanged_after_the_end(backend, log):
    error = ZeroDivisionError("mine")

    async def fail(scope, receive, send):
        await log.listen(scope, receive, send)
        raise error

    world = aborted(backend, log, [(1, fail)], raises=ZeroDivisionError)
    assert (world.ended.reason, world.ended.error) == (StopReason.ABORTED, None)
    assert error.__context__ is None


def test_an_error_of_the_apps_own_propagates_unchanged_without_an_end(backend, log):
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
def test_work_after_an_apps_own_end_is_not_cancelled_by_a_shutdown(backend, log, why):
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
