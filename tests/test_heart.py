"""The heart by itself, on a loop that is worked by hand."""

import types
from contextvars import Context, ContextVar

import anyio
import pytest
from harness import END, PING, body, play, run

from keepalive import AbortController
from keepalive._backend import current_loop, run_in
from keepalive._heart import BATCH, Heart

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

    def __init__(self):
        self.now = 0.0
        self.soon, self.alarms, self.parked = [], [], []
        self.tasks = 0

    def time(self):
        return self.now

    def call_soon(self, callback):
        self.soon.append(callback)

    def wake(self, callback):
        self.soon.append(callback)

    def call_at(self, when, callback):
        alarm = (when, callback)
        self.alarms.append(alarm)
        return lambda: alarm in self.alarms and self.alarms.remove(alarm)

    def spawn(self, work, context, done):
        self.tasks += 1
        task = Task(self, work(), done)
        self.soon.append(task.step)
        return task.cancel

    def turn(self):
        for alarm in [alarm for alarm in self.alarms if alarm[0] <= self.now]:
            self.alarms.remove(alarm)
            self.soon.append(alarm[1])
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()

    def run(self):
        """Turn until nothing is left to do; return how often."""
        turns = 0
        while self.soon or any(when <= self.now for when, _ in self.alarms):
            self.turn()
            turns += 1
        return turns


@types.coroutine
def parked():
    yield


class Member:
    """A stream that is silent, or busy until some time."""

    ahead = behind = None

    def __init__(self, calls, interval=10.0, *, due=0.0, waits=False, name=""):
        self.calls, self.interval, self.due, self.waits = calls, interval, due, waits
        self.slack = 0.02 * interval
        self.context = Context()
        self.context.run(WHO.set, self)
        self.stops = AbortController().signal
        self.cancel = None
        self.name = name

    def look(self, now, latest):
        self.calls.append(("look", now))
        if self.due > latest:
            return None, self.due
        self.due = now + self.interval
        return self.ping(), self.due

    async def ping(self):
        assert WHO.get() is self
        self.calls.append(("ping", self))
        if self.waits:
            await parked()
            assert WHO.get() is self

    def blocked(self, cancel):
        self.cancel = cancel

    def heed(self):
        assert WHO.get() is self
        self.calls.append(("heed", self))


def pinged(calls):
    return [call[1] for call in calls if call[0] == "ping"]


@pytest.fixture
def loop():
    return HandLoop()


@pytest.fixture
def calls():
    return []


@pytest.fixture
def heart(loop):
    return Heart(loop)


def test_one_timer_serves_all(loop, calls, heart):
    for when in (30.0, 10.0, 20.0):
        heart.add(Member(calls), when)
        assert len(loop.alarms) == 1
    assert loop.alarms[0][0] == 10.0
    assert len(heart) == 3


def test_no_turn_serves_more_than_a_batch(loop, calls, heart):
    for _ in range(1000):
        heart.add(Member(calls), 10.0)
    loop.now = 10.0
    served = 0
    while loop.soon or any(when <= loop.now for when, _ in loop.alarms):
        calls.clear()
        loop.turn()
        assert len(calls) <= 2 * BATCH
        served += len(pinged(calls))
    assert served == 1000
    assert len(loop.alarms) == 1


def test_a_beat_is_one_task_for_each_batch_not_for_each_stream(loop, calls, heart):
    for _ in range(5 * BATCH):
        heart.add(Member(calls), 10.0)
    loop.now = 10.0
    loop.run()
    assert len(pinged(calls)) == 5 * BATCH
    assert loop.tasks == 5


def test_a_busy_stream_is_looked_at_and_nothing_else(loop, calls, heart):
    heart.add(Member(calls, due=13.0), 10.0)
    loop.now = 10.0
    loop.run()
    assert calls == [("look", 10.0)]
    assert [alarm[0] for alarm in loop.alarms] == [13.0]


