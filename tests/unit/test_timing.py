"""When pings are due: arithmetic on a policy's values."""

import pytest

from keepalive import Policy
from keepalive._timing import first_ping_at, next_due, next_poll


def test_times_are_plain_arithmetic():
    policy = Policy(interval=10, first_ping=4)
    assert first_ping_at(policy, 100) == 104
    assert first_ping_at(Policy(interval=10), 100) == 110
    assert [next_due(policy, 100, last, 0) for last in (80, 94, 99)] == [104, 104, 109]
    assert next_poll(policy, due=104, now=105) == 115


def test_the_steady_grid_is_plain_arithmetic():
    policy = Policy(interval=10, first_ping=4, pacing="steady")
    times = (0, 103.9, 104, 113.7, 113.8, 114, 123, 160)
    assert [next_due(policy, 100, 0, now) for now in times] == [
        104, 104, 104, 104, 114, 114, 114, 154
    ]  # fmt: skip
    # A ping that was sent is not due again: it may have come early, on time or late.
    sent = (94, 103.7, 103.8, 104, 104.2, 113.7, 113.8, 114)
    assert [next_due(policy, 100, last, 104.1) for last in sent] == [104, 104] + [114] * 6
    assert [next_due(policy, 100, last, 114) for last in sent] == [114] * 6 + [124] * 2
    assert next_poll(policy, due=104, now=105) == 114
    tenth = Policy(interval=0.1, pacing="steady")
    due, start = [], 0.7
    for _ in range(1000):
        last = due[-1] if due else start
        due.append(next_due(tenth, start, last, now=last + 0.1))
    assert due == pytest.approx([start + 0.1 * (k + 1) for k in range(1000)])
