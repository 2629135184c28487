"""What keeps the package from growing slow unnoticed: counts, the same on every machine.

Each limit is what was counted when it was written, and a little: room for the interpreters
that are supported, not for another call, task or timer. Seconds are measured elsewhere, by
`python tests/performance`, and decide nothing here.
"""

import asyncio
import sys
from collections import Counter
from contextvars import Context

import pytest
from cost import EVENT, ForwardOnly, plain, receive, scope_of_server, send, stream
from counting import CountingLoop, allocated, instructions
from scale import Crowd, idle
from support.harness import VirtualLoop

from keepalive import KeepaliveMiddleware
from keepalive._scheduler import BATCH

STREAMS = 1000

of_counted_interpreters = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="limits were counted on Python 3.11 to 3.13"
)


class Loop(CountingLoop, VirtualLoop):
    """Counts what it is asked for, and its time jumps."""


class Wasteful:
    """What the guard is there to see: a task, a lock and a copy for each request and event."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        lock, kept = asyncio.Lock(), []
        ticking = asyncio.create_task(self.tick(lock, send))

        async def locked_send(message):
            kept.append(dict(message))
            async with lock:
                await send(message)

        try:
            await self.app(dict(scope), receive, locked_send)
        finally:
            ticking.cancel()

    async def tick(self, lock, send):
        while True:
            await asyncio.sleep(15)
            async with lock:
                await send({"type": "http.response.body", "body": PING, "more_body": True})


PING = b"event: ping\ndata: \n\n"
OF_ITS_OWN = {KeepaliveMiddleware: {}, Wasteful: {"folder": __file__}}


def run(main):
    # In a context of its own: what the modules of other tests have set is not in it.
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main(), context=Context())


def counted(middleware, app, calls):
    """Return what so many calls of a wrapped app run inside the middleware's own code."""
    wrapped = middleware(app)

    async def main():
        for _ in range(2):  # once before, so that nothing is done for the first time
            with instructions(**OF_ITS_OWN[middleware]) as counts:
                for _ in range(calls):
                    await wrapped(scope_of_server(), receive, send)
        return counts

    return run(main)


def for_a_plain_response(middleware):
    more, less = (counted(middleware, plain(1), calls) for calls in (20, 10))
    return {name: (more[name] - less[name]) / 10 for name in more}


def for_an_event(middleware):
    more, less = (counted(middleware, stream(events), 1) for events in (200, 100))
    return {name: (more[name] - less[name]) / 100 for name in more}


def ping_rounds(middleware, seconds, between=0.0):
    """Return what a thousand streams ask of the loop in a time, and their pings."""

    async def main():
        loop = asyncio.get_running_loop()
        crowd = Crowd(middleware(idle), STREAMS)
        tasks = []
        for _ in range(STREAMS):
            tasks.append(asyncio.create_task(crowd.one()))
            await asyncio.sleep(between)
        await asyncio.sleep(16)
        loop.counts.clear()
        pings = crowd.pings
        await asyncio.sleep(seconds)
        counts, pings = Counter(loop.counts), crowd.pings - pings
        await crowd.close(tasks)
        return counts, pings

    return run(main)


def bytes_for_an_idle_stream(middleware):
    async def main():
        crowd = Crowd(middleware(idle), 5 * STREAMS)
        size, tasks = await allocated(crowd.open)
        await crowd.close(tasks)
        return size / (5 * STREAMS)

    run(main)  # once before, so that nothing is made for the first time
    return run(main)


def blocks_kept_for_an_event(middleware):
    """Return how many blocks of memory an event leaves behind while its stream is open."""
    kept = []

    async def app(scope, receive, send):
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number in range(2000):
            if number == 1000:
                kept.append(sys.getallocatedblocks())
            await send({"type": "http.response.body", "body": EVENT, "more_body": True})
        kept.append(sys.getallocatedblocks())

    run(lambda: middleware(app)(scope_of_server(), receive, send))
    return (kept[1] - kept[0]) / 1000


@of_counted_interpreters
def test_a_response_that_is_no_stream():
    one = for_a_plain_response(KeepaliveMiddleware)
    assert one["calls"] <= 9
    # 10 more than before: a call takes only its own entry out of a scope that others share.
    # Five of them ask whether there are other middlewares, when a request begins and ends.
    assert one["instructions"] <= 345


@of_counted_interpreters
def test_an_event():
    one = for_an_event(KeepaliveMiddleware)
    assert one["calls"] <= 3
    assert one["instructions"] <= 150


def test_an_event_leaves_nothing_behind():
    assert blocks_kept_for_an_event(KeepaliveMiddleware) < 0.05


def test_a_stream_is_no_task_and_sets_no_timer_of_its_own():
    """One timer for all of them; nor is there a task for a response that is no stream."""

    async def main():
        loop = asyncio.get_running_loop()
        crowd = Crowd(KeepaliveMiddleware(idle), STREAMS)
        loop.counts.clear()
        tasks = await crowd.open()
        counts = Counter(loop.counts)
        await crowd.close(tasks)
        return counts

    counts = run(main)
    assert (counts["tasks"], counts["timers"]) == (STREAMS, 1)


def test_pings_that_are_due_together_share_tasks_and_timers():
    counts, pings = ping_rounds(KeepaliveMiddleware, 150)
    assert pings == 10 * STREAMS
    assert counts["tasks"] <= 10 * (STREAMS / BATCH + 1)
    assert counts["timers"] <= 11  # a round's, and the test's own
    assert counts["callbacks"] <= 10 * (3 * STREAMS / BATCH + 10)


def test_pings_that_are_spread_over_the_interval_share_wake_ups():
    counts, pings = ping_rounds(KeepaliveMiddleware, 150, between=0.015)
    assert pings == pytest.approx(10 * STREAMS, rel=0.01)
    assert counts["timers"] <= 10 * 52


@of_counted_interpreters
def test_memory():
    added = bytes_for_an_idle_stream(KeepaliveMiddleware) - bytes_for_an_idle_stream(
        lambda app: app
    )
    # 8 more than before: the path, since an app may delete it from its scope.
    assert added <= 984


def test_the_guard_sees_waste():
    assert for_a_plain_response(Wasteful)["calls"] > 2
    assert for_an_event(Wasteful)["calls"] >= 1
    assert blocks_kept_for_an_event(Wasteful) >= 1
    counts, pings = ping_rounds(Wasteful, 150)
    assert pings == 10 * STREAMS
    assert counts["timers"] >= 10 * STREAMS
    forward = bytes_for_an_idle_stream(ForwardOnly)
    assert bytes_for_an_idle_stream(Wasteful) > forward + 1024
