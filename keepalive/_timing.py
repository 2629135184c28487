"""Calculates when pings are due, and when streams are to end.

Times are in seconds; no function here reads a clock.
"""

import math
import random
from typing import Final

from ._policy import Policy

SLACK: Final = 0.02
"""The fraction of the interval by which a ping may be early, so that one timer serves many.

At 2 %, at most some fifty timers per interval serve all streams, and a ping that is meant to
prevent an idle timeout is sent a little early rather than late.
"""

ROUNDING: Final = 1e-9
"""Seconds by which two sums of the same floats may differ."""

MIN_LIFETIME_FRACTION: Final = 0.8
"""Streams opened together reconnect over the last 20 % of `max_lifetime`, not all at once."""

MIN_DRAIN_FRACTION: Final = 0.5
"""Streams stopped together end over the second half of `drain`, not all at once."""


def lifetime_deadline(max_lifetime: float, start: float) -> float:
    """Return when a stream that starts at `start` is to end."""
    fraction = random.uniform(MIN_LIFETIME_FRACTION, 1.0)  # noqa: S311
    return start + fraction * max_lifetime


def drain_deadline(drain: float, now: float, *, spread: bool) -> float:
    """Return when a stream that was stopped at `now` is to end.

    Args:
        drain: The seconds that the app may continue.
        now: The time of the stop.
        spread: Whether other streams were stopped at the same time.
    """
    fraction = random.uniform(MIN_DRAIN_FRACTION, 1.0) if spread else 1.0  # noqa: S311
    return now + fraction * drain


def slack(policy: Policy) -> float:
    """Return the seconds by which a ping may be early, to be sent together with others."""
    return SLACK * policy.interval


def first_ping_at(policy: Policy, start: float) -> float:
    """Return the time of the first ping of a stream that starts at `start`."""
    return start + (policy.interval if policy.first_ping is None else policy.first_ping)


def next_due(policy: Policy, start: float, last: float, now: float) -> float:
    """Return when the stream's next ping is due; a time in the past if it is late.

    Args:
        policy: The stream's policy.
        start: When the stream started.
        last: When anything was last sent; with steady pacing, when a ping was.
        now: The current time; ignored with idle pacing.
    """
    if policy.pacing == "idle":
        due = last + policy.interval
        return due if policy.first_ping is None else max(due, first_ping_at(policy, start))
    first = first_ping_at(policy, start)
    ticks = math.floor((now + slack(policy) - first) / policy.interval)
    due = first + max(ticks, 0) * policy.interval
    # That ping may have been sent already: early, within its slack, or so late that it
    # counts for this tick, too.
    sent = due <= last + slack(policy) + ROUNDING
    return due + policy.interval if sent else due


def next_poll(policy: Policy, due: float, now: float) -> float:
    """Return when to poll a stream again whose ping was due and is sent at `now`."""
    return (now if policy.pacing == "idle" else due) + policy.interval
