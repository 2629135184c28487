"""A server whose streams fall due when we say, and which notes when their pings really come.

It serves until it is killed.

    python herd.py NAME LOOP TASKS PHASES STREAMS INTERVAL

Tasks are `usual` or `eager`. Its streams are due once an interval: `together`, or `spread`
evenly over it. `/idle` is one of them, `/stalled` a stream that is sent more than its client
reads, so that its ping has to wait; `/settle` is asked once all are open, and `/found` tells
what was noted since it was asked last.
"""

import asyncio
import gc
import json
import socket
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from contestants import BACKLOG, serve_asgi
from raw_apps import PING, App, answer, idle, part, start_of, until_gone

from keepalive import KeepaliveMiddleware, Policy

FLOOD: Final = bytes(16 << 20)
"""More than the kernel and the server hold for a client that does not read."""


class Grid(NamedTuple):
    """When streams are due."""

    spread: bool
    streams: int
    interval: float
    start: float

    def due(self, number: int) -> float:
        """Return when a stream that opens now is due for the first time."""
        phase = self.interval * number / self.streams if self.spread else 0.0
        passed = time.monotonic() - self.start - phase
        return self.start + phase + (passed // self.interval + 1) * self.interval


class Notes:
    """How late pings were, and how much CPU time a turn of the loop took at most.

    It is the thread's CPU time: whatever else runs on the machine makes no turn longer.
    """

    def __init__(self) -> None:
        self.late_s: list[float] = []
        self.longest_s = 0.0
        self.turning = False

    def turn(self, before: float) -> None:
        """Come again in each turn of the loop."""
        now = time.thread_time()
        self.longest_s = max(self.longest_s, now - before)
        asyncio.get_running_loop().call_soon(self.turn, now)

    def report(self) -> dict[str, float]:
        """Return what was noted, in milliseconds, and begin anew."""
        ranked = sorted(self.late_s) or [0.0]
        at = {"earliest": 0.0, "p50": 0.5, "p99": 0.99, "latest": 1.0}
        found = {name: ranked[round(q * (len(ranked) - 1))] * 1e3 for name, q in at.items()}
        found |= {"pings": len(self.late_s), "longest_turn": self.longest_s * 1e3}
        self.late_s, self.longest_s = [], 0.0
        if not self.turning:
            self.turning = True
            self.turn(time.thread_time())
        return found


def ours(app: App, grid: Grid) -> App:
    """Return the app in our middleware."""

    def policy(scope: dict[str, Any]) -> Policy | None:
        first = max(0.0, scope["due"] - time.monotonic())
        return Policy(interval=grid.interval, first_ping=first, pacing="steady")

    return KeepaliveMiddleware(app, routes=policy)  # type: ignore[return-value, arg-type]


def a_task_each(app: App, grid: Grid) -> App:
    """Return the app in a middleware that has a task, and a lock, for each stream."""

    async def middleware(scope: dict[str, Any], receive: Any, send: Any) -> None:
        lock = asyncio.Lock()

        async def locked_send(message: dict[str, Any]) -> None:
            async with lock:
                await send(message)

        async def tick() -> None:
            due = scope["due"]
            while True:
                await asyncio.sleep(due - time.monotonic())
                await locked_send(part(PING))
                due += grid.interval

        task = asyncio.create_task(tick())
        try:
            await app(scope, receive, locked_send)
        finally:
            task.cancel()

    return middleware


def one_task(app: App, grid: Grid) -> App:
    """Return the app in a middleware that has one task, which sends to one after the other."""
    sends: dict[Any, None] = {}
    tasks: list[asyncio.Task[None]] = []

    async def send_all(due: float) -> None:
        while True:
            await asyncio.sleep(due - time.monotonic())
            for send in list(sends):
                await send(part(PING))
            due += grid.interval

    async def middleware(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if not tasks:
            tasks.append(asyncio.create_task(send_all(scope["due"])))
        sends[send] = None
        await app(scope, receive, send)
        del sends[send]

    return middleware


CONTESTANTS: Final[dict[str, Callable[[App, Grid], App]]] = {
    "asgi-keepalive": ours,
    "a task for each stream": a_task_each,
    "one task for all": one_task,
}


async def stalled(_: dict[str, Any], receive: Any, send: Any) -> None:
    """Send more than the client reads; what is sent next has to wait."""
    await send(start_of(b"text/event-stream"))
    await send(part(b": " + FLOOD + b"\n\n"))
    await until_gone(receive)


def application(wrap: Callable[[App, Grid], App], grid: Grid) -> App:
    """Return the whole app: its streams are kept alive, and their pings are timed."""
    notes, numbers = Notes(), iter(range(sys.maxsize))
    kept = {"/idle": wrap(idle, grid), "/stalled": wrap(stalled, grid)}

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == "/settle":
            gc.collect()
            gc.enable()
            await answer(send, b"application/json", b"{}")
            return
        if scope["path"] == "/found":
            await answer(send, b"application/json", json.dumps(notes.report()).encode())
            return
        due = scope["due"] = grid.due(next(numbers) % grid.streams)

        async def timed_send(message: dict[str, Any]) -> None:
            nonlocal due
            if message.get("body") == PING:
                notes.late_s.append(time.monotonic() - due)
                due += grid.interval
            await send(message)

        timed = timed_send if scope["path"] == "/idle" else send
        await kept[scope["path"]](scope, receive, timed)

    return app


def main(name: str, loop: str, tasks: str, phases: str, streams: str, interval: str) -> None:
    """Serve."""
    grid = Grid(phases == "spread", int(streams), float(interval), time.monotonic())
    gc.disable()  # until all are open: a long pause in between would move a stream's times
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as sock:
        app = application(CONTESTANTS[name], grid)
        serve_asgi(app, sock, loop, eager=tasks == "eager")


if __name__ == "__main__":
    main(*sys.argv[1:])
