"""When pings are sent: timelines on the virtual clock."""

import asyncio
import random
import sys
from contextvars import Context

import anyio
import pytest
from support.harness import (
    END,
    PING,
    START,
    body,
    http,
    play,
    run,
    scheduled_streams,
    settle,
    start,
)

from keepalive import KeepaliveMiddleware, Ping

X = b"data: x\n\n"
COMMENT = b": ping\n"


def test_a_silent_stream_is_pinged_every_fifteen_seconds(backend):
    world = play(backend, [(50, END)])
    assert world.timeline == [(0, START), (15, PING), (30, PING), (45, PING), (50, END)]


def test_the_default_ping_is_these_bytes():
    assert PING == b"event: ping\ndata: \n\n"
    assert Ping.event().payload == PING


def test_a_request_without_context_variables(backend):
    """As servers' own are: some of a stream's state is made for those with variables alone."""
    steps = [(10, b"data: half"), (26, b"\n\n"), (50, END)]
    world = Context().run(play, backend, steps)
    assert world.pings == [26, 41]


def test_data_resets_the_timer(backend):
    world = play(backend, [(10, X), (20, X), (40, X), (41, END)])
    assert world.timeline == [(0, START), (10, X), (20, X), (35, PING), (40, X), (41, END)]


def test_a_ping_resets_the_timer(backend):
    world = play(backend, [(7, X), (40, END)])
    assert world.pings == [22, 37]


def test_a_busy_stream_gets_no_ping(backend):
    world = play(backend, [*((t, X) for t in range(1, 100, 14)), (100, END)])
    assert world.pings == []


def test_an_empty_body_is_silence(backend):
    world = play(backend, [(10, b""), (20, END)])
    assert world.pings == [15]


def test_data_at_the_very_time_of_a_ping_goes_first_and_is_enough(backend):
    world = play(backend, [(15, X), (31, END)])
    assert world.timeline == [(0, START), (15, X), (30, PING), (31, END)]


@pytest.mark.parametrize("at", [15, 30])
@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("ending", [b"", b"data: half"])
def test_data_that_comes_some_turns_of_the_loop_later_meets_one_ping_at_most(
    backend, turns, ending, at
):
    """First the data, and then no ping; or first the ping, which nobody could have known."""

    async def late(scope, receive, send):
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        await send(body(X + ending))

    # An empty body shortly before, so that the app's timer was set after the scheduler's.
    steps = [(at - 1, b""), (at, late), (at + 14, b"\n\n"), (at + 25, END)]
    world = play(backend, steps)
    assert [entry for entry in world.timeline if entry[0] == at] in (
        [(at, X + ending)],
        [(at, PING), (at, X + ending)],
    )
    if turns < 2:
        assert (at, PING) not in world.timeline


@pytest.mark.parametrize("turns", range(8))
def test_steady_data_that_comes_some_turns_later_costs_no_ping(backend, turns):
    async def late(scope, receive, send):
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        await send(body(b"data: half"))

    steps = [(15, late), (20, b"\n\n"), (21, END)]
    world = play(backend, steps, pacing="steady")
    assert world.pings in ([15], [20])


def test_two_senders_wait_for_one_blocked_ping(backend):
    async def both(scope, receive, send):
        async def one(delay):
            await anyio.sleep(delay)
            await send(body(X))

        async with anyio.create_task_group() as group:
            group.start_soon(one, 0)
            group.start_soon(one, 1)

    def slow(world):
        world.slow = lambda message: 10 if message.get("body") == PING else 0

    world = play(backend, [(16, both), (30, END)], prepare=slow)
    assert world.timeline == [(0, START), (25, PING), (25, X), (25, X), (30, END)]


