"""Many streams on a real server: the memory that each takes, the CPU time of a ping, and of
an event that one of them has now and then.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from processes import Ask, Server, client_of, serving

NEVER_S: Final = 3600
"""An interval in which no ping comes while memory is measured."""
WARMING: Final = 0.01
"""The share of the streams that is opened and left before anything is measured, so that what
the first streams load and grow is not counted. Small, since the memory that they leave behind
is used again, and missed in what is measured."""


class Subject(NamedTuple):
    """What is measured: a contestant, on a path, with so many streams."""

    name: str
    command: Callable[[float], list[str]]
    path: str
    streams: int


def warm(ask: Ask, subject: Subject) -> None:
    """Serve a few streams."""
    few = max(1, round(subject.streams * WARMING))
    ask("open", path=subject.path, streams=few, over_s=0)
    ask("close")


def used(server: Server, before: dict[str, float], streams: int) -> dict[str, float]:
    """Return the memory that each stream takes now, and its part of a garbage collection."""
    now = server.fetch("/memory")
    names = {"kib_per_stream": "private_kib", "pss_kib_per_stream": "pss_kib"}
    found = {name: (now[key] - before[key]) / streams for name, key in names.items()}
    if "gc_ms" in now:  # Hono's server has another garbage collector
        found["gc_us_per_stream"] = (now["gc_ms"] - before["gc_ms"]) / streams * 1e3
    return found


def memory(subject: Subject) -> dict[str, float]:
    """Return the memory of a stream that has sent one event and no ping.

    And the CPU time from the connection to that event, and the process's memory without
    any streams.
    """
    command = subject.command(NEVER_S)
    with serving(subject.name, command) as server, client_of(server) as ask:
        warm(ask, subject)
        before = server.fetch("/memory")
        began = server.cpu_s()
        ask("open", path=subject.path, streams=subject.streams, over_s=0)
        opening = (server.cpu_s() - began) / subject.streams * 1e6
        found = used(server, before, subject.streams)
    return found | {"cpu_us_per_open": opening, "process_kib": before["private_kib"]}


def silence(subject: Subject, seconds: float) -> float:
    """Return the CPU seconds of a server in a time without pings.

    It has a timer or two of its own, and answers the question for its CPU time.
    """
    command = subject.command(NEVER_S)
    with serving(subject.name, command) as server, client_of(server) as ask:
        ask("open", path=subject.path, streams=subject.streams, over_s=0)
        began = server.cpu_s()
        time.sleep(seconds)
        return server.cpu_s() - began


def pinging(
    subject: Subject, *, interval: float, over_s: float, intervals: int, silent_cpu_s: float
) -> dict[str, Any]:
    """Return the CPU time of each ping, less that of silence, and the memory of a stream.

    It begins when each stream has had a ping. Each interval is measured by itself, so that a
    moment in which the machine is slow spoils no more than one.
    """
    command = subject.command(interval)
    with serving(subject.name, command) as server, client_of(server) as ask:
        warm(ask, subject)
        before = server.fetch("/memory")
        ask("open", path=subject.path, streams=subject.streams, over_s=over_s)
        ask("wait", pings=subject.streams)
        slices = [one_interval(server, ask, subject.streams) for _ in range(intervals)]
        found: dict[str, Any] = used(server, before, subject.streams)
    each = [(cpu_s - silent_cpu_s) / pings * 1e6 for cpu_s, pings in slices]
    found |= {"interval_s": interval, "opened_over_s": over_s, "cpu_us_per_ping": each}
    found["cpu_us_per_ping_median"] = statistics.median(each)
    found["pings"] = sum(pings for _, pings in slices)
    return found


def ticking(subject: Subject, interval: float, intervals: int) -> dict[str, Any]:
    """Return the CPU time of an event of the app's; no ping comes between them."""
    path = f"/ticking?every={interval}"
    ticking = subject._replace(path=path, command=lambda _: subject.command(NEVER_S))
    spread = {"interval": interval, "over_s": interval}
    found = pinging(ticking, **spread, intervals=intervals, silent_cpu_s=0.0)
    names = {"each": "cpu_us_per_ping", "median": "cpu_us_per_ping_median"}
    return {f"cpu_us_per_event_{name}": found[key] for name, key in names.items()}


def one_interval(server: Server, ask: Ask, streams: int) -> tuple[float, int]:
    """Return CPU seconds and pings of the time in which each stream has one."""
    began, first = server.cpu_s(), ask("wait", pings=0)["total"]
    ask("wait", pings=streams)
    cpu_s = server.cpu_s() - began
    return cpu_s, ask("wait", pings=0)["total"] - first
