"""`get_stream(scope)` is the stream that is actually kept alive, wherever in the nest."""

import anyio
import pytest
from support.endings import leaves_at
from support.harness import END, START, http, play, start
from support.sent_pings import sent_pings

from keepalive import KeepaliveMiddleware, Ping, StopReason, get_stream

pytestmark = pytest.mark.timeout(20)

NDJSON = b"application/x-ndjson"
ACCEPTS = [(b"accept", b"text/event-stream")]
HEAD = start([(b"content-type", NDJSON)])
SPACES = {NDJSON.decode(): Ping.space()}


class Nest:
    """Makes the outer middleware keep alive what the inner ones don't."""

    def __init__(self, *inner, **options):
        self.inner = inner
        self.options = options
        self.outer = None

    def __call__(self, app, **options):
        for each in self.inner:
            app = KeepaliveMiddleware(app, **each)
        self.outer = KeepaliveMiddleware(app, **options, **self.options)
        return self.outer

    def shut_down(self):
        self.outer.shutdown()


def by_media_type():
    return Nest({}, media_types=SPACES), {"head": HEAD}


def by_media_type_three_deep():
    return Nest({}, {"drain": 5}, media_types=SPACES), {"head": HEAD}


def by_early_start():
    return Nest({}, start_after=10, first_ping=0), {
        "scope": http(headers=ACCEPTS),
        "head": None,
    }


def by_early_start_with_a_later_one_inside():
    nest = Nest({"start_after": 60}, start_after=10, first_ping=0)
    return nest, {"scope": http(headers=ACCEPTS), "head": None}


@pytest.fixture(
    params=[
        by_media_type,
        by_media_type_three_deep,
        by_early_start,
        by_early_start_with_a_later_one_inside,
    ]
)
def nested(request, backend):
    """Play an app within a nest of middlewares, of which the outer one keeps it alive."""
    nest, given = request.param()

    def player(steps, **options):
        if given["head"] is None:
            steps = [*steps[:-1], (steps[-1][0], start()), steps[-1]]
        world = play(backend, steps, wrap=nest, **given, **options)
        world.all_pings = [when for when, what in world.timeline if what not in (START, END)]
        return world

    player.shut_down = nest.shut_down
    return player


def test_its_pings_are_counted(nested, log):
    async def look(scope, receive, send):
        log.append(sent_pings(get_stream(scope)))

    world = nested([(1, look), (50, look), (60, END)])
    assert log == [0, len([when for when in world.all_pings if when < 50])]
    assert log[1] >= 2


@pytest.mark.parametrize("kept_from_the_beginning", [False, True])
def test_an_abort_stops_its_pings(nested, kept_from_the_beginning):
    own = []

    async def ask(scope, receive, send):
        own.append(get_stream(scope))

    async def abort(scope, receive, send):
        (own[0] if kept_from_the_beginning else get_stream(scope)).abort()

    world = nested([(1, ask), (32, abort), (60, END)])
    assert world.all_pings
    assert max(world.all_pings) <= 32
    assert world.ended.reason is StopReason.ABORTED


@pytest.mark.parametrize("asked_at", [1, 25])
def test_its_signal_is_triggered_by_a_shutdown(nested, log, asked_at):
    async def wait(scope, receive, send):
        with anyio.move_on_after(100):
            log.add(await get_stream(scope).signal.wait())

    nested([(asked_at, wait), (60, END)], at=[(30, nested.shut_down)], prepare=log.prepare)
    assert log == [(30, StopReason.SHUTDOWN)]


def test_its_signal_is_triggered_by_an_abort_of_the_app(nested, log):
    async def abort(scope, receive, send):
        signal = get_stream(scope).signal
        get_stream(scope).abort()
        with anyio.move_on_after(5):
            log.add(await signal.wait())

    nested([(30, abort), (60, END)], prepare=log.prepare)
    assert log == [(30, StopReason.ABORTED)]


def test_its_signal_is_triggered_when_the_client_leaves(nested, log):
    async def wait(scope, receive, send):
        with anyio.move_on_after(100):
            log.add(await get_stream(scope).signal.wait())

    nested([(1, wait), (120, END)], prepare=leaves_at(40, log))
    assert log == [(40, StopReason.DISCONNECTED)]


def test_its_signal_is_not_triggered_before(nested, log):
    async def look(scope, receive, send):
        log.append(get_stream(scope).signal.aborted)

    nested([(1, look), (30, look), (60, END)])
    assert log == [False, False]


def test_the_inner_stream_is_the_one_where_the_inner_middleware_pings(backend, log):
    """As ever: each kept response has one."""

    async def abort(scope, receive, send):
        log.append(sent_pings(get_stream(scope)))
        get_stream(scope).abort()

    world = play(backend, [(20, abort), (60, END)], wrap=Nest({}))
    assert log == [1]
    assert world.pings == [15]