def test_senders_that_wait_for_a_blocked_ping_keep_their_order(backend):
    """And nobody overtakes them; one that gives up makes way."""

    async def many(scope, receive, send):
        async def one(number, patience):
            await anyio.sleep(number / 10)
            with anyio.move_on_after(patience):
                await send(body(b"data: %d\n\n" % number))

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, number, 2 if number in (0, 3) else 100)
            await anyio.sleep(9)
            for _ in range(3):
                await anyio.lowlevel.checkpoint()
            await send(body(b"data: last\n\n"))

    def slow(world):
        world.slow = lambda message: 10 if message.get("body") == PING else 0

    world = play(backend, [(16, many), (30, END)], prepare=slow)
    numbers = [data for _, data in world.timeline[2:-1]]
    assert numbers == [b"data: %d\n\n" % n for n in (1, 2, 4, 5, 6, 7)] + [b"data: last\n\n"]


def test_the_last_body_at_the_very_time_of_a_ping_is_the_last(backend):
    world = play(backend, [(15, END)])
    assert world.timeline == [(0, START), (15, END)]


@pytest.mark.parametrize("interval", [0.01, 1, 7.5, 3600.0])
def test_the_interval(backend, interval):
    world = play(backend, [(3.5 * interval, END)], interval=interval)
    assert world.pings == [pytest.approx(n * interval) for n in (1, 2, 3)]


# steady pacing


def test_steady_pings_come_on_a_grid_whatever_the_app_sends(backend):
    world = play(backend, [(4, X), (14, X), (31, X), (50, END)], pacing="steady")
    assert world.pings == [15, 30, 45]


def test_steady_data_at_the_time_of_a_ping_goes_first(backend):
    world = play(backend, [(15, X), (20, END)], pacing="steady")
    assert world.timeline == [(0, START), (15, X), (15, PING), (20, END)]


def test_steady_pings_that_were_missed_are_dropped(backend):
    steps = [(10, b"data: x\n"), (50, b"\n"), (70, END)]
    world = play(backend, steps, pacing="steady")
    assert world.timeline == [
        (0, START), (10, b"data: x\n"), (50, b"\n"), (50, PING), (60, PING), (70, END)
    ]  # fmt: skip


def test_the_steady_grid_starts_at_the_first_ping(backend):
    world = play(backend, [(40, END)], pacing="steady", first_ping=2)
    assert world.pings == [2, 17, 32]


def test_a_steady_ping_goes_out_right_after_a_blocked_send(backend):
    def slow(world):
        world.slow = lambda message: 17 if message.get("body") == X else 0

    world = play(backend, [(10, X), (40, END)], pacing="steady", prepare=slow)
    assert world.timeline == [(0, START), (27, X), (27, PING), (30, PING), (40, END)]


# first


def test_first_at_once(backend):
    world = play(backend, [(5, X), (22, END)], first_ping=0)
    assert world.timeline == [(0, START), (0, PING), (5, X), (20, PING), (22, END)]


def test_first_at_once_steady(backend):
    world = play(backend, [(5, X), (31, END)], first_ping=0, pacing="steady")
    assert world.pings == [0, 15, 30]


def test_first_sooner_than_the_interval(backend):
    assert play(backend, [(20, END)], first_ping=2).pings == [2, 17]


def test_first_later_than_the_interval(backend):
    assert play(backend, [(80, END)], first_ping=60).pings == [60, 75]


def test_data_before_the_first_ping_takes_its_place(backend):
    assert play(backend, [(1, X), (20, END)], first_ping=2).pings == [16]


def test_no_ping_before_first_whatever_the_app_sends(backend):
    assert play(backend, [(1, X), (70, END)], first_ping=60).pings == [60]


# a due ping waits for its boundary


def test_a_due_ping_waits_for_the_end_of_the_event_and_goes_out_at_once(backend):
    steps = [(10, b"data: a\n"), (27, b"data: b\n"), (28, b"\n"), (44, END)]
    world = play(backend, steps)
    assert world.timeline == [
        (0, START), (10, b"data: a\n"), (27, b"data: b\n"), (28, b"\n"), (28, PING),
        (43, PING), (44, END),
    ]  # fmt: skip


def test_data_in_time_needs_no_ping_though_it_ends_the_event_late(backend):
    world = play(backend, [(14, b"data: a\n"), (16, b"\n"), (20, END)])
    assert world.pings == []


