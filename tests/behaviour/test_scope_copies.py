"""Scopes that an app copies, takes things out of, or that are served twice."""

import copy

import anyio
import pytest
from support.harness import (
    END,
    PING,
    START,
    World,
    body,
    http,
    play,
    run,
    settle,
    start,
    tasks_left,
)
from support.sent_pings import sent_pings

from keepalive import KeepaliveMiddleware, StopReason, StreamEnded, StreamStarted, get_stream

pytestmark = pytest.mark.timeout(20)

X = b"data: x\n\n"
COPIES = pytest.mark.parametrize("make_copy", [copy.copy, copy.deepcopy, dict])
POLICIES = pytest.mark.parametrize(
    "policy", [{}, {"drain": 5, "max_lifetime": 1000}, {"start_after": 10}]
)
ACCEPTS = [(b"accept", b"text/event-stream")]


@pytest.fixture(autouse=True)
def _server_that_cannot_be_copied(monkeypatch):
    """Real servers' `receive` and `send` know a socket, a transport and an event loop."""

    def refuse(self, memo=None):
        raise TypeError("cannot pickle 'socket' object")

    monkeypatch.setattr(World, "__copy__", refuse, raising=False)
    monkeypatch.setattr(World, "__deepcopy__", refuse, raising=False)


@COPIES
@POLICIES
def test_a_scope_can_be_copied_while_the_app_runs(backend, make_copy, policy):
    scopes = []

    async def take_copy(scope, receive, send):
        scopes.append((make_copy(scope), scope["path"]))

    steps = [(1, take_copy), (20, take_copy), (30, END)]
    world = play(backend, steps, scope=http("/p", headers=ACCEPTS), **policy)
    assert world.pings == [15]
    for copied, path in scopes:
        assert copied["path"] == path == "/p"
        assert copied["headers"] == ACCEPTS


@COPIES
@pytest.mark.parametrize("routes", [None, {"/": None}, lambda scope: None])
def test_a_scope_can_be_copied_whatever_the_response(backend, make_copy, routes):
    """As Hypercorn's `ProxyFixMiddleware` does with each request."""

    def wrap(app, **options):
        async def copying(scope, receive, send):
            await app(make_copy(scope), receive, send)

        return KeepaliveMiddleware(copying, **options)

    plain = start([(b"content-length", b"2")])
    world = play(backend, [(1, b"ok")], head=plain, wrap=wrap, routes=routes)
    assert world.timeline == [(0, START), (1, b"ok")]


@COPIES
def test_a_head_and_a_scope_within_two_middlewares_can_be_copied(backend, make_copy):
    def wrap(app, **options):
        async def copying(scope, receive, send):
            await app(make_copy(scope), receive, send)

        return KeepaliveMiddleware(KeepaliveMiddleware(copying, **options), **options)

    world = play(backend, [(1, END)], wrap=wrap, scope=http(method="HEAD"))
    assert world.timeline == [(0, START), (1, END)]


@COPIES
@POLICIES
def test_the_stream_of_a_copy_is_the_stream_itself(backend, make_copy, policy):
    async def compare(scope, receive, send):
        copied = make_copy(scope)
        assert get_stream(copied).signal is get_stream(scope).signal
        assert sent_pings(get_stream(copied)) == sent_pings(get_stream(scope)) == 1

    world = play(backend, [(20, compare), (21, END)], **policy)
    assert world.pings == [15]


@COPIES
@POLICIES
@pytest.mark.parametrize("when", [1, 20])
def test_an_abort_through_a_copy_stops_the_stream(backend, make_copy, policy, when):
    async def abort(scope, receive, send):
        get_stream(make_copy(scope)).abort()

    world = play(backend, [(when, abort), (24, END)], **policy)
    assert world.pings == ([15] if when == 20 else [])
    assert world.ended.reason is StopReason.ABORTED


@COPIES
def test_an_app_behind_a_copy_is_served_as_any_other(backend, make_copy):
    def wrap(app, **options):
        async def copying(scope, receive, send):
            await app(make_copy(scope), receive, send)

        return KeepaliveMiddleware(copying, **options)

    world = play(backend, [(20, X), (40, END)], wrap=wrap, scope=http("/p"))
    assert world.timeline == [(0, START), (15, PING), (20, X), (35, PING), (40, END)]
    assert (world.ended.path, world.ended.pings) == ("/p", 2)


# a scope without its path


@POLICIES
@pytest.mark.parametrize("when", [0, 20])
def test_an_app_may_take_the_path_out_of_its_scope(backend, policy, when):
    async def take_out(scope, receive, send):
        del scope["path"]

    steps = [(when, take_out), (when, start()), (when, X), (50, END)]
    if when:
        steps = [(0, start()), (when, take_out), (when, X), (50, END)]
    world = play(backend, steps, head=None, scope=http("/p"), **policy)
    assert world.timeline[-1] == (50, END)
    kinds = [event for event in world.events if isinstance(event, StreamStarted | StreamEnded)]
    assert [type(event) for event in kinds] == [StreamStarted, StreamEnded]
    assert {event.path for event in world.events} == {"/p" if when else ""}
    assert world.ended.reason is StopReason.COMPLETED


def test_an_app_may_take_the_path_out_where_callables_fail(backend, caplog):
    def fail(*_):
        raise LookupError

    async def take_out(scope, receive, send):
        del scope["path"]

    steps = [(0, take_out), (0, start()), (20, END)]
    world = play(backend, steps, head=None, abort=fail, observer=fail)
    assert world.pings == [15]
    assert len(caplog.records) == 4  # the abort callable, a start, a ping and an end


# one scope for two calls


def two_calls(backend, policy, second_at):
    """Serve one scope twice at the same time; return the two worlds and the scope."""

    async def main():
        worlds, scope = [World(), World()], http()

        async def app(scope, receive, send):
            await send(start())
            await anyio.sleep(40)
            await send(body(X, more=False))

        middleware = KeepaliveMiddleware(app, **policy)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(middleware, scope, worlds[0].receive, worlds[0].send)
            await worlds[0].sleep_until(second_at)
            tasks.start_soon(middleware, scope, worlds[1].receive, worlds[1].send)
        await settle()
        assert tasks_left() == 0
        return worlds, scope

    return run(backend, main)


@pytest.mark.parametrize("policy", [{}, {"drain": 5, "max_lifetime": 1000}])
@pytest.mark.parametrize("second_at", [0, 7])
def test_one_scope_for_two_calls_at_once(backend, policy, second_at):
    """As of a request that is mirrored, or sent twice to be fast."""
    worlds, scope = two_calls(backend, policy, second_at)
    first, second = worlds
    assert first.pings == [15, 30]
    assert second.pings == [second_at + 15, second_at + 30]
    with pytest.raises(LookupError):
        get_stream(scope)
    assert scope == http()
