"""Draws memory and CPU time of ours and the peers' idle streams from the results file."""

import json
from pathlib import Path

import matplotlib.pyplot as plt

idle = json.loads(Path("performance.json").read_text(encoding="utf-8"))["sockets"]["idle"]
most = max(row["streams"] for row in idle)
rows = {row["name"]: row for row in idle if row["streams"] == most}

MEMORY = (
    "FastAPI native SSE",
    "sse-starlette",
    "aiohttp-sse",
    "Starlette + asgi-keepalive",
    "forward only",
    "asgi-keepalive",
)
PINGS = (
    "FastAPI native SSE",
    "Hono streamSSE",
    "sse-starlette",
    "aiohttp-sse",
    "Starlette + asgi-keepalive",
    "asgi-keepalive",
    "floor",
)


def over_base(name: str) -> float:
    """Return the KiB that a stream takes over the same framework's without pings."""
    return rows[name]["kib_per_stream"] - rows[rows[name]["base"]]["kib_per_stream"]


def cpu(name: str) -> float:
    """Return the microseconds of a ping, of streams that came spread over the interval."""
    *_, spread = rows[name]["pinged"].values()
    return spread["cpu_us_per_ping_median"]


figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
figure.suptitle(f"{most:,} idle streams on one server")
for axes, names, value, title in (
    (left, MEMORY, over_base, "KiB that a stream adds"),
    (right, PINGS, cpu, "CPU microseconds of a ping"),
):
    shown = [name for name in names if name in rows]
    colors = ["tab:blue" if "asgi-keepalive" in name else "tab:gray" for name in shown]
    bars = axes.barh(shown, [value(name) for name in shown], color=colors)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.margins(x=0.15)
    axes.set_title(title)
    axes.spines[["top", "right"]].set_visible(False)