def test_an_event_that_ends_at_the_time_of_a_ping_is_enough(backend):
    world = play(backend, [(0, b"data: a\n"), (15, b"\n"), (20, END)])
    assert world.pings == []


def test_a_waiting_ping_is_sent_once_however_long_it_waited(backend):
    world = play(backend, [(1, b"data: a"), (100, b"\n\n"), (101, END)])
    assert world.timeline[2:] == [(100, b"\n\n"), (100, PING), (101, END)]


def test_a_waiting_ping_is_not_sent_after_the_last_body(backend):
    world = play(backend, [(1, b"data: a"), (100, body(b"\n\n", more=False))])
    assert world.timeline == [(0, START), (1, b"data: a"), (100, b"\n\n"), (100, END)]


def test_a_comment_may_stand_inside_an_event_but_not_inside_a_line(backend):
    steps = [(1, b"data: a\n"), (20, b"data: b"), (40, b"\n"), (41, END)]
    world = play(backend, steps, ping=Ping.comment())
    assert world.timeline == [
        (0, START), (1, b"data: a\n"), (16, COMMENT), (20, b"data: b"),
        (40, b"\n"), (40, COMMENT), (41, END),
    ]  # fmt: skip


def test_a_blank_line_waits_for_the_end_of_the_event(backend):
    steps = [(1, b"data: a\n"), (20, b"data: b\n\n"), (36, END)]
    world = play(backend, steps, ping=Ping.blank_line())
    assert world.timeline == [
        (0, START), (1, b"data: a\n"), (20, b"data: b\n\n"), (20, b"\n"),
        (35, b"\n"), (36, END),
    ]  # fmt: skip


def test_pings_follow_the_streams_own_line_endings(backend):
    steps = [(16, b"data: x\r\n\r\n"), (32, b"data: y\n\n"), (48, END)]
    world = play(backend, steps)
    crlf = PING.replace(b"\n", b"\r\n")
    assert [entry for entry in world.timeline if b"ping" in bytes(str(entry), "ascii")] == [
        (15, PING), (31, crlf), (47, crlf)
    ]  # fmt: skip


def test_ndjson_is_pinged_at_line_ends_where_it_is_asked_for(backend):
    head = start([(b"Content-Type", b"Application/X-NDJSON; charset=utf-8")])
    steps = [(1, b'{"a":1}\n'), (20, b'{"b"'), (40, b":2}\n"), (56, END)]
    world = play(backend, steps, head=head, media_types={"application/x-ndjson": Ping.space()})
    assert world.timeline == [
        (0, START), (1, b'{"a":1}\n'), (16, b" "), (20, b'{"b"'), (40, b":2}\n"), (40, b" "),
        (55, b" "), (56, END),
    ]  # fmt: skip
    assert play(backend, steps, head=head).body == b'{"a":1}\n{"b":2}\n'


def test_a_callable_is_asked_for_each_ping(backend):
    count = iter("abc")
    world = play(backend, [(40, END)], ping=Ping.event("t", lambda: next(count)))
    assert world.timeline[1:-1] == [
        (15, b"event: t\ndata: a\n\n"), (30, b"event: t\ndata: b\n\n")
    ]  # fmt: skip


def test_a_callable_that_fails_costs_its_text_and_is_logged(backend, caplog):
    def broken():
        raise ZeroDivisionError

    world = play(backend, [(20, END)], ping=Ping.event("t", broken))
    assert world.timeline[1] == (15, b"event: t\ndata: \n\n")
    (record,) = caplog.records
    assert record.exc_info[0] is ZeroDivisionError


def test_the_fallback_of_a_callable_follows_the_streams_line_endings_too(backend, caplog):
    world = play(backend, [(1, b"data: x\r\n\r\n"), (20, END)], ping=Ping.comment(lambda: 1))
    assert world.timeline[2] == (16, b": ping\r\n")
    assert len(caplog.records) == 1


# the BOM


def test_a_bom_after_a_first_ping_is_dropped(backend):
    world = play(backend, [(20, b"\xef\xbb\xbfdata: x\n\n"), (21, END)])
    assert world.timeline == [(0, START), (15, PING), (20, b"data: x\n\n"), (21, END)]


