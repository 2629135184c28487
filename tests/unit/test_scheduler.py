"""The scheduler by itself, on an event loop that is turned by hand."""

import types
from contextvars import Context, ContextVar
from itertools import pairwise

import anyio
import pytest
from support.harness import END, PING, body, play, run
from support.internals import current_loop, run_in

from keepalive import AbortController
from keepalive._scheduler import BATCH, NOT_DUE, Holder, PingScheduler

WHO = ContextVar("who")


class Cancelled(BaseException):
    pass


class Task:
    """As asyncio's: one that is cancelled before its first step never begins."""

    def __init__(self, loop, coroutine, done):
        self.loop, self.coroutine, self.done = loop, coroutine, done
        self.over = self.begun = False

    def step(self):
        if not self.over:
            self.begun = True
            self._resume(self.coroutine.send, None)

    def cancel(self):
        if self.begun:
            self._resume(self.coroutine.throw, Cancelled())
        else:
            self.coroutine.close()
            self._end()

    def _resume(self, resume, value):
        try:
            resume(value)
        except (StopIteration, Cancelled):
            self._end()
        else:
            self.loop.parked.append(self)

    def _end(self):
        self.over = True
        self.loop.soon.append(self.done)


class HandLoop:
    """A loop whose every turn is one call of `turn`."""

    has_tasks = False

    def __init__(self):
        self.now = 0.0
        self.soon, self.timers, self.parked = [], [], []
        self.tasks = 0

    def time(self):
        return self.now

    def call_soon(self, callback):
        self.soon.append(callback)

    def wake(self, callback):
        self.soon.append(callback)

    def call_at(self, when, callback):
        timer = (when, callback)
        self.timers.append(timer)
        return lambda: timer in self.timers and self.timers.remove(timer)

    def spawn(self, work, context, done):
        self.tasks += 1
        task = Task(self, work(), done)
        self.soon.append(task.step)
        return task.cancel

    def turn(self):
        for timer in [timer for timer in self.timers if timer[0] <= self.now]:
            self.timers.remove(timer)
            self.soon.append(timer[1])
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def run(self):
        """Turn until nothing is left to do; return how often."""
        turns = 0
        while self.soon or any(when <= self.now for when, _ in self.timers):
            self.turn()
            turns += 1
        return turns


@types.coroutine
def parked():
    yield


class Stream:
    """A stream that is silent, or busy until some time."""

    _prev = _next = None

    def __init__(self, calls, interval=10.0, *, due=0.0, waits=False, name=""):
        self.calls, self.interval, self.due, self.waits = calls, interval, due, waits
        self.slack = 0.02 * interval
        self.context = Context()
        self.context.run(WHO.set, self)
        self.stop_signal = AbortController().signal
        self.cancel = None
        self.name = name

    def poll(self, now, latest):
        self.calls.append(("poll", now))
        if self.due > latest:
            return NOT_DUE, self.due
        self.due = now + self.interval
        return (self.context, self.ping()), self.due

    async def ping(self):
        assert WHO.get() is self
        self.calls.append(("ping", self))
        if self.waits:
            await parked()
            assert WHO.get() is self

    def ping_blocked(self, cancel):
        self.cancel = cancel

    def check_signals(self):
        assert WHO.get() is self
        self.calls.append(("check", self))


def pinged(calls):
    return [call[1] for call in calls if call[0] == "ping"]


@pytest.fixture
def loop():
    return HandLoop()


@pytest.fixture
def calls():
    return []


@pytest.fixture
def scheduler(loop):
    return PingScheduler(loop)


def test_one_timer_serves_all(loop, calls, scheduler):
    for when in (30.0, 10.0, 20.0):
        scheduler.add(Stream(calls), when)
        assert len(loop.timers) == 1
    assert loop.timers[0][0] == 10.0
    assert len(scheduler) == 3


def test_no_turn_serves_more_than_a_batch(loop, calls, scheduler):
    for _ in range(1000):
        scheduler.add(Stream(calls), 10.0)
    loop.now = 10.0
    served = 0
    while loop.soon or any(when <= loop.now for when, _ in loop.timers):
        calls.clear()
        loop.turn()
        assert len(calls) <= 2 * BATCH
        served += len(pinged(calls))
    assert served == 1000
    assert len(loop.timers) == 1


