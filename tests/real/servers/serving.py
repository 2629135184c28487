"""Every server that streams are proved on, how each is started, and what it does by itself."""

import contextlib
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from real.processes import PATIENCE, wait_for
from real.servers import cases
from real.servers.cases import Case, Server, of
from real.servers.stream_clients import H1, H2, Reply, connected

APP: Final = "real.servers.stream_apps:app"

FLAVOURS: Final = [
    of("uvicorn", *cases.H11, needs=("h11",)),
    of("uvicorn", *cases.HTTPTOOLS, needs=("httptools",)),
    of("uvicorn", *cases.UVLOOP, needs=("httptools", "uvloop")),
    of("hypercorn"),
    of("hypercorn", http="2"),
    of("hypercorn", "-k", "uvloop", needs=("uvloop",)),
    of("hypercorn", "-k", "trio", needs=("trio",)),
    of("hypercorn", "-k", "trio", needs=("trio",), http="2"),
    of("granian"),
    of("granian", "--http", "2", http="2"),
    of("daphne"),
]


def title(flavour: Case) -> str:
    """Return the name of a row."""
    command = f"`{' '.join([flavour.server, *flavour.options])}`"
    return f"{command}, HTTP/2" if flavour.http == "2" else command


def command(flavour: Case, port: int) -> list[str]:
    """Return what serves the apps; with a trio worker, on trio."""
    words = [APP if word == cases.APP else word for word in cases.COMMANDS[flavour.server]]
    return [sys.executable, *(word.format(port=port) for word in words), *flavour.options]


def new_key() -> str:
    """Return what tells one case's streams from all others."""
    return uuid.uuid4().hex


class Serving:
    """A server with what its apps and its observer have noted."""

    def __init__(self, flavour: Case, server: Server) -> None:
        self.flavour = flavour
        self.http = flavour.http
        self.server = server
        self.port = server.port

    def connected(self) -> contextlib.AbstractContextManager[H1 | H2]:
        """Connect, and leave at the end."""
        return connected(self.http, self.port)

    @contextlib.contextmanager
    def asked(self, path: str) -> Iterator[Reply]:
        """Send a request over a connection of its own."""
        with self.connected() as connection:
            yield connection.request(path)

    def whole(self, path: str) -> bytes:
        """Return the whole body of a response."""
        with self.asked(path) as reply:
            return reply.rest()

    def open_gate(self, key: str) -> None:
        """Release those apps that wait for it."""
        assert self.whole(f"/plain/whole/{key}") == b"whole"

    def noted(self, what: str, path: str) -> list[dict[str, Any]]:
        """Return what was noted of a path, whatever the variant; or of all that begin so."""
        journal = self.server.journal(what)
        return [line for line in journal if line.get("path", "").startswith(path)]

    def wait_until_noted(self, what: str, path: str, times: int = 1) -> list[dict[str, Any]]:
        """Wait until something was noted so many times; return it."""
        wait_for(lambda: len(self.noted(what, path)) >= times, f"{what!r} of {path}")
        return self.noted(what, path)

    def reasons(self, path: str) -> list[str]:
        """Return why the streams of a path have ended, as far as they have."""
        return [fact["reason"] for fact in self.noted("ended", path)]

    def stop_gently(self) -> None:
        """Stop the server, and wait until it has ended."""
        self.server.signal(cases.TERM)
        assert self.server.gone_within(PATIENCE), "it waits for something"


@contextlib.contextmanager
def serving(flavour: Case, folder: Path) -> Iterator[Serving]:
    """Run a server, and leave nothing of it behind."""
    server = Server(
        flavour,
        folder,
        {"PYTHONWARNINGS": "default"},
        lambda port: command(flavour, port),
    )
    try:
        yield Serving(flavour, server)
    finally:
        server.stop()
