"""The message that completes a response: only its own send completes the stream."""

import contextlib

import anyio
import pytest
from support.endings import BYE, FAREWELL, X, aborted, leaves_at, slow_to_send
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
)

from keepalive import KeepaliveMiddleware, StopReason, StreamEnded, StreamStarted

pytestmark = pytest.mark.timeout(20)

LAST = b"data: last\n\n"
FOR_EVER = 10**4


def two_sends_at_once(backend, *, data, last, fails=None, stay=0.0, **options):
    """Have two tasks of an app send at 20: data, and the last body.

    Args:
        backend: As for `play`.
        data: Seconds that the server takes for the data.
        last: Seconds that it takes for the last body.
        fails: The error of the data's send.
        stay: Seconds that the app stays when both sends have returned.
        **options: The middleware's.

    Returns:
        What was taken by the server, and reported; each with its time.
    """
    taken, events = [], []

    async def main():
        world = World()

        async def send(message):
            await anyio.sleep({X: data, LAST: last}.get(message.get("body"), 0))
            if message.get("body") == X and fails is not None:
                raise fails
            taken.append((world.now(), message.get("body")))

        async def app(scope, receive, send):
            async def send_data():
                try:
                    await send(body(X))
                except (OSError, ValueError):
                    return

            await send(start())
            await world.sleep_until(20)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_data)
                await anyio.lowlevel.checkpoint()
                await anyio.lowlevel.checkpoint()
                await send(body(LAST, more=False))
            await anyio.sleep(stay)

        def observer(event):
            if isinstance(event, StreamEnded):
                events.append((world.now(), event.reason))

        app = KeepaliveMiddleware(app, observer=observer, **options)
        with anyio.move_on_after(500):
            await app(http(), world.receive, send)
        events.append((world.now(), "the call is over"))
        await settle()

    run(backend, main)
    return [each for each in taken if each[1] in (X, LAST)], events


@pytest.mark.parametrize("options", [{}, {"drain": 5, "send_timeout": 60}])
def test_another_send_that_returns_does_not_complete_the_stream(backend, options):
    taken, events = two_sends_at_once(backend, data=0.2, last=8, **options)
    assert taken == [(20.2, X), (28, LAST)]
    assert events == [(28, StopReason.COMPLETED), (28, "the call is over")]


def test_a_last_body_that_returns_first_completes_the_stream(backend):
    taken, events = two_sends_at_once(backend, data=8, last=0.2)
    assert taken == [(20.2, LAST), (28, X)]
    assert events == [(20.2, StopReason.COMPLETED), (28, "the call is over")]


def test_a_max_lifetime_still_ends_a_call_whose_last_body_blocks(backend, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    taken, events = two_sends_at_once(backend, data=0.2, last=FOR_EVER, max_lifetime=30)
    assert taken == [(20.2, X)]
    (ended_at, reason), (over_at, _) = events
    assert reason is StopReason.MAX_LIFETIME
    assert 30 <= ended_at <= 31
    assert over_at <= 32


def test_a_send_timeout_still_ends_a_call_whose_last_body_blocks(backend):
    taken, events = two_sends_at_once(backend, data=0.2, last=FOR_EVER, send_timeout=10)
    assert taken == [(20.2, X)]
    assert events[0] == (30, StopReason.SEND_TIMEOUT)
    assert events[1][0] <= 32


def test_another_send_that_fails_does_not_take_the_last_body_back(backend):
    taken, events = two_sends_at_once(
        backend, data=0.2, last=8, fails=ValueError("refused"), stay=100
    )
    assert taken == [(28, LAST)]
    assert events == [(28, StopReason.COMPLETED), (128, "the call is over")]


def test_no_ping_follows_a_last_body_beside_which_another_send_has_failed(backend):
    sent = []

    async def main():
        world = World()

        async def send(message):
            sent.append(message.get("body"))
            if message.get("body") == X:
                await anyio.sleep(1)
                raise ValueError
            if message.get("body") == LAST:
                await anyio.sleep(3)

        async def app(scope, receive, send):
            async def send_data():
                with contextlib.suppress(ValueError):
                    await send(body(X))

            await send(start())
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send_data)
                await anyio.sleep(0.5)
                await send(body(LAST, more=False))
            await anyio.sleep(100)

        await KeepaliveMiddleware(app)(http(), world.receive, send)

    run(backend, main)
    assert sent == [None, X, LAST]


# the client leaves while the last body is on its way


async def send_last(scope, receive, send):
    await send(body(LAST, more=False))