def test_a_round_takes_one_task_per_batch_not_per_stream(loop, calls, scheduler):
    for _ in range(5 * BATCH):
        scheduler.add(Stream(calls), 10.0)
    loop.now = 10.0
    loop.run()
    assert len(pinged(calls)) == 5 * BATCH
    assert loop.tasks == 5


def test_a_busy_stream_is_polled_and_nothing_else(loop, calls, scheduler):
    scheduler.add(Stream(calls, due=13.0), 10.0)
    loop.now = 10.0
    loop.run()
    assert calls == [("poll", 10.0)]
    assert [timer[0] for timer in loop.timers] == [13.0]


def test_pings_are_sent_in_the_order_of_arrival_round_after_round(loop, calls, scheduler):
    streams = [Stream(calls) for _ in range(3 * BATCH)]
    for stream in streams:
        scheduler.add(stream, 10.0)
    for loop.now in (10.0, 20.0, 30.0):
        loop.run()
    assert pinged(calls) == 3 * streams


def test_a_blocked_ping_keeps_its_task_and_another_takes_over(loop, calls, scheduler):
    streams = [Stream(calls, waits=number in (1, 2)) for number in range(5)]
    for stream in streams:
        scheduler.add(stream, 10.0)
    loop.now = 10.0
    loop.run()
    assert pinged(calls) == streams
    assert loop.tasks == 3
    assert [stream.cancel is not None for stream in streams] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert [timer[0] for timer in loop.timers] == [20.0]
    for task in loop.parked:
        task.step()
    loop.run()
    assert loop.tasks == 3, "a worker that was blocked serves no other stream"
    streams[1].cancel()  # too late, and no error
    assert len(pinged(calls)) == 5


def test_if_every_ping_blocks_many_are_begun_in_a_turn(loop, calls, scheduler):
    """As on trio, or on a server whose sends always give way."""
    streams = [Stream(calls, waits=True) for _ in range(1000)]
    for stream in streams:
        scheduler.add(stream, 10.0)
    loop.now = 10.0
    most = 0
    turns = 0
    while loop.soon or any(when <= loop.now for when, _ in loop.timers):
        before = len(pinged(calls))
        loop.turn()
        turns += 1
        most = max(most, len(pinged(calls)) - before)
    assert pinged(calls) == streams
    assert most <= BATCH
    assert turns < 1000 / BATCH * 3 + 20
    assert [timer[0] for timer in loop.timers] == [20.0]


def test_if_some_pings_block_no_turn_serves_more_than_a_batch(loop, calls, scheduler):
    streams = [Stream(calls, waits=number % 20 == 0) for number in range(1000)]
    for stream in streams:
        scheduler.add(stream, 10.0)
    loop.now, served = 10.0, [0]
    while loop.soon or served == [0]:
        loop.turn()
        served.append(len(pinged(calls)))
    assert served[-1] == len(streams)
    assert max(after - before for before, after in pairwise(served)) <= BATCH


def test_aborting_a_blocked_ping_stops_no_other_worker(loop, calls, scheduler):
    streams = [Stream(calls, waits=number == 1) for number in range(3)]
    for stream in streams:
        scheduler.add(stream, 10.0)
    loop.now = 10.0
    for _ in range(4):
        loop.turn()
    assert pinged(calls) == streams[:2]
    streams[1].cancel()
    loop.run()
    assert pinged(calls) == streams
    streams[1].waits = False
    loop.now = 20.0
    loop.run()
    assert pinged(calls) == 2 * streams


def test_a_worker_that_is_cancelled_before_it_begins_is_replaced(loop, calls, scheduler):
    """As by somebody who cancels all tasks of a loop, and goes on."""
    scheduler.add(Stream(calls), 10.0)
    loop.now = 10.0
    while not loop.tasks:
        loop.turn()
    (step,) = loop.soon
    step.__self__.cancel()
    loop.run()
    assert (len(pinged(calls)), loop.tasks) == (1, 2)
    assert [timer[0] for timer in loop.timers] == [20.0]


