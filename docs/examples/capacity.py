"""What so many open streams need: memory, CPU time, open files.

python docs/examples/capacity.py --streams 100000 --workers 16 --machines 2

The costs of a stream, a ping, an event and a connection are read from a results file of
`tests/performance`. They are those of the machine that it names: measure your own, if you can.
"""

import argparse
import json
import math
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).resolve().parent.parent / "performance.json"
STACK = "Starlette + asgi-keepalive"
MEAN_LIFETIME = 0.9
"""Of `max_lifetime`: each stream is given a random 80 to 100 % of it."""
WIRE_BYTES = (20 + 6 + 52 + 18) + (52 + 18)
"""Of `event: ping` as a chunk, with TCP (and its timestamps), IPv4 and Ethernet; and of an
acknowledgement."""
LOCAL_PORTS = 60999 - 32768 + 1
"""Linux's default: connections from one address to another address and port."""


class Costs(NamedTuple):
    """What was measured."""

    process_kib: float
    """Memory of a worker process without streams."""
    stream_kib: float
    """Memory of the worker process for an idle stream."""
    socket_kib: float
    """Memory of the kernel for an idle connection."""
    ping_us: float
    """CPU time of a ping."""
    event_us: float
    """CPU time of an event of the app's, one of many streams."""
    open_us: float
    """CPU time from a new connection to the first event of its stream."""
    collection_us: float
    """CPU time of a full garbage collection, per stream."""


class Case(NamedTuple):
    """The reader's own case."""

    streams: int
    interval: float
    events: float
    """Per stream and second, at random times."""
    max_lifetime: float
    """0: none."""
    workers: int
    """In all, each one process."""
    machines: int


DEFAULT = Case(
    streams=100_000, interval=15.0, events=0.1, max_lifetime=3600.0, workers=16, machines=2
)


class Needs(NamedTuple):
    """What the case needs."""

    streams_per_worker: float
    pings_per_s: float
    events_per_s: float
    opens_per_s: float
    pings_cpu: float
    """CPU seconds per second, of all workers; so are the next two."""
    events_cpu: float
    opens_cpu: float
    worker_mib: float
    machine_gib: float
    """Of the workers of one machine, and of its kernel for their sockets."""
    collection_ms: float
    """How long a full garbage collection blocks a worker's event loop."""
    reopen_s: float
    """How long all workers take to open all streams, if all clients reconnect at once."""

    def load(self, workers: int) -> float:
        """Return the share of a core that each worker uses."""
        return (self.pings_cpu + self.events_cpu + self.opens_cpu) / workers


def read_costs(results: dict[str, object], stack: str = STACK) -> Costs:
    """Return the costs from a results file's content."""
    sockets, kernel = results["sockets"], results["kernel"]
    *_, idle = (
        row for row in sockets["idle"] if row["name"] == stack
    )  # with the most streams
    *_, pinged = idle["pinged"].values()  # those that came spread over the interval
    (events,) = (row for row in sockets["ticking"] if row["name"] == stack)
    return Costs(
        process_kib=idle["process_kib"],
        stream_kib=idle["kib_per_stream"],
        socket_kib=kernel["kib_per_socket_median"],
        ping_us=pinged["cpu_us_per_ping_median"],
        event_us=events["cpu_us_per_event_median"],
        open_us=idle["cpu_us_per_open"],
        collection_us=idle["gc_us_per_stream"],
    )


def ping_rate(interval: float, events: float) -> float:
    """Return the pings per second of a stream that also has events, at random times.

    Each event postpones the ping: only a gap that is longer than the interval has pings.
    """
    if events == 0:
        return 1 / interval
    exponent = events * interval
    return 0.0 if exponent > 700 else events / math.expm1(exponent)


def needs(case: Case, costs: Costs) -> Needs:
    """Return what a case needs."""
    per_worker = case.streams / case.workers
    pings = case.streams * ping_rate(case.interval, case.events)
    events = case.streams * case.events
    opens = case.streams / (MEAN_LIFETIME * case.max_lifetime) if case.max_lifetime else 0.0
    worker_kib = costs.process_kib + per_worker * costs.stream_kib
    kernel_kib = case.streams * costs.socket_kib
    return Needs(
        streams_per_worker=per_worker,
        pings_per_s=pings,
        events_per_s=events,
        opens_per_s=opens,
        pings_cpu=pings * costs.ping_us / 1e6,
        events_cpu=events * costs.event_us / 1e6,
        opens_cpu=opens * costs.open_us / 1e6,
        worker_mib=worker_kib / 1024,
        machine_gib=(worker_kib * case.workers + kernel_kib) / case.machines / 1024**2,
        collection_ms=per_worker * costs.collection_us / 1e3,
        reopen_s=per_worker * costs.open_us / 1e6,
    )


def streams_per_core(interval: float, costs: Costs) -> float:
    """Return how many idle streams have pings that take all the time of a core."""
    return interval * 1e6 / costs.ping_us


def wire_mbit_s(streams: int, interval: float) -> float:
    """Return what the pings of idle streams need of a network."""
    return streams / interval * WIRE_BYTES * 8 / 1e6


def report(case: Case, costs: Costs) -> str:
    """Return the numbers as text."""
    found = needs(case, costs)
    per_machine = case.streams / case.machines
    lines = [
        ("streams per worker", f"{found.streams_per_worker:,.0f}"),
        ("pings per second", f"{found.pings_per_s:,.0f}"),
        ("events per second", f"{found.events_per_s:,.0f}"),
        ("reconnects per second", f"{found.opens_per_s:,.0f}"),
        ("CPU per worker", f"{found.load(case.workers):.1%} of a core"),
        ("  for pings", f"{found.pings_cpu / case.workers:.1%}"),
        ("  for events", f"{found.events_cpu / case.workers:.1%}"),
        ("  for reconnects", f"{found.opens_cpu / case.workers:.1%}"),
        ("memory per worker", f"{found.worker_mib:,.0f} MiB"),
        ("memory per machine", f"{found.machine_gib:,.1f} GiB, including the kernel's"),
        ("open files per worker", f"{found.streams_per_worker:,.0f} plus a few"),
        ("full garbage collection", f"{found.collection_ms:,.0f} ms"),
        ("all reconnect at once", f"{found.reopen_s:,.1f} s of CPU time per worker"),
        ("addresses behind a proxy", f"{math.ceil(per_machine / LOCAL_PORTS)} per machine"),
    ]
    title = f"{case.streams:,} streams, {case.workers} workers on {case.machines} machines"
    return "\n".join([title, "", *(f"{name:<26} {value}" for name, value in lines)])


def main(arguments: list[str] | None = None) -> None:
    """Print the numbers of one case."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, help="open at the same time")
    parser.add_argument("--interval", type=float, help="seconds, as configured")
    parser.add_argument("--events", type=float, help="per stream and second")
    parser.add_argument("--max-lifetime", type=float, help="seconds, as configured; 0: none")
    parser.add_argument("--workers", type=int, help="processes, in all")
    parser.add_argument("--machines", type=int)
    parser.add_argument("--stack", default=STACK, help="a row of the results that has pings")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.set_defaults(**DEFAULT._asdict())
    asked = vars(parser.parse_args(arguments))
    results = json.loads(asked.pop("results").read_text(encoding="utf-8"))
    costs = read_costs(results, asked.pop("stack"))
    print(report(Case(**asked), costs))


if __name__ == "__main__":
    main()
