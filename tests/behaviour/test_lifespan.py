"""The server's own end: `lifespan.shutdown` waits for streams that drain."""

import itertools

import anyio
import pytest
from support.endings import Log
from support.harness import World, http, run, settle, start, tasks_left
from support.internals import APP_EXIT_TIMEOUT, InFlight, PingScheduler

from keepalive import AbortController, KeepaliveMiddleware, Policy


class Lifespan:
    """A server that tells an app to shut down at 20, and what the app hears of it."""

    def __init__(self):
        self.world = World()
        self.received = []

    async def receive(self):
        if not self.received:
            return {"type": "lifespan.startup"}
        await self.world.sleep_until(20)
        return {"type": "lifespan.shutdown"}

    async def app(self, scope, receive, send):
        for _ in range(2):
            self.received.append((await receive())["type"])
        self.received.append(self.world.now())


def serve(backend, of_each_stream, *, make=KeepaliveMiddleware, **options):
    """Serve some streams and a lifespan, and return when the app hears of its shutdown."""

    async def main():
        lifespan, worlds = Lifespan(), [World() for _ in of_each_stream]
        acts = iter(of_each_stream)

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                await lifespan.app(scope, receive, send)
                return
            log, act = Log(), next(acts)
            log.prepare(lifespan.world)
            await send(start())
            await act(log, scope, receive, send)

        middleware = make(app, **options)
        async with anyio.create_task_group() as tasks:
            for world in worlds:
                tasks.start_soon(middleware, http(), world.receive, world.send)
            await middleware({"type": "lifespan"}, lifespan.receive, None)
            tasks.cancel_scope.cancel()
        await settle()
        assert tasks_left() == 0
        assert lifespan.received[:2] == ["lifespan.startup", "lifespan.shutdown"]
        return lifespan.received[2]

    return run(backend, main)


async def listening(log, scope, receive, send):
    await log.listen(scope, receive, send)


async def cleaning_up(log, scope, receive, send):
    """As an app whose server exits when the responses are complete must be waited for."""
    await log.listen(scope, receive, send)
    await anyio.sleep(0.5)


async def non_listening(log, scope, receive, send):
    await log.stay(scope, receive, send)


async def non_listening_and_cleaning_up(log, scope, receive, send):
    try:
        await anyio.sleep(10**6)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.5)


async def ended_long_ago(log, scope, receive, send):
    await log.world.sleep_until(10)


async def ending_by_itself(log, scope, receive, send):
    await log.world.sleep_until(22)


def test_without_a_drain_it_comes_at_once(backend):
    assert serve(backend, [non_listening]) == 20
    assert serve(backend, [non_listening], max_lifetime=1000, send_timeout=5) == 20


def test_without_a_stream_it_comes_at_once(backend):
    assert serve(backend, [], drain=5) == 20
    assert serve(backend, [ended_long_ago], drain=5) == 20


@pytest.mark.parametrize(
    ("act", "when"),
    [
        (listening, 25),
        (cleaning_up, 25.5),
        (non_listening, 25 + APP_EXIT_TIMEOUT),
        (non_listening_and_cleaning_up, 25.5 + APP_EXIT_TIMEOUT),
        (ending_by_itself, 22),
    ],
)
def test_it_comes_when_the_streams_calls_are_over(backend, act, when):
    """And that has shut the streams down, if nothing else has."""
    assert serve(backend, [act], drain=5) == when


def test_it_waits_for_all_of_them(backend):
    assert serve(backend, [listening, cleaning_up, ended_long_ago], drain=0) == 20.5
    assert (
        serve(backend, [cleaning_up, non_listening, listening], drain=0)
        == 20 + APP_EXIT_TIMEOUT
    )


@pytest.mark.parametrize("backend", ["asyncio"])  # on trio a shield keeps the whole run
@pytest.mark.parametrize(
    ("aborted_at", "when"),
    [
        (None, 25 + 2 * APP_EXIT_TIMEOUT),
        (17, 22 + 2 * APP_EXIT_TIMEOUT),
        (14, 19 + 2 * APP_EXIT_TIMEOUT),
        (12, 20),  # the time was over before
        (5, 20),
    ],
)
def test_it_does_not_wait_forever(backend, aborted_at, when):
    """The time counts from the drain's beginning: a server may wait before it shuts down."""

    async def main():
        controller = AbortController()
        lifespan, world = Lifespan(), World()
        released = anyio.Event()

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                await lifespan.app(scope, receive, send)
                released.set()
                return
            await send(start())
            with anyio.CancelScope(shield=True):
                while not released.is_set():
                    try:
                        await anyio.sleep(1)
                    except BaseException:
                        continue

        async def abort():
            await world.sleep_until(aborted_at)
            controller.abort()

        middleware = KeepaliveMiddleware(app, drain=5, abort=controller.signal)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(middleware, http(), world.receive, world.send)
            if aborted_at is not None:
                tasks.start_soon(abort)
            await middleware({"type": "lifespan"}, lifespan.receive, None)
        return lifespan.received[2]

    assert run(backend, main) == when


