"""Whatever a user's callable raises is logged and harms no stream, nor the event loop.

That includes what is no `Exception`: `pytest.fail()` in an observer, `result()` of a cancelled
future, a group of such errors. KeyboardInterrupt and SystemExit alone pass.
"""

import asyncio

import anyio
import pytest
from support.endings import X, leaves_at
from support.harness import END, PING, START, World, http, play, run, start

from keepalive import (
    AbortController,
    KeepaliveMiddleware,
    Ping,
    PingSent,
    StopReason,
    StreamEnded,
    StreamStarted,
    get_stream,
)

pytestmark = pytest.mark.timeout(20)


class Outcome(BaseException):
    """As pytest's outcomes are, of `pytest.fail()` and `pytest.skip()`."""


def group():
    return BaseExceptionGroup("several", [Outcome()])


ERRORS = pytest.mark.parametrize(
    "make", [ValueError, Outcome, asyncio.CancelledError, GeneratorExit, group]
)


def fails(make, calls):
    """Return a callable that notes its calls and raises, whatever it is given."""

    def call(*arguments):
        calls.append(arguments)
        raise make()

    return call


def errors_in(caplog):
    """Return the classes of the errors that were logged, and nothing but errors was."""
    assert {record.name for record in caplog.records} <= {"keepalive"}
    return [record.exc_info[0] for record in caplog.records if record.exc_info]


STEPS = [(20, X), (40, END)]
AS_EVER = [(0, START), (15, PING), (20, X), (35, PING), (40, END)]


@ERRORS
@pytest.mark.parametrize("policy", [{}, {"drain": 5}])
@pytest.mark.parametrize("kind", [StreamStarted, PingSent, StreamEnded])
def test_an_observer_that_raises(backend, caplog, make, kind, policy):
    facts = []

    def observer(fact):
        facts.append(fact)
        if isinstance(fact, kind):
            raise make()

    world = play(backend, STEPS, observer=observer, **policy)
    assert world.timeline == AS_EVER
    assert [type(fact) for fact in facts] == [StreamStarted, PingSent, PingSent, StreamEnded]
    assert facts[-1].reason is StopReason.COMPLETED
    assert errors_in(caplog) == [type(make())] * (2 if kind is PingSent else 1)


@ERRORS
def test_an_observer_that_raises_at_a_disconnect(backend, log, caplog, make):
    """It is then called by a task of the middleware's own."""

    def observer(fact):
        if isinstance(fact, StreamEnded):
            raise make()

    prepare = leaves_at(25, log)
    world = play(backend, [(40, X)], observer=observer, prepare=prepare)
    assert world.timeline == [(0, START), (15, PING), (40, X)]
    assert errors_in(caplog) == [type(make())]


@ERRORS
def test_an_observer_that_raises_keeps_no_other_stream_from_its_pings(backend, make):
    async def main():
        worlds = [World() for _ in range(5)]

        async def app(scope, receive, send):
            await send(start())
            await anyio.sleep(50)

        def observer(fact):
            if fact.path == "/2":
                raise make()

        middleware = KeepaliveMiddleware(app, observer=observer)
        async with anyio.create_task_group() as tasks:
            for number, world in enumerate(worlds):
                scope = http(f"/{number}")
                tasks.start_soon(middleware, scope, world.receive, world.send)
        return [world.pings for world in worlds]

    assert run(backend, main) == [[15, 30, 45]] * 5


@ERRORS
@pytest.mark.parametrize("what", ["data", "text"])
def test_a_callable_of_a_ping_that_raises(backend, caplog, make, what):
    """The ping is sent without its text."""
    call = fails(make, [])
    ping = Ping.event(data=call) if what == "data" else Ping.comment(call)
    world = play(backend, STEPS, ping=ping)
    assert [when for when, _ in world.timeline] == [when for when, _ in AS_EVER]
    assert world.ended.pings == 2
    assert errors_in(caplog) == [type(make())] * 2


@ERRORS
def test_a_callable_of_a_first_ping_that_raises(backend, caplog, make):
    """It is called by the app's own send of its start."""
    ping = Ping.event(data=fails(make, []))
    world = play(backend, [(1, X), (2, END)], ping=ping, first_ping=0)
    assert world.timeline == [(0, START), (0, PING), (1, X), (2, END)]
    assert errors_in(caplog) == [type(make())]


@ERRORS
def test_a_callable_of_a_farewell_that_raises(backend, caplog, make, monkeypatch, log):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    farewell = Ping.event("stopping", data=fails(make, []))
    options = {"max_lifetime": 10, "farewell": farewell, "prepare": log.prepare}
    world = play(backend, [(1, log.listen)], **options)
    bye = b"event: stopping\ndata: \n\n"
    assert world.timeline == [(0, START), (10, bye), (10, END)]
    assert errors_in(caplog) == [type(make())]


