"""What keeps the package from growing slow unnoticed: counts, the same on every machine.

Each limit, in `limits.json`, is what was counted when it was written, and a little: room for
releases of the same Python, not for another call, task or timer. Seconds are measured
elsewhere, by `python tests/performance`, and decide nothing here.

`python tests/performance/test_guard.py` prints what is counted with the Python that runs it.
"""

import asyncio
import json
import sys
from collections import Counter
from contextvars import Context
from functools import cache
from pathlib import Path

import pytest
from cost import (
    EVENT,
    WITH_LIMITS,
    ForwardOnly,
    ours,
    plain,
    receive,
    scope_of_server,
    send,
    stream,
    unwrapped,
)
from counting import CountingLoop, allocated, instructions
from scale import Crowd, idle
from support.harness import VirtualLoop

from keepalive import KeepaliveMiddleware
from keepalive._scheduler import BATCH

pytestmark = pytest.mark.no_cover  # which counts with the same hook of the interpreter

STREAMS = 1000
ROWS = {"no options": ours(), **WITH_LIMITS}
PYTHONS = ("3.11", "3.12", "3.13", "3.14", "3.15")
LIMITS = json.loads(Path(__file__).with_name("limits.json").read_text(encoding="utf-8"))
ROOM = 1.02
PYTHON = ".".join(map(str, sys.version_info[:2]))


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
OF_ITS_OWN = {Wasteful: {"folder": __file__}}


def run(main):
    # In a context of its own: what the modules of other tests have set is not in it.
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main(), context=Context())


def counted(middleware, app, calls):
    """Return what so many calls of a wrapped app run inside the middleware's own code."""
    wrapped = middleware(app)

    async def main():
        for _ in range(2):  # once before, so that nothing is done for the first time
            with instructions(**OF_ITS_OWN.get(middleware, {})) as counts:
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


def for_a_stream_of_one_event(middleware):
    more, less = (counted(middleware, stream(1), calls) for calls in (20, 10))
    return {name: (more[name] - less[name]) / 10 for name in more}


def for_a_ping(middleware):
    """Return the same for a ping of one of many streams that are due at the same time."""

    async def main():
        crowd = Crowd(middleware(idle), 200)
        tasks = await crowd.open()
        await asyncio.sleep(16)
        pings = crowd.pings
        with instructions(**OF_ITS_OWN.get(middleware, {})) as counts:
            await asyncio.sleep(75)
        pings = crowd.pings - pings
        await crowd.close(tasks)
        return {name: count / pings for name, count in counts.items()}

    return run(main)


KINDS = {
    "plain response": for_a_plain_response,
    "event": for_an_event,
    "stream of one event": for_a_stream_of_one_event,
    "ping": for_a_ping,
}


def counts_of_all():
    """Return calls and instructions for each kind of work and each row, and bytes."""
    found = {
        kind: {
            row: [round(count(wrap)[name], 1) for name in ("calls", "instructions")]
            for row, wrap in ROWS.items()
        }
        for kind, count in KINDS.items()
    }
    found["idle stream"] = {row: round(bytes_added(row), 1) for row in ROWS}
    return found


def bytes_added(row):
    """Return the bytes that an idle stream adds; most exactly where there is a goal."""
    streams = 5 * STREAMS if row == "no options" else STREAMS
    ours, base = (bytes_for_an_idle_stream(each, streams) for each in (ROWS[row], unwrapped))
    return ours - base


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


@cache
def bytes_for_an_idle_stream(middleware, streams=STREAMS):
    async def main():
        crowd = Crowd(middleware(idle), streams)
        size, tasks = await allocated(crowd.open)
        await crowd.close(tasks)
        return size / streams

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


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("kind", KINDS)
def test_calls_and_instructions(kind, row):
    one, (calls, steps) = KINDS[kind](ROWS[row]), LIMITS[PYTHON][kind][row]
    assert one["calls"] <= calls + 0.5
    assert one["instructions"] <= steps * ROOM


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


@pytest.mark.parametrize("row", ROWS)
def test_memory(row):
    if sys.gettrace() is not None:
        pytest.skip("memory is not measured while a tracer runs")
    assert bytes_added(row) <= LIMITS[PYTHON]["idle stream"][row] + 2


@pytest.mark.parametrize("python", PYTHONS)
def test_each_python_has_its_limits(python):
    kinds = LIMITS[python]
    assert list(kinds) == [*KINDS, "idle stream"]
    assert all(list(rows) == list(ROWS) for rows in kinds.values())


def test_the_goals_are_met():
    """Those of CONTRIBUTING.md that are counts, on Python 3.11."""
    kinds = LIMITS["3.11"]
    assert kinds["idle stream"]["no options"] <= 900
    assert kinds["event"]["no options"] <= [2, 100]
    assert kinds["ping"]["no options"] <= [13, 420]


def test_the_guard_sees_waste():
    assert for_a_plain_response(Wasteful)["calls"] > 2
    assert for_an_event(Wasteful)["calls"] >= 1
    assert blocks_kept_for_an_event(Wasteful) >= 1
    counts, pings = ping_rounds(Wasteful, 150)
    assert pings == 10 * STREAMS
    assert counts["timers"] >= 10 * STREAMS
    forward = bytes_for_an_idle_stream(ForwardOnly)
    assert bytes_for_an_idle_stream(Wasteful) > forward + 1024


if __name__ == "__main__":
    print(json.dumps({PYTHON: counts_of_all()}, indent=1))
