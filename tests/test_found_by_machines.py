"""What the state machines have found: minimal examples."""

import pytest
from endings import BYE, FAREWELL, X, aborted, shut_down
from harness import END, PING, START, body, play

from keepalive import AbortController, StopReason


def test_an_end_comes_as_soon_as_a_start_that_blocked_has_been_sent(backend, log):
    """With its farewell: the stream is then empty, which is an event boundary."""

    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 25.25 if message["type"].endswith("start") else 0

    world = aborted(backend, log, [(1, log.listen)], prepare=prepare)  # at 20, drain 5
    assert world.timeline == [(25.25, START), (25.25, BYE), (25.25, END)]


@pytest.mark.parametrize("own", [False, True])
def test_an_abort_after_a_failed_ping_ends_the_stream(backend, log, own):
    """Whether the signal is that of all streams or the stream's own."""
    controller = AbortController()

    def prepare(world):
        log.prepare(world)
        world.failing = lambda message: ValueError() if message.get("body") == PING else None

    world = play(
        backend,
        [(20, X), (60, END)],
        abort=(lambda _: controller.signal) if own else controller.signal,
        at=[(30, controller.abort)],
        drain=5,
        farewell=FAREWELL,
        prepare=prepare,
    )
    assert world.ended.reason is StopReason.WRITE_FAILED
    assert world.timeline == [(0, START), (20, X), (35, BYE), (35, END)]


@pytest.mark.parametrize("leaves_at", [10**6, 22])
def test_a_last_body_that_blocks_is_given_up_at_the_end_of_the_drain(backend, log, leaves_at):
    """Also if the client has left: somebody waits for the app."""

    def prepare(world):
        log.prepare(world)
        world.leave_at = leaves_at
        last = {"more_body": False}.items()
        world.slow = lambda message: 10**5 if last <= message.items() else 0

    async def be_blocked(scope, receive, send):
        with pytest.raises(OSError, match="has been ended"):
            await send(body(more=False))
        log.add("error")

    shut_down(backend, log, [(21, be_blocked)], prepare=prepare)  # at 20, drain 5
    ((when, what),) = log
    assert what == "error"
    assert 25 <= when <= 26
