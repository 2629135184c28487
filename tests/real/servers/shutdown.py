"""Stops a server that has open streams, and tells what became of it and of them."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from real.processes import wait_for
from real.servers.cases import Case, Server
from real.servers.shutdown_clients import OPEN, Reader

KINDS: Final = ("finishing", "feed", "blocked")
COPIES: Final = 2
"""Streams of each kind."""

TOO_LONG: Final = 8.0
"""Seconds that a server is given to go; then it is killed. More than any of its own limits."""

FAREWELL: Final = b"event: stopping\ndata: \n\n"
GOODBYE: Final = b"data: goodbye\n\n"

Result = dict[str, Any]
Act = Callable[[Server], float]
"""Stops a server; returns the time at which that began."""


def soon(condition: Callable[[], bool]) -> bool:
    """Wait a little for something; return whether it came."""
    try:
        wait_for(condition, "it", 2.0)
    except AssertionError:
        return False
    return True


@contextmanager
def running(case: Case, folder: Path, **environ: str) -> Iterator[Server]:
    """Run a server, and leave nothing of it behind."""
    server = Server(case, folder, environ)
    try:
        yield server
    finally:
        server.stop()


def opened(server: Server, case: Case, kinds: tuple[str, ...]) -> list[Reader]:
    """Open streams, all at the same time, until each has begun."""
    paths = [f"/{kind}/{number}" for kind in kinds for number in range(COPIES)]
    readers = [Reader(server.port, path, h2=case.http == "2") for path in paths]
    try:
        for reader in readers:
            reader.wait_until_begun()
    except BaseException:
        server.stop()
        raise
    return readers


def signalled(case: Case) -> Act:
    """Return what sends a case's signals, the second when the server is shutting down."""

    def act(server: Server) -> float:
        began = time.monotonic()
        for number, one in enumerate(case.signals):
            if number:  # only uvicorn is sent a second one
                wait_for(lambda: "Shutting down" in server.log, "the shutdown to begin")
            server.signal(one)
        return began

    return act


def reloaded(server: Server) -> float:
    """Change a file that is watched; when the worker is a new one, send SIGTERM."""
    while True:  # it may not be watched yet
        began = time.monotonic()
        (server.folder / "watched.py").write_text(f"changed = {began}\n")
        if soon(lambda: "Reloading" in server.log):
            break
    wait_for(lambda: len(server.journal("lifespan.startup")) == 2, "the new worker")
    server.signal(signal.SIGTERM)
    return began


def measure(
    case: Case,
    folder: Path,
    *,
    act: Act | None = None,
    kinds: tuple[str, ...] = KINDS,
    too_long: float = TOO_LONG,
    **environ: str,
) -> Result:
    """Open streams, stop the server, and return what became of both."""
    with running(case, folder, **environ) as server:
        readers = opened(server, case, kinds)
        began = (act or signalled(case))(server)
        gone = server.gone_within(too_long)
        open_till_killed = [] if gone else [one for one in readers if one.end == OPEN]
        alone = gone and soon(server.is_alone)
        server.stop()
        for reader in readers:
            reader.join()
        for reader in open_till_killed:
            reader.end = OPEN
        return {
            "gone": round(server.gone_at - server.signalled_at, 2) if gone else None,
            "status": server.process.returncode if gone else None,
            "alone": alone,
            "lifespan_shutdown": bool(server.journal("lifespan.shutdown")),
            "streams": [stream_result(server, one, began) for one in readers],
        }


def stream_result(server: Server, reader: Reader, began: float) -> Result:
    """Return what became of a stream."""
    begun = server.journal("finally began", reader.path)
    return {
        "kind": reader.path.split("/")[1],
        "end": reader.end,
        "farewell": reader.body.endswith(FAREWELL),
        "own_end": reader.body.endswith(GOODBYE),
        "after": None if reader.end == OPEN else round(reader.ended_at - began, 2),
        "met": begun[0]["met"] if begun else None,
        "finally": bool(server.journal("finally ran", reader.path)),
    }
