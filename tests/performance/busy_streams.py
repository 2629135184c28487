"""One busy stream on a real server: the CPU time that the server takes for an event.

All rows are measured in turn, in every round.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from processes import Ask, Server, client_of, serving
from rows import Commands, Row

INTERVAL_S: Final = 15
"""The usual interval: while a stream is busy, no ping falls due in most of them."""


def measure(
    rows: Sequence[Row], commands: Commands, turn: int, events: int, rounds: int
) -> list[dict[str, Any]]:
    """Return for each row what it took in every round; so many events are sent in a turn."""
    found: list[dict[str, Any]] = [
        {
            "name": row.name,
            "base": row.base,
            "events_per_turn": turn,
            "cpu_us_per_event": [],
        }
        for row in rows
    ]
    with ExitStack() as stack:
        pairs = [started(stack, row.contestant, commands) for row in rows]
        for pair in pairs:
            one(*pair, turn, events)  # not counted: it loads what is loaded once
        for _ in range(rounds):
            for result, pair in zip(found, pairs, strict=True):
                cpu_s = one(*pair, turn, events)
                result["cpu_us_per_event"].append(cpu_s / events * 1e6)
    return found


def started(stack: ExitStack, name: str, commands: Commands) -> tuple[Server, Ask]:
    """Return a contestant and its client; both run until the stack is left."""
    server = stack.enter_context(serving(name, commands[name](INTERVAL_S)))
    return server, stack.enter_context(client_of(server))


def one(server: Server, ask: Ask, turn: int, events: int) -> float:
    """Return the server's CPU seconds of one stream, read to its end."""
    began = server.cpu_s()
    come = ask("busy", path=f"/busy?n={events}&turn={turn}")
    cpu_s = server.cpu_s() - began
    if come["events"] != events:
        raise ValueError(f"{server.name}: {come['events']} of {events} events came")
    return cpu_s