def test_a_worker_that_cannot_be_started_is_tried_again_later(loop, calls, scheduler, caplog):
    """After the first ping has blocked, so that two workers may run."""
    spawn = loop.spawn

    def fail(*args):
        raise RuntimeError

    def spawn_one(*args):
        loop.spawn = fail
        return spawn(*args)

    loop.spawn = spawn_one
    streams = [Stream(calls, waits=True) for _ in range(5)]
    for stream in streams:
        scheduler.add(stream, 10.0)
    fire(loop, 10.0)
    assert pinged(calls) == streams[:1]
    assert caplog.messages == ["a task could not be started, pings are late"]
    assert [timer[0] for timer in loop.timers] == [10.5]
    loop.spawn = spawn
    fire(loop, 10.5)
    assert pinged(calls) == streams


def test_a_worker_that_is_blocked_forever_can_be_closed():
    """As a loop's last tasks are; what is in the stream's context then, may be in use."""
    stream, ended = Stream([]), []

    async def ping():
        try:
            await parked()
        finally:
            ended.append(True)

    coroutine = run_in(stream.context, ping(), lambda: ended.append(False))
    coroutine.send(None)
    assert ended == [False]
    stream.context.run(coroutine.close)
    assert ended == [False, True]


def test_a_stream_that_is_removed_while_polled_is_not_rescheduled(loop, calls, scheduler):
    """As a stream does whose reader, an eager task, hears at once that its client has left."""
    leaves, stays = Stream(calls), Stream(calls)
    leaves.poll = lambda now, latest: (scheduler.remove(leaves), (None, now + 10.0))[1]
    for stream in (leaves, stays):
        scheduler.add(stream, 10.0)
    loop.now = 10.0
    loop.run()
    assert pinged(calls) == [stays]
    assert (len(scheduler), leaves._prev) == (1, None)


def test_a_stream_that_is_removed_during_a_round_is_not_served(loop, calls, scheduler):
    stays = [Stream(calls) for _ in range(2 * BATCH)]
    leaves = Stream(calls)
    for stream in (*stays, leaves):
        scheduler.add(stream, 10.0)
    loop.now = 10.0
    while not calls:
        loop.turn()
    scheduler.remove(leaves)
    loop.run()
    assert pinged(calls) == stays


def test_a_stream_that_is_added_during_a_round_sets_no_timer(loop, calls, scheduler):
    scheduler.add(Stream(calls), 10.0)
    loop.now = 10.0
    loop.turn()
    scheduler.add(Stream(calls), 15.0)
    assert loop.timers == []
    loop.run()
    assert [timer[0] for timer in loop.timers] == [15.0]


def test_no_turn_runs_more_notifications_than_a_batch(loop, calls, scheduler):
    for _ in range(5 * BATCH):
        scheduler.notify(Stream(calls))
    assert len(loop.soon) == 1
    checked = 0
    while loop.soon:
        calls.clear()
        loop.turn()
        assert 0 < len(calls) <= BATCH
        checked += len(calls)
    assert checked == 5 * BATCH


def test_the_loop_is_woken_once_for_all_notifications(loop, calls, scheduler):
    for _ in range(BATCH + 1):
        scheduler.notify(Stream(calls))
    loop.turn()
    scheduler.notify(Stream(calls))
    assert len(loop.soon) == 1
    loop.run()
    assert len(calls) == BATCH + 2


def test_a_signal_reaches_all_of_its_streams_and_no_other(loop, calls, scheduler):
    controller = AbortController()
    streams = [Stream(calls) for _ in range(2 * BATCH)]
    for number, stream in enumerate(streams):
        if number % 2:
            stream.stop_signal = controller.signal
        scheduler.add(stream, 10.0 + number)
    assert len(controller.signal._callbacks) == 1
    controller.abort()
    assert calls == []
    loop.run()
    assert [call[1] for call in calls] == streams[1::2]


