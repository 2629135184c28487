"""Responses that the middleware starts because their app takes too long: timelines."""

import asyncio
import contextvars
import sys

import anyio
import pytest
from support.early import SSE_START, slow
from support.endings import X
from support.harness import END, PING, START, body, start

from keepalive import KeepaliveMiddleware, Ping, Policy, StopReason, StreamStarted


def test_a_response_is_started_in_the_apps_place_and_goes_on(backend):
    world = slow(backend, [(60, start()), (60, X), (61, END)])
    assert world.timeline == [
        (20, START),
        (20, PING),
        (35, PING),
        (50, PING),
        (60, X),
        (61, END),
    ]
    assert world.sent[0][1]["status"] == 200
    assert world.headers == SSE_START
    assert (world.ended.reason, world.ended.pings) == (StopReason.COMPLETED, 3)
    assert (world.ended.started_by, world.ended.late_status) == ("middleware", 200)
    assert world.ended.duration == 41
    assert world.ended.bytes_sent == len(world.body)


def test_an_app_that_starts_in_time_is_as_without(backend):
    steps = [(19, start()), (40, X), (41, END)]
    world, other = slow(backend, steps), slow(backend, steps, start_after=None)
    assert world.sent == other.sent
    assert world.timeline == [(19, START), (34, PING), (40, X), (41, END)]
    assert (world.ended.started_by, world.ended.late_status) == ("app", None)


def test_the_start_comes_once_where_both_come_at_the_same_time(backend):
    world = slow(backend, [(20, start()), (20, X), (21, END)])
    assert [what for _, what in world.timeline] in ([START, X, END], [START, PING, X, END])


@pytest.mark.parametrize("turns", range(12))
def test_the_start_comes_once_some_turns_later_too(backend, turns):
    async def late(scope, receive, send):
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        await send(start())
        await send(body(X))

    world = slow(backend, [(20, late), (21, END)])
    assert [what for _, what in world.timeline] in ([START, X, END], [START, PING, X, END])


def test_a_start_that_the_server_is_slow_to_take_is_waited_for(backend):
    def prepare(world):
        world.slow = lambda message: 10 if message["type"].endswith("start") else 0

    world = slow(backend, [(22, start()), (22, X), (40, END)], prepare=prepare)
    assert world.timeline == [(30, START), (30, PING), (30, X), (40, END)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")
@pytest.mark.parametrize("delay", [0, 1])
def test_a_start_by_a_task_that_begins_eagerly(delay):
    """It may be over before whoever began it goes on."""

    def prepare(world):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        world.slow = lambda message: delay

    world = slow("asyncio", [(60, start()), (60, X), (70, END)], prepare=prepare)
    first = 20 + 2 * delay
    assert world.timeline[:2] == [(20 + delay, START), (first, PING)]
    assert world.ended.started_by == "middleware"
    assert world.body.endswith(X)


def test_pings_are_steady_from_the_start_on(backend):
    world = slow(backend, [(33, start()), (33, X), (66, END)], pacing="steady", first_ping=5)
    assert world.pings == [20, 35, 50, 65]


def test_what_happens_is_reported_in_the_requests_own_context(backend):
    seen, variable = [], contextvars.ContextVar("request")

    def wrap(app, **options):
        made = KeepaliveMiddleware(app, **options)

        async def outer(scope, receive, send):
            variable.set("the request's")
            await made(scope, receive, send)

        return outer

    slow(
        backend,
        [(60, start()), (61, END)],
        wrap=wrap,
        observer=lambda event: seen.append(variable.get(None)),
    )
    assert seen == ["the request's"] * 5


def test_what_a_stream_starts_with_is_reported(backend):
    world = slow(backend, [(60, start()), (61, END)], interval=7)
    (event,) = [event for event in world.events if isinstance(event, StreamStarted)]
    assert event.media_type == "text/event-stream"
    assert event.policy == Policy(interval=7, start_after=20, ping=Ping.event())
    assert (event.route, event.ping) == ("*", Ping.event())


def test_without_headers_none_are_added(backend):
    world = slow(backend, [(60, start()), (61, END)], anti_buffering=False)
    assert world.headers == SSE_START[:1]
