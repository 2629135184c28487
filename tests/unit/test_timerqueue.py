"""The timer queue: plain values, without an event loop."""

import random

import pytest

from keepalive._timerqueue import MAX_STALE, TIMER_ERROR, TimerQueue


class Entry:
    _prev = _next = None

    def __init__(self, name=""):
        self.name = name

    def __repr__(self):
        return self.name


def served(queue, find):
    """Serve all that `find` returns, each rescheduled to much later; return them."""
    who = []
    while (entry := find()) is not None:
        who.append(entry)
        queue.schedule(entry, 1e6 + len(who), 0.25)
    return who


def test_due_entries_are_found_in_the_order_of_arrival():
    queue, a, b, c = TimerQueue(), Entry("a"), Entry("b"), Entry("c")
    for entry, when in ((a, 10.0), (b, 10.1), (c, 10.0)):
        queue.schedule(entry, when, 0.25)
    assert queue.next_at() == 10.0
    assert queue.next_due(9.9) is None
    assert served(queue, lambda: queue.next_due(10.0)) == [a, b, c]
    assert queue.next_due(10.5) is None


def test_a_bucket_is_as_wide_as_its_slack_and_no_wider():
    queue, a, b = TimerQueue(), Entry("a"), Entry("b")
    queue.schedule(a, 10.0, 0.25)
    queue.schedule(b, 10.25, 0.25)
    assert served(queue, lambda: queue.next_due(10.0)) == [a]
    assert served(queue, lambda: queue.next_due(10.25)) == [b]


def test_entries_due_soon_are_those_within_their_slack():
    queue, a, b, c = TimerQueue(), Entry("a"), Entry("b"), Entry("c")
    for entry, when in ((a, 10.0), (b, 10.25), (c, 10.3)):
        queue.schedule(entry, when, 0.25)
    assert queue.next_due_soon(9.74) is None
    assert queue.next_due_soon(9.75) is a
    queue.cancel(a)
    assert served(queue, lambda: queue.next_due_soon(10.0)) == [b, c]


def test_a_bucket_is_due_when_its_first_entry_is():
    queue, a, b = TimerQueue(), Entry("a"), Entry("b")
    queue.schedule(a, 10.1, 0.25)
    queue.schedule(b, 10.05, 0.25)
    assert queue.next_at() == 10.05
    assert served(queue, lambda: queue.next_due(10.05)) == [a, b]
    assert queue.next_at() == pytest.approx(1e6 + 1)


@pytest.mark.parametrize(("wide", "narrow"), [(0.25, 0.1), (5, 2)])
def test_different_slacks_have_different_buckets(wide, narrow):
    queue, a, b = TimerQueue(), Entry("a"), Entry("b")
    queue.schedule(a, 10.0, wide)
    queue.schedule(b, 10.0, narrow)
    assert served(queue, lambda: queue.next_due_soon(10.0 - wide)) == [a]
    assert served(queue, lambda: queue.next_due_soon(10.0 - narrow)) == [b]


def test_a_timer_may_fire_a_little_early_but_never_by_more_than_the_slack():
    queue, a, b = TimerQueue(), Entry("a"), Entry("b")
    queue.schedule(a, 10.0, 0.25)
    assert queue.next_due(10.0 - 1.1 * TIMER_ERROR) is None
    assert queue.next_due(10.0 - 0.9 * TIMER_ERROR) is a
    queue.cancel(a)
    queue.schedule(b, 10.0, 0.00002)
    assert queue.next_due(10.0 - 0.9 * TIMER_ERROR) is None


def test_a_rescheduled_entry_is_queued_once():
    queue, a = TimerQueue(), Entry("a")
    for when in (10.0, 20.0, 5.0, 5.1):
        queue.schedule(a, when, 0.25)
    assert (len(queue), list(queue), queue.next_at()) == (1, [a], 5.1)


def test_a_cancelled_entry_is_not_found_any_more():
    queue, a, b, c = TimerQueue(), Entry("a"), Entry("b"), Entry("c")
    for entry in (a, b, c):
        queue.schedule(entry, 10.0, 0.25)
    assert queue.cancel(b)
    assert not queue.cancel(b)
    assert (len(queue), list(queue)) == (2, [a, c])
    assert queue.next_due(10.0) is a
    assert queue.cancel(c)  # of the current bucket
    assert served(queue, lambda: queue.next_due(10.0)) == [a]
    assert queue.cancel(a)
    assert (len(queue), list(queue), queue.next_at()) == (0, [], None)


