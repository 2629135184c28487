"""What `receive()` does when the disconnect has been told: it repeats it, and gives way.

Some servers tell a disconnect once, and wait forever when they are asked again. An app that
goes on asking without a look at the answer does no harm there, nor may it do any here.
"""

import anyio
import pytest
from support.endings import aborted, leaves_at
from support.harness import END, World, http, play, run, start

from keepalive import KeepaliveMiddleware

pytestmark = pytest.mark.timeout(20)

TURNS = 50


async def ask_and_ask(scope, receive, send):
    """Ask forever, until another task has had its turns; fail if it gets none."""
    async with anyio.create_task_group() as tasks:
        asked, done = 0, False

        async def take_turns():
            nonlocal done
            for _ in range(TURNS):
                await anyio.lowlevel.checkpoint()
            done = True

        while (await receive())["type"] != "http.disconnect":
            pass
        tasks.start_soon(take_turns)
        while not done:
            await receive()
            asked += 1
            assert asked < 100 * TURNS, "the event loop stands still"


@pytest.mark.parametrize("policy", [{}, {"drain": 5}, {"start_after": 60}])
@pytest.mark.parametrize("leave_at", [3, 20])
def test_an_app_that_goes_on_asking_does_not_stop_the_event_loop(
    backend, log, policy, leave_at
):
    play(backend, [(1, ask_and_ask)], prepare=leaves_at(leave_at, log), **policy)


def test_nor_does_one_that_asks_when_the_middleware_has_heard_of_the_disconnect(backend, log):
    play(backend, [(30, ask_and_ask)], prepare=leaves_at(20, log))


def test_nor_does_one_whose_stream_the_middleware_has_ended(backend, log):
    aborted(backend, log, [(1, ask_and_ask)])


def test_nor_does_one_that_has_started_no_response(backend, log):
    prepare = leaves_at(3, log)
    play(backend, [(1, ask_and_ask), (5, start()), (5, END)], head=None, prepare=prepare)


async def is_disconnected(receive):
    """Poll, as Starlette's `request.is_disconnected()` does."""
    with anyio.CancelScope() as scope:
        scope.cancel()
        return (await receive())["type"] == "http.disconnect"
    return False


def test_an_app_that_polls_is_notified_at_its_first_poll_and_at_every_later_one(backend, log):
    async def poll(scope, receive, send):
        await receive()
        log.extend([await is_disconnected(receive) for _ in range(3)])

    play(backend, [(30, poll)], prepare=leaves_at(20, log))
    assert log == [True] * 3


def test_starlettes_is_disconnected_is_notified_at_once(backend, log):
    requests = pytest.importorskip("starlette.requests")

    async def poll(scope, receive, send):
        request = requests.Request(scope, receive)
        await request.body()
        log.append(await request.is_disconnected())

    play(backend, [(30, poll)], prepare=leaves_at(20, log))
    assert log == [True]


def test_an_app_in_a_cancelled_scope_is_notified_again_and_again(backend):
    """The way that a repeated disconnect gives way can't be cancelled."""

    async def main():
        world = World()
        world.requests.clear()
        world.leave_at = 0

        async def app(scope, receive, send):
            assert (await receive())["type"] == "http.disconnect"
            with anyio.CancelScope() as cancelled:
                cancelled.cancel()
                for _ in range(5):
                    assert (await receive())["type"] == "http.disconnect"

        await KeepaliveMiddleware(app)(http(), world.receive, world.send)

    run(backend, main)
