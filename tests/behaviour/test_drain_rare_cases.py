"""Rare cases of a drain: partial events, second stops, refused ends, repeated cancellation."""

import asyncio

import anyio
import pytest
from support.endings import BYE, CANCELLED, X, aborted, leaves_at, shut_down, slow_to_send
from support.harness import END, PING, START, World, body, http, play, run, start
from support.internals import APP_EXIT_TIMEOUT, BOUNDARY_TIMEOUT

from keepalive import KeepaliveMiddleware, Ping, StopReason, get_stream


def test_a_last_body_within_an_event_has_its_own_time(backend, log):
    prepare = slow_to_send(b"", 0.2, log)
    world = aborted(backend, log, [(24, b"data: half\n"), (24, log.listen)], prepare=prepare)
    assert world.timeline[-1] == (25 + BOUNDARY_TIMEOUT + 0.2, END)


def test_a_non_listening_app_whose_client_leaves_after_a_shutdown_has_no_longer(backend, log):
    shut_down(backend, log, [(1, log.stay)], prepare=leaves_at(22, log))
    assert log == [(25 + APP_EXIT_TIMEOUT, "cancelled")]


def test_the_end_waits_for_all_of_an_event(backend, log):
    steps = [(24, b"data: a\n"), (25.2, b"data: b\n"), (25.3, b"\n"), (25.3, log.listen)]
    world = aborted(backend, log, steps)
    assert world.timeline[-4:] == [
        (25.2, b"data: b\n"),
        (25.3, b"\n"),
        (25.3, BYE),
        (25.3, END),
    ]


def test_what_is_over_is_not_kept(backend, log):
    async def look(scope, receive, send):
        for _ in range(3):
            await send(body(X))
        assert not scope["asgi-keepalive"].server_send.__self__._calls
        await receive()
        assert not scope["asgi-keepalive"].server_send.__self__._calls

    play(backend, [(1, look)], drain=5)


def test_a_second_stop_ends_nothing_more(backend, log):
    async def background(scope, receive, send):
        get_stream(scope).abort()
        await anyio.sleep(100)
        log.add("done")

    aborted(backend, log, [(22, X), (24, END), (24, background)])
    assert log == [(124, "done")]


def test_a_shutdown_ends_no_background_task_of_a_complete_response(backend, log):
    async def background(scope, receive, send):
        await anyio.sleep(100)
        log.add("done")

    shut_down(backend, log, [(22, X), (24, END), (24, background)], at=30)
    assert log == [(124, "done")]


def test_a_stream_that_is_over_no_longer_listens_for_a_shutdown(backend, log):
    made = []

    def wrap(app, **options):
        made.append(KeepaliveMiddleware(app, **options))
        return made[0]

    play(backend, [(20, X)], prepare=leaves_at(17, log), wrap=wrap, drain=5)
    assert not made[0]._config.stop_signal._callbacks


def test_a_lifetime_that_was_dropped_is_forgotten(backend, log, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    shut_down(backend, log, [(1, log.stay)], prepare=leaves_at(17, log), max_lifetime=18)
    assert log == [(25 + APP_EXIT_TIMEOUT, "cancelled")]


def test_an_end_that_is_refused_is_logged(backend, log, caplog):
    caplog.set_level("DEBUG", "keepalive")

    def prepare(world):
        log.prepare(world)
        world.failing = lambda m: ValueError("no") if m.get("body") == BYE else None

    aborted(backend, log, [(1, log.listen)], prepare=prepare)
    assert "a stream could not be ended cleanly" in [r.message for r in caplog.records]


def test_no_end_beside_a_ping(backend, log):
    prepare = slow_to_send(PING, 10**6, log)
    world = aborted(backend, log, [(1, log.listen)], prepare=prepare)
    assert world.timeline == [(0, START)]
    assert log == [(25 + BOUNDARY_TIMEOUT, "http.disconnect")]


def test_a_farewell_is_sent_between_events_like_pings(backend, log):
    steps = [(24, b"data: a\n"), (25.3, b"\n"), (25.3, log.listen)]
    world = aborted(backend, log, steps, ping=Ping.comment())
    assert world.timeline[-3:] == [(25.3, b"\n"), (25.3, BYE), (25.3, END)]


def test_on_asyncio_a_second_cancellation_that_arrives_passes(log):
    async def clean_up(scope, receive, send):
        try:
            await anyio.sleep(10**6)
        finally:
            asyncio.current_task().cancel()
            await asyncio.sleep(1)

    async def main():
        world = World()

        async def app(scope, receive, send):
            await send(start())
            await clean_up(scope, receive, send)

        app = KeepaliveMiddleware(app, drain=0)
        app.shutdown()
        with pytest.raises(asyncio.CancelledError):
            await app(http(), world.receive, world.send)

    run("asyncio", main)


def test_what_a_cancelled_app_raises_comes_out(backend, log):
    async def fail(scope, receive, send):
        try:
            await anyio.sleep(10**6)
        except CANCELLED:
            raise ZeroDivisionError from None

    aborted(backend, log, [(1, fail)], raises=ZeroDivisionError)


def test_an_app_whose_client_left_after_a_failed_ping_is_cancelled_after_a_shutdown(
    backend, log
):
    """The reason is the ping's failure; the shutdown still has its due."""

    def prepare(world):
        leaves_at(22, log)(world)
        world.failing = lambda message: ValueError() if message.get("body") == PING else None

    world = shut_down(backend, log, [(0, log.stay)], prepare=prepare)
    assert world.ended.reason == StopReason.WRITE_FAILED
    assert log == [(26, "cancelled")]
