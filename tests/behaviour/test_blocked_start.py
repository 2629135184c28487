"""A start message that blocks: every limit applies from the first message on.

A client gets there with a second request on a connection of which it reads nothing.
"""

import anyio
import pytest
from support.endings import Log, aborted, shut_down
from support.harness import PING, START, World, http, play, run, settle, start, tasks_left

from keepalive import KeepaliveMiddleware, PingSent, StreamEnded, StreamStarted, get_stream

pytestmark = pytest.mark.timeout(20)

FOR_EVER = 10**7
LEAVES_AT = 10**6
"""When a client leaves that nobody else has given up."""

ACCEPTS = [(b"accept", b"text/event-stream")]


def blocked(log, seconds=FOR_EVER):
    """Prepare a server whose start blocks."""

    def prepare(world):
        log.prepare(world)
        world.leave_at = LEAVES_AT
        world.slow = lambda message: seconds if message["type"].endswith("start") else 0

    return prepare


def by_timeout(backend, log, steps, **options):
    return play(backend, steps, send_timeout=25, **options)


def by_lifetime(backend, log, steps, **options):
    return play(backend, steps, max_lifetime=25, **options)


@pytest.fixture(params=[by_timeout, by_lifetime, aborted, shut_down])
def limited(request, monkeypatch):
    """Play an app whose start blocks, and which a limit ends at 25."""
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    return request.param


def is_balanced(world):
    """Whether no end is reported without a start, nor a start without an end."""
    kinds = [type(event) for event in world.events if not isinstance(event, PingSent)]
    return kinds in ([], [StreamStarted, StreamEnded])


def test_a_start_that_blocks_is_abandoned_and_raises(limited, backend, log):
    async def be_blocked(scope, receive, send):
        with pytest.raises(OSError, match="has been ended"):
            await send(start())
        log.add("error")

    world = limited(backend, log, [(0, be_blocked)], head=None, prepare=blocked(log))
    ((when, what),) = log
    assert what == "error"
    assert 25 <= when < 26
    assert world.timeline == []
    assert is_balanced(world)


def test_an_app_that_stays_after_its_start_was_given_up_is_cancelled(limited, backend, log):
    async def be_blocked(scope, receive, send):
        with pytest.raises(OSError, match="has been ended"):
            await send(start())
        await log.stay(scope, receive, send)

    world = limited(backend, log, [(0, be_blocked)], head=None, prepare=blocked(log))
    ((when, what),) = log
    assert what == "cancelled"
    assert 26 <= when < 27
    assert world.timeline == []


def test_a_listening_app_whose_start_blocks_is_notified_and_its_start_returns(
    limited, backend, log
):
    async def be_blocked(scope, receive, send):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.listen, scope, receive, send)
            await send(start())
            log.add("returned")
        await anyio.sleep(3)
        log.add("done")

    world = limited(backend, log, [(0, be_blocked)], head=None, prepare=blocked(log))
    assert sorted(what for _, what in log) == ["done", "http.disconnect", "returned"]
    assert all(25 <= when < 26 for when, what in log if what != "done")
    assert world.timeline == []
    assert is_balanced(world)


def test_a_start_that_blocks_for_a_while_starts_its_stream(backend, log):
    """Its limits count from when it was handed to the server."""
    prepare = blocked(log, seconds=4)
    limits = {"send_timeout": 5, "max_lifetime": 1000, "drain": 5}
    world = play(backend, [(40, log.listen)], prepare=prepare, **limits)
    assert world.timeline[:3] == [(4, START), (19, PING), (34, PING)]
    assert is_balanced(world)


def test_the_signal_of_a_stream_whose_start_blocks_is_triggered(limited, backend, log):
    async def be_blocked(scope, receive, send):
        async with anyio.create_task_group() as tasks:

            async def hear():
                await get_stream(scope).signal.wait()
                log.add("signal")

            tasks.start_soon(hear)
            with pytest.raises(OSError, match="has been ended"):
                await send(start())

    limited(backend, log, [(0, be_blocked)], head=None, prepare=blocked(log))
    ((when, what),) = log
    assert what == "signal"
    assert 20 <= when < 26


