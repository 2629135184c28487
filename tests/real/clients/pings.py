"""The pings that clients are tried with, and what a client made of one."""

from collections.abc import Sequence
from typing import Final

from keepalive import Ping

PINGS: Final = {
    "event": Ping.event(),
    "comment": Ping.comment(),
    "comment-blank": Ping.raw(b": ping\n\n", at="event"),
    "blank": Ping.blank_line(),
    "json": Ping.event(data="{}"),
}
"""By the names that they have in paths."""

TITLES: Final = {
    "event": "`Ping.event()`",
    "comment": "`Ping.comment()`",
    "comment-blank": "comment and blank line",
    "blank": "`Ping.blank_line()`",
    "json": '`Ping.event(data="{}")`',
}
"""By the names that they have in tables, as columns."""

INVISIBLE: Final = "✓"
"""The user's code gets what it gets without pings, and nothing is logged."""

LISTENED_FOR: Final = "✓ reaches `ping` listeners"
LOGGED: Final = "⚠ logs a warning"
"""As invisible, but the client logs a warning for it."""

VISIBLE: Final = "⚠ extra event"
"""The user's code gets every real event, and something more."""

HARMFUL: Final = "✗"
"""An exception, or real events are lost or changed."""


def outcome(
    plain: Sequence[object],
    pinged: Sequence[object],
    *,
    error: object = None,
    logged: Sequence[object] = (),
) -> str:
    """Say what a client made of a kind of ping.

    Args:
        plain: What it handed to the user's code of the stream without pings.
        pinged: What it did of the same stream with pings.
        error: What it raised.
        logged: The warnings it has logged, beyond those without pings.
    """
    rest = iter(pinged)
    if error is not None or not all(any(item == other for other in rest) for item in plain):
        return HARMFUL
    if len(pinged) > len(plain):
        return VISIBLE
    return LOGGED if logged else INVISIBLE
