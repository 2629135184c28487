"""Simulates a million streams during a rolling deployment, and with `max_lifetime`.

It draws both. The random numbers have a seed: each run gives the same.

A deployment stops a batch of workers, waits until they have drained and their successors
serve, and stops the next. A worker that was stopped is sent no new streams. Clients reconnect
`RETRY_S` after their stream has ended, each to a random worker that serves.
"""

import random
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

SEED = 20
STREAMS = 1_000_000
WORKERS = 200
DRAIN_S = 30.0
RESTART_S = 15.0
"""From the end of a worker to the first stream of its successor."""
RETRY_S = 3.0
"""What clients wait before they reconnect: as `EventSource` does, a few seconds."""
BATCHES = (10, 50, 100)

MAX_LIFETIME_S = 3600.0
OUTAGE_S = 10
"""The seconds in which all clients connect, after an outage, say."""
LIFETIMES = 3.5

NO_JITTER = (1.0, 1.0)
DRAIN_JITTER = (0.5, 1.0)
"""Between which fractions of `drain` streams end that are stopped together."""
LIFETIME_JITTER = (0.8, 1.0)
"""Between which fractions of `max_lifetime` a stream is ended."""


class Deployment(NamedTuple):
    """What was seen of one deployment."""

    per_second: list[int]
    """How many clients reconnected in each second."""
    busiest_per_worker: float
    """Reconnects per worker in the busiest second, on average over those that serve."""
    most_streams: int
    """How many streams one worker had at last, at most."""

    @property
    def reconnects(self) -> int:
        """How many clients reconnected, in all; some of them more than once."""
        return sum(self.per_second)


def deploy(batch: int, jitter: tuple[float, float], streams: int = STREAMS) -> Deployment:
    """Return what a deployment does whose batches have so many workers."""
    rng = random.Random(SEED)  # noqa: S311 - a simulation
    held = Counter(dict.fromkeys(range(WORKERS), streams // WORKERS))
    coming: Counter[int] = Counter()
    stopped: set[int] = set()
    per_second: list[int] = []
    busiest = 0.0
    stops = dict(stop_times(batch))
    last = max(stops) + int(DRAIN_S + RESTART_S)
    for second in range(last):
        if second in stops:
            stopped = set(stops[second])
            for worker in stops[second]:
                coming.update(ends(rng, second, jitter, held.pop(worker, 0)))
        elif second - int(DRAIN_S + RESTART_S) in stops:
            stopped = set()
        arriving = coming.pop(second, 0)
        serving = [worker for worker in range(WORKERS) if worker not in stopped]
        held.update(rng.choices(serving, k=arriving))
        per_second.append(arriving)
        busiest = max(busiest, arriving / len(serving))
    return Deployment(per_second, busiest, max(held.values()))


def ends(
    rng: random.Random, stop: int, jitter: tuple[float, float], streams: int
) -> list[int]:
    """Return the seconds in which the clients of a stopped worker come back."""
    low, high = jitter
    first, width = stop + low * DRAIN_S + RETRY_S, (high - low) * DRAIN_S
    if not width:
        return [int(first)] * streams
    return [int(first + width * rng.random()) for _ in range(streams)]


def stop_times(batch: int) -> Iterator[tuple[int, range]]:
    """Yield when which workers are stopped."""
    for number, first in enumerate(range(0, WORKERS, batch)):
        yield int(number * (DRAIN_S + RESTART_S)), range(first, min(first + batch, WORKERS))


def reconnects_of_lifetimes(jitter: tuple[float, float], streams: int = STREAMS) -> list[int]:
    """Return how many clients reconnect in each ten seconds, after all came at once."""
    rng = random.Random(SEED)  # noqa: S311 - a simulation
    low, high = jitter
    least, width = low * MAX_LIFETIME_S + RETRY_S, (high - low) * MAX_LIFETIME_S
    seconds = LIFETIMES * MAX_LIFETIME_S
    counts = [0] * int(seconds / 10)
    for _ in range(streams):
        at = rng.random() * OUTAGE_S
        while (at := at + least + width * rng.random()) < seconds:
            counts[int(at / 10)] += 1
    return counts


def draw() -> None:
    """Draw one deployment, and the lifetimes."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - needed for the picture alone

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    figure.suptitle(f"Reconnects per second of {STREAMS:,} streams")
    titles = {"without jitter": "tab:gray", "with jitter": "tab:blue"}
    for (name, color), jitter in zip(titles.items(), (NO_JITTER, DRAIN_JITTER), strict=True):
        counts = deploy(BATCHES[0], jitter).per_second
        left.step(
            [second / 60 for second in range(len(counts))], counts, color=color, label=name
        )
    for (name, color), jitter in zip(
        titles.items(), (NO_JITTER, LIFETIME_JITTER), strict=True
    ):
        counts = [count / 10 for count in reconnects_of_lifetimes(jitter)]
        right.step([at / 360 for at in range(len(counts))], counts, color=color, label=name)
    left.set_title(
        f"deployment, {BATCHES[0]} of {WORKERS} workers at a time, drain {DRAIN_S:g} s"
    )
    left.set_xlabel("minutes")
    right.set_title(f"max_lifetime {MAX_LIFETIME_S:g} s, all came at once")
    right.set_xlabel("hours")
    for axes in (left, right):
        axes.set_yscale("symlog", linthresh=100)
        axes.set_ylim(0, 2 * STREAMS)
        axes.legend(loc="upper right", fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    draw()
