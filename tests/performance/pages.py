"""Puts the tables of a results file into the pages: `python tests/performance/pages.py`.

A page marks the place of a table, or of a part's tables, by the part's name:

    <!-- results: cost -->
    ...
    <!-- end of results -->
"""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import cost
import lateness
import peers
import scale
import socket_tables
from tables import table

DOCS: Final = Path(__file__).parents[2] / "docs"
PAGES: Final = (DOCS / "performance.md", DOCS / "capacity.md")
RESULTS: Final = DOCS / "performance.json"

COMPARED: Final = (
    "Starlette + asgi-keepalive",
    "sse-starlette",
    "FastAPI native SSE",
    "aiohttp-sse",
    "Hono streamSSE",
)

_BLOCK: Final = re.compile(
    r"(?P<begin><!-- results: (?P<name>\w+) -->\n).*?(?P<end><!-- end of results -->)",
    re.DOTALL,
)


def program(path: str) -> ModuleType:
    """Return a program of the documentation as a module."""
    name = Path(path).stem
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, DOCS / path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def published(page: str, found: dict[str, Any]) -> str:
    """Return a page with the tables of what was found; all else as it was."""
    return _BLOCK.sub(
        lambda block: f"{block['begin']}\n{TABLES[block['name']](found)}\n{block['end']}", page
    )


def summary(found: dict[str, Any]) -> str:
    """Return the table of what a user pays, here and with comparable packages."""
    idle = {row["name"]: row for row in found["sockets"]["idle"]}
    busy = {row["name"]: row for row in found["sockets"]["busy"] if row["events_per_turn"] > 1}
    rows = []
    for name in COMPARED:
        if name not in idle:
            continue
        row, base = idle[name], idle[idle[name]["base"]]
        *_, spread = row["pinged"].values()
        event = min(busy[name]["cpu_us_per_event"])
        if busy[name]["base"] in busy:
            event -= min(busy[busy[name]["base"]]["cpu_us_per_event"])
            added = f"{event:.1f}"
        else:
            added = "not measured"
        memory = f"{spread['kib_per_stream'] - base['kib_per_stream']:.1f}"
        ping = f"{spread['cpu_us_per_ping_median']:.0f}"
        plain = f"{_plain(found):.1f}" if "keepalive" in name else "0"
        rows.append([name, added, ping, memory, plain])
    head = ["", "added to an event, μs", "ping, μs", "added to an idle stream, KiB"]
    return table("The cost to a user", [*head, "added to a plain response, μs"], rows)


def _plain(found: dict[str, Any]) -> float:
    took = found["cost"]["uvloop"]["plain response"]
    return took["asgi-keepalive"] - took["unwrapped"]


def machine(found: dict[str, Any]) -> str:
    """Return a table of what the numbers were measured on, and with."""
    about = found["machine"]
    rows = [[name, str(about[name])] for name in ("date", "cpu", "cpus", "system", "python")]
    rows += [[name, number] for name, number in found["sockets"]["versions"].items()]
    return table("System and versions", ["name", "value"], rows)


def memory(found: dict[str, Any]) -> str:
    """Return the tables of the memory of an idle stream."""
    return _for_each_number_of_streams(found, socket_tables.memory)


def pings(found: dict[str, Any]) -> str:
    """Return the tables of the CPU time of a ping."""

    def all_arrivals(streams: int, rows: list[dict[str, Any]]) -> str:
        arrivals = {name: None for row in rows for name in row.get("pinged", {})}
        return "\n".join(socket_tables.pings(streams, name, rows) for name in arrivals)

    return _for_each_number_of_streams(found, all_arrivals)


def _for_each_number_of_streams(found: dict[str, Any], make: Any) -> str:
    idle = found["sockets"]["idle"]
    numbers = dict.fromkeys(row["streams"] for row in idle)
    return "\n".join(
        make(number, [row for row in idle if row["streams"] == number]) for number in numbers
    )


def busy(found: dict[str, Any]) -> str:
    """Return the tables of one busy stream."""
    rows = found["sockets"]["busy"]
    turns = dict.fromkeys(row["events_per_turn"] for row in rows)
    return "\n".join(socket_tables.busy(turn, rows) for turn in turns)