def test_all_entries_are_iterated_those_of_the_current_bucket_too():
    queue, a, b, c = TimerQueue(), Entry("a"), Entry("b"), Entry("c")
    for entry, when in ((a, 10.0), (b, 10.0), (c, 20.0)):
        queue.schedule(entry, when, 0.25)
    assert queue.next_due(10.0) is a
    assert list(queue) == [a, b, c]


def test_entries_scheduled_meanwhile_get_a_bucket_of_their_own():
    queue, a, b, c = TimerQueue(), Entry("a"), Entry("b"), Entry("c")
    queue.schedule(a, 10.0, 0.25)
    queue.schedule(b, 10.0, 0.25)
    assert queue.next_due(10.0) is a
    queue.schedule(c, 10.1, 0.25)
    queue.schedule(a, 10.15, 0.25)
    assert queue.next_due(10.0) is b
    queue.cancel(b)
    assert queue.next_due(10.0) is None
    assert queue.next_at() == 10.1
    assert served(queue, lambda: queue.next_due(10.1)) == [c, a]


def test_an_entry_for_the_same_time_as_the_current_bucket_is_not_lost():
    """The bucket that was used last is remembered, but not once it is being served."""
    queue, a, b, c = TimerQueue(), Entry("a"), Entry("b"), Entry("c")
    queue.schedule(a, 10.0, 0.25)
    assert queue.next_due(10.0) is a
    queue.schedule(b, 10.0, 0.25)
    assert queue.rest_of_current() is a
    queue.cancel(a)
    assert queue.rest_of_current() is None
    assert queue.next_due(10.0) is b
    queue.cancel(b)
    assert queue.next_due(10.0) is None
    queue.schedule(c, 10.0, 0.25)
    assert queue.next_at() == 10.0
    assert queue.next_due(10.0) is c


def test_an_entry_for_the_same_time_as_one_that_was_cancelled_is_not_lost():
    queue, a, b = TimerQueue(), Entry("a"), Entry("b")
    queue.schedule(a, 10.0, 0.25)
    queue.cancel(a)
    queue.schedule(b, 10.0, 0.25)
    assert queue.next_at() == 10.0
    assert queue.next_due(10.0) is b


@pytest.mark.parametrize("kept", [0, 5])
def test_the_heap_is_not_rebuilt_for_a_few_stale_buckets(kept):
    queue, sizes = TimerQueue(), []
    for number in range(kept):
        queue.schedule(Entry(), 1e6 + number, 0.25)
    for number in range(kept + MAX_STALE + 1):
        entry = Entry()
        queue.schedule(entry, float(number), 0.25)
        queue.cancel(entry)
        sizes.append(len(queue._heap))
    assert sizes == [*range(kept + 1, 2 * kept + MAX_STALE + 1), kept]


def test_stale_buckets_do_not_pile_up():
    queue, stays = TimerQueue(), Entry("stays")
    queue.schedule(stays, 1e6, 0.25)
    for number in range(1000):
        entry = Entry()
        queue.schedule(entry, float(number), 0.25)
        queue.cancel(entry)
        assert len(queue._buckets) == 1
        assert len(queue._heap) <= 2 + MAX_STALE + 1
    assert queue.next_at() == 1e6


def test_due_entries_are_found_whatever_is_scheduled_and_cancelled():
    """Against a list that is searched."""
    choose = random.Random(3)
    queue, times = TimerQueue(), {}
    entries = [Entry(str(number)) for number in range(50)]
    now = 0.0
    for _ in range(5000):
        entry, slack = choose.choice(entries), choose.choice([0.2, 0.3, 2.0])
        if choose.random() < 0.3:
            assert queue.cancel(entry) == (times.pop(entry, None) is not None)
        elif choose.random() < 0.8:
            times[entry] = (now + choose.uniform(0, 10 * slack), slack)
            queue.schedule(entry, *times[entry])
        else:
            now += choose.uniform(0, 1)
            found = []
            while (entry := queue.next_due(now)) is not None:
                found.append(entry)
                # never by more than its slack too early, and with no other slack than its own
                when, slack = times.pop(entry)
                assert when <= now + slack
                queue.cancel(entry)
            assert [m for m, (when, _) in times.items() if when <= now] == []
        assert sorted(map(str, queue)) == sorted(map(str, times))
        assert len(queue) == len(times)
        first = queue.next_at()
        assert (first is None) == (not times)
        assert first is None or first <= min(when for when, _ in times.values())