def test_a_stream_that_was_aborted_alone_before_is_given_the_whole_time(backend):
    """Its app was notified long ago, and cleans up: hypercorn and daphne wait for nothing."""
    own = AbortController()

    async def clean_up_for_long(log, scope, receive, send):
        await log.world.sleep_until(10)
        own.abort()
        await log.listen(scope, receive, send)
        await log.world.sleep_until(26)

    assert serve(backend, [clean_up_for_long], drain=5, abort=lambda _: own.signal) == 26


@pytest.mark.parametrize("backend", ["asyncio"])  # on trio a shield keeps the whole run
def test_a_stream_that_opens_during_the_wait_is_given_the_whole_time(backend):
    controller, released = AbortController(), []

    async def stuck(log, scope, receive, send):
        await log.world.sleep_until(14)
        controller.abort()
        with anyio.CancelScope(shield=True):
            while not released:
                try:
                    await anyio.sleep(1)
                except BaseException:
                    continue

    async def late(log, scope, receive, send):
        await log.listen(scope, receive, send)
        await log.world.sleep_until(25.75)
        released.append(log.world.now())

    def make(app, **options):
        middleware, streams = KeepaliveMiddleware(app, **options), itertools.count()

        async def delayed(scope, receive, send):
            if scope["type"] == "http" and next(streams) == 1:
                await anyio.sleep(20.5)
            await middleware(scope, receive, send)

        return delayed

    acts = [stuck, late]
    told = serve(backend, acts, make=make, drain=5, abort=controller.signal)
    assert told == 26


def test_the_stream_that_was_opened_last_is_given_the_whole_drain(backend):
    ended_at = []

    async def note(log, scope, receive, send):
        ended_at.append(None)
        number = len(ended_at) - 1
        await log.listen(scope, receive, send)
        ended_at[number] = log.world.now()

    serve(backend, [note, note, note], drain=5)
    assert max(ended_at[:2]) < ended_at[2] == 25


def test_the_longest_drain_of_the_open_streams_counts(backend):
    def make(app):
        return KeepaliveMiddleware(app, routes={"/": Policy(drain=3)}, drain=50)

    assert serve(backend, [non_listening], make=make) == 23 + APP_EXIT_TIMEOUT


@pytest.mark.parametrize("routes", [{"/": 5.0}, lambda scope: Policy(drain=5)])
def test_a_drain_may_be_a_routes_own(backend, routes):
    options = {"drain": 5} if isinstance(routes, dict) else {}
    assert serve(backend, [listening], routes=routes, **options) == 25


def test_one_lifespan_after_the_other(backend):
    """Each starts from a clean state: the first has stopped no stream of the second."""

    async def main():
        received = []

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                await lifespan.app(scope, receive, send)
                return
            await send(start())
            await anyio.sleep_forever()

        middleware = KeepaliveMiddleware(app, drain=5)
        for _ in range(2):
            lifespan, world = Lifespan(), World()
            await lifespan.world.sleep_until(18)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(middleware, http(), world.receive, world.send)
                await lifespan.world.sleep_until(19)
                await middleware({"type": "lifespan"}, lifespan.receive, None)
            received.append(lifespan.received[2])
        return received

    assert run(backend, main) == [25 + APP_EXIT_TIMEOUT] * 2


def test_other_messages_and_the_send_of_a_lifespan_pass(backend):
    async def main():
        seen = []

        async def app(scope, receive, send):
            seen.extend([scope, await receive(), send])

        async def receive():
            return message

        scope, message, send = {"type": "lifespan"}, {"type": "lifespan.other"}, object()
        await KeepaliveMiddleware(app, drain=5)(scope, receive, send)
        assert seen[0] is scope
        assert seen[1] is message
        assert seen[2] is send

    run(backend, main)