def test_a_signal_is_subscribed_to_as_long_as_it_has_streams(loop, calls, scheduler):
    controller = AbortController()
    streams = [Stream(calls), Stream(calls)]
    for stream in streams:
        stream.stop_signal = controller.signal
        scheduler.add(stream, 10.0)
    scheduler.remove(streams[0])
    assert len(controller.signal._callbacks) == 1
    scheduler.remove(streams[1])
    scheduler.remove(streams[1])
    assert not controller.signal._callbacks
    scheduler.add(streams[0], 10.0)
    controller.abort()
    loop.run()
    assert calls == [("check", streams[0])]


def test_a_stream_that_is_not_due_makes_no_other_early(loop, calls, scheduler):
    scheduler.add(Stream(calls, due=15.0), 10.0)
    scheduler.add(Stream(calls, due=10.1), 10.1)
    loop.now = 10.0
    loop.run()
    assert pinged(calls) == []
    assert loop.timers[0][0] == 10.1


def test_a_stream_that_is_due_makes_others_early(loop, calls, scheduler):
    streams = [Stream(calls, due=when) for when in (10.0, 10.1, 10.2, 10.3)]
    for stream in streams:
        scheduler.add(stream, stream.due)
    loop.now = 10.0
    loop.run()
    assert pinged(calls) == streams[:3]
    assert loop.tasks == 1


def test_coalescing_lasts_no_longer_than_its_round(loop, calls, scheduler):
    scheduler.add(Stream(calls), 10.0)
    scheduler.add(Stream(calls, due=15.1), 15.0)
    loop.now = 10.0
    loop.run()
    loop.now = 15.0
    loop.run()
    assert len(pinged(calls)) == 1
    assert loop.timers[0][0] == 15.1


def test_a_timer_that_fires_a_little_early_is_right_on_time(loop, calls, scheduler):
    scheduler.add(Stream(calls, due=10.0), 10.0)
    loop.now = 9.9995
    loop.timers.pop()[1]()
    loop.run()
    assert len(pinged(calls)) == 1


def test_a_timer_that_fires_early_by_more_than_the_slack_is_too_early(loop, calls, scheduler):
    scheduler.add(Stream(calls, interval=0.01, due=10.0), 9.9)
    loop.now = 9.9995
    loop.run()
    assert pinged(calls) == []
    assert [timer[0] for timer in loop.timers] == [10.0]


def test_a_timer_that_fires_much_too_early_is_set_again(loop, calls, scheduler):
    scheduler.add(Stream(calls), 10.0)
    loop.now = 5.0
    loop.timers.pop()[1]()
    loop.run()
    assert calls == []
    assert loop.timers[0][0] == 10.0


# Late timers


def fire(loop, when):
    """Turn the loop at a time: the timers that are due fire."""
    loop.now = when
    loop.run()


def test_a_late_timer_is_warned_of_once_a_minute(loop, calls, scheduler, caplog):
    scheduler.add(Stream(calls), 10.0)
    # Each is due 10 s after the one before: at 10, 21, 32.5, 50, 92.6.
    for when in (11.0, 22.5, 40.0, 82.6, 95.0):
        fire(loop, when)
    assert [round(record.seconds, 6) for record in caplog.records] == [1.5, 32.6]
    assert caplog.messages[0] == (
        "pings were late: the event loop was blocked, or the process was suspended, for 1.5 s"
    )


# The coarse clock


def test_the_coarse_clock_runs_while_it_is_used(loop, scheduler):
    loop.now = 10.0
    scheduler.use_coarse_clock()
    assert scheduler.now == 10.0
    assert scheduler.corrected(0.0) == 0.0
    fire(loop, 10.1)
    assert scheduler.now == 10.1
    loop.now = 10.15
    scheduler.use_coarse_clock()
    assert scheduler.now == 10.15
    scheduler.leave_coarse_clock()
    assert len(loop.timers) == 1
    scheduler.leave_coarse_clock()
    assert loop.timers == []


@pytest.mark.parametrize(("ticks_at", "corrected"), [(0.1, 0.0), (0.2, 0.0), (0.21, 0.21)])
def test_a_time_is_corrected_if_the_clock_stood_still_for_two_ticks(
    loop, scheduler, ticks_at, corrected
):
    scheduler.use_coarse_clock()
    fire(loop, ticks_at)
    assert scheduler.corrected(0.0) == corrected
    assert scheduler.corrected(ticks_at) == ticks_at


