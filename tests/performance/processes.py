"""Servers and clients in processes of their own.

Each is ended by its own id.
"""

import json
import select
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

HERE: Final = Path(__file__).parent
PATIENCE_S: Final = 120.0
"""How long an answer may take before it is an error."""

Ask: TypeAlias = Callable[..., dict[str, Any]]


class Server(NamedTuple):
    """A contestant that accepts connections."""

    name: str
    port: int

    def fetch(self, path: str) -> dict[str, float]:
        """Return the JSON that a path answers with."""
        url = f"http://127.0.0.1:{self.port}{path}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
            return json.load(response)

    def cpu_s(self) -> float:
        """Return the CPU seconds that the process has used."""
        return self.fetch("/cpu")["cpu_s"]


@contextmanager
def running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a program that is talked to in lines, and end it."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str], who: str) -> str:
    """Return the next line that a program prints."""
    assert process.stdout is not None
    if not select.select([process.stdout], [], [], PATIENCE_S)[0]:
        raise TimeoutError(f"{who}: no answer in {PATIENCE_S} s")
    line = process.stdout.readline()
    if not line:
        raise ConnectionError(f"{who}: ended, with exit status {process.wait()}")
    return line


def command_of(name: str, interval: float) -> list[str]:
    """Return the command that serves a contestant written in Python."""
    return [sys.executable, str(HERE / "contestants.py"), name, "0", str(interval)]


@contextmanager
def serving(name: str, command: Sequence[str]) -> Iterator[Server]:
    """Run a contestant from the moment on at which it accepts connections."""
    with running(command) as process:
        yield Server(name, int(line_of(process, name)))


@contextmanager
def client_of(server: Server) -> Iterator[Ask]:
    """Run a client of a server; what is yielded gives it an order and returns the answer."""
    with running([sys.executable, str(HERE / "load.py"), str(server.port)]) as process:

        def ask(do: str, **order: Any) -> dict[str, Any]:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            process.stdin.flush()
            answer = json.loads(line_of(process, f"client of {server.name}, {do}"))
            if "error" in answer:
                raise RuntimeError(f"client of {server.name}, {do}: {answer['error']}")
            return answer

        yield ask
