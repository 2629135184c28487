"""The pages of `docs/how-to`: the programs that they have, saved and served as they say.

What a page waits for would take its time, so that a test changes the lengths of silences, and
nothing else.
"""

import re
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Final

import httpx
from real import parts
from real.processes import PATIENCE, Process, running

FOLDER: Final = Path(__file__).resolve().parents[3] / "docs" / "how-to"
QUICKLY: Final = {"interval=5.0": "interval=0.2"}
"""What most pages' programs need, so that a test need not wait long for a ping."""

PORT: Final = {
    "uvicorn": ("--port", "{port}"),
    "gunicorn": ("--bind", "127.0.0.1:{port}"),
    "granian": ("--port", "{port}"),
    "hypercorn": ("--bind", "127.0.0.1:{port}"),
}
"""The arguments that set a server's port; they all listen on this machine alone by default."""

_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NEEDS = re.compile(r"^<!-- needs: ([^>]+) -->$", re.MULTILINE)
_PATH = re.compile(r"http://127\.0\.0\.1:8000(/[\w/]*)")


class HowTo:
    """A page."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")

    def need(self) -> None:
        """Skip where what it needs is not here."""
        for names in _NEEDS.findall(self.text):
            parts.need(*re.split(r",\s*", names))

    def program(self, changes: Mapping[str, str]) -> str:
        """Return its Python as one file, with other silences."""
        text = "\n".join(_PYTHON.findall(self.text))
        for before, after in changes.items():
            assert before in text, f"{self.name} has no {before!r} to change"
            text = text.replace(before, after)
        return text

    @property
    def commands(self) -> list[list[str]]:
        """The lines of its shell blocks, in words, without comments."""
        joined = "".join(_SHELL.findall(self.text)).replace("\\\n", " ")
        return [shlex.split(line, comments=True) for line in joined.splitlines()]

    @property
    def paths(self) -> list[str]:
        """The paths that curl is to ask for."""
        return [path for words in self.commands for path in _PATH.findall(" ".join(words))]

    @property
    def server(self) -> list[str]:
        """The command that serves it."""
        (command,) = [words for words in self.commands if words[0] in PORT]
        return command

    def saved(self, folder: Path, name: str, changes: Mapping[str, str]) -> None:
        """Save its Python as the page says."""
        assert f"`{name}`" in self.text
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(self.program(changes), encoding="utf-8")

    def running(
        self, folder: Path, changes: Mapping[str, str] = QUICKLY, command: str = ""
    ) -> AbstractContextManager[Process]:
        """Save its program, and serve it.

        Args:
            folder: Where.
            changes: Of its text.
            command: One of its commands, where it has several.
        """
        self.saved(folder, "main.py", changes)
        words = shlex.split(command) or self.server
        return running(" ".join(words), on_port(words), folder)


def on_port(words: list[str]) -> Callable[[int], list[str]]:
    """Return what runs a server's command, given the port."""

    def command(port: int) -> list[str]:
        port_arguments = [word.format(port=port) for word in PORT[words[0]]]
        return [sys.executable, "-m", *words, *port_arguments]

    return command


class Listener:
    """A client that reads a stream for as long as it likes."""

    def __init__(
        self, process: Process, path: str, method: str = "GET", **options: object
    ) -> None:
        self._client = httpx.Client(timeout=PATIENCE)
        request = self._client.build_request(method, process.url(path), **options)
        self.response = self._client.send(request, stream=True)
        self._parts = self.response.iter_raw()
        self.body = b""

    def read_until(self, enough: Callable[[bytes], object]) -> bytes:
        """Read until the body is as it should be; return it."""
        deadline = time.monotonic() + PATIENCE
        while not enough(self.body):
            assert time.monotonic() < deadline, f"it is {self.body!r}"
            self.body += next(self._parts)
        return self.body

    def read(self) -> bytes:
        """Read to the end, which must be a proper one; return the body."""
        for part in self._parts:
            self.body += part
        return self.body

    def close(self) -> None:
        """Leave."""
        self._client.close()


def listening(
    process: Process, path: str, method: str = "GET", **options: object
) -> AbstractContextManager[Listener]:
    """Ask for a stream, and leave at the end."""
    return closing(Listener(process, path, method, **options))