def test_the_longest_of_several_drains_counts(backend):
    drains = iter([1, 5])
    assert (
        serve(
            backend,
            [non_listening, non_listening],
            routes=lambda _: Policy(drain=next(drains)),
        )
        == 25 + APP_EXIT_TIMEOUT
    )


def test_a_drain_of_a_route_alone(backend):
    routes = {"/x": None, "/": Policy(drain=5)}
    assert serve(backend, [listening], routes=routes) == 25


def test_nobody_to_wait_for(backend):
    run(backend, InFlight().shut_down)


@pytest.mark.parametrize(("kind", "drain"), [("lifespan", None), ("websocket", 5)])
def test_a_receive_that_has_nothing_to_wait_for_is_the_servers_own(backend, kind, drain):
    async def main():
        async def app(scope, receive, send):
            assert receive is given

        given = object()
        await KeepaliveMiddleware(app, drain=drain, routes={"/a": Policy()})(
            {"type": kind}, given, None
        )

    run(backend, main)


def test_a_lifespan_without_streams_shuts_nothing_down(backend):
    made = []

    def make(app, **options):
        made.append(KeepaliveMiddleware(app, **options))
        return made[0]

    serve(backend, [], make=make, drain=5)
    assert not made[0]._config.stop_signal.aborted


def test_a_stream_whose_pings_have_failed_is_shut_down_too(backend):
    def make(app, **options):
        async def with_a_failing_server(scope, receive, send):
            async def failing_send(message):
                if b"ping" in message.get("body", b""):
                    raise ValueError
                await send(message)

            given = send if scope["type"] == "lifespan" else failing_send
            await middleware(scope, receive, given)

        middleware = KeepaliveMiddleware(app, **options)
        return with_a_failing_server

    assert serve(backend, [listening], make=make, drain=5) == 25


def test_a_stream_that_opens_during_a_shutdown_is_shut_down_at_once(backend):
    async def main():
        lifespan, worlds = Lifespan(), [World(), World()]

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                await lifespan.app(scope, receive, send)
                return
            await send(start())
            while (await receive())["type"] != "http.disconnect":
                pass

        middleware = KeepaliveMiddleware(app, drain=5)

        async def come_late():
            await lifespan.world.sleep_until(22)
            await middleware(http(), worlds[1].receive, worlds[1].send)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(middleware, http(), worlds[0].receive, worlds[0].send)
            tasks.start_soon(come_late)
            await middleware({"type": "lifespan"}, lifespan.receive, None)
        return [world.timeline[-1][0] for world in worlds], lifespan.received[2]

    ends, told_at = run(backend, main)
    assert ends[0] == 25
    assert 22 + 2.5 <= ends[1] <= 22 + 5
    assert told_at == ends[1]


class InFlightRequest:
    def shut_down(self):
        """Return when its drain is over: it began at once."""
        return PingScheduler.current().time() + 5


def test_requests_that_come_during_the_wait_are_waited_for(backend):
    async def main():
        scheduler, in_flight = PingScheduler.current(), InFlight()
        first, second = InFlightRequest(), InFlightRequest()
        in_flight.add(scheduler, first)

        async def replace():
            await anyio.sleep(1)
            in_flight.discard(scheduler, first)
            in_flight.add(scheduler, second)
            await anyio.sleep(1)
            in_flight.discard(scheduler, second)
            in_flight.discard(scheduler, second)

        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(replace)
            await in_flight.shut_down()
        return anyio.current_time() - began, len(in_flight)

    assert run(backend, main) == (2, 0)


def test_a_shutdown_is_not_lost_if_the_wait_for_streams_is_cancelled(backend):
    async def main():
        lifespan, world = Lifespan(), World()

        async def app(scope, receive, send):
            if scope["type"] != "lifespan":
                await send(start())
                while (await receive())["type"] != "http.disconnect":
                    pass
                return
            while "lifespan.shutdown" not in lifespan.received:
                with anyio.move_on_after(1):
                    lifespan.received.append((await receive())["type"])
            lifespan.received.append(lifespan.world.now())

        middleware = KeepaliveMiddleware(app, drain=5)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(middleware, http(), world.receive, world.send)
            await middleware({"type": "lifespan"}, lifespan.receive, None)
        return lifespan.received[-1]

    assert 20 <= run(backend, main) <= 27
