"""The ends of many streams are spread over the second half of the drain."""

from itertools import pairwise

import anyio
import pytest
from support.harness import END, World, http, run, scheduled_streams, start

from keepalive import AbortController, KeepaliveMiddleware, get_stream


async def shutdown_message():
    return {"type": "lifespan.shutdown"}


def ends_of(backend, count, *, listening=False, lifespan=False, signal=None, **options):
    """Return when each of some streams has ended that were all stopped at 20."""

    async def main():
        worlds = [World() for _ in range(count)]
        controller = AbortController()

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                await receive()
                return
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
            if lifespan:
                await app({"type": "lifespan"}, shutdown_message, None)
            else:
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


def test_the_ends_of_many_are_spread_at_the_shutdown_of_their_server(backend):
    ends = ends_of(backend, 20, lifespan=True, drain=10)
    assert 25 <= ends[0] < ends[-1] <= 30
    assert len(set(ends)) > 15


def test_a_stream_that_is_stopped_alone_has_the_whole_drain(backend):
    for _ in range(10):
        assert ends_of(backend, 1, drain=10) == [30]


def test_apps_that_have_asked_for_their_signal_have_the_whole_drain(backend):
    assert ends_of(backend, 20, drain=10, listening=True) == [30] * 20


def test_streams_that_are_stopped_one_by_one_have_the_whole_drain(backend):
    def own_signals(controller):
        return lambda _: controller.signal

    assert ends_of(backend, 20, drain=10, signal=own_signals) == [30] * 20