def test_only_the_time_at_which_the_loop_was_blocked_is_corrected(loop, scheduler):
    loop.now = 10.0
    scheduler.use_coarse_clock()
    fire(loop, 10.1)
    fire(loop, 15.0)
    fire(loop, 15.1)
    times = (10.0, 10.1, 15.0, 15.1)
    assert [scheduler.corrected(when) for when in times] == [10.0, 15.0, 15.0, 15.1]


def test_a_clock_that_was_not_used_has_not_stood_still(loop, scheduler):
    loop.now = 10.0
    scheduler.use_coarse_clock()
    scheduler.leave_coarse_clock()
    loop.now = 20.0
    scheduler.use_coarse_clock()
    assert scheduler.corrected(10.0) == 10.0


def test_a_scheduler_without_streams_sets_no_timer(loop, calls, scheduler):
    stream = Stream(calls)
    scheduler.add(stream, 10.0)
    scheduler.remove(stream)
    assert (len(scheduler), loop.timers) == (0, [])


def test_a_scheduler_is_held_while_it_is_idle(loop, calls):
    """Not while tasks of the loop remain, nor if a stream is added meanwhile."""
    holder = Holder()
    scheduler = PingScheduler(loop, holder)
    scheduler.add(stream := Stream(calls), 10.0)
    assert holder.idle is None
    loop.has_tasks = True
    scheduler.remove(stream)
    loop.turn()
    assert holder.idle is None
    loop.has_tasks = False
    loop.turn()
    assert holder.idle is scheduler
    scheduler.add(stream, 10.0)
    loop.has_tasks = True
    scheduler.remove(stream)
    scheduler.add(stream, 10.0)
    loop.has_tasks = False
    loop.turn()
    assert holder.idle is None
    loop.has_tasks = True
    scheduler.remove(stream)
    for _ in range(10):
        loop.turn()
    assert (holder.idle, loop.soon) == (None, [])


def test_a_ping_that_takes_a_little_moves_the_next_one_by_nothing(backend):
    def slow(world):
        world.slow = lambda message: 0.1 if message.get("body") == PING else 0

    assert play(backend, [(60, END)], prepare=slow).pings == [15.1, 30.1, 45.1]


def test_a_ping_that_takes_long_is_followed_by_a_whole_interval(backend):
    def slow(world):
        world.slow = lambda message: 5 if message.get("body") == PING else 0

    assert play(backend, [(54, END)], prepare=slow).pings == [20, 40]


def test_a_stream_goes_on_whose_last_body_was_refused(backend):
    async def try_to_end(scope, receive, send):
        try:
            await send(body(more=False))
        except ValueError:
            return

    def failing(world):
        world.failing = lambda message: (
            ValueError() if message.get("more_body") is False else None
        )

    world = play(backend, [(20, try_to_end), (50, lambda *_: _nothing())], prepare=failing)
    assert world.pings == [15, 30, 45]
    assert world.ended.duration == 50


async def _nothing(): ...


# the loops


def test_a_timer_that_is_cancelled_in_its_very_turn_does_not_call(backend):
    async def main():
        loop, called = current_loop(), []
        cancels = {}
        for number in range(2):

            def call(number=number):
                called.append(number)
                cancels[1 - number]()

            cancels[number] = loop.call_at(loop.time() + 5, call)
        await anyio.sleep(6)
        return len(called)

    assert [run(backend, main) for _ in range(20)] == [1] * 20  # trio's order is random


@pytest.mark.parametrize("backend", ["trio"])
def test_a_task_that_fails_does_not_end_the_run(backend, caplog):
    """asyncio itself logs what nobody asks for."""
    over = []

    async def fail():
        raise ZeroDivisionError

    async def main():
        current_loop().spawn(fail, Context(), lambda: over.append(1))
        await anyio.sleep(1)

    run(backend, main)
    assert over == [1]
    assert [record.message for record in caplog.records] == ["a task has failed"]
