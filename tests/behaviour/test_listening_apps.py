"""An app that listens can't tell an end by the middleware from a client that disconnects.

Real servers tell such an app `http.disconnect` and silently discard what it still sends.
"""

import asyncio

import anyio
import pytest
from support.endings import BYE, CANCELLED, FAREWELL, X, aborted, shut_down, slow_to_send
from support.harness import END, PING, World, body, http, play, run, settle, start

from keepalive import KeepaliveMiddleware, StopReason

pytestmark = pytest.mark.timeout(20)

ENDED_AT = 25
CANCELLED_AT = ENDED_AT + 1
LATE = b"data: late\n\n"


def outlived(backend, log, steps, **options):
    """Play an app whose stream reaches its `max_lifetime`, with a farewell."""
    options = {
        "max_lifetime": ENDED_AT,
        "farewell": FAREWELL,
        "prepare": log.prepare,
    } | options
    return play(backend, steps, **options)


@pytest.fixture(params=[aborted, shut_down, outlived], ids=["abort", "shutdown", "lifetime"])
def ended(request, monkeypatch):
    """Play an app whose stream the middleware ends at 25, for one reason or another."""
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    return request.param


def is_clean(world):
    """Whether the server was given the farewell and the last body at 25, and nothing later."""
    return world.timeline[-2:] == [(ENDED_AT, BYE), (ENDED_AT, END)]


