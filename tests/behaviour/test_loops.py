"""Event loops and what they are made of: eager tasks, loops that are closed, lifespans.

What a middleware has on one event loop is that loop's: it ends with it, and concerns no other.
"""

import asyncio
import collections
import contextlib
import gc
import logging
import sys
import threading
import time
import weakref

import anyio
import pytest
from support.endings import X
from support.harness import (
    END,
    PING,
    START,
    VirtualLoop,
    World,
    body,
    http,
    play,
    run,
    settle,
    start,
)
from support.internals import cancellable

from keepalive import AbortController, KeepaliveMiddleware, StopReason, StreamEnded

pytestmark = [pytest.mark.timeout(20), pytest.mark.usefixtures("frozen_heap")]

MOST_IN_A_TURN = 32

# eager tasks


async def ping_many(factory, *, blocks, listens):
    """Return the most pings that were begun in one turn, of 500 streams due at once."""
    loop, turn, begun = asyncio.get_running_loop(), 0, collections.Counter()
    loop.set_task_factory(factory)
    done = asyncio.Event()

    def count_turns():
        nonlocal turn
        turn += 1
        if not done.is_set():
            loop.call_soon(count_turns)

    async def send(message):
        if message["type"] != "http.response.body":
            return
        if not begun:
            count_turns()
        begun[turn] += 1
        if begun.total() == 500:
            done.set()
        if blocks:
            await done.wait()

    async def receive():
        await done.wait()
        return {"type": "http.disconnect"}

    async def app(scope, receive, send):
        await send(start())
        await (receive() if listens else done.wait())

    middleware = KeepaliveMiddleware(app)
    calls = [asyncio.ensure_future(middleware(http(), receive, send)) for _ in range(500)]
    await asyncio.gather(*calls)
    return max(begun.values())


@pytest.mark.parametrize("blocks", [False, True], ids=["", "each ping waits"])
@pytest.mark.parametrize("listens", [False, True], ids=["each begins to listen", ""])
@pytest.mark.parametrize("eager", [False, True], ids=["plain", "eager"])
def test_so_many_streams_are_served_in_a_turn_and_no_more(eager, blocks, listens):
    if eager and sys.version_info < (3, 12):
        pytest.skip("eager tasks are of Python 3.12")
    factory = asyncio.eager_task_factory if eager else None
    most = run("asyncio", lambda: ping_many(factory, blocks=blocks, listens=listens))
    assert most <= MOST_IN_A_TURN


# tasks that can't be started


def test_a_task_that_could_not_be_started_does_not_stop_the_pings(caplog):
    """As with a task factory that was written for another version of Python."""

    def refuse(loop, coroutine, **options):
        coroutine.close()
        raise TypeError("unexpected keyword argument 'context'")

    def set_factory(factory):
        return lambda: asyncio.get_running_loop().set_task_factory(factory)

    at = [(10, set_factory(refuse)), (20, set_factory(None))]
    world = play("asyncio", [(100, X)], at=at)
    assert len([when for when in world.pings if 20 < when <= 60]) >= 2
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert 1 <= len(errors) <= 20


def refusing(name, *, until):
    """Return what makes the loop refuse to start tasks of a name, from 10 to some time."""

    def factory(loop, coroutine, **options):
        if name in coroutine.__qualname__:
            coroutine.close()
            raise TypeError("unexpected keyword argument 'context'")
        return asyncio.Task(coroutine, loop=loop, **options)

    def setting(factory):
        return lambda: asyncio.get_running_loop().set_task_factory(factory)

    return [(10, setting(factory)), (until, setting(None))]


