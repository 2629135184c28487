"""What idle and busy streams cost on real servers, ours and others' in one run.

python tests/performance/sockets.py [quick] [--out FILE]
"""

import argparse
import json
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Final

import busy_streams
import socket_tables
from effort import FULL, QUICK, Effort
from idle_streams import Subject, memory, pinging, silence, ticking
from rows import BUSY, ROWS, TICKING, Commands, Row, commands, versions

STREAMS_PER_SECOND: Final = 1_000
"""The interval grows with the streams, so that the pings of a second stay the same; no
contestant's core is full with them."""
EVENTS_PER_TURN: Final = (1, 64)
"""How many events a busy stream has on its hands in one turn of the loop."""


def progress(text: str) -> None:
    """Say what is being done; not on the output that the tables go to."""
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def measure_idle(row: Row, subject: Subject, effort: Effort, silent_cpu_s: dict[str, float]):
    """Return all about the idle streams of one row."""
    progress(f"{row.name}: {subject.streams} idle streams")
    interval = max(1, subject.streams // STREAMS_PER_SECOND)  # whole: some take no other
    found: dict[str, Any] = {"name": row.name, "base": row.base, "streams": subject.streams}
    found |= memory(subject)
    if row.name == row.base:
        found["silent_cpu_s_per_interval"] = silent_cpu_s[row.name] = silence(
            subject, interval
        )
    if row.pings:
        found["pinged"] = {
            arrival: pinging(
                subject,
                interval=interval,
                over_s=interval if arrival == "spread" else 0,
                intervals=math.ceil(effort.seconds / interval),
                silent_cpu_s=silent_cpu_s[row.base],
            )
            for arrival in effort.arrivals
        }
    return found


def measure_all_idle(rows: list[Row], made: Commands, effort: Effort) -> list[dict[str, Any]]:
    """Return all about idle streams, with each number of them."""
    found = []
    for streams in effort.streams:
        silent_cpu_s: dict[str, float] = {}
        for row in rows:
            subject = Subject(row.name, made[row.contestant], row.path, streams)
            found.append(measure_idle(row, subject, effort, silent_cpu_s))
    return found


def measure_all_ticking(
    rows: list[Row], made: Commands, effort: Effort
) -> list[dict[str, Any]]:
    """Return the CPU time of an event that one of many streams has now and then."""
    streams = max(effort.streams)
    interval = max(1, streams // STREAMS_PER_SECOND)
    found = []
    for row in rows:
        progress(f"{row.name}: {streams} streams with an event now and then")
        subject = Subject(row.name, made[row.contestant], row.path, streams)
        took = ticking(subject, interval, math.ceil(effort.seconds / interval))
        found.append({"name": row.name, "base": row.base, "streams": streams, **took})
    return found


def measure_all_busy(rows: list[Row], made: Commands, effort: Effort) -> list[dict[str, Any]]:
    """Return all about busy streams, each in its own turn of the loop, and many in one."""
    found = []
    for turn in EVENTS_PER_TURN:
        progress(f"busy streams: {turn} in a turn")
        amount = (turn, effort.busy_events, effort.rounds)
        found += busy_streams.measure(rows, made, *amount)
    return found


def measure(effort: Effort) -> dict[str, Any]:
    """Return everything measured, as raw numbers."""
    left_out: dict[str, str] = {}
    made = commands(left_out)
    rows = [row for row in ROWS if row.contestant not in left_out]
    return {
        "effort": effort._asdict(),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "versions": versions(left_out),
        "left_out": left_out,
        "idle": measure_all_idle(rows, made, effort),
        "ticking": measure_all_ticking(list(TICKING), made, effort),
        "busy": measure_all_busy(
            [row for row in BUSY if row.contestant not in left_out], made, effort
        ),
    }


tables = socket_tables.tables


def main() -> None:
    """Measure, print the tables, and write what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("effort", nargs="?", choices=("quick", "full"), default="full")
    parser.add_argument("--out", type=Path, help="where to write what was found, as JSON")
    asked = parser.parse_args()
    found = measure({"quick": QUICK, "full": FULL}[asked.effort])
    print(tables(found))
    if asked.out is not None:
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