def test_pings_go_out_in_the_order_of_coming_beat_after_beat(loop, calls, heart):
    members = [Member(calls) for _ in range(3 * BATCH)]
    for member in members:
        heart.add(member, 10.0)
    for loop.now in (10.0, 20.0, 30.0):
        loop.run()
    assert pinged(calls) == 3 * members


def test_who_has_to_wait_keeps_the_task_and_another_walks_on(loop, calls, heart):
    members = [Member(calls, waits=number in (1, 2)) for number in range(5)]
    for member in members:
        heart.add(member, 10.0)
    loop.now = 10.0
    loop.run()
    assert pinged(calls) == members
    assert loop.tasks == 3
    assert [member.cancel is not None for member in members] == [
        False,
        True,
        True,
        False,
        False,
    ]
    assert [alarm[0] for alarm in loop.alarms] == [20.0]
    for task in loop.parked:
        task.step()
    loop.run()
    assert loop.tasks == 3, "who has waited does not walk on"
    members[1].cancel()  # too late, and no error
    assert len(pinged(calls)) == 5


def test_where_every_ping_has_to_wait_many_are_begun_in_a_turn(loop, calls, heart):
    """As on trio, or on a server whose sends always give way."""
    members = [Member(calls, waits=True) for _ in range(1000)]
    for member in members:
        heart.add(member, 10.0)
    loop.now = 10.0
    most = 0
    turns = 0
    while loop.soon or any(when <= loop.now for when, _ in loop.alarms):
        before = len(pinged(calls))
        loop.turn()
        turns += 1
        most = max(most, len(pinged(calls)) - before)
    assert pinged(calls) == members
    assert most <= BATCH
    assert turns < 1000 / BATCH * 3 + 20
    assert [alarm[0] for alarm in loop.alarms] == [20.0]


def test_what_ends_a_wait_ends_no_walk(loop, calls, heart):
    members = [Member(calls, waits=number == 1) for number in range(3)]
    for member in members:
        heart.add(member, 10.0)
    loop.now = 10.0
    for _ in range(4):
        loop.turn()
    assert pinged(calls) == members[:2]
    members[1].cancel()
    loop.run()
    assert pinged(calls) == members
    members[1].waits = False
    loop.now = 20.0
    loop.run()
    assert pinged(calls) == 2 * members


def test_a_walk_that_is_cancelled_before_it_begins_is_taken_over(loop, calls, heart):
    """As by somebody who cancels all tasks of a loop, and goes on."""
    heart.add(Member(calls), 10.0)
    loop.now = 10.0
    while not loop.tasks:
        loop.turn()
    (step,) = loop.soon
    step.__self__.cancel()
    loop.run()
    assert (len(pinged(calls)), loop.tasks) == (1, 2)
    assert [alarm[0] for alarm in loop.alarms] == [20.0]


def test_a_walk_that_waits_for_ever_may_be_thrown_away():
    """As a loop's last tasks are; what is in the stream's context then, may be in use."""
    member, ended = Member([]), []

    async def ping():
        try:
            await parked()
        finally:
            ended.append(True)

    coroutine = run_in(member.context, ping(), lambda: ended.append(False))
    coroutine.send(None)
    assert ended == [False]
    member.context.run(coroutine.close)
    assert ended == [False, True]


def test_who_leaves_while_being_looked_at_stays_away(loop, calls, heart):
    """As a stream does whose reader, an eager task, hears at once that its client has left."""
    leaves, stays = Member(calls), Member(calls)
    leaves.look = lambda now, latest: (heart.remove(leaves), (None, now + 10.0))[1]
    for member in (leaves, stays):
        heart.add(member, 10.0)
    loop.now = 10.0
    loop.run()
    assert pinged(calls) == [stays]
    assert (len(heart), leaves.ahead) == (1, None)


def test_who_leaves_during_a_walk_is_not_served(loop, calls, heart):
    stays = [Member(calls) for _ in range(2 * BATCH)]
    leaves = Member(calls)
    for member in (*stays, leaves):
        heart.add(member, 10.0)
    loop.now = 10.0
    while not calls:
        loop.turn()
    heart.remove(leaves)
    loop.run()
    assert pinged(calls) == stays


