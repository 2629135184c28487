"""What was measured, next to the project's goals; see `CONTRIBUTING.md`.

It is for those who change the package. Those who use it find costs in `docs/performance.md`.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from tables import table

Found = dict[str, Any]

OURS: Final = "asgi-keepalive"
FORWARD: Final = "forward only"
WITH_LIFETIMES: Final = ("drain", "max_lifetime", "max_silence")


class Line(NamedTuple):
    """One goal, and what was measured."""

    what: str
    on: str
    measured: float
    goal: float
    is_least: bool = False
    """Whether the goal is the least that is enough, not the most that is allowed."""

    @property
    def is_met(self) -> bool:
        """Whether the goal is met."""
        return self.measured >= self.goal if self.is_least else self.measured <= self.goal


def tables(found: Found) -> str:
    """Return the Markdown table."""
    rows = [
        [
            line.what,
            line.on,
            f"{'at least' if line.is_least else 'at most'} {line.goal:g}",
            f"{line.measured:.2f}",
            "yes" if line.is_met else "no",
        ]
        for line in lines(found)
    ]
    return table("Performance goals", ["what", "on", "goal", "measured", "met"], rows)


def lines(found: Found) -> list[Line]:
    """Return everything that has a goal."""
    return [
        *(line for loop, kinds in found["cost"].items() for line in in_process(loop, kinds)),
        *idle(found["scale"]),
        *busy(found["sockets"]["busy"]),
        *turns(found["lateness"]),
    ]


def in_process(loop: str, kinds: dict[str, dict[str, float]]) -> Iterator[Line]:
    """Yield what responses and events cost on an event loop."""

    def added(kind: str, name: str = OURS) -> float:
        return kinds[kind][name] - kinds[kind]["unwrapped"]

    plain, event = "plain response", "event"
    ratio = added(plain) / added(plain, FORWARD)
    yield Line("plain response, as a multiple of forward-only", loop, ratio, 2.2)
    yield Line("event, us", loop, added(event), 0.30)
    for name in WITH_LIFETIMES:
        ratio = added(event, name) / added(event)
        yield Line(f"event with {name}, as a multiple of without", loop, ratio, 1.2)
    yield Line("event with send_timeout, us", loop, added(event, "send_timeout"), 1.2)
    early = added(plain, "start_after")
    yield Line("plain response with start_after, us", loop, early, 25.0)
    yield Line("stream of one event, us", loop, added("stream of one event"), 30.0)


def idle(found: list[Found]) -> Iterator[Line]:
    """Yield what an idle stream and a ping cost, in-process."""
    streams = max(row["streams"] for row in found)
    of = {(row["loop"], row["name"]): row for row in found if row["streams"] == streams}
    for (loop, name), row in of.items():
        if name == OURS:
            on = f"{loop}, {streams:,} streams"
            added = row["bytes"] - of[loop, "unwrapped"]["bytes"]
            yield Line("memory that an idle stream adds, bytes", on, added, 900)
            yield Line("ping, us", on, row["ping_us"], 2.0)


def busy(found: list[Found]) -> Iterator[Line]:
    """Yield the CPU time of a busy stream's event without the middleware, divided by with."""
    of = {(row["name"], row["events_per_turn"]): row for row in found}
    for (name, turn), row in of.items():
        if name == f"Starlette + {OURS}" and turn > 1:
            base = of[row["base"], turn]
            ratio = min(base["cpu_us_per_event"]) / min(row["cpu_us_per_event"])
            what = "busy stream, CPU time without / with the middleware"
            yield Line(what, f"{name}, {turn} in a turn", ratio, 0.85, is_least=True)


def turns(found: list[Found]) -> Iterator[Line]:
    """Yield how long rounds of pings blocked the loop."""
    for row in found:
        if row["name"] == OURS and "left_out" not in row:
            stalled = f", {row['stalled']} stalled client" if row["stalled"] else ""
            tasks = f", {row['tasks']} tasks, Python {row['python']}"
            on = f"{row['streams']:,} {row['phases']}, {row['loop']}{tasks}{stalled}"
            yield Line("longest turn of the loop, ms", on, row["longest_turn"], 10.0)
