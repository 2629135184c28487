"""What clients make of streams: many readings in a few processes.

The clients of a family are read in one process, since importing an SDK takes longer than all
that is read with it.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from real import parts
from real.clients.pings import INVISIBLE, LISTENED_FOR, PINGS, TITLES, VISIBLE, outcome
from real.processes import PATH, TESTS, Process, running

PATIENCE: Final = 120.0
"""Seconds that the clients of a family may take. They spend most of it on importing SDKs."""
CONCURRENT_FAMILIES: Final = 4
"""Families that read at the same time. More would slow each other down, on two processors."""
TIMEOUT: Final = 600
"""Seconds for a test, which may have to wait for all families."""
UNSET: Final = {"unset": "default ping", "excluded": "route excluded"}
"""Columns, by delivery."""

CUT: Final = "✗ times out"
GOES_ON: Final = "✓ continues"


@dataclass(frozen=True)
class Family:
    """Clients that are read in one process.

    Attributes:
        name: Of the module with its readers.
        command: What reads with such a module.
        folder: Where that runs.
        parts: What it needs.
        app: What it reads from.
    """

    name: str
    command: tuple[str, ...]
    folder: Path
    parts: tuple[str, ...]
    app: str = "protocols"


def python(name: str, *needed: str, app: str = "protocols") -> Family:
    """Return a family of clients in Python."""
    command = (sys.executable, "-m", "real.clients.python.reading", name)
    return Family(name, command, TESTS, (*needed, "uvicorn"), app)


def node(name: str, *needed: str, app: str = "protocols") -> Family:
    """Return a family of clients in Node.js."""
    needed = (*(f"npm:{package}" for package in needed), "program:node", "uvicorn")
    return Family(name, (parts.NODE, "reading.mjs", name), parts.NPM, needed, app)


@dataclass(frozen=True)
class Case:
    """A column of a table: a stream, and a ping to keep it alive."""

    title: str
    protocol: str
    ping: str


@dataclass(frozen=True)
class Client:
    """A row of a table.

    Attributes:
        row: Its name there.
        family: Where its reader is.
        reader: The name of that.
        used: The parts that are tried, for their versions.
        cases: What it is tried with.
        held: The case for the twin: the same ping, put blindly and held to the boundary.
        listener: The reader that listens for `ping` events too.
    """

    row: str
    family: Family
    reader: str
    used: tuple[str, ...]
    cases: tuple[Case, ...]
    held: Case | None = None
    listener: str | None = None

    @property
    def readers(self) -> Iterator[str]:
        """All its readers."""
        yield self.reader
        if self.listener:
            yield self.listener

    def paths(self) -> Iterator[str]:
        """All that it reads."""
        for case in self.cases:
            yield path("plain", case)
            yield path("kept", case)
        if self.held:
            yield path("pieces", self.held)
            yield path("blind", self.held)


@dataclass(frozen=True)
class Timer:
    """A client with a timer that is shorter than the silence; a row of a table.

    Attributes:
        kept: The delivery with pings that it is tried with.
    """

    row: str
    family: Family
    reader: str
    used: tuple[str, ...]
    case: Case
    kept: str

    def paths(self) -> Iterator[str]:
        """All that it reads."""
        yield path("silent", self.case)
        yield path(self.kept, self.case)

    @property
    def readers(self) -> tuple[str]:
        """Its one reader."""
        return (self.reader,)


@dataclass(frozen=True)
class Unset:
    """A client that is tried with a middleware of which no option is set but the interval.

    Attributes:
        table: The table of its row.
        word: What it makes of the pings that it gets.
        delivery: `unset`, or `excluded`: its route is.
    """

    table: str
    client: Client
    word: str
    delivery: str = "unset"

    @property
    def family(self) -> Family:
        """Where its reader is."""
        return self.client.family

    @property
    def readers(self) -> Iterator[str]:
        """All its readers."""
        return self.client.readers

    @property
    def case(self) -> Case:
        """What it reads, at a path that no other client reads."""
        key = f"{self.family.name}-{self.client.reader}"
        return Case(UNSET[self.delivery], self.client.cases[0].protocol, key)

    def paths(self) -> Iterator[str]:
        """All that it reads."""
        yield path("plain", self.case)
        yield path(self.delivery, self.case)


def cases(protocol: str) -> tuple[Case, ...]:
    """Return the cases of a protocol on `text/event-stream`, one for each ping."""
    return tuple(Case(TITLES[name], protocol, name) for name in PINGS)


def path(delivery: str, case: Case) -> str:
    """Return where a stream is served; without pings it is the same for all of them."""
    ping = "event" if delivery == "plain" else case.ping
    return f"/{delivery}/{ping}/{case.protocol}"


@dataclass(frozen=True)
class Reading:
    """What a client did with one stream."""

    got: list[Any]
    error: str | None
    logged: list[str]


def read(family: Family, base: str, asked: list[tuple[str, str]]) -> list[Reading]:
    """Read with the clients of one family."""
    wanted = json.dumps([[reader, base + where] for reader, where in asked])
    done = subprocess.run(
        family.command,
        cwd=family.folder,
        # Nothing of the developer's own: SDKs look for keys, addresses and proxies there.
        env={"PYTHONPATH": PATH, "PATH": os.defpath},
        input=wanted,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, f"{family.name}: {done.stderr[-3000:]}"
    return [Reading(**found) for found in json.loads(done.stdout)]


class Readings:
    """What the clients of several families did with all that they were asked to read."""

    def __init__(
        self,
        found: dict[Family, Future[dict[tuple[str, str], Reading]]],
        servers: dict[str, Process],
    ) -> None:
        self._found = found
        self._servers = servers

    def of(self, family: Family, reader: str, where: str) -> Reading:
        """Wait for a family, and return what one reader did with one stream."""
        return self._found[family].result()[reader, where]

    def plain(self, client: Client, case: Case, reader: str | None = None) -> Reading:
        """Return what a client gets of a stream without pings."""
        return self.of(client.family, reader or client.reader, path("plain", case))

    def word(self, client: Client, case: Case, delivery: str = "kept") -> str:
        """Say what a client made of a ping."""
        word = self._word(client, client.reader, case, delivery)
        if word == INVISIBLE and client.listener:
            heard = self._word(client, client.listener, case, delivery)
            return LISTENED_FOR if heard == VISIBLE else heard
        return word

    def _word(self, client: Client, reader: str, case: Case, delivery: str) -> str:
        plain = self.plain(client, case, reader)
        pinged = self.of(client.family, reader, path(delivery, case))
        logged = [text for text in pinged.logged if text not in plain.logged]
        return outcome(plain.got, pinged.got, error=pinged.error, logged=logged)

    def fate(self, timer: Timer, delivery: str) -> str:
        """Say whether a client with a timer had the whole of a stream, or cut it."""
        reading = self.of(timer.family, timer.reader, path(delivery, timer.case))
        if reading.error is None:
            return GOES_ON
        assert re.search("time|abort", reading.error, re.IGNORECASE), reading
        return CUT

    def pings(self, timer: Timer) -> int:
        """Return how many pings were sent into the stream that a timer was tried with."""
        request = f"POST {path(timer.kept, timer.case)}"
        return self._sent(timer.family, lambda name: name.startswith(request))

    def unset_pings(self, row: Unset) -> int:
        """Return how many pings were sent into the stream of a client with no option set."""
        where = path(row.delivery, row.case)
        return self._sent(row.family, lambda name: name.partition(" ")[2].startswith(where))

    def _sent(self, family: Family, matches: Callable[[str], bool]) -> int:
        self._found[family].result()
        with urlopen(self._servers[family.app].url("/facts"), timeout=PATIENCE) as facts:
            return max((count for name, count in json.load(facts) if matches(name)), default=0)


def _server(name: str, folder: Path) -> Process:
    command = [sys.executable, "-m", "uvicorn", f"real.clients.{name}:application"]
    options = ["--log-level", "warning", "--port"]
    return running(name, lambda port: [*command, *options, str(port)], folder / name)


def _asked(rows: Iterable[Client | Timer | Unset], family: Family) -> list[tuple[str, str]]:
    pairs = (
        (reader, where)
        for row in rows
        if row.family == family
        for reader in row.readers
        for where in row.paths()
    )
    return list(dict.fromkeys(pairs))


@contextmanager
def readings(rows: Iterable[Client | Timer | Unset], folder: Path) -> Iterator[Readings]:
    """Read all that is asked for with the families whose parts are here."""
    rows = list(rows)
    families = dict.fromkeys(
        row.family for row in rows if not parts.missing(*row.family.parts)
    )
    with ThreadPoolExecutor(CONCURRENT_FAMILIES) as pool, ExitStack() as stack:
        servers = {
            name: stack.enter_context(_server(name, folder))
            for name in sorted({family.app for family in families})
        }

        def run(family: Family) -> dict[tuple[str, str], Reading]:
            asked = _asked(rows, family)
            base = servers[family.app].url("")
            return dict(zip(asked, read(family, base, asked), strict=True))

        found = {family: pool.submit(run, family) for family in families}
        yield Readings(found, servers)
        for future in found.values():
            future.result()
        for server in servers.values():
            # Each silence had its pings; what else a server says of clients is its own affair.
            assert "TimeoutError" not in server.log, server.log