def test_a_bom_after_a_first_ping_is_dropped_byte_by_byte(backend):
    steps = [(20 + i, bytes([byte])) for i, byte in enumerate(b"\xef\xbb\xbfdata: x\n\n")]
    world = play(backend, [*steps, (40, END)])
    assert world.body == PING + b"data: x\n\n"


def test_a_bom_after_a_first_ping_and_an_empty_body_is_dropped(backend):
    steps = [(1, b""), (2, b"\xef\xbb"), (3, b""), (4, b"\xbfdata: x\n\n"), (5, END)]
    world = play(backend, steps, first_ping=0)
    assert world.timeline == [
        (0, START), (0, PING), (4, b"data: x\n\n"), (5, END)
    ]  # fmt: skip
    assert [message["body"] for _, message in world.sent if message.get("body") == b""] == [
        b""
    ] * 3


def test_a_bom_at_the_start_stays(backend):
    world = play(backend, [(1, b"\xef\xbb\xbf"), (20, b"data: x\n\n"), (21, END)])
    assert world.body == b"\xef\xbb\xbf" + PING + b"data: x\n\n"


def test_half_a_bom_that_is_none_is_not_lost(backend):
    world = play(backend, [(20, b"\xef"), (21, b"\xbb"), (22, END)])
    assert world.body == PING + b"\xef\xbb"
    world = play(backend, [(20, b"\xef"), (21, b"data: x\n\n"), (22, END)])
    assert world.body == PING + b"\xefdata: x\n\n"


def test_only_the_first_bom_is_dropped(backend):
    bom = b"\xef\xbb\xbf"
    world = play(backend, [(20, bom), (40, bom + X), (41, END)])
    assert world.body == PING + PING + bom + X


# slow sends


def test_a_ping_due_while_the_app_is_sending_is_dropped(backend):
    def slow(world):
        world.slow = lambda message: 20 if message.get("body") == X else 0

    world = play(backend, [(10, X), (46, END)], prepare=slow)
    assert world.timeline == [(0, START), (30, X), (45, PING), (46, END)]


def test_a_ping_that_waits_for_the_end_of_an_event_is_sent_though_that_takes_long(backend):
    """Another falls due while the event's end is being sent."""

    def slow(world):
        world.slow = lambda message: 2 if message.get("body") == b"\n\n" else 0

    world = play(backend, [(10, b"data: half"), (39, b"\n\n"), (50, END)], prepare=slow)
    assert world.timeline == [
        (0, START), (10, b"data: half"), (41, b"\n\n"), (41, PING), (50, END)
    ]  # fmt: skip


def test_a_ping_due_while_the_app_sends_nothing_goes_out_after_it(backend):
    """An empty body is silence, however long it takes."""

    def slow(world):
        world.slow = lambda message: 2 if message.get("body") == b"" else 0

    world = play(backend, [(14, b""), (50, END)], prepare=slow)
    assert world.pings == [16, 31, 46]


def test_the_app_waits_for_a_blocked_ping_and_bytes_stay_in_order(backend):
    def slow(world):
        world.slow = lambda message: 10 if message.get("body") == PING else 0

    world = play(backend, [(18, X), (45, END)], prepare=slow)
    assert world.timeline == [(0, START), (25, PING), (25, X), (50, PING), (50, END)]


def test_steady_pings_due_after_a_blocked_one_are_dropped(backend):
    def slow(world):
        world.slow = lambda message: 40 if message.get("body") == PING else 0

    world = play(backend, [(70, END)], prepare=slow, pacing="steady")
    assert world.timeline == [(0, START), (55, PING), (100, PING), (100, END)]


