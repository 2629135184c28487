"""What happened to the requests of the app behind the proxies, and the gates of its streams.

Facts are kept by token, a path's last segment.
"""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from keepalive import PingSent, StreamEnded, StreamStarted


@dataclass
class Entry:
    """What happened to one request."""

    started: bool = False
    """The response's start was sent."""

    silence: float = 0.0
    """Seconds that the app was silent for, on end."""

    left: bool = False
    """`receive` has said that the client is gone."""

    pings: int = 0
    reason: str = ""
    """Why the pings have stopped."""


JOURNAL: Final[dict[str, Entry]] = defaultdict(Entry)
GATES: Final[dict[str, asyncio.Event]] = defaultdict(asyncio.Event)


def token_of(path: str) -> str:
    """Return a path's last segment."""
    return path.rpartition("/")[2]


def note(fact: StreamStarted | PingSent | StreamEnded) -> None:
    """Write a fact of the middleware's down."""
    entry = JOURNAL[token_of(fact.path)]
    if isinstance(fact, PingSent):
        entry.pings = fact.count
    elif isinstance(fact, StreamEnded):
        entry.reason = str(fact.reason)