@pytest.mark.parametrize("seconds", [5, FOR_EVER])
def test_a_client_that_leaves_while_the_last_body_waits_has_disconnected(
    backend, log, seconds
):
    async def listen_beside_it(scope, receive, send):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.listen, scope, receive, send)
            await send_last(scope, receive, send)

    def prepare(world):
        slow_to_send(LAST, seconds, log)(world)
        world.leave_at = 22

    world = play(backend, [(20, listen_beside_it)], prepare=prepare)
    assert (world.ended.reason, world.ended.duration) == (StopReason.DISCONNECTED, 22)
    assert log == [(22, "http.disconnect")]


def test_so_has_one_that_only_the_middleware_sees(backend, log):
    """The app listens no more, so that the middleware does."""

    def prepare(world):
        slow_to_send(LAST, 60, log)(world)
        world.leave_at = 40

    world = play(backend, [(20, send_last)], prepare=prepare)
    assert (world.ended.reason, world.ended.duration) == (StopReason.DISCONNECTED, 40)


@pytest.mark.parametrize("policy", [{}, {"drain": 5}])
def test_a_disconnect_after_the_last_body_is_none(backend, log, policy):
    """Servers say it as well when a response is complete."""

    async def listen_behind_it(scope, receive, send):
        await send_last(scope, receive, send)
        await log.listen(scope, receive, send)

    prepare = leaves_at(30, log)
    world = play(backend, [(20, listen_behind_it)], prepare=prepare, **policy)
    assert (world.ended.reason, world.ended.duration) == (StopReason.COMPLETED, 20)


# trailers


TRAILERS = start() | {"trailers": True}


def types(world):
    return [message["type"].removeprefix("http.response.") for _, message in world.sent]


def test_an_ended_response_that_announced_trailers_gets_them(backend, log):
    """A server that keeps its word would wait for them."""
    steps = [(0, TRAILERS), (1, log.listen)]
    world = aborted(backend, log, steps, head=None, at=0.5, drain=1)
    assert types(world) == ["start", "body", "body", "trailers"]
    *_, last, trailers = [message for _, message in world.sent]
    assert (last["body"], last["more_body"]) == (b"", False)
    assert list(trailers["headers"]) == []
    assert not trailers.get("more_trailers", False)
    assert world.sent[1][1]["body"] == BYE


def test_so_does_one_whose_lifetime_is_over(backend, log, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    steps = [(0, TRAILERS), (1, X), (1, log.listen)]
    options = {"prepare": log.prepare, "max_lifetime": 10, "farewell": FAREWELL}
    world = play(backend, steps, head=None, **options)
    assert types(world) == ["start", "body", "body", "body", "trailers"]
    assert [when for when, _ in world.sent][-2:] == [10, 10]


@pytest.mark.parametrize("head", [start(), start() | {"trailers": False}])
def test_other_ended_responses_get_none(backend, log, head):
    steps = [(0, head), (1, log.listen)]
    world = aborted(backend, log, steps, head=None, at=0.5, drain=1)
    assert types(world) == ["start", "body", "body"]


def test_trailers_of_the_app_pass(backend):
    trailers = {"type": "http.response.trailers", "headers": [(b"x", b"y")]}
    steps = [(0, TRAILERS), (20, X), (30, body(more=False)), (30, trailers)]
    world = play(backend, steps, head=None)
    assert types(world) == ["start", "body", "body", "body", "trailers"]
    assert world.sent[-1][1] is trailers
    assert world.ended.reason is StopReason.COMPLETED


# two starts


def test_two_starts_at_once_open_one_stream(backend):
    """Where a server takes both; none that was tried does."""

    async def main():
        events, world = [], World()

        async def app(scope, receive, send):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(send, start())
                tasks.start_soon(send, start())
            await anyio.sleep(20)
            await send(body(more=False))

        async def send(message):
            await anyio.sleep(1)

        await KeepaliveMiddleware(app, observer=events.append)(http(), world.receive, send)
        await settle()
        assert scheduled_streams() == 0
        return [
            type(event) for event in events if isinstance(event, StreamStarted | StreamEnded)
        ]

    assert run(backend, main) == [StreamStarted, StreamEnded]


def test_a_second_start_after_the_first_is_the_servers_to_refuse(backend):
    world = play(backend, [(1, start()), (20, END)])
    assert world.timeline == [(0, START), (1, START), (15, PING), (20, END)]
    assert [type(event) for event in world.events].count(StreamStarted) == 1
