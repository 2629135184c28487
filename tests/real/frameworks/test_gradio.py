"""Gradio, mounted in FastAPI, with the middleware around both.

Its queue's stream is kept alive, by pings that its clients accept: its own heartbeat. The
clients are its page, in Chromium, and its client for Python.
"""

import http.client
import json
import re
import signal
import sys
import uuid
from concurrent.futures import CancelledError
from contextlib import closing, contextmanager

import pytest
from real.browsers.engines import CHROMIUM
from real.compatibility import BOOKS
from real.frameworks.streams import EVENTS
from real.http_clients import complaints, parsed, split_pings
from real.parts import need
from real.processes import PATIENCE, Process, wait_for

pytestmark = [pytest.mark.real, pytest.mark.parts]

BOOK, TABLE = BOOKS["frameworks"], "gradio"
PARTS = ("gradio", "gradio_client", "fastapi", "starlette", "uvicorn")
CLIENT, PAGE = "Gradio's client, Python", "Gradio's page, in Chromium"
SHUTDOWN = "SIGTERM while both streams are open"
COLUMNS = {
    "kept": "Gradio's heartbeat as the ping",
    "default": "default ping",
    "excluded": "routes excluded",
}
COMPLETE, FAILS = "complete result", "fails"
ENVIRON = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_HEARTBEAT_INTERVAL": "0.25",
    "HF_HUB_OFFLINE": "1",
}
MESSAGES = [
    "estimation",
    "process_starts",
    *["process_generating"] * len(EVENTS),
    "process_completed",
    "close_stream",
]


class Gradio:
    """uvicorn with Gradio's apps, and the journal of what happens there."""

    def __init__(self, folder):
        self._journal = folder / "journal.jsonl"
        self._journal.touch()
        self.process = Process(
            "uvicorn with Gradio",
            lambda port: [
                *(sys.executable, "-m", "uvicorn", "real.frameworks.gradio_app:application"),
                *("--host", "127.0.0.1", "--port", str(port), "--no-access-log"),
            ],
            folder,
            ENVIRON | {"JOURNAL": str(self._journal)},
        )

    def count(self, kind, **facts):
        """Return how many of such facts are known."""
        *lines, _ = self._journal.read_text(encoding="utf-8").split("\n")
        wanted = {"kind": kind, **facts}.items()
        return sum(wanted <= json.loads(line).items() for line in lines)

    def heartbeat_streams(self, path):
        """Return how many heartbeat streams the middleware has seen, on a path."""
        start = f'"path": "/{path}/gradio_api/heartbeat/'
        lines = self._journal.read_text(encoding="utf-8").splitlines()
        return sum("StreamStarted" in line and start in line for line in lines)

    def wait(self, times, kind, **facts):
        """Wait for facts."""
        what = f"{kind} {facts} ({times}): {self.process.log}"
        wait_for(lambda: self.count(kind, **facts) >= times, what)

    def ask(self, method, path, content=None, headers=None):
        """Send a request, and return the connection and the response."""
        connection = http.client.HTTPConnection(
            "127.0.0.1", self.process.port, timeout=PATIENCE
        )
        body = None if content is None else json.dumps(content)
        kind = {"Content-Type": "application/json"}
        connection.request(method, path, body, kind | (headers or {}))
        return connection, connection.getresponse()

    def get(self, path, headers=None):
        """Return the headers and the body of a response that is no stream."""
        connection, response = self.ask("GET", path, headers=headers)
        with closing(connection):
            assert response.status == 200
            sent = {name.lower(): value for name, value in response.getheaders()}
            return sent | {"date": ""}, response.read()

    def open(self, token):
        connection, response = self.ask("POST", f"/gate/{token}")
        with closing(connection):
            assert response.status == 204

    def open_all(self, token, pings=None):
        """Let the app go on after each silence; wait for pings in it, on a path."""
        for silence in range(len(EVENTS) + 1):
            self.wait(silence + 1, "silent", token=token)
            if pings:
                sent = self.count("PingSent", path=pings)
                self.wait(sent + 2, "PingSent", path=pings)
            self.open(token)