def test_who_comes_during_a_walk_sets_no_timer_of_its_own(loop, calls, heart):
    heart.add(Member(calls), 10.0)
    loop.now = 10.0
    loop.turn()
    heart.add(Member(calls), 15.0)
    assert loop.alarms == []
    loop.run()
    assert [alarm[0] for alarm in loop.alarms] == [15.0]


def test_no_turn_delivers_more_than_a_batch(loop, calls, heart):
    for _ in range(5 * BATCH):
        heart.post(Member(calls))
    assert len(loop.soon) == 1
    heeded = 0
    while loop.soon:
        calls.clear()
        loop.turn()
        assert 0 < len(calls) <= BATCH
        heeded += len(calls)
    assert heeded == 5 * BATCH


def test_a_signal_reaches_all_that_follow_it_and_nobody_else(loop, calls, heart):
    controller = AbortController()
    members = [Member(calls) for _ in range(2 * BATCH)]
    for number, member in enumerate(members):
        if number % 2:
            member.stops = controller.signal
        heart.add(member, 10.0 + number)
    assert len(controller.signal._callbacks) == 1
    controller.abort()
    assert calls == []
    loop.run()
    assert [call[1] for call in calls] == members[1::2]


def test_a_signal_is_followed_as_long_as_it_has_members(loop, calls, heart):
    controller = AbortController()
    members = [Member(calls), Member(calls)]
    for member in members:
        member.stops = controller.signal
        heart.add(member, 10.0)
    heart.remove(members[0])
    assert len(controller.signal._callbacks) == 1
    heart.remove(members[1])
    heart.remove(members[1])
    assert not controller.signal._callbacks
    heart.add(members[0], 10.0)
    controller.abort()
    loop.run()
    assert calls == [("heed", members[0])]


def test_a_stream_that_is_not_due_brings_nobody_else_early(loop, calls, heart):
    heart.add(Member(calls, due=15.0), 10.0)
    heart.add(Member(calls, due=10.1), 10.1)
    loop.now = 10.0
    loop.run()
    assert pinged(calls) == []
    assert loop.alarms[0][0] == 10.1


def test_a_stream_that_is_due_brings_others_early(loop, calls, heart):
    members = [Member(calls, due=when) for when in (10.0, 10.1, 10.2, 10.3)]
    for member in members:
        heart.add(member, member.due)
    loop.now = 10.0
    loop.run()
    assert pinged(calls) == members[:3]


def test_company_lasts_no_longer_than_its_beat(loop, calls, heart):
    heart.add(Member(calls), 10.0)
    heart.add(Member(calls, due=15.1), 15.0)
    loop.now = 10.0
    loop.run()
    loop.now = 15.0
    loop.run()
    assert len(pinged(calls)) == 1
    assert loop.alarms[0][0] == 15.1


def test_a_timer_that_fires_a_little_early_is_right_on_time(loop, calls, heart):
    heart.add(Member(calls, due=10.0), 10.0)
    loop.now = 9.9995
    loop.alarms.pop()[1]()
    loop.run()
    assert len(pinged(calls)) == 1


def test_a_timer_that_fires_early_by_more_than_the_slack_is_too_early(loop, calls, heart):
    heart.add(Member(calls, interval=0.01, due=10.0), 9.9)
    loop.now = 9.9995
    loop.run()
    assert pinged(calls) == []
    assert [alarm[0] for alarm in loop.alarms] == [10.0]


def test_a_timer_that_fires_much_too_early_is_set_again(loop, calls, heart):
    heart.add(Member(calls), 10.0)
    loop.now = 5.0
    loop.alarms.pop()[1]()
    loop.run()
    assert calls == []
    assert loop.alarms[0][0] == 10.0


def test_a_heart_without_streams_sets_no_timer(loop, calls, heart):
    member = Member(calls)
    heart.add(member, 10.0)
    heart.remove(member)
    assert (len(heart), loop.alarms) == (0, [])


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
