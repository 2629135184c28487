"""Disconnects, aborts and shutdowns, before and after a start by the middleware."""

import contextvars

import anyio
import pytest
from support.early import JSON, SSE_START, OnPurposeError, error_event, raising, slow, wanting
from support.endings import FAREWELL, X, leaves_at
from support.harness import END, PING, START, body, play, run, start

from keepalive import AbortController, KeepaliveMiddleware, StopReason, get_stream


@pytest.mark.parametrize("at", [10, 19])
def test_a_client_that_leaves_before_the_start_has_nothing_started(backend, log, at):
    async def listen(scope, receive, send):
        await receive()
        log.add((await receive())["type"])

    world = slow(backend, [(1, listen), (30, start())], prepare=leaves_at(at, log))
    assert log == [(at, "http.disconnect")]
    assert [when for when, _ in world.timeline] == [30]


def test_a_client_that_leaves_after_the_start_ends_the_stream(backend, log):
    world = slow(backend, [(60, start()), (61, X), (62, END)], prepare=leaves_at(40, log))
    assert (world.ended.reason, world.ended.duration) == (StopReason.DISCONNECTED, 20)
    assert world.ended.late_status is None
    assert world.pings == [20, 35]


@pytest.mark.parametrize("at", [10, 30])
def test_an_abort_stops_the_pings(backend, at):
    controller = AbortController()
    world = slow(
        backend,
        [(60, start()), (61, END)],
        abort=controller.signal,
        at=[(at, controller.abort)],
    )
    if at == 10:  # before the start: that is the app's again
        assert world.timeline == [(60, START), (61, END)]
    else:
        assert world.timeline == [(20, START), (20, PING), (61, END)]
    assert world.ended.reason == StopReason.ABORTED


def test_a_signal_of_its_own_is_asked_for_once_and_stops_a_stream_before_its_start(backend):
    asked = []

    def abort(scope):
        asked.append(context.get())
        return controllers[-1].signal

    async def at_once(scope, receive, send):
        controllers[-1].abort()

    context, controllers = contextvars.ContextVar("context"), [AbortController()]
    context.set("the request's")
    world = slow(backend, [(60, start()), (61, END)], abort=abort)
    assert world.timeline[:2] == [(20, START), (20, PING)]
    controllers.append(AbortController())
    world = slow(backend, [(10, at_once), (60, start()), (61, END)], abort=abort)
    assert world.timeline == [(60, START), (61, END)]
    assert world.ended.reason == StopReason.ABORTED
    assert asked == ["the request's"] * 2


@pytest.mark.parametrize("what", ["start", "body"])
def test_a_client_that_leaves_sets_free_who_waits_for_the_start(backend, log, what):
    """Some servers block what is sent to a client that has left."""

    def prepare(world):
        leaves_at(40, log)(world)
        early = lambda message: message.get("headers") == SSE_START or message.get("body")
        world.slow = lambda message: (
            10**6 if message["type"].endswith(what) and early(message) else 0
        )

    async def listen_and_start(scope, receive, send):
        async with anyio.create_task_group() as group:
            group.start_soon(log.listen, scope, receive, send)
            await send(start(JSON))
            log.add("sent")

    slow(backend, [(30, listen_and_start)], prepare=prepare)
    assert sorted(what for _, what in log) == ["http.disconnect", "sent"]
    assert {when for when, _ in log} == {40}


def test_an_abort_of_its_own_stops_a_stream_before_its_start(backend):
    async def give_up(scope, receive, send):
        get_stream(scope).abort()

    world = slow(backend, [(10, give_up), (60, start()), (61, END)])
    assert world.timeline == [(60, START), (61, END)]


