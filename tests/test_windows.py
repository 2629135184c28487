"""Who is due together: plain values, without a loop."""

import random

import pytest

from keepalive._windows import STALE, TIMER_ERROR, Windows


class Member:
    ahead = behind = None

    def __init__(self, name=""):
        self.name = name

    def __repr__(self):
        return self.name


def served(windows, find):
    """Serve all that `find` names, each seated far away; return who."""
    who = []
    while (member := find()) is not None:
        who.append(member)
        windows.put(member, 1e6 + len(who), 0.25)
    return who


def test_who_is_due_is_found_in_the_order_of_coming():
    windows, a, b, c = Windows(), Member("a"), Member("b"), Member("c")
    for member, when in ((a, 10.0), (b, 10.1), (c, 10.0)):
        windows.put(member, when, 0.25)
    assert windows.first() == 10.0
    assert windows.due(9.9) is None
    assert served(windows, lambda: windows.due(10.0)) == [a, b, c]
    assert windows.due(10.5) is None


def test_a_window_is_as_wide_as_its_slack_and_no_wider():
    windows, a, b = Windows(), Member("a"), Member("b")
    windows.put(a, 10.0, 0.25)
    windows.put(b, 10.25, 0.25)
    assert served(windows, lambda: windows.due(10.0)) == [a]
    assert served(windows, lambda: windows.due(10.25)) == [b]


def test_in_company_the_next_window_is_near():
    windows, a, b, c = Windows(), Member("a"), Member("b"), Member("c")
    for member, when in ((a, 10.0), (b, 10.25), (c, 10.3)):
        windows.put(member, when, 0.25)
    assert windows.nearly_due(9.74) is None
    assert windows.nearly_due(9.75) is a
    windows.drop(a)
    assert served(windows, lambda: windows.nearly_due(10.0)) == [b, c]


def test_a_window_is_due_when_the_first_of_it_is():
    windows, a, b = Windows(), Member("a"), Member("b")
    windows.put(a, 10.1, 0.25)
    windows.put(b, 10.05, 0.25)
    assert windows.first() == 10.05
    assert served(windows, lambda: windows.due(10.05)) == [a, b]
    assert windows.first() == pytest.approx(1e6 + 1)


def test_slacks_of_their_own_have_windows_of_their_own():
    windows, a, b = Windows(), Member("a"), Member("b")
    windows.put(a, 10.0, 0.25)
    windows.put(b, 10.0, 0.1)
    assert windows.due(10.0) is a
    windows.drop(a)
    assert windows.due(10.0) is b


def test_a_timer_may_fire_a_little_early_but_never_by_more_than_the_slack():
    windows, a, b = Windows(), Member("a"), Member("b")
    windows.put(a, 10.0, 0.25)
    assert windows.due(10.0 - 1.1 * TIMER_ERROR) is None
    assert windows.due(10.0 - 0.9 * TIMER_ERROR) is a
    windows.drop(a)
    windows.put(b, 10.0, 0.00002)
    assert windows.due(10.0 - 0.9 * TIMER_ERROR) is None


def test_who_changes_seats_is_there_once():
    windows, a = Windows(), Member("a")
    for when in (10.0, 20.0, 5.0, 5.1):
        windows.put(a, when, 0.25)
    assert (len(windows), list(windows), windows.first()) == (1, [a], 5.1)


def test_who_is_dropped_is_not_found_any_more():
    windows, a, b, c = Windows(), Member("a"), Member("b"), Member("c")
    for member in (a, b, c):
        windows.put(member, 10.0, 0.25)
    assert windows.drop(b)
    assert not windows.drop(b)
    assert (len(windows), list(windows)) == (2, [a, c])
    assert windows.due(10.0) is a
    assert windows.drop(c)  # of a window that has been opened
    assert served(windows, lambda: windows.due(10.0)) == [a]
    assert windows.drop(a)
    assert (len(windows), list(windows), windows.first()) == (0, [], None)


def test_all_who_wait_are_seen_those_of_an_opened_window_too():
    windows, a, b, c = Windows(), Member("a"), Member("b"), Member("c")
    for member, when in ((a, 10.0), (b, 10.0), (c, 20.0)):
        windows.put(member, when, 0.25)
    assert windows.due(10.0) is a
    assert list(windows) == [a, b, c]


def test_a_window_is_opened_anew_for_those_who_come_meanwhile():
    windows, a, b, c = Windows(), Member("a"), Member("b"), Member("c")
    windows.put(a, 10.0, 0.25)
    windows.put(b, 10.0, 0.25)
    assert windows.due(10.0) is a
    windows.put(c, 10.1, 0.25)
    windows.put(a, 10.15, 0.25)
    assert windows.due(10.0) is b
    windows.drop(b)
    assert windows.due(10.0) is None
    assert windows.first() == 10.1
    assert served(windows, lambda: windows.due(10.1)) == [c, a]


def test_windows_that_are_over_do_not_pile_up():
    windows, stays = Windows(), Member("stays")
    windows.put(stays, 1e6, 0.25)
    for number in range(1000):
        member = Member()
        windows.put(member, float(number), 0.25)
        windows.drop(member)
        assert len(windows._windows) == 1
        assert len(windows._heap) <= 2 + STALE + 1
    assert windows.first() == 1e6


def test_whatever_is_put_and_dropped_who_is_due_is_found():
    """Against a list that is searched."""
    choose = random.Random(3)
    windows, times = Windows(), {}
    members = [Member(str(number)) for number in range(50)]
    now = 0.0
    for _ in range(5000):
        member, slack = choose.choice(members), choose.choice([0.2, 0.3, 2.0])
        if choose.random() < 0.3:
            assert windows.drop(member) == (times.pop(member, None) is not None)
        elif choose.random() < 0.8:
            times[member] = (now + choose.uniform(0, 10 * slack), slack)
            windows.put(member, *times[member])
        else:
            now += choose.uniform(0, 1)
            found = []
            while (member := windows.due(now)) is not None:
                found.append(member)
                # never by more than its slack too early, and in nobody's company but its own
                when, slack = times.pop(member)
                assert when <= now + slack
                windows.drop(member)
            assert [m for m, (when, _) in times.items() if when <= now] == []
        assert sorted(map(str, windows)) == sorted(map(str, times))
        assert len(windows) == len(times)
        first = windows.first()
        assert (first is None) == (not times)
        assert first is None or first <= min(when for when, _ in times.values())