class Stream:
    """The queue's stream of one session, whose id is the token, and what was read of it."""

    def __init__(self, server, path):
        self.token = uuid.uuid4().hex
        self.body = b""
        call = {"data": [self.token], "fn_index": 0, "session_hash": self.token}
        connection, response = server.ask("POST", f"/{path}/gradio_api/queue/join", call)
        with closing(connection):
            assert response.status == 200, response.read()
        query = f"session_hash={self.token}"
        self._connection, self.response = server.ask(
            "GET", f"/{path}/gradio_api/queue/data?{query}"
        )

    def read_until(self, condition):
        while not condition(self.body):
            part = self.response.read1()
            assert part, self.body
            self.body += part

    def read(self):
        """Read to the end, which must be that of a whole response."""
        while part := self.response.read1():
            self.body += part

    def close(self):
        self._connection.close()


def ours(body):
    return body.count(b'data: {"msg": "heartbeat"}\n\n')


def its(body):
    return body.count(b'data: {"msg":"heartbeat","event_id":null}\n\n')


def messages(body):
    """Return Gradio's messages; every event must be one of them."""
    events = parsed(body)
    assert {(kind, last_id, retry) for kind, _, last_id, retry in events} == {
        ("message", "", None)
    }
    return [json.loads(data) for _, data, *_ in events]


@contextmanager
def serving(folder):
    made = Gradio(folder)
    try:
        yield made
    finally:
        made.process.stop()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    need(*PARTS)
    with serving(tmp_path_factory.mktemp("gradio")) as running:
        yield running
        assert complaints(running.process.log) == []


def whole(server, path, enough):
    """Read a stream to its end; in each silence until it is enough."""
    with closing(Stream(server, path)) as stream:
        for silence in range(len(EVENTS) + 1):
            server.wait(silence + 1, "silent", token=stream.token)
            size = len(stream.body)
            stream.read_until(lambda body, size=size: enough(body[size:]))
            server.open(stream.token)
        stream.read()
    return stream.body


def test_pings_and_heartbeats_arrive_between_whole_events(server):
    found = messages(whole(server, "kept", lambda body: ours(body) >= 2 and its(body) >= 2))
    assert [each["msg"] for each in found if each["msg"] != "heartbeat"] == MESSAGES


def test_default_pings_arrive_between_whole_events(server):
    body = whole(server, "default", lambda body: split_pings(body)[1] >= 2 and its(body) >= 2)
    found = messages(split_pings(body)[0])
    assert [each["msg"] for each in found if each["msg"] != "heartbeat"] == MESSAGES


def test_without_the_middleware_there_are_only_its_own_heartbeats(server):
    body = whole(server, "excluded", lambda body: its(body) >= 2)
    found = messages(body)
    assert [each["msg"] for each in found if each["msg"] != "heartbeat"] == MESSAGES
    assert ours(body) == split_pings(body)[1] == 0


def call(server, path):
    """Call the function with Gradio's client; return what it gets."""
    from gradio_client import Client

    token, before = uuid.uuid4().hex, server.heartbeat_streams(path)
    client = Client(server.process.url(f"/{path}/"), verbose=False, analytics_enabled=False)
    try:
        if path != "excluded":
            wait_for(lambda: server.heartbeat_streams(path) > before, "the client's heartbeat")
        job = client.submit(token, api_name="/name")
        pings = None if path == "excluded" else f"/{path}/gradio_api/queue/data"
        if path != "default":
            server.open_all(token, pings)
        try:
            job.result(timeout=PATIENCE)
        except CancelledError:
            return FAILS
        assert tuple(job.outputs()) == EVENTS
        return COMPLETE
    finally:
        client.close()


