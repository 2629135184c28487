"""Records the requests of real clients.

`python tests/real/clients/record_requests.py [NAME ...]` runs the clients against a server in
this process, and writes `tests/recorded_requests.json`: one request a line, with all its
headers in order, sorted by client. Secrets, random values and the port are replaced. Given
names, only the clients whose name contains one of them are recorded again. Needs all parts,
which `.ci/parts` installs.

Each client has a port of its own, by which its requests are told from the others'.
"""

import contextlib
import json
import re
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

TESTS: Final = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TESTS))

import uvicorn  # noqa: E402
from real import parts  # noqa: E402
from real.clients import mcp_app, protocols  # noqa: E402
from real.clients.protocol_apps import answer  # noqa: E402
from real.clients.protocol_events import WHOLE  # noqa: E402
from real.clients.readings import Family, read  # noqa: E402
from real.clients.reports import PREFIX, reports  # noqa: E402
from real.clients.rows import (  # noqa: E402
    ANTHROPIC,
    ANTHROPIC_NODE,
    BARE,
    GOOGLE,
    GOOGLE_NODE,
    OPENAI,
    OPENAI_NODE,
    TABLES,
    WINDOWS,
)
from real.processes import wait_for  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402
from support.internals import Receive, Scope, Send  # noqa: E402

FILE: Final = TESTS / "recorded_requests.json"
SECRET: Final = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
RANDOM: Final = ("mcp-session-id", "x-graphql-event-stream-token", "idempotency-key")
HIDDEN: Final = "..."
SESSION: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""A random part of a path."""

UNRECORDED: Final = ("records",)
"""Protocols that aren't event streams."""
LOOPBACK: Final = "127.0.0.1"
ADDRESS: Final = re.compile(r"(?<=//)[\w.]+:\d+|^[\w.]+:\d+$")
"""The server's, in an origin and in `Host`."""

Request = dict[str, Any]


@dataclass(frozen=True)
class Recorded:
    """A client whose requests are recorded.

    Attributes:
        name: Its name in the file.
        family: Where its reader is.
        reader: The name of that.
        protocol: What it reads.
        used: The parts whose versions are noted.
        host: The address that the server has for it.
    """

    name: str
    family: Family
    reader: str
    protocol: str
    used: tuple[str, ...]
    host: str = LOOPBACK


def of_the_tables() -> Iterator[Recorded]:
    """Return the clients of the published tables."""
    for table, rows in TABLES.items():
        for row in rows:
            protocol = row.cases[0].protocol
            if not protocol.startswith(UNRECORDED):
                yield Recorded(
                    f"{table}: {row.row}", row.family, row.reader, protocol, row.used
                )


def _whole(family: Family, reader: str, name: str, part: str) -> Recorded:
    protocol = {"whole": f"{family.name.partition('_')[0]}-whole"}.get(reader, reader)
    return Recorded(f"{name}, not streamed", family, reader, protocol, (part,))


WHOLE_ONES: Final = (
    _whole(OPENAI, "chat-whole", "openai: Python, chat", "openai"),
    _whole(OPENAI, "responses-whole", "openai: Python, responses", "openai"),
    _whole(OPENAI_NODE, "chat-whole", "openai: JavaScript, chat", "npm:openai"),
    _whole(OPENAI_NODE, "responses-whole", "openai: JavaScript, responses", "npm:openai"),
    _whole(ANTHROPIC, "whole", "anthropic: Python", "anthropic"),
    _whole(ANTHROPIC_NODE, "whole", "anthropic: JavaScript", "npm:@anthropic-ai/sdk"),
    _whole(GOOGLE, "whole", "google: Python", "google-genai"),
    _whole(GOOGLE_NODE, "whole", "google: JavaScript", "npm:@google/genai"),
)
"""SDKs that ask for a whole response."""

OTHERS: Final = tuple(
    Recorded(
        f"{table}: {row.client.row}", row.family, row.client.reader, "sse", row.client.used
    )
    for table, rows in (("http", BARE), ("browser", WINDOWS))
    for row in rows
    if row.client.reader != "test-client"  # over no connection
)


def elsewhere() -> Iterator[Recorded]:
    """Return the browsers again, with a server that is not on the loopback interface.

    They send `Sec-Fetch-*` over plain HTTP to a loopback address alone.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        own = probe.getsockname()[0]
    for client in OTHERS:
        if client.name.startswith("browser: "):
            yield replace(client, name=f"{client.name}, not on loopback", host=own)


def of_a_browser(browser: str, requests: list[Request]) -> dict[str, list[Request]]:
    """Return a browser's requests by what made them."""
    found: dict[str, list[Request]] = {}
    for request in requests:
        names = {"GET": "`fetch()`, GET", "POST": "`fetch()`, POST"}
        name = names[request["method"]]
        if request["path"].startswith(PREFIX):
            name = "navigation"
        elif ["accept", "text/event-stream"] in request["headers"]:
            name = "`EventSource`"
        if not request["path"].startswith(f"{PREFIX}report"):
            found.setdefault(f"{browser}, {name}", []).append(request)
    return found


