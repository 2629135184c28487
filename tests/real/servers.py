"""Real servers, to be stopped: how each is started, asked, signalled and reaped.

Law: processes, sockets and conditions. Knows neither the app nor the middleware.
"""

import contextlib
import errno
import importlib.metadata
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import keepalive

TESTS: Final = Path(__file__).resolve().parent.parent
EXAMPLES: Final = TESTS.parent / "docs" / "examples"
PACKAGE: Final = Path(keepalive.__file__).parents[1]
PATH: Final = os.pathsep.join(map(str, (TESTS, PACKAGE, EXAMPLES)))
APP: Final = "real.ending_app:app"
PATIENCE: Final = 20.0

_HYPERCORN: Final = "import hypercorn_server as own, real.ending_app as it; own.run(it.app,"
_DAPHNE: Final = "import daphne_server as own, real.ending_app as it; own.run(it.app,"
COMMANDS: Final = {
    "uvicorn": ["-m", "uvicorn", APP, "--host", "127.0.0.1", "--port", "{port}"],
    "hypercorn": ["-m", "hypercorn", APP, "--bind", "127.0.0.1:{port}"],
    "hypercorn, own program": ["-c", _HYPERCORN + " '{loop}', '127.0.0.1:{port}')"],
    "granian": ["-m", "granian", APP, "--interface", "asgi", "--port", "{port}"],
    "daphne": ["-m", "daphne", APP, "-b", "127.0.0.1", "-p", "{port}"],
    "daphne, own program": ["-c", _DAPHNE + " '{port}', it.DRAIN)"],
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
        signals: What it is sent; the second once the app has heard of the first.
        works: Whether the streams are expected to end well.
        loses_end: Whether the server may close the connection with the stream's last bytes
            sent, but not its END_STREAM; without the middleware too.
        status: The exit status expected; negative: the signal that killed it.
        lifespan: Whether `lifespan.shutdown` is expected.
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
        return [name for name in self.distributions if version(name) is None]

    def command(self, port: int) -> list[str]:
        """Return the command that serves the app."""
        words = [part.format(port=port, loop=self.loop) for part in COMMANDS[self.server]]
        return [sys.executable, *words, *self.options]


def version(distribution: str) -> str | None:
    """Return what is installed; `None` for nothing."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


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
    of("hypercorn, own program", loop="asyncio"),
    of("hypercorn, own program", loop="asyncio", http="2"),
    of("hypercorn, own program", loop="trio", needs=("trio",)),
    of("hypercorn, own program", loop="trio", needs=("trio",), http="2", loses_end=True),
    of("daphne, own program", lifespan=False),
    of("hypercorn", works=False),
    of("hypercorn", http="2", works=False),
    of("hypercorn", "-k", "trio", needs=("trio",), works=False),
    of("hypercorn", *TRIO_ALONE, needs=("trio",), works=False, status=-TERM, lifespan=False),
    of("daphne", works=False, lifespan=False),
]
TWICE: Final = replace(CASES[5], signals=(INT, INT), lifespan=False)
"""Ctrl-C, and again: uvicorn then exits by force."""

RELOAD: Final = of("uvicorn", "--reload")
"""It watches its folder; `watched.py` is there to be changed."""

EVERY: Final = [*CASES, TWICE, RELOAD]


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


class Ports:
    """Ports that nobody has, below those the kernel gives to clients; none twice."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given: set[int] = set()

    def take(self) -> int:
        """Return a free port."""
        with self._lock:
            while True:
                port = random.randrange(12_000, 32_000)
                if port not in self._given and self._is_free(port):
                    self._given.add(port)
                    return port

    @staticmethod
    def _is_free(port: int) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


class Server:
    """A server in a process group of its own, with the app's journal.

    Args:
        case: Which, and how.
        folder: For its log and its journal; made.
        environ: Variables of its own.
        command: What is run, given the port; the case's own, unless told otherwise.
    """

    def __init__(
        self,
        case: Case,
        folder: Path,
        environ: dict[str, str] | None = None,
        command: Callable[[int], list[str]] | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "watched.py").touch()
        self.port = PORTS.take()
        self._log, self._journal = folder / "server.log", folder / "journal.jsonl"
        own = {"JOURNAL": str(self._journal), "PYTHONPATH": PATH, "PYTHONUNBUFFERED": "1"}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                (command or case.command)(self.port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=os.environ | own | (environ or {}),
                start_new_session=True,
            )
        self.told_at: float | None = None
        self.gone_at: float | None = None
        self._reaper = threading.Thread(target=self._reap)
        self._reaper.start()
        try:
            wait_for(self._answers, f"{case.name}, see {self._log}")
        except BaseException:
            self.stop()
            raise

    def _reap(self) -> None:
        self.process.wait()
        self.gone_at = time.monotonic()

    def _answers(self) -> bool:
        assert self.gone_at is None, f"the server has gone: {self.log}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def log(self) -> str:
        """What it has printed."""
        return self._log.read_text(errors="replace")

    def journal(self, what: str = "", path: str | None = None) -> list[dict[str, Any]]:
        """Return what the app has written down; of one kind, of one path."""
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        return [
            line
            for line in map(json.loads, lines)
            if what in ("", line["what"]) and path in (None, line.get("path"))
        ]

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the main process; SIGINT to all, as a terminal does."""
        self.told_at = self.told_at or time.monotonic()
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def gone_within(self, seconds: float) -> bool:
        """Wait for the main process to go; false if it does not."""
        self._reaper.join(seconds)
        return not self._reaper.is_alive()

    def is_alone(self) -> bool:
        """Whether the main process had the group to itself, when it has gone."""
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return True
        return False

    def stop(self) -> None:
        """Leave no process behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self._reaper.join()


PORTS: Final = Ports()