def errors_of(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_reader_that_could_not_be_started_does_not_stop_the_pings(caplog):
    world = play("asyncio", [(50, END)], at=refusing("Request._read", until=20))
    assert world.pings == [15, 30, 45]
    assert errors_of(caplog) == ["a task could not be started"]


def test_an_early_start_that_could_not_be_started_leaves_the_start_to_the_app(caplog):
    scope = http(headers=[(b"accept", b"text/event-stream")])
    at = refusing("EarlyStart._start", until=20)
    world = play(
        "asyncio", [(50, start()), (60, END)], head=None, scope=scope, start_after=15, at=at
    )
    assert world.timeline == [(50, START), (60, END)]
    assert world.ended.started_by == "app"
    assert errors_of(caplog) == ["a task could not be started"]


def test_an_end_that_could_not_be_started_still_ends_the_call(caplog, log, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    at = refusing("Terminator._end", until=30)
    options = {"max_lifetime": 25, "prepare": log.prepare, "at": at}
    world = play("asyncio", [(1, log.listen)], **options)
    assert log == [(25, "http.disconnect")]
    assert world.ended.reason is StopReason.MAX_LIFETIME
    assert errors_of(caplog) == ["a task could not be started"]


# blocks that can be cancelled


def test_a_block_is_cancelled_only_while_it_runs(backend):
    async def main():
        block = cancellable()
        if backend == "asyncio":
            block.cancel()  # of no effect yet; a scope of trio would be cancelled
        with block:
            await anyio.sleep(1)
        block.cancel()
        await anyio.sleep(1)
        return "not cancelled"

    assert run(backend, main) == "not cancelled"


def test_a_block_is_cancelled_once():
    async def main():
        times = 0
        block = cancellable(timeout=5)
        with block:
            while True:
                try:
                    await anyio.sleep(10)
                    break
                except asyncio.CancelledError:
                    times += 1
                    block.cancel()
        return times, block.cancel_called, asyncio.current_task().cancelling()

    assert run("asyncio", main) == (1, True, 0)


@pytest.mark.parametrize("turns", [0, 1, 5])
def test_a_block_cancelled_by_its_own_task_cancels_nothing_after_it(backend, turns):
    """Before Python 3.13, `uncancel` leaves a cancellation that has not been delivered."""

    async def main():
        waited, block = 0, cancellable(timeout=0.5)
        with block:
            block.cancel()
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
                waited += 1
        assert backend == "trio" or asyncio.current_task().cancelling() == 0
        await anyio.sleep(1)
        return waited < turns, block.cancel_called

    assert run(backend, main) == (turns > 0, True)


def test_a_block_cancelled_by_its_own_task_lets_another_cancellation_through():
    async def main():
        task, block = asyncio.current_task(), cancellable()
        with pytest.raises(asyncio.CancelledError), block:
            block.cancel()
            asyncio.get_running_loop().call_soon(task.cancel)
            await anyio.sleep(1)
        return block.cancel_called, task.cancelling()

    assert run("asyncio", main) == (True, 1)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")
def test_a_block_cancelled_by_an_eager_task_cancels_nothing_after_it():
    async def cancel(block):
        block.cancel()

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        block = cancellable()
        with block:
            await asyncio.create_task(cancel(block))
        await anyio.sleep(1)
        return block.cancel_called

    assert run("asyncio", main)


def test_a_block_can_be_cancelled_while_its_loop_is_not_running():
    """What is called between two runs of a loop may end a stream."""

    async def main():
        with block:
            await anyio.sleep_forever()

    loop, block = asyncio.new_event_loop(), cancellable()
    with contextlib.closing(loop):
        task = loop.create_task(main())
        loop.run_until_complete(asyncio.sleep(0))
        block.cancel()
        loop.run_until_complete(task)
    assert block.cancel_called


# clocks


@pytest.mark.parametrize("shift", [1e6, -1e6], ids=["ahead", "behind"])
@pytest.mark.parametrize("when", ["while the stream is open", "as the stream opens"])
def test_a_clock_that_stops_makes_no_busy_loop(monkeypatch, shift, when):
    """freezegun does that to `time.monotonic`, for the code that looks it up later."""

    async def main():
        loop, set_timers, pings = asyncio.get_running_loop(), 0, 0
        call_at = loop.call_at

        def count(*args, **options):
            nonlocal set_timers
            set_timers += 1
            return call_at(*args, **options)

        async def app(scope, receive, send):
            await send(start())
            await asyncio.Event().wait()

        async def receive():
            await asyncio.Event().wait()

        async def send(message):
            nonlocal pings
            pings += message["type"] == "http.response.body"

        async def turns(number):
            for _ in range(number):
                await asyncio.sleep(0)

        async def serve():
            await KeepaliveMiddleware(app)(http(), receive, send)

        real = time.monotonic
        now = real() + shift

        def freeze():
            monkeypatch.setattr(time, "monotonic", lambda: now)

        monkeypatch.setattr(loop, "call_at", count)
        if when == "as the stream opens":
            freeze()
        call = asyncio.ensure_future(serve())
        await turns(5)
        if when == "as the stream opens":
            monkeypatch.setattr(time, "monotonic", real)
        else:
            freeze()
        set_timers = 0
        await turns(2000)
        monkeypatch.setattr(time, "monotonic", real)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        return set_timers, pings

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        set_timers, pings = runner.run(main())
    assert set_timers <= 20
    assert pings <= 2


# what is left behind


def test_deleted_middlewares_leave_nothing_on_a_shared_signal():
    async def app(scope, receive, send): ...

    def make(count):
        for _ in range(count):
            KeepaliveMiddleware(app, abort=controller.signal, drain=5)
        gc.collect()
        return len(gc.get_objects())

    controller = AbortController()
    before = make(10)
    assert make(1000) < before + 500
    controller.abort()


def test_a_middleware_that_is_still_there_is_notified_of_a_shared_signal(backend):
    """Though others were made, and are gone."""
    controller = AbortController()

    def wrap(app, **options):
        for _ in range(10):
            KeepaliveMiddleware(app, **options)
        made = KeepaliveMiddleware(app, **options)
        gc.collect()
        return made

    at = [(20, controller.abort)]
    world = play(backend, [(50, X)], abort=controller.signal, wrap=wrap, at=at)
    assert world.pings == [15]
    assert world.ended.reason is StopReason.ABORTED


class Server:
    """What a plain app leaves to the garbage collector, and a kept one too."""

    async def receive(self):
        await asyncio.Event().wait()

    async def send(self, message): ...


def abandoned(app, count=20):
    """Return how many servers are left whose loops were closed with a stream open."""
    servers = []
    for _ in range(count):
        loop, server = VirtualLoop(), Server()
        servers.append(weakref.ref(server))
        call = loop.create_task(app(http(), server.receive, server.send))
        loop.call_later(20, loop.stop)
        loop.run_forever()
        loop.close()
        del loop, server, call
    gc.collect()
    return sum(server() is not None for server in servers)


async def open_for_ever(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        return
    await send(start())
    await asyncio.Event().wait()


@pytest.fixture
def _quiet(monkeypatch, caplog):
    """Python itself complains of tasks that are destroyed while they wait."""
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    caplog.set_level(logging.CRITICAL, "asyncio")


@pytest.mark.usefixtures("_quiet")
@pytest.mark.parametrize("policy", [{}, {"drain": 1, "max_lifetime": 1000, "send_timeout": 5}])
def test_a_loop_that_was_closed_with_streams_open_is_forgotten(policy):
    assert abandoned(open_for_ever) == 0, "the plain app"
    middleware = KeepaliveMiddleware(open_for_ever, **policy)
    assert abandoned(middleware) == 0
    middleware.shutdown()
    assert abandoned(middleware) == 0


@pytest.mark.usefixtures("_quiet")
def test_nobody_waits_for_the_streams_of_a_loop_that_was_closed():
    middleware = KeepaliveMiddleware(open_for_ever, drain=5)
    abandoned(middleware, count=1)

    async def main():
        world = World()

        async def receive():
            return {"type": "lifespan.shutdown"}

        await middleware({"type": "lifespan"}, receive, None)
        return world.now()

    assert run("asyncio", main) == 0


# lifespans


def serving(middleware_of, stops_at, *, life):
    """Return the main function of a server with a lifespan and one stream.

    Args:
        middleware_of: Returns the middleware, given the app.
        stops_at: When `lifespan.shutdown` comes.
        life: Seconds that the stream lasts by itself.
    """

    async def main():
        world, messages = World(), [{"type": "lifespan.startup"}]

        async def receive():
            if messages:
                return messages.pop()
            await world.sleep_until(stops_at)
            return {"type": "lifespan.shutdown"}

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(middleware_of, {"type": "lifespan"}, receive, None)
            await settle()
            await middleware_of(http(life=life), world.receive, world.send)
        await settle()

    return main


def kept_app(ends, **options):
    """Return a middleware around an app whose streams last as long as their scopes say."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                pass
            return
        await send(start())
        with anyio.move_on_after(scope["life"]):
            while (await receive())["type"] != "http.disconnect":
                pass
        await send(body(more=False))

    def observer(event):
        if isinstance(event, StreamEnded):
            ends.append((event.reason, event.duration))

    return KeepaliveMiddleware(app, observer=observer, **options)


COMPLETED = (StopReason.COMPLETED, 50)


def test_a_middleware_is_served_again_after_a_shutdown_with_a_stream_open(backend):
    """As by a test client for each test, or by a server that is started again."""
    ends = []
    middleware = kept_app(ends, drain=5)
    for stops_at in (20, 100, 20, 100):
        run(backend, serving(middleware, stops_at, life=50))
    ended = (StopReason.SHUTDOWN, 25)
    assert ends == [ended, COMPLETED, ended, COMPLETED]


def test_so_it_is_in_the_same_event_loop(backend):
    ends = []
    middleware = kept_app(ends, drain=5)

    async def main():
        for stops_at in (20, 100):
            await serving(middleware, stops_at, life=50)()

    run(backend, main)
    assert ends == [(StopReason.SHUTDOWN, 25), COMPLETED]


def test_a_shutdown_of_one_server_ends_no_stream_of_another(backend):
    """Each of the two has an event loop and a thread of its own."""
    ends, others = [], []
    opened, over = threading.Event(), threading.Event()
    middleware = kept_app(ends, drain=5)

    async def other():
        world = World()

        async def receive():
            if not opened.is_set():
                opened.set()
                assert over.wait(10)  # the other server is shut down meanwhile
            return await world.receive()

        await settle()
        await middleware(http(life=50), receive, world.send)
        others.extend(world.pings)

    thread = threading.Thread(target=run, args=(backend, other))
    thread.start()
    try:
        assert opened.wait(10)
        run(backend, serving(middleware, 20, life=50))
    finally:
        over.set()
        thread.join(10)
    assert ends == [(StopReason.SHUTDOWN, 25), COMPLETED]
    assert others == [15, 30, 45]


def test_a_shutdown_by_the_owner_stays(backend):
    """`shutdown()` is for good, whatever lifespan begins afterwards."""
    ends = []
    middleware = kept_app(ends, drain=5)
    middleware.shutdown()
    run(backend, serving(middleware, 100, life=50))
    assert ends == [(StopReason.SHUTDOWN, 5)]


def test_pings_come_in_each_loop(backend):
    for _ in range(3):
        assert play(backend, [(20, X)]).body == PING + X