def test_a_client_that_leaves_while_the_start_blocks_has_its_stream_ended(backend, log):
    """Nothing is cancelled for that; the server's send is the app's affair."""

    def prepare(world):
        blocked(log, seconds=30)(world)
        world.leave_at = 10

    async def be_blocked(scope, receive, send):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.listen, scope, receive, send)
            await send(start())
        log.add("started")

    world = play(backend, [(0, be_blocked)], head=None, prepare=prepare, send_timeout=100)
    assert log == [(10, "http.disconnect"), (30, "started")]
    assert world.pings == []
    assert is_balanced(world)


def lifespan_with_blocked_start(backend, **options):
    """Return when an app hears of a shutdown at 20, and what had happened by then."""

    async def main():
        world, log, heard = World(), Log(), []
        blocked(log)(world)

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                assert (await receive())["type"] == "lifespan.shutdown"
                heard.append((world.now(), list(log)))
                return
            try:
                await send(start())
            except OSError:
                log.add("error")

        async def tell():
            await world.sleep_until(20)
            return {"type": "lifespan.shutdown"}

        middleware = KeepaliveMiddleware(app, **options)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(middleware, http(), world.receive, world.send)
            await middleware({"type": "lifespan"}, tell, None)
            tasks.cancel_scope.cancel()
        await settle()
        assert tasks_left() == 0
        return heard

    return run(backend, main)


def test_lifespan_shutdown_waits_for_a_stream_whose_start_blocks(backend):
    ((when, log),) = lifespan_with_blocked_start(backend, drain=5)
    assert 25 <= when < 26
    assert [what for _, what in log] == ["error"]


def test_lifespan_shutdown_does_not_wait_for_a_response_that_is_not_a_stream(backend):
    """Nor for a stream of a policy without a drain."""
    ((when, log),) = lifespan_with_blocked_start(backend, send_timeout=1000)
    assert (when, log) == (20, [])


# starts by the middleware, 10 s after the request


@pytest.fixture
def limits_from_10(monkeypatch):
    """Have a `send_timeout` and a `max_lifetime` end at 25 what begins at 10."""
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    return {
        "send_timeout": {"send_timeout": 15},
        "max_lifetime": {"max_lifetime": 15},
        "abort": {"drain": 5},
    }


def play_early(backend, log, limit, limits, step):
    player = aborted if limit == "abort" else play_with_log
    return player(
        backend,
        log,
        [(0, step)],
        head=None,
        scope=http(headers=ACCEPTS),
        start_after=10,
        prepare=blocked(log),
        **limits[limit],
    )


def play_with_log(backend, log, steps, **options):
    return play(backend, steps, **options)


@pytest.mark.parametrize("limit", ["send_timeout", "max_lifetime", "abort"])
def test_an_early_start_that_blocks_notifies_a_listening_app(
    backend, log, limit, limits_from_10
):
    async def listen_and_answer(scope, receive, send):
        await log.listen(scope, receive, send)
        await send(start())
        await anyio.sleep(3)
        log.add("done")

    world = play_early(backend, log, limit, limits_from_10, listen_and_answer)
    assert [what for _, what in log] == ["http.disconnect", "done"]
    assert 25 <= log[0][0] < 26
    assert world.timeline == []
    assert is_balanced(world)


@pytest.mark.parametrize("limit", ["send_timeout", "max_lifetime", "abort"])
def test_an_early_start_that_blocks_has_a_non_listening_app_cancelled(
    backend, log, limit, limits_from_10
):
    world = play_early(backend, log, limit, limits_from_10, log.stay)
    ((when, what),) = log
    assert what == "cancelled"
    assert 26 <= when < 27
    assert world.timeline == []


@pytest.mark.parametrize("limit", ["send_timeout", "max_lifetime", "abort"])
def test_a_start_of_the_apps_own_that_waits_for_an_early_one_raises(
    backend, log, limit, limits_from_10
):
    async def answer(scope, receive, send):
        await log.world.sleep_until(12)
        with pytest.raises(OSError, match="has been ended"):
            await send(start())
        log.add("error")

    world = play_early(backend, log, limit, limits_from_10, answer)
    ((when, what),) = log
    assert what == "error"
    assert 25 <= when < 26
    assert world.timeline == []
