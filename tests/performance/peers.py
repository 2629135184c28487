"""What an event costs in-process in frameworks: without pings, with their own, and with ours.

It calls the frameworks' apps directly and measures the CPU time of the process.

The peers are no middlewares: they render the event as well, which a stream of ready-made bytes
does not, and they add nothing to a response that is no stream. aiohttp-sse is no ASGI app and
Hono no Python: both are measured on their servers alone.
"""

import asyncio
import time
from typing import Any, Final

import contestants
from cost import run_on, scope_of_server, send
from effort import Effort
from tables import table

INTERVAL_S: Final = 3600.0
EVENTS_PER_TURN: Final = 64

BASES: Final = {
    "Starlette": "Starlette",
    "Starlette + asgi-keepalive": "Starlette",
    "sse-starlette": "Starlette",
    "FastAPI": "FastAPI",
    "FastAPI native SSE": "FastAPI",
}
"""The apps, as `contestants` names them, and the app of the same framework without pings."""
LOOPS: Final = ("asyncio", "uvloop")


async def timed(app: Any, events: int) -> float:
    """Return the CPU seconds that one stream of so many events took."""
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.get_running_loop().create_future()  # the client does not leave
        asked = True
        return {"type": "http.request", "body": b"", "more_body": False}

    query = f"n={events}&turn={EVENTS_PER_TURN}".encode()
    scope = {**scope_of_server(), "path": "/busy", "query_string": query}
    began = time.process_time()
    await app(scope, receive, send)
    return time.process_time() - began


def measure(effort: Effort) -> dict[str, dict[str, float]]:
    """Return the CPU microseconds of an event by loop and app; the best of all rounds."""
    apps = {name: contestants.ASGI[name](INTERVAL_S) for name in BASES}
    events = effort.events // 4
    found: dict[str, dict[str, float]] = {}
    for loop in LOOPS:
        best = found[loop] = dict.fromkeys(apps, float("inf"))
        for _ in range(effort.rounds):
            for name, app in apps.items():
                took = run_on(loop, timed, app, events) / events * 1e6
                best[name] = min(best[name], took)
    return found


def tables(found: dict[str, dict[str, float]]) -> str:
    """Return the Markdown table of what was measured."""
    rows = []
    for loop, best in found.items():
        for name, took in best.items():
            base = BASES[name]
            over = "" if name == base else f"{took - best[base]:+.2f}"
            rows.append([name, loop, f"{took:.2f}", over])
    head = ["setup", "loop", "μs per event", "over the baseline"]
    return table("An event in frameworks, in-process, CPU time", head, rows)
