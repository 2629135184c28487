"""The tables of the proxies' page: their columns, and words for what was found."""

from typing import Final

from real.compatibility import BOOKS
from real.http_clients import split_pings
from real.proxies.configurations import PROXIES
from real.proxies.readings import HEADERS, WHOLE, Reading, Seen

BOOK: Final = BOOKS["proxies"]
COLUMNS: Final = {
    "silence": (
        "idle, without the middleware",
        "active, without the middleware",
        "idle, with the middleware",
        "idle NDJSON, `Ping.space()`",
        "no response yet",
        "no response yet, `start_after`",
        "slow JSON, `start_after`",
    ),
    "passing": (
        "headers, without the middleware",
        "headers, with the middleware",
        "headers, `anti_buffering=False`, `first_ping=0`",
        "events and pings, `anti_buffering=False`",
        "events and pings, default options",
        "`X-Accel-Buffering`",
    ),
    "compression": tuple(HEADERS.values()),
    "leaving": ("idle, without the middleware", "idle, with the middleware"),
    "total": ("pings", "pings and a shorter `max_lifetime`"),
}
"""By table."""


def hold(table: str, name: str, column: str, found: str) -> None:
    """Hold what was found of a proxy against its cell."""
    assert column in COLUMNS[table]
    BOOK.hold(table, name, column, found, PROXIES[name].program)


def fate(made: Reading, *parts: bytes) -> str:
    """Say what became of a stream: whole only if all its bytes are there."""
    if made.status != 200 or made.end != WHOLE:
        return str(made.status) if made.status != 200 else made.end
    return WHOLE if split_pings(made.body)[0] == b"".join(parts) else "truncated"


def compressed(one: Seen) -> str:
    """Say in which form events and pings came, and when."""
    encoding = one.made.headers.get("content-encoding", "uncompressed")
    return f"{encoding}, {one.passed}"
