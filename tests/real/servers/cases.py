"""Real servers, to be stopped: which there are, how each is started, asked and signalled."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from real import parts
from real.processes import Process

APP: Final = "real.servers.shutdown_app:app"

_HYPERCORN: Final = (
    "import hypercorn_server as own, real.servers.shutdown_app as it; own.run(it.app,"
)
_DAPHNE: Final = (
    "import daphne_server as own, real.servers.shutdown_app as it; own.run(it.app,"
)
COMMANDS: Final = {
    "uvicorn": ["-m", "uvicorn", APP, "--host", "127.0.0.1", "--port", "{port}"],
    "hypercorn": ["-m", "hypercorn", APP, "--bind", "127.0.0.1:{port}"],
    "hypercorn, custom program": ["-c", _HYPERCORN + " '{loop}', '127.0.0.1:{port}')"],
    "granian": ["-m", "granian", APP, "--interface", "asgi", "--port", "{port}"],
    "daphne": ["-m", "daphne", APP, "-b", "127.0.0.1", "-p", "{port}"],
    "daphne, custom program": ["-c", _DAPHNE + " '{port}', it.DRAIN)"],
    "gunicorn": ["-m", "gunicorn", APP, "-b", "127.0.0.1:{port}"],
}
"""What follows `python` on a command line, before a case's own options."""


@dataclass(frozen=True)
class Case:
    """One way to serve, and how it is stopped.

    Attributes:
        server: Its name among the commands.
        options: Of its command line.
        needs: The distributions that it takes, besides the server's own.
        loop: The event loop, where the program and not an option chooses it.
        http: `"1.1"` or `"2"`, the client's protocol.
        signals: What it is sent; the second once it has begun to shut down.
        works: Whether the streams are expected to end well.
        loses_end: Whether the server may close the connection with the stream's last bytes
            sent, but not its END_STREAM; without the middleware too.
        status: The exit status expected; negative: the signal that killed it.
        lifespan: Whether `lifespan.shutdown` is expected.
        waits: Whether it waits until all connections are closed, however long that takes.
    """

    server: str
    options: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    loop: str = ""
    http: str = "1.1"
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    works: bool = True
    loses_end: bool = False
    status: int = 0
    lifespan: bool = True
    waits: bool = False

    @property
    def name(self) -> str:
        """One line for people."""
        parts = [self.server, self.loop, *self.options, "h2" if self.http == "2" else ""]
        parts += [" then ".join(one.name for one in self.signals)]
        return " ".join(filter(None, parts))

    @property
    def distributions(self) -> list[str]:
        """All that has to be installed."""
        return [self.server.partition(",")[0], *self.needs]

    def missing(self) -> list[str]:
        """What is not installed."""
        return parts.missing(*self.distributions)

    def command(self, port: int) -> list[str]:
        """Return the command that serves the app."""
        words = [part.format(port=port, loop=self.loop) for part in COMMANDS[self.server]]
        return [sys.executable, *words, *self.options]


def of(server: str, *options: str, **facts: Any) -> Case:
    """Write a case down shortly."""
    return Case(server, options, **facts)


TERM, INT = signal.SIGTERM, signal.SIGINT
H11 = ("--http", "h11", "--loop", "asyncio")
HTTPTOOLS = ("--http", "httptools", "--loop", "asyncio")
UVLOOP = ("--http", "httptools", "--loop", "uvloop")
GRACEFUL = ("--timeout-graceful-shutdown", "5")
TRIO_ALONE = ("-k", "trio", "-w", "0")
WORKER = ("-k", "uvicorn_worker.UvicornWorker")
WAITS: Final = sys.version_info >= (3, 12)
"""Whether asyncio's `Server.wait_closed` waits for open connections; uvloop's never does."""

CASES: Final = [
    of("uvicorn", *H11, needs=("h11",), status=-TERM),
    of("uvicorn", *HTTPTOOLS, needs=("httptools",), status=-TERM),
    of("uvicorn", *UVLOOP, needs=("httptools", "uvloop"), status=-TERM),
    of("uvicorn", *H11, *GRACEFUL, needs=("h11",), status=-TERM),
    of("uvicorn", *UVLOOP, *GRACEFUL, needs=("httptools", "uvloop"), status=-TERM),
    of("uvicorn", *H11, needs=("h11",), signals=(INT,)),
    of("uvicorn", "--workers", "2"),
    of("uvicorn", "--workers", "2", signals=(INT,)),
    of("gunicorn", *WORKER, needs=("uvicorn-worker",)),
    of("granian"),
    of("granian", signals=(INT,)),
    of("granian", "--workers-kill-timeout", "5"),
    of("granian", "--http", "2", http="2"),
    of("hypercorn", "-w", "0"),
    of("hypercorn", "-w", "0", http="2"),
    of("hypercorn", "-k", "uvloop", "-w", "0", needs=("uvloop",)),
    of("hypercorn, custom program", loop="asyncio"),
    of("hypercorn, custom program", loop="asyncio", http="2"),
    of("hypercorn, custom program", loop="trio", needs=("trio",)),
    of("hypercorn, custom program", loop="trio", needs=("trio",), http="2", loses_end=True),
    of("daphne, custom program", lifespan=False),
    of("hypercorn", works=False, waits=WAITS),
    of("hypercorn", http="2", works=False, waits=WAITS),
    of("hypercorn", "-k", "uvloop", needs=("uvloop",), works=False),
    of("hypercorn", "-k", "trio", needs=("trio",), works=False),
    of("hypercorn", *TRIO_ALONE, needs=("trio",), works=False, status=-TERM, lifespan=False),
    of("daphne", works=False, lifespan=False),
]
_TWICE: Final = {"signals": (INT, INT), "lifespan": False}
TWICE: Final = [
    of("uvicorn", *H11, needs=("h11",), waits=WAITS, **_TWICE),
    of("uvicorn", *UVLOOP, needs=("httptools", "uvloop"), **_TWICE),
]
"""Ctrl-C, and again: uvicorn then exits by force."""

RELOAD: Final = of("uvicorn", "--reload")
"""It watches its folder; `watched.py` is there to be changed."""

EVERY: Final = [*CASES, *TWICE, RELOAD]

BY_PYTHON: Final = [
    case
    for case in [*CASES, *TWICE]
    if case in TWICE or (case.server == "hypercorn" and "trio" not in case.options)
]
"""Those that are measured on each release of Python, since `WAITS` matters to some of them."""


class Server(Process):
    """A server with the app's journal.

    Args:
        case: Which, and how.
        folder: For its log and its journal; made.
        environ: Variables of its own.
        command: What is run, given the port; the case's own, unless given.
    """

    def __init__(
        self,
        case: Case,
        folder: Path,
        environ: dict[str, str] | None = None,
        command: Callable[[int], list[str]] | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        (folder / "watched.py").touch()
        self._journal = folder / "journal.jsonl"
        self.signalled_at: float | None = None
        journal = {"JOURNAL": str(self._journal)}
        super().__init__(case.name, command or case.command, folder, journal | (environ or {}))

    def journal(self, what: str = "", path: str | None = None) -> list[dict[str, Any]]:
        """Return what the app has written down; of one kind, of one path."""
        text = self._journal.read_text() if self._journal.exists() else ""
        lines = text.rpartition("\n")[0].splitlines()  # the last one may not be complete yet
        return [
            line
            for line in map(json.loads, lines)
            if what in ("", line["what"]) and path in (None, line.get("path"))
        ]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process; SIGINT to all, as a terminal does."""
        self.signalled_at = self.signalled_at or time.monotonic()
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