async def is_disconnected(receive):
    """Poll, as Starlette's `request.is_disconnected()` does."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        return (await receive())["type"] == "http.disconnect"
    return False


# sends of a listening app are discarded


def test_the_sends_of_an_app_that_waits_in_receive_are_discarded(ended, backend, log):
    async def send_until_told(scope, receive, send):
        async with anyio.create_task_group() as tasks:

            async def hear():
                await log.listen(scope, receive, send)
                await anyio.sleep(0.6)  # the sender is stopped a little later
                tasks.cancel_scope.cancel()

            tasks.start_soon(hear)
            while True:
                await send(body(X))
                await anyio.sleep(0.25)
        log.add("stopped")

    world = ended(backend, log, [(20.1, send_until_told)])
    assert log == [(ENDED_AT, "http.disconnect"), (ENDED_AT + 0.6, "stopped")]
    assert is_clean(world)


@pytest.mark.parametrize("turns", range(8))
def test_sends_in_the_turns_around_the_end_are_discarded_too(ended, backend, log, turns):
    async def send_at_that_moment(scope, receive, send):
        async with anyio.create_task_group() as tasks:

            async def hear():
                await log.listen(scope, receive, send)
                for _ in range(20):  # as nested middlewares take some turns to pass it on
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()

            tasks.start_soon(hear)
            await log.world.sleep_until(ENDED_AT)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            for _ in range(5):
                await send(body(LATE))
                await anyio.lowlevel.checkpoint()
        log.add("stopped")

    world = ended(backend, log, [(1, send_at_that_moment)])
    assert log == [(ENDED_AT, "http.disconnect"), (ENDED_AT, "stopped")]
    assert is_clean(world)


def test_the_sends_of_an_app_that_polls_are_discarded(ended, backend, log):
    async def send_and_poll(scope, receive, send):
        await receive()
        while not await is_disconnected(receive):
            await anyio.sleep(1)
            await send(body(X))
        log.add("told")

    world = ended(backend, log, [(0.5, send_and_poll)])
    assert log == [(ENDED_AT + 0.5, "told")]
    assert is_clean(world)


def test_the_sends_of_an_app_whose_receive_has_timed_out_are_discarded(ended, backend, log):
    async def send_and_wait_a_moment(scope, receive, send):
        await receive()
        while True:
            with anyio.move_on_after(0.2):
                log.add((await receive())["type"])
                return
            await anyio.sleep(0.3)
            await send(body(X))

    world = ended(backend, log, [(0.6, send_and_wait_a_moment)])
    # At 24.8 its receive() has timed out, at 25.1 it sends.
    assert log == [(ENDED_AT + 0.1, "http.disconnect")]
    assert is_clean(world)


def test_the_sends_of_other_tasks_of_a_listening_app_are_discarded(ended, backend, log):
    async def send_from_two_tasks(scope, receive, send):
        async def send_late():
            for when in (25.1, 25.2, 25.3):
                await log.world.sleep_until(when)
                await send(body(LATE))
            log.add("sent")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send_late)
            tasks.start_soon(send_late)
            await log.listen(scope, receive, send)

    world = ended(backend, log, [(1, send_from_two_tasks)])
    assert log == [(ENDED_AT, "http.disconnect"), (25.3, "sent"), (25.3, "sent")]
    assert is_clean(world)


def test_a_send_that_is_blocked_when_the_stream_is_ended_returns(ended, backend, log):
    """If its app listens."""

    async def be_blocked(scope, receive, send):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.listen, scope, receive, send)
            await send(body(LATE))
            log.add("returned")

    prepare = slow_to_send(LATE, 10**6, log)
    world = ended(backend, log, [(22, be_blocked)], prepare=prepare)
    assert sorted(what for _, what in log) == ["http.disconnect", "returned"]
    assert all(ENDED_AT < when < CANCELLED_AT for when, _ in log)
    assert LATE not in world.body


def test_a_send_that_waits_for_the_farewell_returns(ended, backend, log):
    """If its app listens."""

    async def send_beside_it(scope, receive, send):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.listen, scope, receive, send)
            await log.world.sleep_until(25.1)
            await send(body(LATE))
            log.add("returned")

    prepare = slow_to_send(BYE, 0.3, log)
    world = ended(backend, log, [(1, send_beside_it)], prepare=prepare)
    assert sorted(log) == [(25.3, "http.disconnect"), (25.3, "returned")]
    assert world.timeline[-2:] == [(25.3, BYE), (25.3, END)]


def test_a_last_body_that_comes_too_late_is_discarded(ended, backend, log):
    async def complete_late(scope, receive, send):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.listen, scope, receive, send)
            await log.world.sleep_until(25.1)
            await send(body(LATE, more=False))
            log.add("returned")

    world = ended(backend, log, [(1, complete_late)])
    assert log == [(ENDED_AT, "http.disconnect"), (25.1, "returned")]
    assert is_clean(world)


def test_what_is_sent_when_a_listening_apps_call_is_over_is_discarded(ended, backend, log):
    """As from tasks that frameworks leave behind."""
    late = []

    async def listen(scope, receive, send):
        late.append(send)
        await log.listen(scope, receive, send)

    world = ended(backend, log, [(1, listen)])
    before = world.timeline

    async def main():
        await late[0](body(LATE))

    run(backend, main)
    assert world.timeline == before


# a discarded send gives way to other tasks, once


def test_a_discarded_send_yields_to_the_event_loop_once(ended, backend, log):
    sends, turns = 200, 0

    async def send_without_a_pause(scope, receive, send):
        async def count():
            nonlocal turns
            while True:
                await anyio.lowlevel.checkpoint()
                turns += 1

        await log.listen(scope, receive, send)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            for _ in range(sends):
                await send(body(X))
            tasks.cancel_scope.cancel()

    world = ended(backend, log, [(1, send_without_a_pause)])
    assert abs(turns - sends) <= 10
    assert is_clean(world)


def test_an_app_that_sends_without_a_pause_does_not_stop_the_event_loop(ended, backend, log):
    """Its other task takes some turns to stop it, which it must be given."""
    sends_after_the_end = 0

    async def send_and_send(scope, receive, send):
        nonlocal sends_after_the_end
        told = anyio.Event()

        async def hear():
            await log.listen(scope, receive, send)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            told.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hear)
            while not told.is_set():
                sends_after_the_end += bool(log)
                assert sends_after_the_end < 1000, "nobody else gets a turn"
                await send(body(X))

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 0.01  # a client that is slower than the app

    world = ended(backend, log, [(24, send_and_send)], prepare=prepare)
    assert 0 < sends_after_the_end < 50
    assert world.timeline[-1][1] == END
    assert world.timeline[-2][1] == BYE


def test_a_discarded_send_is_shielded_from_cancellation(ended, backend, log):
    async def send_when_cancelled(scope, receive, send):
        await log.listen(scope, receive, send)
        with anyio.CancelScope() as cancelled:
            cancelled.cancel()
            await send(body(X))
            log.add("returned")

    ended(backend, log, [(1, send_when_cancelled)])
    assert log == [(ENDED_AT, "http.disconnect"), (ENDED_AT, "returned")]


# other apps


def test_an_app_that_never_receives_gets_an_error(ended, backend, log):
    async def only_send(scope, receive, send):
        for _ in range(2):
            with pytest.raises(OSError, match="has been ended"):
                while True:
                    await send(body(X))
                    await anyio.sleep(1)
            log.add("error")

    world = ended(backend, log, [(0.5, only_send)])
    assert log == [(ENDED_AT + 0.5, "error")] * 2
    assert is_clean(world)


def test_an_app_that_has_received_its_request_and_no_more_gets_an_error(ended, backend, log):
    async def read_and_send(scope, receive, send):
        assert (await receive())["type"] == "http.request"
        with pytest.raises(OSError, match="has been ended"):
            while True:
                await send(body(X))
                await anyio.sleep(1)
        log.add("error")

    world = ended(backend, log, [(0.5, read_and_send)])
    assert log == [(ENDED_AT + 0.5, "error")]
    assert is_clean(world)


def test_a_blocked_send_of_an_app_that_never_receives_raises(ended, backend, log):
    async def be_blocked(scope, receive, send):
        with pytest.raises(OSError, match="has been ended"):
            await send(body(LATE))
        log.add("error")

    prepare = slow_to_send(LATE, 10**6, log)
    ended(backend, log, [(22, be_blocked)], prepare=prepare)
    ((when, what),) = log
    assert what == "error"
    assert ENDED_AT < when < CANCELLED_AT


# who is cancelled, a second later


def note_cancellation(log):
    """Return a function that stays busy for some seconds, and notes if it may not."""

    async def work(seconds):
        try:
            await anyio.sleep(seconds)
            log.add("done")
        except CANCELLED:
            log.add("cancelled")
            raise

    return work


def test_the_background_work_of_an_app_that_was_told_runs_to_its_end(ended, backend, log):
    async def listen_and_work(scope, receive, send):
        await log.listen(scope, receive, send)
        await note_cancellation(log)(3)

    world = ended(backend, log, [(1, listen_and_work)])
    assert log == [(ENDED_AT, "http.disconnect"), (ENDED_AT + 3, "done")]
    assert is_clean(world)


def test_an_app_that_is_notified_when_it_next_asks_is_not_cancelled(ended, backend, log):
    """It did not wait in `receive()` when the stream was ended, but asks soon afterwards."""

    async def ask_late(scope, receive, send):
        await receive()
        await log.world.sleep_until(ENDED_AT + 0.5)
        await log.listen(scope, receive, send)
        await note_cancellation(log)(3)

    ended(backend, log, [(1, ask_late)])
    assert log == [(ENDED_AT + 0.5, "http.disconnect"), (ENDED_AT + 3.5, "done")]


def test_what_an_app_sends_before_it_has_reacted_does_not_have_it_cancelled(
    ended, backend, log
):
    """Frameworks need some turns of the loop to stop whatever sends."""

    async def react_slowly(scope, receive, send):
        await log.listen(scope, receive, send)
        for _ in range(5):
            await send(body(X))
        await note_cancellation(log)(3)

    ended(backend, log, [(1, react_slowly)])
    assert log == [(ENDED_AT, "http.disconnect"), (ENDED_AT + 3, "done")]


def test_an_app_that_was_told_and_goes_on_sending_is_cancelled(ended, backend, log):
    async def go_on(scope, receive, send):
        await log.listen(scope, receive, send)
        try:
            while True:
                await send(body(X))
                await anyio.sleep(0.1)
        except CANCELLED:
            log.add("cancelled")
            raise

    world = ended(backend, log, [(1, go_on)])
    assert log == [(ENDED_AT, "http.disconnect"), (CANCELLED_AT, "cancelled")]
    assert is_clean(world)


def test_an_app_that_was_not_told_is_cancelled(ended, backend, log):
    ended(backend, log, [(1, log.stay)])
    assert log == [(CANCELLED_AT, "cancelled")]


def test_an_app_that_polls_no_more_was_not_told_and_is_cancelled(ended, backend, log):
    async def poll_once(scope, receive, send):
        await receive()
        assert not await is_disconnected(receive)
        await log.stay(scope, receive, send)

    ended(backend, log, [(1, poll_once)])
    assert log == [(CANCELLED_AT, "cancelled")]


def test_an_app_that_listened_and_was_cut_off_by_an_error_is_cancelled(ended, backend, log):
    """An app that never receives is told by its send() alone, and may not stay."""

    async def ignore_the_error(scope, receive, send):
        with pytest.raises(OSError, match="has been ended"):
            while True:
                await send(body(X))
                await anyio.sleep(1)
        await note_cancellation(log)(3)

    ended(backend, log, [(0.5, ignore_the_error)])
    assert log == [(CANCELLED_AT, "cancelled")]


# after a send_timeout


def timed_out(backend, log, step):
    """Play an app whose send blocks at 20, and whose `send_timeout` is over at 25."""
    prepare = slow_to_send(LATE, 10**6, log)
    world = play(backend, [(20, step)], prepare=prepare, send_timeout=5)
    assert world.ended.reason is StopReason.SEND_TIMEOUT
    return world


def test_after_a_send_timeout_a_listening_app_is_notified_and_its_send_returns(backend, log):
    async def be_blocked(scope, receive, send):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.listen, scope, receive, send)
            for _ in range(3):
                await send(body(LATE))
            log.add("returned")
        await note_cancellation(log)(3)

    world = timed_out(backend, log, be_blocked)
    assert sorted(log) == [(25, "http.disconnect"), (25, "returned"), (28, "done")]
    assert LATE not in world.body


def test_after_a_send_timeout_any_other_app_gets_an_error_and_is_cancelled(backend, log):
    async def be_blocked(scope, receive, send):
        for _ in range(2):
            with pytest.raises(OSError, match="has been ended: send_timeout"):
                await send(body(LATE))
            log.add("error")
        await log.stay(scope, receive, send)

    timed_out(backend, log, be_blocked)
    assert log == [(25, "error"), (25, "error"), (26, "cancelled")]


def test_a_ping_that_times_out_notifies_a_listening_app(backend, log):
    async def listen_and_send(scope, receive, send):
        await log.listen(scope, receive, send)
        await send(body(X))
        log.add("returned")
        await note_cancellation(log)(3)

    prepare = slow_to_send(PING, 10**6, log)
    world = play(backend, [(1, listen_and_send)], prepare=prepare, send_timeout=5)
    assert log == [(20, "http.disconnect"), (20, "returned"), (23, "done")]
    assert world.ended.reason is StopReason.SEND_TIMEOUT


# lifespan


def test_background_work_holds_lifespan_shutdown_back_no_longer_than_before(backend, log):
    """The limit is the drain and two seconds; the work itself goes on."""

    async def main():
        world, heard = World(), []
        log.prepare(world)

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                assert (await receive())["type"] == "lifespan.shutdown"
                heard.append(world.now())
                return
            await send(start())
            await log.listen(scope, receive, send)
            await note_cancellation(log)(5)

        async def tell():
            await world.sleep_until(20)
            return {"type": "lifespan.shutdown"}

        middleware = KeepaliveMiddleware(app, drain=5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(middleware, http(), world.receive, world.send)
            await middleware({"type": "lifespan"}, tell, None)
        await settle()
        return heard

    assert run(backend, main) == [27]
    assert log == [(25, "http.disconnect"), (30, "done")]


def test_an_app_that_polled_and_then_reads_its_request_does_not_listen(ended, backend, log):
    async def poll_and_read(scope, receive, send):
        await receive()
        assert not await is_disconnected(receive)
        log.world.requests.append({"type": "http.request", "body": b"", "more_body": False})
        assert (await receive())["type"] == "http.request"
        with pytest.raises(OSError, match="has been ended"):
            while True:
                await send(body(X))
                await anyio.sleep(1)
        log.add("error")

    ended(backend, log, [(0.5, poll_and_read)])
    assert log == [(ENDED_AT + 0.5, "error")]


def test_one_of_two_receivers_is_enough(ended, backend, log):
    """The first to return cancels the other, as anyio's task groups do."""

    async def listen_twice(scope, receive, send):
        async with anyio.create_task_group() as tasks:

            async def listen():
                await log.listen(scope, receive, send)
                tasks.cancel_scope.cancel()

            tasks.start_soon(listen)
            tasks.start_soon(listen)
        await note_cancellation(log)(3)

    ended(backend, log, [(1, listen_twice)])
    assert log[0] == (ENDED_AT, "http.disconnect")
    assert log[-1] == (ENDED_AT + 3, "done")


def test_a_receiver_that_is_cancelled_when_another_has_returned_changes_nothing(ended, log):
    """As Quart does: on asyncio a task that is about to return can still be cancelled."""

    async def listen_in_tasks(scope, receive, send):
        async def listen():
            await log.listen(scope, receive, send)
            second.cancel()

        first = asyncio.ensure_future(listen())
        second = asyncio.ensure_future(receive())
        await first
        await note_cancellation(log)(3)

    ended("asyncio", log, [(1, listen_in_tasks)])
    assert log == [(ENDED_AT, "http.disconnect"), (ENDED_AT + 3, "done")]