@pytest.mark.parametrize("path", COLUMNS)
def test_what_its_client_gets(server, path):
    found = call(server, path)
    BOOK.hold(TABLE, CLIENT, COLUMNS[path], found, *PARTS)


@pytest.fixture(scope="module")
def chromium():
    need(*PARTS, *CHROMIUM.parts)
    running = CHROMIUM.start()
    yield running
    running.stop()


RUN = """token => {
  const input = document.querySelector('textarea');
  input.value = token;
  input.dispatchEvent(new Event('input', { bubbles: true }));
  setTimeout(() => document.querySelector('button.lg').click(), 100);
}"""
RESULT = "document.querySelectorAll('textarea')[1].value"


@pytest.mark.parametrize("path", COLUMNS)
def test_what_its_page_shows(server, chromium, path):
    token, before = uuid.uuid4().hex, server.heartbeat_streams(path)
    with chromium.open("about:blank") as tab:
        tab.do(lambda page: page.route(re.compile("^https:"), lambda route: route.abort()))
        tab.do(lambda page: page.goto(server.process.url(f"/{path}/")))
        tab.wait_for("document.querySelectorAll('textarea').length === 2")
        tab.evaluate(RUN, token)
        server.open_all(
            token, None if path == "excluded" else f"/{path}/gradio_api/queue/data"
        )
        server.wait(1, "over", token=token, how="completed")
        tab.wait_for(f"{RESULT} === '{EVENTS[-1]}'")
        if path != "excluded":
            assert server.heartbeat_streams(path) > before
    BOOK.hold(TABLE, PAGE, COLUMNS[path], COMPLETE, *PARTS, "program:chromium")


def test_what_is_no_stream_is_unchanged(server):
    _, page = server.get("/kept/")
    assets = {file.decode() for file in re.findall(rb'(?:src|href)="\./(assets/.+?)"', page)}
    assert len(assets) >= 2
    for path in ("", "theme.css", "config", "gradio_api/info", *assets):
        found = server.get(f"/kept/{path}")
        assert found == server.get(f"/kept/{path}", {"X-Plain": "yes"})


@contextmanager
def page_open(server, path):
    """Open the streams of a page: that of the queue, and the heartbeat."""
    with closing(Stream(server, path)) as stream:
        heartbeat, response = server.ask("GET", f"/{path}/gradio_api/heartbeat/{stream.token}")
        with closing(heartbeat):
            server.wait(1, "silent", token=stream.token)
            yield stream, response


def test_on_shutdown_both_streams_end(tmp_path):
    need(*PARTS)
    with serving(tmp_path) as server, page_open(server, "kept") as (stream, heartbeat):
        server.process.process.send_signal(signal.SIGTERM)
        assert server.process.gone_within(PATIENCE), server.process.log
        stream.read()
        heartbeat.read()  # raises if the response is not complete
        messages(stream.body)
        assert server.count("StreamEnded", reason="shutdown") == 2
        assert complaints(server.process.log) == []
    BOOK.hold(TABLE, SHUTDOWN, COLUMNS["kept"], "streams end", *PARTS)


def test_on_shutdown_the_server_waits_for_the_heartbeat_of_an_excluded_route(tmp_path):
    need(*PARTS)
    with serving(tmp_path) as server, page_open(server, "excluded") as (stream, heartbeat):
        server.open_all(stream.token)
        stream.read()
        server.process.process.send_signal(signal.SIGTERM)
        wait_for(lambda: "Waiting for connections" in server.process.log, "the shutdown")
        for _ in range(3):
            assert heartbeat.read1()
        assert not server.process.gone_within(0)
    BOOK.hold(TABLE, SHUTDOWN, COLUMNS["excluded"], "server waits", *PARTS)


def test_the_table_has_a_cell_for_each_test_and_no_other():
    expected = {(row, column) for row in (CLIENT, PAGE) for column in COLUMNS.values()}
    expected |= {(SHUTDOWN, COLUMNS[path]) for path in ("kept", "excluded")}
    assert BOOK.cells(TABLE) == expected
