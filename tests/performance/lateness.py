"""How late pings are, and how long they hold the loop, on a real server with many streams.

Each scenario runs in processes of its own.
"""

import sys
from typing import Any, Final, NamedTuple

from effort import Effort
from processes import HERE, client_of, serving
from tables import table

ROUNDS: Final = 3
"""How often each stream is pinged while pings are timed."""


class Scene(NamedTuple):
    """Who pings, on which loop, when the streams are due, and how many clients stall."""

    name: str
    loop: str
    phases: str
    stalled: int = 0


SCENES: Final = (
    Scene("asgi-keepalive", "uvloop", "together"),
    Scene("asgi-keepalive", "uvloop", "spread"),
    Scene("asgi-keepalive", "uvloop", "together", stalled=1),
    Scene("asgi-keepalive", "asyncio", "together"),
    Scene("asgi-keepalive", "asyncio", "spread"),
    Scene("asgi-keepalive", "asyncio", "together", stalled=1),
    Scene("a task for each stream", "uvloop", "together"),
    Scene("a task for each stream", "uvloop", "spread"),
    Scene("one task for all", "uvloop", "together"),
)


def measure_one(scene: Scene, streams: int) -> dict[str, Any]:
    """Return what the server of one scene has noted."""
    interval = max(1.0, streams / 2000)
    grid = (scene.phases, str(streams), str(interval))
    command = [sys.executable, str(HERE / "herd.py"), scene.name, scene.loop, *grid]
    with serving(scene.name, command) as server, client_of(server) as ask:
        for _ in range(scene.stalled):
            ask("stall", path="/stalled")
        ask("open", path="/idle", streams=streams, over_s=0)
        server.fetch("/settle")
        ask("wait", pings=2 * streams)
        server.fetch("/found")
        ask("wait", pings=ROUNDS * streams)
        found = server.fetch("/found")
    return {**scene._asdict(), "streams": streams, "interval_s": interval, **found}


def measure(effort: Effort) -> list[dict[str, Any]]:
    """Return what was noted in all scenes; times in milliseconds."""
    return [measure_one(scene, effort.herd) for scene in SCENES]


def tables(found: list[dict[str, Any]]) -> str:
    """Return a Markdown table of what was measured."""
    head = ["pinged by", "loop", "due", "stalled clients", "earliest, ms", "p50", "p99"]
    head += ["latest", "interval, ms", "longest turn of the loop, ms"]
    rows = [
        [each["name"], each["loop"], each["phases"], str(each["stalled"])]
        + [f"{each[name]:.0f}" for name in ("earliest", "p50", "p99", "latest")]
        + [f"{each['interval_s'] * 1e3:.0f}", f"{each['longest_turn']:.1f}"]
        for each in found
    ]
    streams = found[0]["streams"]
    return table(f"Lateness of the pings of {streams:,} streams", head, rows)