@ERRORS
@pytest.mark.parametrize("policy", [{}, {"drain": 5}, {"start_after": 5}])
def test_an_abort_callable_that_raises(backend, caplog, make, policy):
    """Also where it is called by the middleware's own start of a response."""
    calls = []
    scope = http(headers=[(b"accept", b"text/event-stream")])
    steps = [(12, start()), *STEPS] if "start_after" in policy else [(0, start()), *STEPS]
    abort = fails(make, calls)
    world = play(backend, steps, head=None, scope=scope, abort=abort, **policy)
    assert world.timeline[-1] == (40, END)
    assert world.ended.pings >= 2
    assert len(calls) == 1
    assert errors_in(caplog) == [type(make())]


@ERRORS
def test_a_callable_for_routes_that_raises(backend, caplog, make):
    world = play(backend, STEPS, routes=fails(make, []))
    assert world.timeline == AS_EVER
    assert errors_in(caplog) == [type(make())]


@ERRORS
def test_an_on_shutdown_that_raises(backend, caplog, make):
    calls = []
    world = play(backend, STEPS, on_shutdown=fails(make, calls))
    assert world.timeline == AS_EVER
    assert len(calls) == 1
    assert errors_in(caplog) == [type(make())]


@ERRORS
def test_a_callback_of_a_streams_signal_that_raises(backend, caplog, make, log):
    """It is called by a task of the middleware's own when a client leaves."""
    calls = []

    async def add(scope, receive, send):
        get_stream(scope).signal.add_callback(fails(make, calls))

    world = play(backend, [(1, add), (40, X)], prepare=leaves_at(25, log))
    assert world.ended.reason is StopReason.DISCONNECTED
    assert calls == [()]
    assert errors_in(caplog) == [type(make())]


@ERRORS
def test_a_callback_of_a_shared_signal_that_raises_keeps_no_stream_going(
    backend, caplog, make
):
    controller = AbortController()
    controller.signal.add_callback(fails(make, []))
    at = [(20, controller.abort)]
    world = play(backend, [(50, END)], abort=controller.signal, at=at)
    assert world.pings == [15]
    assert world.ended.reason is StopReason.ABORTED
    assert errors_in(caplog) == [type(make())]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_to_end_the_program_passes(backend, error):
    def observer(fact):
        if isinstance(fact, StreamStarted):
            raise error

    def wrap(app, **options):
        made = KeepaliveMiddleware(app, **options)

        async def call(scope, receive, send):
            with pytest.raises(error):
                await made(scope, receive, send)

        return call

    play(backend, [], observer=observer, wrap=wrap)


# a server that raises


@pytest.mark.parametrize("make", [ValueError, Outcome, group])
@pytest.mark.parametrize("policy", [{}, {"drain": 5, "send_timeout": 5}])
def test_a_server_that_raises_at_a_ping_is_a_write_that_failed(backend, make, policy):
    error = make()

    def prepare(world):
        world.failing = lambda message: error if message.get("body") == PING else None

    world = play(backend, [(20, X), (40, END)], prepare=prepare, **policy)
    assert world.timeline == [(0, START), (20, X), (40, END)]
    assert (world.ended.reason, world.ended.error) == (StopReason.WRITE_FAILED, error)


@pytest.mark.parametrize("make", [ValueError, Outcome, group])
def test_a_server_that_raises_at_one_streams_ping_stops_no_others(backend, make):
    async def main():
        worlds = [World() for _ in range(5)]
        worlds[2].failing = lambda message: make() if message.get("body") == PING else None

        async def app(scope, receive, send):
            await send(start())
            await anyio.sleep(50)

        middleware = KeepaliveMiddleware(app)
        async with anyio.create_task_group() as tasks:
            for world in worlds:
                tasks.start_soon(middleware, http(), world.receive, world.send)
        return [world.pings for world in worlds]

    every = [15, 30, 45]
    assert run(backend, main) == [every, every, [], every, every]


@pytest.mark.parametrize("make", [ValueError, Outcome, group])
def test_a_server_that_raises_at_receive_stops_no_pings(backend, make):
    """The middleware reads in the app's place, in a task of its own."""

    async def main():
        world = World()

        async def receive():
            await anyio.sleep(20)
            raise make()

        async def app(scope, receive, send):
            await send(start())
            await anyio.sleep(50)

        await KeepaliveMiddleware(app)(http(), receive, world.send)
        return world.pings

    assert run(backend, main) == [15, 30, 45]
