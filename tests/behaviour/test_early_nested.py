"""Which of several nested middlewares starts the response."""

import pytest
from support.early import JSON, error_event, slow
from support.endings import X
from support.harness import END, PING, START, start

from keepalive import KeepaliveMiddleware

TIMES = [{}, {"start_after": 10}, {"start_after": 20}, {"start_after": 30}]


@pytest.mark.parametrize("head", [start(), start(JSON, 503)], ids=["fits", "does not"])
@pytest.mark.parametrize("inner", TIMES, ids=str)
@pytest.mark.parametrize("outer", TIMES, ids=str)
def test_one_of_two_starts_and_pings(backend, inner, outer, head):
    def wrap(app, **options):
        return KeepaliveMiddleware(KeepaliveMiddleware(app, **options | inner), **outer)

    steps = [(58, head), (58, X), (59, END)]
    world = slow(backend, steps, wrap=wrap, start_after=None)
    first = min((one["start_after"] for one in (inner, outer) if one), default=58)
    fits = head["status"] == 200
    expected = [(first, START)]
    if fits or first < 58:
        expected += [(t, PING) for t in range(first, 58, 15)]
    if fits or first == 58:
        expected += [(58, X), (59, END)]
    else:
        expected += [(59, error_event(503, "application/json", X.decode())), (59, END)]
    assert world.timeline == expected


@pytest.mark.parametrize("inner", TIMES, ids=str)
def test_one_of_two_starts_where_a_server_is_slow_to_take_it(backend, inner):
    def prepare(world):
        world.slow = lambda message: 1 if message["type"].endswith("start") else 0

    def wrap(app, **options):
        return KeepaliveMiddleware(KeepaliveMiddleware(app, **options | inner), start_after=20)

    steps = [(20.5, start()), (20.5, X), (22, END)]
    world = slow(backend, steps, wrap=wrap, start_after=None, prepare=prepare)
    assert [what for _, what in world.timeline if what != PING] == [START, X, END]


@pytest.mark.parametrize("inner", [{}, {"start_after": 10}], ids=str)
def test_a_path_that_an_inner_one_excludes_is_not_started(backend, inner):
    def wrap(app, **options):
        app = KeepaliveMiddleware(app, **options | inner, routes={"/": None})
        return KeepaliveMiddleware(app, start_after=5)

    world = slow(backend, [(40, start()), (60, END)], wrap=wrap, start_after=None)
    assert world.timeline == [(40, START), (60, END)]


def test_all_pings_come_from_an_outer_one_that_has_started(backend):
    def wrap(app, **options):
        return KeepaliveMiddleware(KeepaliveMiddleware(app, 3, **options), 9, start_after=5)

    world = slow(backend, [(16, start()), (30, END)], wrap=wrap, start_after=None)
    assert world.timeline == [(5, START), *((t, PING) for t in (5, 14, 23)), (30, END)]


def test_one_of_three_starts(backend):
    def wrap(app, **options):
        for start_after in (30, None, 20):
            app = KeepaliveMiddleware(app, **options | {"start_after": start_after})
        return app

    world = slow(backend, [(60, start()), (61, END)], wrap=wrap)
    assert world.timeline == [(20, START), *((t, PING) for t in (20, 35, 50)), (61, END)]