def test_a_blocked_ping_delays_no_other_stream(backend):
    async def main():
        times = {"blocked": [], "free": []}
        middleware = KeepaliveMiddleware(app_until(40))

        async def serve(name):
            began = anyio.current_time()

            async def send(message):
                if name == "blocked" and message.get("body") == PING:
                    await anyio.sleep(100)
                times[name].append((anyio.current_time() - began, message.get("body")))

            await middleware(http(), anyio.sleep_forever, send)

        async with anyio.create_task_group() as group:
            group.start_soon(serve, "blocked")
            group.start_soon(serve, "free")
        await settle()
        return times

    times = run(backend, main)
    assert [when for when, data in times["free"] if data == PING] == [15, 30]
    assert [when for when, data in times["blocked"] if data == PING] == [115]


def app_until(when):
    async def app(scope, receive, send):
        await send(start())
        await anyio.sleep(when)
        await send(body(more=False))

    return app


def test_streams_that_are_due_together_are_served_together_never_late(backend):
    """Within 2 % of their interval; a stream of its own is exact."""

    async def main():
        times = []
        middleware = KeepaliveMiddleware(app_until(16), interval=10)

        async def serve(delay):
            await anyio.sleep(delay)
            began = anyio.current_time()

            async def send(message):
                if message.get("body") == PING:
                    times.append((delay, round(anyio.current_time() - began, 6)))

            await middleware(http(), anyio.sleep_forever, send)

        async with anyio.create_task_group() as group:
            for delay in (0, 0.1, 0.2, 0.3, 5):
                group.start_soon(serve, delay)
        return sorted(times)

    assert run(backend, main) == [(0, 10), (0.1, 9.9), (0.2, 9.8), (0.3, 10), (5, 10)]


@pytest.mark.parametrize("pacing", ["idle", "steady"])
def test_in_a_crowd_each_stream_has_each_of_its_pings_once_and_none_late(backend, pacing):
    """Whoever else is due near by: early by 2 % of the interval at most, and no ping twice."""
    choose = random.Random(7)
    starts = [choose.uniform(0, 10) for _ in range(200)]

    async def main():
        times = {start: [] for start in starts}
        middleware = KeepaliveMiddleware(app_until(55), interval=10, pacing=pacing)

        async def serve(delay):
            await anyio.sleep(delay)
            began = anyio.current_time()

            async def send(message):
                if message.get("body") == PING:
                    times[delay].append(anyio.current_time() - began)

            await middleware(http(), anyio.sleep_forever, send)

        async with anyio.create_task_group() as group:
            for delay in starts:
                group.start_soon(serve, delay)
        return times

    for times in run(backend, main).values():
        assert len(times) == 5
        due = range(10, 60, 10) if pacing == "steady" else [t + 10 for t in (0, *times)]
        early = [when - time for when, time in zip(due, times, strict=False)]
        assert all(-1e-6 <= seconds <= 0.2 + 1e-6 for seconds in early), times


def test_many_streams_due_at_once_are_all_served_in_turn(backend):
    async def main():
        count = 0
        middleware = KeepaliveMiddleware(app_until(31))

        async def send(message):
            nonlocal count
            count += message.get("body") == PING

        async with anyio.create_task_group() as group:
            for _ in range(500):
                group.start_soon(middleware, http(), anyio.sleep_forever, send)
        return count

    assert run(backend, main) == 1000


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")
@pytest.mark.parametrize("leaves", [5, 15, 40, 1000])
def test_a_loop_whose_tasks_begin_eagerly(leaves):
    """A task then runs before whoever started it has seen it."""

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        began, times, asked = loop.time(), [], []

        async def receive():
            asked.append(1)
            if len(asked) == 1:
                return {"type": "http.request", "body": b"", "more_body": False}
            await asyncio.sleep(max(0, began + leaves - loop.time()))
            return {"type": "http.disconnect"}

        async def send(message):
            if message.get("body") == PING:
                await asyncio.sleep(1 if len(times) == 1 else 0)  # the second has to wait
                times.append(loop.time() - began)

        await KeepaliveMiddleware(app_until(61))(http(), receive, send)
        await asyncio.sleep(1)
        return times, scheduled_streams()

    pings = [when for when in (15, 31, 46, 61) if when < min(leaves, 61)]
    assert run("asyncio", main) == (pings, 0)
