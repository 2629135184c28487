"""How much is measured: enough for numbers to keep, or just enough to see that all works."""

from typing import Final, NamedTuple


class Effort(NamedTuple):
    """One size of a run."""

    name: str
    rounds: int
    """How often an interleaved measurement is repeated."""
    streams: tuple[int, ...]
    """How many idle streams a server holds."""
    arrivals: tuple[str, ...]
    """How idle streams come: at once, or spread evenly over an interval."""
    seconds: float
    """How long pings are counted."""
    busy_events: int
    """How many events a busy stream has."""
    events: int
    """How many turns an in-process loop takes."""
    herd: int
    """How many streams fall due at once."""
    scale: tuple[int, ...]
    """How many streams one scheduler holds."""
    connections: int
    """How many connections are opened in a round in which the kernel's memory is measured."""


FULL: Final = Effort(
    name="full",
    rounds=11,
    streams=(2_000,),
    arrivals=("at once", "spread"),
    seconds=6.0,
    busy_events=10_000,
    events=20_000,
    herd=10_000,
    scale=(1_000, 50_000),
    connections=1_500,
)
QUICK: Final = Effort(
    name="quick",
    rounds=1,
    streams=(100,),
    arrivals=("at once",),
    seconds=1.0,
    busy_events=1_000,
    events=1_000,
    herd=500,
    scale=(100, 1_000),
    connections=200,
)
