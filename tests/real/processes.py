"""Programs that serve on a port of this machine: started, awaited, ended by their ids."""

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import keepalive

TESTS: Final = Path(__file__).resolve().parent.parent
EXAMPLES: Final = TESTS.parent / "docs" / "examples"
PACKAGE: Final = Path(keepalive.__file__).parents[1]
PATH: Final = os.pathsep.join(map(str, (TESTS, PACKAGE, EXAMPLES)))
PATIENCE: Final = 60.0
"""Seconds until a wait fails: a busy machine may take long to start a server."""


def wait_for(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def ports_of_worker(worker: int, workers: int) -> range:
    """Return the ports of one of pytest-xdist's workers, below those the kernel chooses."""
    size = 20_000 // workers
    return range(12_000 + worker * size, 12_000 + (worker + 1) * size)


def own_ports() -> range:
    """Return the ports of this process: all, unless it is one of several workers."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    return ports_of_worker(int(worker), int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


class Ports:
    """Ports that nobody uses, none of them twice.

    Args:
        ports: Those to choose from.
    """

    def __init__(self, ports: range) -> None:
        self._lock = threading.Lock()
        self._ports = ports
        self._given: set[int] = set()

    def take(self) -> int:
        """Return a free port."""
        with self._lock:
            while True:
                port = random.choice(self._ports)
                if port not in self._given and self._is_free(port):
                    self._given.add(port)
                    return port

    @staticmethod
    def _is_free(port: int) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            return probe.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def inherited() -> dict[str, str]:
    """Return the environment. Processes are started in threads, while pytest changes it."""
    values = ((name, os.environ.get(name)) for name in list(os.environ))
    return {name: value for name, value in values if value is not None}


class Process:
    """A program in a process group of its own, that accepts connections when this is made.

    Args:
        name: What it is, for messages.
        command: What is run, given the port.
        folder: Where it runs, and for its log; made.
        environ: Variables of its own.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[int], list[str]],
        folder: Path,
        environ: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.port = PORTS.take()
        self._log = folder / "server.log"
        own = {"PYTHONPATH": PATH, "PYTHONUNBUFFERED": "1"}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command(self.port),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=inherited() | own | (environ or {}),
                start_new_session=True,
            )
        self.gone_at: float | None = None
        self._reaper = threading.Thread(target=self._reap, daemon=True)
        self._reaper.start()
        try:
            wait_for(self._answers, f"{name}, see {self._log}")
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

    def url(self, path: str) -> str:
        """Return the address of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

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


@contextmanager
def running(
    name: str,
    command: Callable[[int], list[str]],
    folder: Path,
    environ: dict[str, str] | None = None,
) -> Iterator[Process]:
    """Run a program, and leave nothing of it behind."""
    process = Process(name, command, folder, environ)
    try:
        yield process
    finally:
        process.stop()


PORTS: Final = Ports(own_ports())