def constants(found: dict[str, Any]) -> str:
    """Return the table of what the model of many streams is made of."""
    capacity = program("examples/capacity.py")
    costs = {
        name: capacity.read_costs(found, name) for name in ("asgi-keepalive", capacity.STACK)
    }
    units = {
        "process_kib": "a worker process without streams, KiB",
        "stream_kib": "an idle stream in its worker, KiB",
        "socket_kib": "its socket in the kernel, KiB",
        "ping_us": "a ping, μs of CPU time",
        "event_us": "an event on one of many streams, μs of CPU time",
        "open_us": "a new connection up to its first event, μs of CPU time",
        "collection_us": "a full garbage collection, per stream, μs of CPU time",
    }
    rows = [
        [what, *(f"{getattr(each, name):,.1f}" for each in costs.values())]
        for name, what in units.items()
    ]
    return table("Measured costs", ["cost", *costs], rows)


def example(found: dict[str, Any]) -> str:
    """Return what the program prints for its default case."""
    capacity = program("examples/capacity.py")
    return f"```text\n{capacity.report(capacity.DEFAULT, capacity.read_costs(found))}\n```\n"


def limits(found: dict[str, Any]) -> str:
    """Return the table of what limits pings."""
    capacity = program("examples/capacity.py")
    costs = capacity.read_costs(found)
    interval = capacity.DEFAULT.interval
    streams = capacity.streams_per_core(interval, costs)
    gib = streams * (costs.stream_kib + costs.socket_kib) / 1024**2
    megabits = capacity.wire_mbit_s(1_000_000, interval)
    rows = [
        ["pings per second per core", f"{1e6 / costs.ping_us:,.0f}"],
        [f"idle streams per core, with an interval of {interval:g} s", f"{streams:,.0f}"],
        ["memory for that many streams, in the worker and the kernel, GiB", f"{gib:.1f}"],
        ["bytes per ping on the wire, both directions", str(capacity.WIRE_BYTES)],
        ["ping traffic of a million such streams, Mbit/s", f"{megabits:.0f}"],
    ]
    return table(f"Pings, {capacity.STACK}", ["quantity", "value"], rows)


def deployment(found: dict[str, Any]) -> str:
    """Return the table of simulated deployments."""
    simulation, capacity = program("plots/deployment.py"), program("examples/capacity.py")
    open_ms = capacity.read_costs(found).open_us / 1e3
    rows = []
    for batch in simulation.BATCHES:
        for name, jitter in (
            ("no", simulation.NO_JITTER),
            ("yes", simulation.DRAIN_JITTER),
        ):
            seen = simulation.deploy(batch, jitter)
            busiest = seen.busiest_per_worker
            line = [f"{batch}, {name}", f"{max(seen.per_second):,}", f"{busiest:,.0f}"]
            line += [f"{busiest * open_ms / 1e3:.2f}", f"{seen.reconnects / 1e6:.2f}"]
            rows.append([*line, f"{seen.most_streams:,}"])
    head = ["workers per batch, jitter", "reconnects in the busiest second"]
    head += ["of these, per worker", "CPU seconds per worker for these"]
    head += ["total reconnects, millions", "most streams on one worker afterwards"]
    title = (
        f"{simulation.STREAMS:,} streams on {simulation.WORKERS} workers, "
        f"drain {simulation.DRAIN_S:g} s"
    )
    return table(title, head, rows)


def lifetimes(_: dict[str, Any]) -> str:
    """Return the table of simulated lifetimes."""
    simulation = program("plots/deployment.py")
    rows = []
    for name, jitter in (
        ("no", simulation.NO_JITTER),
        ("yes", simulation.LIFETIME_JITTER),
    ):
        counts = simulation.reconnects_of_lifetimes(jitter)
        rows.append([name, f"{max(counts) / 10:,.0f}"])
    title = (
        f"{simulation.STREAMS:,} streams opened within the same {simulation.OUTAGE_S} s, "
        f"max_lifetime {simulation.MAX_LIFETIME_S:g} s"
    )
    return table(title, ["jitter", "peak reconnects per second"], rows)


TABLES: Final = {
    "summary": summary,
    "machine": machine,
    "cost": lambda found: cost.tables(found["cost"]),
    "peers": lambda found: peers.tables(found["peers"]),
    "scale": lambda found: scale.tables(found["scale"]),
    "lateness": lambda found: lateness.tables(found["lateness"]),
    "memory": memory,
    "pings": pings,
    "ticking": lambda found: socket_tables.ticking(found["sockets"]["ticking"]),
    "busy": busy,
    "constants": constants,
    "example": example,
    "limits": limits,
    "deployment": deployment,
    "lifetimes": lifetimes,
}


def main() -> None:
    """Rewrite the pages."""
    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        path.write_text(published(page, found), encoding="utf-8")


if __name__ == "__main__":
    main()
