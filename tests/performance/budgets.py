"""What was measured, beside what was asked for.

Nothing that is not met is left out.
"""

import statistics
from typing import Any, Final

from tables import table

Found = dict[str, Any]
Line = tuple[str, str, float, float]
"""What, on what, measured, and the budget: a measurement at or below it meets it."""

PLAIN: Final = 2.5
EVENT_US: Final = 1.0
SPEED: Final = 0.95
MEMORY_KIB: Final = 1.0
PING: Final = 1.6
TURN_MS: Final = 10.0


def tables(found: Found) -> str:
    """Return the Markdown table."""
    rows = []
    for what, on, measured, most in lines(found):
        least = what.startswith("speed")
        met = measured >= most if least else measured <= most
        limit = f"{'at least' if least else 'at most'} {most:g}"
        rows.append([what, on, limit, f"{measured:.2f}", "yes" if met else "no"])
    return table("Budgets", ["what", "on", "budget", "measured", "met"], rows)


def lines(found: Found) -> list[Line]:
    """Return everything that has a budget."""
    return [
        *in_process(found["cost"]),
        *busy(found["sockets"]["busy"]),
        *idle(found["sockets"]["idle"]),
        *late(found["lateness"]),
    ]


def in_process(found: Found) -> list[Line]:
    """Return what a response that is no stream, and an event, take."""
    made: list[Line] = []
    for loop, kinds in found.items():
        plain, event = kinds["no stream"], kinds["event"]
        base = plain["unwrapped"]
        ratio = (plain["asgi-keepalive"] - base) / (plain["forward only"] - base)
        made.append(("no stream: times a forward-only middleware's cost", loop, ratio, PLAIN))
        added = event["asgi-keepalive"] - event["unwrapped"]
        made.append(("event: microseconds added", loop, added, EVENT_US))
    return made


def busy(found: list[Found]) -> list[Line]:
    """Return how fast one busy stream is, and that of a middleware that does nothing."""
    of = {(row["name"], row["events_per_turn"], row["reader"]): row for row in found}
    made: list[Line] = []
    for (name, turn, reader), row in of.items():
        if row["base"] != name and ("asgi-keepalive" in name or "forward" in name):
            base = of[row["base"], turn, reader]["events_per_s"]
            each = [a / b for a, b in zip(row["events_per_s"], base, strict=True)]
            on = f"{name}, {turn} in a turn, {reader} client"
            made.append(("speed of a busy stream", on, statistics.median(each), SPEED))
    return made


def idle(found: list[Found]) -> list[Line]:
    """Return what an idle stream and a ping take."""
    of = {(row["name"], row["streams"]): row for row in found}
    names = ("forward only", "asgi-keepalive", "asgi-keepalive, non-listening app")
    names += ("Starlette + asgi-keepalive",)
    made: list[Line] = []
    for (name, streams), row in of.items():
        if name not in names:
            continue
        on = f"{name}, {streams:,} streams"
        added = row["kib_per_stream"] - of[row["base"], streams]["kib_per_stream"]
        made.append(("memory: KiB that an idle stream adds", on, added, MEMORY_KIB))
        floor = of["floor", streams]["pinged"]
        for arrival, pinged in row.get("pinged", {}).items():
            key = "cpu_us_per_ping_median"
            ratio = pinged[key] / floor[arrival][key]
            made.append(("ping: times the floor's CPU", f"{on}, {arrival}", ratio, PING))
    return made


def late(found: list[Found]) -> list[Line]:
    """Return how long rounds of pings held the loop, and how late pings were."""
    made: list[Line] = []
    for row in found:
        if row["name"] == "asgi-keepalive":
            stalled = f", {row['stalled']} stalled client" if row["stalled"] else ""
            on = f"{row['streams']:,} streams {row['phases']}, {row['loop']}{stalled}"
            made.append(("longest turn of the loop, ms", on, row["longest_turn"], TURN_MS))
            intervals = row["latest"] / 1e3 / row["interval_s"]
            made.append(("latest ping, in intervals", on, intervals, 1.0))
    return made
