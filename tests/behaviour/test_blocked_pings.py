"""A ping that waits for a client that doesn't read, and a server that resists cancellation."""

import asyncio
import contextlib

import anyio
import pytest
from support.endings import X, aborted, slow_to_send
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

from keepalive import KeepaliveMiddleware, Ping, StopReason

pytestmark = pytest.mark.timeout(20)

LONG = 1000


def listening_until(when, log):
    """Return a step of an app that listens until a time, and then no more."""

    async def listen(scope, receive, send):
        await receive()
        with anyio.move_on_after(when - log.world.now()):
            await receive()

    return listen


async def return_(scope, receive, send):
    return


def test_a_blocked_ping_of_an_app_that_listens_no_more_ends_with_the_call(backend, log):
    """`play` looks for tasks that are left."""
    prepare = slow_to_send(PING, LONG, log)
    world = play(backend, [(1, listening_until(20, log)), (50, return_)], prepare=prepare)
    assert world.timeline == [(0, START)]
    assert (world.ended.reason, world.ended.pings) == (StopReason.COMPLETED, 0)


def test_no_ping_reaches_the_server_after_the_end_of_the_call(backend, log):
    async def main():
        world = World()
        slow_to_send(PING, 100, log)(world)

        async def app(scope, receive, send):
            await send(start())
            await listening_until(20, log)(scope, receive, send)
            await world.sleep_until(50)

        await KeepaliveMiddleware(app)(http(), world.receive, world.send)
        await settle()
        assert tasks_left() == 0
        await anyio.sleep(200)
        return world.timeline

    assert run(backend, main) == [(0, START)]


@pytest.mark.parametrize("pacing", ["idle", "steady"])
def test_a_blocked_ping_is_abandoned_when_the_client_leaves(backend, log, pacing):
    """Some servers block forever what is sent to a client that has left."""

    def prepare(world):
        slow_to_send(PING, LONG, log)(world)
        world.leave_at = 55

    steps = [(1, listening_until(20, log)), (60, X), (61, END)]
    world = play(backend, steps, prepare=prepare, pacing=pacing)
    assert world.timeline == [(0, START), (60, X), (61, END)]
    assert (world.ended.reason, world.ended.duration) == (StopReason.DISCONNECTED, 55)


# a server's send that takes its time to leave when it is cancelled


class Resisting:
    """A server whose send of some bytes goes on for a while when it is cancelled."""

    def __init__(self, payload):
        self.payload = payload
        self.cancelled = 0

    async def send(self, world, message):
        if message.get("body") != self.payload:
            await world.send(message)
            return
        until = asyncio.get_running_loop().time() + 20
        while (left := until - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                self.cancelled += 1
                if self.cancelled == 50:  # again in each turn: virtual time would stand still
                    raise


def cancellations(payload, at=None, **options):
    """Return how often a send is cancelled, of an app's or of a ping."""
    server = Resisting(payload)

    async def main():
        world = World()

        async def app(scope, receive, send):
            await send(start())
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await world.sleep_until(20)
                await send(body(X))

        async def send(message):
            await server.send(world, message)

        middleware = KeepaliveMiddleware(app, **options)
        if at is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(at, middleware.shutdown)
        await middleware(http(), world.receive, send)
        await settle()

    run("asyncio", main)
    return server.cancelled


def test_a_send_that_resists_its_send_timeout_is_cancelled_once():
    assert cancellations(X, send_timeout=5) == 1


def test_a_ping_that_resists_its_send_timeout_is_cancelled_once():
    assert cancellations(PING, send_timeout=2) == 1


def test_a_send_that_resists_the_end_of_a_drain_is_cancelled_once_by_each_step():
    """When the send is given up, and when the app is cancelled a second later."""
    assert 1 <= cancellations(X, at=19, drain=2) <= 2


def test_a_farewell_that_resists_is_cancelled_once():
    farewell = Ping.event("stopping")
    assert 1 <= cancellations(farewell.payload, at=1, drain=2, farewell=farewell) <= 2


def test_a_send_that_gives_way_at_once_is_abandoned_as_ever(backend, log):
    prepare = slow_to_send(X, LONG, log)

    async def be_blocked(scope, receive, send):
        with pytest.raises(OSError, match="has been ended"):
            await send(body(X))
        log.add("error")

    aborted(backend, log, [(18, be_blocked)], prepare=prepare, drain=None, farewell=None,
            send_timeout=5)  # fmt: skip
    assert log == [(23, "error")]