def shown(scope: Scope) -> Request:
    """Return a request as the file has it."""
    return {
        "method": scope["method"],
        "path": SESSION.sub(HIDDEN, scope["path"]),
        "headers": [
            [name.decode(), _value(name.decode(), value.decode("latin-1"))]
            for name, value in scope["headers"]
        ],
    }


def _value(name: str, value: str) -> str:
    if name in SECRET or name in RANDOM:
        return HIDDEN
    if name == "referer":
        value = value.partition("?")[0]
    return ADDRESS.sub(LOOPBACK, value) if name in {"host", "origin", "referer"} else value


class Recorder:
    """A server with a port for each client, which notes what each requests."""

    def __init__(self, clients: Iterable[Recorded]) -> None:
        self.urls: dict[str, str] = {}
        self.requests: dict[str, list[Request]] = {}
        self._clients: dict[int, Recorded] = {}
        self._sockets: list[socket.socket] = []
        for client in clients:
            self._open(client)
        config = uvicorn.Config(self._app, interface="asgi3", log_level="warning", ws="none")
        self._server = uvicorn.Server(config)

    def _open(self, client: Recorded) -> None:
        listener = socket.create_server((client.host, 0))
        port = listener.getsockname()[1]
        self._sockets.append(listener)
        self._clients[port] = client
        self.requests[client.name] = []
        at = f"/{client.protocol}" if client.family.app == "mcp_app" else ""
        self.urls[client.name] = f"http://{client.host}:{port}{at}"

    async def _app(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await mcp_app.router(scope, receive, send)
            return
        client = self._clients[scope["server"][1]]
        self.requests[client.name].append(shown(scope))
        await serve(client, scope, receive, send)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Serve in a thread."""
        thread = threading.Thread(target=self._server.run, args=(self._sockets,), daemon=True)
        thread.start()
        wait_for(lambda: self._server.started, "the server")
        try:
            yield
        finally:
            self._server.should_exit = True
            thread.join()


async def serve(client: Recorded, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a client in its protocol."""
    if client.protocol in WHOLE:
        await answer(send, WHOLE[client.protocol])
    elif scope["path"].startswith(PREFIX):
        await reports(scope, receive, send)
    elif client.family.app == "mcp_app":
        await mcp_app.router(scope, receive, send)
    else:
        path = f"/{client.protocol}{scope['path']}"
        await protocols.router({**scope, "path": path, "delivery": "plain"}, receive, send)


def record_families(recorder: Recorder, clients: list[Recorded]) -> None:
    """Run the clients that have readers, those of a family in one process."""
    families: dict[Family, list[Recorded]] = {}
    for client in clients:
        families.setdefault(client.family, []).append(client)

    def run(family: Family) -> None:
        asked = [(client.reader, recorder.urls[client.name]) for client in families[family]]
        for client, found in zip(families[family], read(family, "", asked), strict=True):
            if found.error:
                print(f"{client.name}: {found.error}", file=sys.stderr)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, families))


def of_the_test_client() -> list[Request]:
    """Return the requests of Starlette's client for tests, which go over no connection."""
    found: list[Request] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(shown(scope))
        await answer(send, {})

    client = TestClient(app)
    client.get("/")
    client.post("/", json={})
    return found


def entries(client: str, used: Iterable[str], requests: list[Request]) -> Iterator[Request]:
    """Return what the file has of a client: each of its requests once."""
    version = ", ".join(f"{name} {number}" for name, number in parts.versions(*used).items())
    seen = {json.dumps(request): request for request in requests}
    for _, request in sorted(seen.items(), key=lambda item: (item[1]["path"], item[0])):
        yield {"client": client, "version": version, **request}


def write(recorded: list[Request]) -> None:
    """Write the file, one request a line."""
    recorded.sort(key=lambda entry: entry["client"])
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in recorded)
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main() -> None:
    """Record the clients, and write the file."""
    wanted = sys.argv[1:]
    chosen = [
        client
        for client in (*of_the_tables(), *WHOLE_ONES, *OTHERS, *elsewhere())
        if not wanted or any(name in client.name for name in wanted)
    ]
    recorder = Recorder(chosen)
    with recorder.running():
        record_families(recorder, chosen)
    found = []
    for client in chosen:
        requests = {client.name: recorder.requests[client.name]}
        if client.name.startswith("browser"):
            requests = of_a_browser(client.name, requests[client.name])
        for name, made in requests.items():
            found += entries(name, client.used, made)
    found += entries("http: Starlette's TestClient", ["starlette"], of_the_test_client())
    recorded = {entry["client"] for entry in found}
    old = json.loads(FILE.read_text()) if wanted and FILE.exists() else []
    write([*found, *(entry for entry in old if entry["client"] not in recorded)])


if __name__ == "__main__":
    main()
