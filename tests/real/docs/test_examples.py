"""The examples of the documentation, each under uvicorn: their events, and their pings."""

import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from real.http_clients import PING, TESTS, Server, curl, exchange, split_pings

pytestmark = pytest.mark.real

EXAMPLES = TESTS.parent / "docs" / "examples"
COMMENT = b": ping\n"


def interval_of(name):
    """Return the interval that an example gives its middleware."""
    # Not `ast.parse`: examples are read in threads, in which it fails on Python 3.11 now and
    # then (python/cpython#106905).
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    (value,) = re.findall(r"^INTERVAL = ([0-9.]+)", text, re.MULTILINE)
    return float(value)


class Example:
    """A running example; `silence` is one and a half times its interval."""

    def __init__(self, name, folder: Path):
        folder.mkdir()
        self.silence = 1.5 * interval_of(name)
        self.server = Server(folder, f"{name}:app", EXAMPLES)

    def read(self, path, *, silent=True):
        return curl(self.server, f"{path}silence={self.silence if silent else 0}")

    def post(self, path):
        return httpx.post(self.server.url(path), timeout=20)


def quickstart(example):
    talking = example.read("/?steps=3&", silent=False)
    assert talking == b"data: step 1\n\ndata: step 2\n\ndata: step 3\n\n"
    silent = example.read("/?steps=2&")
    assert silent == b"data: step 1\n\n" + PING + b"data: step 2\n\n"
    page = httpx.get(example.server.url("/page"))
    assert "EventSource" in page.text
    assert "ping" not in httpx.get(example.server.url("/elsewhere")).text
    with exchange(example.server, "/?silence=60") as made:
        made.read_until(PING)
        example.server.process.send_signal(signal.SIGINT)
        assert made.read().endswith(PING)
    example.server.process.wait(20)


def raw_asgi(example):
    event = b"data: first half\ndata: second half\n\n"
    assert example.read("/?events=2&", silent=False) == event * 2
    rest, pings = split_pings(silent := example.read("/?events=2&"))
    assert rest == event * 2
    assert silent.startswith(event + PING * 2)
    assert pings >= 4


def starlette_app(example):
    news = b"data: news\n\n"
    for path, reason in [("/logout/ada", b"aborted"), ("/stop", b"shutdown")]:
        with exchange(example.server, f"/events/ada?silence={example.silence}") as made:
            made.read_until(news + PING + news)
            assert example.post(path).status_code == 200
            assert made.read().endswith(news + b"event: bye\ndata: %b\n\n" % reason)
    # All streams are stopped: no more pings, and the stream sends its last event.
    with exchange(example.server, "/events/eve") as made:
        assert made.read() == b"event: bye\ndata: shutdown\n\n"


def fastapi_app(example):
    assert example.read("/think?", silent=False) == b"data: thinking\n\ndata: 42\n\n"
    assert example.read("/think?") == b"data: thinking\n\n" + PING + b"data: 42\n\n"
    path = "/v1/chat/completions?silence="
    talking = example.post(f"{path}0").content
    silent = example.post(f"{path}{example.silence}").content
    assert silent.replace(COMMENT, b"") == talking
    assert silent.count(COMMENT) == 1
    assert COMMENT not in talking
    assert silent.endswith(b"data: [DONE]\n\n")


def runner(example):
    with exchange(example.server, "/") as made:
        assert made.read_until(PING * 2).startswith(b"event: runner\ndata: ")
        example.server.process.send_signal(signal.SIGTERM)
        assert made.read().endswith(PING + b"event: stopping\ndata: \n\n")
    example.server.process.wait(20)


def connection(example):
    rest, pings = split_pings(example.read("/?messages=2&"))
    assert rest == b"data: message 1\n\ndata: message 2\n\n"
    assert pings == 2
    with exchange(example.server, "/?silence=60") as made:
        made.read_until(PING)
        example.server.process.send_signal(signal.SIGTERM)
        assert made.read().endswith(b"event: stopping\ndata: \n\n")
    example.server.process.wait(20)


def demo(example):
    """The app alone; its page, and the proxy in front, are tried in a browser, elsewhere."""
    thought, more, answer = (
        f"data: {words}\n\n".encode()
        for words in ("Let me think.", "Still thinking.", "The answer is 42.")
    )
    assert example.read("/plain/a?") == thought + more + answer
    assert example.read("/kept/a?") == thought + PING + more + PING + answer
    for path, text in [("/", "/demo.js"), ("/demo.js", "/settings"), ("/demo.css", "--ping")]:
        assert text in httpx.get(example.server.url(path)).text
    assert httpx.get(example.server.url("/elsewhere")).status_code == 404
    assert httpx.get(example.server.url("/settings")).json()["limit"] == 3
    (started, ended) = httpx.get(example.server.url("/reports/a")).json()
    assert (started["name"], ended["name"]) == ("StreamStarted", "StreamEnded")
    assert (ended["reason"], ended["pings"]) == ("completed", 2)
    with exchange(example.server, "/kept/b?silence=60") as made:
        made.read_until(thought + PING)
        assert example.post("/abort/b").json() == "aborted"
        assert made.read().endswith(
            PING + b"event: farewell\ndata: The server ends this stream.\n\n"
        )


def numbers(body):
    return [int(number) for number in re.findall(rb"^id: (\d+)$", body, re.MULTILINE)]


def watchdog(example):
    """Its page is tried in a browser, elsewhere."""
    ping = b"event: ping\ndata: %g\n\n" % interval_of("watchdog")
    body = example.read("/events?steps=2&")
    assert body.startswith(ping)
    newest, following = numbers(split_pings(body, ping)[0])
    assert following == newest + 1
    missed = example.read(f"/events?steps=3&last={newest - 3}&")
    assert numbers(split_pings(missed, ping)[0]) == [newest - 2, newest - 1, newest]
    for path, text in [("/", "/watchdog.js"), ("/watchdog.js", "EventSource")]:
        assert text in httpx.get(example.server.url(path)).text
    with exchange(example.server, "/events?silence=3600") as made:
        made.read_until(ping)
        made.read_until(b"data: event of ")
        example.server.process.send_signal(signal.SIGINT)
        assert len(numbers(split_pings(made.read(), ping)[0])) == 1
    example.server.process.wait(20)


READ = (quickstart, raw_asgi, starlette_app, fastapi_app, runner, connection, watchdog, demo)
READERS = {read.__name__: read for read in READ}
ELSEWHERE = {
    "hypercorn_server",  # with the servers that are stopped
    "daphne_server",
    "demo_proxy",  # with the page of the demo
    "capacity",  # with the page that shows what it prints
}


@pytest.fixture(scope="module")
def readings(tmp_path_factory):
    """All examples, run and read at the same time; they take some seconds each."""
    folder = tmp_path_factory.mktemp("examples")

    def run(name):
        example = Example(name, folder / name)
        try:
            READERS[name](example)
        finally:
            example.server.stop()
        return example.server.new_complaints()

    with ThreadPoolExecutor() as pool:
        yield {name: pool.submit(run, name) for name in READERS}


@pytest.mark.parametrize("name", READERS)
def test_an_example_streams_its_events_and_pings(readings, name):
    assert readings[name].result() == []


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(READERS) | ELSEWHERE
