"""How late pings are, and how long they block the loop, on a real server with many streams.

Each scenario runs in processes of its own. Those with eager tasks need Python 3.12 or later:
that of this process, or the one that the environment variable `KEEPALIVE_EAGER_PYTHON` names.
"""

import os
import subprocess
import sys
from typing import Any, Final, NamedTuple

from effort import Effort
from processes import HERE, client_of, serving
from tables import table

ROUNDS: Final = 2
"""How often each stream is pinged while pings are timed."""


STREAMS_PER_SECOND: Final = 4_000
SHORTEST_S: Final = 0.25

VERSION: Final = "import platform; print(platform.python_version())"


class Scene(NamedTuple):
    """Who pings, on which loop, when the streams are due, and how many clients stall."""

    name: str
    loop: str
    phases: str
    stalled: int = 0
    tasks: str = "usual"


SCENES: Final = (
    Scene("asgi-keepalive", "uvloop", "together"),
    Scene("asgi-keepalive", "uvloop", "spread"),
    Scene("asgi-keepalive", "uvloop", "together", stalled=1),
    Scene("asgi-keepalive", "asyncio", "together"),
    Scene("asgi-keepalive", "asyncio", "together", stalled=1),
    # Not on uvloop: its release 0.23 passes `asyncio.eager_task_factory` an argument that
    # Python 3.13.0 does not accept.
    Scene("asgi-keepalive", "asyncio", "together", tasks="eager"),
    Scene("a task for each stream", "uvloop", "together"),
    Scene("one task for all", "uvloop", "together"),
)


def measure_one(scene: Scene, streams: int) -> dict[str, Any]:
    """Return what the server of one scene has noted."""
    python = interpreter(scene)
    version = subprocess.check_output([python, "-c", VERSION], text=True).strip()
    if scene.tasks == "eager" and tuple(map(int, version.split(".")[:2])) < (3, 12):
        return {**scene._asdict(), "left_out": f"needs Python 3.12, this is {version}"}
    interval = max(SHORTEST_S, streams / STREAMS_PER_SECOND)
    grid = (scene.phases, str(streams), str(interval))
    program = [python, str(HERE / "herd.py")]
    command = [*program, scene.name, scene.loop, scene.tasks, *grid]
    with serving(scene.name, command) as server, client_of(server) as ask:
        for _ in range(scene.stalled):
            ask("stall", path="/stalled")
        ask("open", path="/idle", streams=streams, over_s=0)
        server.fetch("/settle")
        ask("wait", pings=streams)
        server.fetch("/found")
        ask("wait", pings=ROUNDS * streams)
        found = server.fetch("/found")
    about = {"python": version, "streams": streams, "interval_s": interval}
    return {**scene._asdict(), **about, **found}


def interpreter(scene: Scene) -> str:
    """Return the Python that runs the server of a scene."""
    usual = sys.executable
    return os.environ.get("KEEPALIVE_EAGER_PYTHON", usual) if scene.tasks == "eager" else usual


def measure(effort: Effort) -> list[dict[str, Any]]:
    """Return what was noted in all scenes; times in milliseconds."""
    return [measure_one(scene, effort.herd) for scene in SCENES]


def tables(found: list[dict[str, Any]]) -> str:
    """Return a Markdown table of what was measured."""
    head = [
        "pings sent by",
        "loop",
        "Python",
        "due",
        "stalled clients",
        "longest turn, CPU ms",
    ]
    head += ["earliest ping, ms", "p50, ms", "p99, ms", "latest, ms"]
    measured = [each for each in found if "left_out" not in each]
    rows = [
        [each["name"], title_of(each), each["python"], each["phases"], str(each["stalled"])]
        + [f"{each['longest_turn']:.1f}"]
        + [f"{each[name]:.0f}" for name in ("earliest", "p50", "p99", "latest")]
        for each in measured
    ]
    first = measured[0]
    title = f"Pings of {first['streams']:,} streams, interval {first['interval_s']:g} s"
    left_out = [
        f"Left out: {each['name']}, {title_of(each)}: {each['left_out']}.\n"
        for each in found
        if "left_out" in each
    ]
    return "\n".join([table(title, head, rows), *left_out])


def title_of(each: dict[str, Any]) -> str:
    """Return the loop of a row, and its tasks if they are not the usual ones."""
    return each["loop"] + (", eager tasks" if each["tasks"] == "eager" else "")
