"""The heart by itself, on a loop that is worked by hand."""

from contextvars import Context

from harness import END, PING, body, play

from keepalive._heart import BATCH, Heart


class HandLoop:
    """A loop whose every turn is one call of `turn`."""

    def __init__(self):
        self.now = 0.0
        self.soon, self.alarms = [], []

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

    def turn(self):
        for alarm in [alarm for alarm in self.alarms if alarm[0] <= self.now]:
            self.alarms.remove(alarm)
            self.soon.append(alarm[1])
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()


class Member:
    """A stream that is always due, or never."""

    def __init__(self, calls, interval=10.0, *, silent=True):
        self.calls, self.interval, self.silent = calls, interval, silent
        self.slack = 0.02 * interval
        self.context = Context()

    def look(self, when, now):
        self.calls.append(("look", now))
        return self.silent, now + self.interval

    def say(self):
        self.calls.append(("say", self))

    def heed(self):
        self.calls.append(("heed", self))


def test_one_timer_serves_all():
    loop, calls = HandLoop(), []
    heart = Heart(loop)
    for when in (30.0, 10.0, 20.0):
        heart.add(Member(calls), when)
        assert len(loop.alarms) == 1
    assert loop.alarms[0][0] == 10.0
    assert len(heart) == 3


def test_no_turn_serves_more_than_a_batch():
    loop, calls = HandLoop(), []
    heart = Heart(loop)
    for _ in range(1000):
        heart.add(Member(calls), 10.0)
    loop.now = 10.0
    said = turns = 0
    while loop.soon or any(when <= loop.now for when, _ in loop.alarms):
        calls.clear()
        loop.turn()
        turns += 1
        assert len(calls) <= 2 * BATCH
        said += sum(1 for call in calls if call[0] == "say")
    assert said == 1000
    assert turns > 1000 / BATCH


def test_no_turn_delivers_more_than_a_batch():
    loop, calls = HandLoop(), []
    heart = Heart(loop)
    members = [Member(calls) for _ in range(200)]
    for member in members:
        heart.post(member)
    assert len(loop.soon) == 1
    heeded = 0
    while loop.soon:
        calls.clear()
        loop.turn()
        assert 0 < len(calls) <= BATCH
        heeded += len(calls)
    assert heeded == 200


def test_a_stream_that_is_not_due_brings_nobody_else_early():
    loop, calls = HandLoop(), []
    heart = Heart(loop)
    heart.add(Member(calls, silent=False), 10.0)
    late = Member(calls)
    heart.add(late, 10.1)
    loop.now = 10.0
    loop.turn()
    assert calls == [("look", 10.0)]
    assert loop.alarms[0][0] == 10.1


def test_a_stream_that_is_due_brings_others_early():
    loop, calls = HandLoop(), []
    heart = Heart(loop)
    for when in (10.0, 10.2, 10.3):
        heart.add(Member(calls), when)
    loop.now = 10.0
    loop.turn()
    assert calls == [("look", 10.0)] * 2


def test_a_timer_that_fires_a_little_early_is_right_on_time():
    loop, calls = HandLoop(), []
    heart = Heart(loop)
    heart.add(Member(calls), 10.0)
    loop.now = 9.9995
    loop.alarms.pop()[1]()
    assert calls == [("look", 9.9995)]


def test_a_timer_that_fires_much_too_early_is_set_again():
    loop, calls = HandLoop(), []
    heart = Heart(loop)
    heart.add(Member(calls), 10.0)
    loop.now = 5.0
    loop.alarms.pop()[1]()
    assert calls == []
    assert loop.alarms[0][0] == 10.0


def test_a_heart_without_streams_sets_no_timer():
    loop, calls = HandLoop(), []
    heart = Heart(loop)
    entry = heart.add(Member(calls), 10.0)
    heart.remove(entry)
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
