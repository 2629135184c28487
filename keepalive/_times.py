"""Times: when a policy wants what.

Law: seconds in, seconds out. Reads no clock, and knows no event loop and no ASGI.
"""

import math
import random
from typing import Final

from ._policy import Policy

SLACK: Final = 0.02
"""The part of its interval by which a ping may come early."""

ROUNDING: Final = 1e-9
"""Seconds within which two sums of the same times may differ."""

LEAST_SHARE_OF_LIFETIME: Final = 0.8
LEAST_SHARE_OF_DRAIN: Final = 0.5


def lifetime_over(max_lifetime: float, start: float) -> float:
    """Return when a stream is to be ended that starts at `start`."""
    share = random.uniform(LEAST_SHARE_OF_LIFETIME, 1.0)  # noqa: S311
    return start + share * max_lifetime


def drained_at(drain: float, now: float, *, spread: bool) -> float:
    """Return when a stream is to be ended that was stopped now, perhaps among others."""
    share = random.uniform(LEAST_SHARE_OF_DRAIN, 1.0) if spread else 1.0  # noqa: S311
    return now + share * drain


def slack(policy: Policy) -> float:
    """Return the seconds a ping may come early, to be sent together with others."""
    return SLACK * policy.interval


def first_at(policy: Policy, start: float) -> float:
    """Return the time of the first ping of a stream that starts at `start`."""
    return start + (policy.interval if policy.first is None else policy.first)


def due_at(policy: Policy, start: float, last: float, now: float) -> float:
    """Return when the ping is due that a stream waits for, or is late with.

    Args:
        policy: The stream's policy.
        start: When the stream started.
        last: When anything was last sent; in steady pacing, when a ping was.
        now: The time; of no account in idle pacing.
    """
    if policy.pacing == "idle":
        due = last + policy.interval
        return due if policy.first is None else max(due, first_at(policy, start))
    first = first_at(policy, start)
    beats = math.floor((now + slack(policy) - first) / policy.interval)
    due = first + max(beats, 0) * policy.interval
    # That one may have been sent already, early by its slack, or so late that it is enough.
    sent = due <= last + slack(policy) + ROUNDING
    return due + policy.interval if sent else due


def next_look(policy: Policy, due: float, now: float) -> float:
    """Return when to look again at a stream whose ping was due and is sent now."""
    return (now if policy.pacing == "idle" else due) + policy.interval
