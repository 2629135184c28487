"""How cost grows with the number of streams: in-process, in a process of its own for each.

No server and no socket is involved.

`python scale.py WRAPPER LOOP STREAMS` prints what one process found, as JSON.
"""

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cost import EVENT, App, ForwardOnly, run_on, scope_of_server, unwrapped
from counting import allocated
from effort import Effort
from tables import table

from keepalive import KeepaliveMiddleware

HEADERS = [(b"content-type", b"text/event-stream")]
ROUNDS = 3
"""Pings that each stream gets while they are timed."""

WRAPPERS: dict[str, Callable[[App, float], App]] = {
    "unwrapped": lambda app, interval: unwrapped(app),
    "forward only": lambda app, interval: ForwardOnly(app),
    "asgi-keepalive": KeepaliveMiddleware,
}


async def idle(scope, receive, send):
    """Send one event, then listen until the client leaves."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": EVENT, "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


class Crowd:
    """So many clients of one app."""

    def __init__(self, app: App, streams: int) -> None:
        self.app, self.streams = app, streams
        self.leave = asyncio.Event()
        self.pings = 0

    async def send(self, message: dict[str, Any]) -> None:
        """Be a server's `send`; count the pings."""
        if message.get("body") == b"event: ping\ndata: \n\n":
            self.pings += 1

    async def one(self) -> None:
        """Be one client."""
        asked = False

        async def receive():
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.leave.wait()
            return {"type": "http.disconnect"}

        await self.app(scope_of_server(), receive, self.send)

    async def open(self) -> list[asyncio.Task[None]]:
        """Open all streams."""
        tasks = [asyncio.create_task(self.one()) for _ in range(self.streams)]
        for _ in range(3):
            await asyncio.sleep(0)
        return tasks

    async def close(self, tasks: list[asyncio.Task[None]]) -> None:
        """Close all streams."""
        self.leave.set()
        await asyncio.gather(*tasks)


async def memory(wrap: Callable[[App, float], App], streams: int) -> dict[str, float]:
    """Return the bytes that are allocated for each open stream."""
    crowd = Crowd(wrap(idle, 1000.0), streams)
    warm = Crowd(crowd.app, 100)
    await warm.close(await warm.open())
    size, tasks = await allocated(crowd.open)
    await crowd.close(tasks)
    return {"bytes": size / streams}


async def times(wrap: Callable[[App, float], App], streams: int) -> dict[str, float]:
    """Return the CPU microseconds that opening, a ping and closing take for each stream."""
    interval = max(0.5, streams * 40e-6)
    crowd = Crowd(wrap(idle, interval), streams)
    warm = Crowd(crowd.app, 10)  # what is loaded once, is loaded
    await warm.close(await warm.open())
    gc.collect()
    began = time.process_time()
    tasks = await crowd.open()
    opened = time.process_time()
    while crowd.pings < ROUNDS * streams and wrap is KeepaliveMiddleware:
        await asyncio.sleep(interval / 10)
    pinged = time.process_time()
    pings = crowd.pings
    closing = time.process_time()
    await crowd.close(tasks)
    closed = time.process_time()
    found = {"open_us": opened - began, "close_us": closed - closing}
    if pings:
        found["ping_us"] = (pinged - opened) * streams / pings
    return {name: took / streams * 1e6 for name, took in found.items()}


LOOPS = ("asyncio", "uvloop")


def measure(effort: Effort) -> list[dict[str, Any]]:
    """Return what each wrapper takes, on each loop, with each number of streams."""
    return [
        in_a_process(name, loop, streams)
        for loop in LOOPS
        for streams in effort.scale
        for name in WRAPPERS
    ]


def in_a_process(name: str, loop: str, streams: int) -> dict[str, Any]:
    """Return what one wrapper takes; nothing of another's is in its memory."""
    command = [sys.executable, str(Path(__file__)), name, loop, str(streams)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {"name": name, "loop": loop, "streams": streams, **json.loads(output)}


def tables(found: list[dict[str, Any]]) -> str:
    """Return a Markdown table; what is added to the unwrapped app."""
    bases = {(each["loop"], each["streams"]): each for each in found[:: len(WRAPPERS)]}
    rows = []
    for each in found:
        base = bases[each["loop"], each["streams"]]
        if each is base:
            continue
        line = [each["name"], each["loop"], f"{each['streams']:,}"]
        line += [f"{(each['bytes'] - base['bytes']) / 1024:.2f}"]
        line += [f"{each[name] - base[name]:.1f}" for name in ("open_us", "close_us")]
        rows.append([*line, f"{each['ping_us']:.1f}" if "ping_us" in each else ""])
    head = ["setup", "loop", "streams", "added memory, KiB", "open, μs", "close, μs"]
    return table("Scale, in-process, per stream", [*head, "ping including send, μs"], rows)


def main(name: str, loop: str, streams: str) -> None:
    """Measure, and print what was found."""
    wrap, count = WRAPPERS[name], int(streams)
    found = run_on(loop, times, wrap, count) | run_on(loop, memory, wrap, count)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