def test_a_shutdown_with_a_drain_ends_a_stream_whose_app_has_not_started(backend, log):
    controller = AbortController()

    async def go_on(scope, receive, send):
        try:
            await send(start())
        except OSError as error:
            log.add(str(error))

    world = slow(
        backend,
        [(35.5, go_on)],
        abort=controller.signal,
        at=[(30, controller.abort)],
        drain=5,
        farewell=FAREWELL,
        prepare=log.prepare,
    )
    summary = error_event(504, None, "")
    assert world.timeline == [(20, START), (20, PING), (35, summary), (35, END)]
    assert log == [(35.5, "the stream has been ended: aborted")]


def test_an_error_after_the_end_is_not_reported(backend, log):
    controller = AbortController()
    world = slow(
        backend,
        [(35.5, raising(OnPurposeError()))],
        abort=controller.signal,
        at=[(30, controller.abort)],
        drain=5,
        raises=OnPurposeError,
    )
    summary = error_event(504, None, "")
    assert world.timeline == [(20, START), (20, PING), (35, summary), (35, END)]


def test_a_call_that_is_cancelled_is_not_answered(backend):
    async def main(scope, receive, send):
        with anyio.move_on_after(5) as scope_:
            await inner(scope, receive, send)
        assert scope_.cancelled_caught

    async def slowly(scope, receive, send):
        await anyio.sleep(100)

    inner = KeepaliveMiddleware(slowly, start_after=2, interval=2)
    world = play(backend, [(0, main)], head=None, scope=wanting(), wrap=lambda app, **_: app)
    assert world.timeline == [(2, START), (2, PING), (4, PING)]


def test_a_task_that_outlives_its_call_answers_nobody(backend, log):
    late = []

    async def leave_a_task_behind(scope, receive, send):
        late.append(send)

    slow(backend, [(40, leave_a_task_behind)], prepare=leaves_at(25, log))

    async def main():
        await late[0](start(JSON))

    run(backend, main)


def test_a_task_that_outlives_its_call_completes_a_response_that_nobody_gets(backend, log):
    late = []

    async def leave_a_task_behind(scope, receive, send):
        await send(start(JSON, 503))
        late.append(send)

    world = slow(backend, [(40, leave_a_task_behind)], prepare=leaves_at(25, log))

    async def main():
        await late[0](body(b"{}", more=False))
        with pytest.raises(OSError, match="the stream has been ended"):
            await late[0](body(b"{}", more=False))

    run(backend, main)
    assert b"{}" not in world.body


def test_a_send_that_waits_for_the_early_start_is_not_silence(backend):
    def prepare(world):
        world.slow = lambda message: 20 if message["type"] == "http.response.start" else 0

    steps = [(1, start()), (1, body(b"data: x\n\n")), (2, END)]
    limits = {"start_after": 1, "max_silence": 10, "prepare": prepare}
    world = play(backend, steps, head=None, scope=wanting(), **limits)
    assert world.timeline[0] == (21, START)
    assert world.timeline[-2:] == [(21, b"data: x\n\n"), (21, END)]


async def returning(scope, receive, send):
    pass


def test_an_app_may_end_while_the_server_refuses_the_early_start(backend):
    def prepare(world):
        world.slow = lambda _: 5.5
        world.failing = lambda _: ValueError("refused")

    world = slow(backend, [(25, returning)], prepare=prepare)
    assert (world.timeline, world.events) == ([], [])


def test_an_app_whose_summary_the_server_has_refused_is_still_limited(
    backend, log, monkeypatch
):
    monkeypatch.setattr("random.uniform", lambda _, most: most)

    async def answer_and_stay(scope, receive, send):
        await send(start(JSON, 503))
        with pytest.raises(ValueError, match="refused"):
            await send(body(b"{}", more=False))
        await log.stay(scope, receive, send)

    def prepare(world):
        log.prepare(world)
        world.failing = lambda message: (
            None if message.get("more_body", True) else ValueError("refused")
        )

    world = slow(backend, [(30, answer_and_stay)], prepare=prepare, max_lifetime=40)
    assert world.ended.reason is StopReason.MAX_LIFETIME
    assert log == [(61, "cancelled")]
