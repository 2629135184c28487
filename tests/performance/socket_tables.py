"""The tables of what `sockets` has found."""

import statistics
from typing import Any

from tables import table

Found = dict[str, Any]


def tables(found: Found) -> str:
    """Return all tables, and what was left out."""
    parts = []
    for streams in found["effort"]["streams"]:
        rows = [row for row in found["idle"] if row["streams"] == streams]
        parts.append(memory(streams, rows))
        arrivals = {name: None for row in rows for name in row.get("pinged", {})}
        parts += [pings(streams, arrival, rows) for arrival in arrivals]
    parts.append(ticking(found["ticking"]))
    turns = dict.fromkeys(row["events_per_turn"] for row in found["busy"])
    parts += [busy(turn, found["busy"]) for turn in turns]
    parts += [f"Left out: {name}: {why}\n" for name, why in found["left_out"].items()]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return "\n".join([*parts, f"Versions: {versions}\n"])


def memory(streams: int, rows: list[Found]) -> str:
    """Return the table of the memory of an idle stream."""
    before = {row["name"]: row["kib_per_stream"] for row in rows}
    lines = []
    for row in rows:
        base = before[row["base"]]
        line = [row["name"], f"{before[row['name']]:.2f}", f"{row['pss_kib_per_stream']:.2f}"]
        line.append(_over(before[row["name"]], base, row))
        pinged = [each["kib_per_stream"] for each in row.get("pinged", {}).values()]
        line.append(_over(pinged[-1], base, row) if pinged else "")
        lines.append(line)
    title = f"Memory per idle stream, {streams:,} streams, KiB"
    head = ["setup", "USS", "PSS", "over the baseline", "over the baseline, after pings"]
    return table(title, head, lines)


def _over(value: float, base: float, row: Found) -> str:
    return "" if row["name"] == row["base"] else f"{value - base:+.2f} ({row['base']})"


def pings(streams: int, arrival: str, rows: list[Found]) -> str:
    """Return the table of the CPU time of a ping."""
    here = {row["name"]: row["pinged"] for row in rows if arrival in row.get("pinged", {})}
    floor = here["floor"][arrival]["cpu_us_per_ping_median"]
    lines = []
    for name, pinged in here.items():
        each, median = (pinged[arrival][f"cpu_us_per_ping{key}"] for key in ("", "_median"))
        line = [name, f"{median:.1f}", f"{min(each):.1f} to {max(each):.1f}"]
        lines.append([*line, f"{median / floor:.2f}"])
    interval = next(iter(here.values()))[arrival]["interval_s"]
    opened = "over one interval" if arrival == "spread" else arrival
    title = (
        f"CPU time per ping, {streams:,} streams opened {opened}, "
        f"interval {interval} s, microseconds"
    )
    return table(title, ["setup", "median", "range", "relative to the floor"], lines)


def ticking(rows: list[Found]) -> str:
    """Return the table of an event that one of many streams has now and then."""
    before = {row["name"]: row["cpu_us_per_event_median"] for row in rows}
    lines = []
    for row in rows:
        own, base = before[row["name"]], before[row["base"]]
        each = row["cpu_us_per_event_each"]
        line = [row["name"], f"{own:.1f}", f"{min(each):.1f} to {max(each):.1f}"]
        lines.append([*line, _over(own, base, row)])
    title = (
        f"CPU time per event, {rows[0]['streams']:,} streams that each send one per interval, "
        "microseconds"
    )
    return table(title, ["setup", "median", "range", "over the baseline"], lines)


def busy(turn: int, rows: list[Found]) -> str:
    """Return the table of one busy stream."""
    here = {row["name"]: row for row in rows if row["events_per_turn"] == turn}
    lines = []
    for name, row in here.items():
        cpu = row["cpu_us_per_event"]
        line = [name, f"{min(cpu):.2f}"]
        base = here.get(row["base"])
        if base is None or base is row:
            lines.append([*line, "", ""])
            continue
        before = base["cpu_us_per_event"]
        line.append(f"{min(cpu) - min(before):+.2f} ({row['base']})")
        lines.append([*line, _ratio(before, cpu)])
    turns = "one event per turn of the loop" if turn == 1 else f"{turn} events per turn"
    title = f"One busy stream, {turns}: the server's CPU time per event"
    head = ["setup", "μs, best", "added", "baseline / this setup"]
    return table(title, head, lines)


def _ratio(own: list[float], base: list[float]) -> str:
    """Return the median of the rounds' own ratios, and between what half of them lie.

    A slow moment of the machine is slow for both, or else makes one of many ratios wrong.
    """
    each = [a / b for a, b in zip(own, base, strict=True)]
    low, median, high = statistics.quantiles(each * 2, n=4)  # twice: of a single one, too
    return f"{median:.2f} ({low:.2f} to {high:.2f})"
