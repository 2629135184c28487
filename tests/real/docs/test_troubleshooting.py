"""What the page about troubleshooting says of clients, against the clients themselves.

The server is one of canned responses: what a proxy or a ping has made of a stream.
"""

import asyncio
import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from real import parts
from real.browsers.engines import CHROMIUM
from real.docs.how_tos import FOLDER, QUICKLY, HowTo, listening
from real.http_clients import PING
from real.processes import wait_for

from keepalive import Ping

pytestmark = [pytest.mark.real, pytest.mark.parts]

PAGE = (FOLDER.parent / "troubleshooting.md").read_text(encoding="utf-8")
EVENT = b'data: {"id": "1", "choices": [], "created": 1, "model": "m"}\n\n'
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CUT = STREAM + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(EVENT), EVENT)
"""A response without its last chunk, as after an idle timeout."""


def whole(body: bytes) -> bytes:
    """Return a complete response."""
    return STREAM + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@contextmanager
def answering(respond: Callable[[str], bytes]) -> Iterator[tuple[str, list[str]]]:
    """Serve canned responses; yield the address, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            asked.append(self.path)
            self.wfile.write(respond(self.path))
            self.close_connection = True

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


# The error of each client


def with_httpx(url: str) -> str:
    with pytest.raises(httpx.RemoteProtocolError) as caught, httpx.stream("GET", url) as got:
        got.read()
    return f"httpx.RemoteProtocolError: {caught.value}"


def with_requests(url: str) -> str:
    parts.need("requests")
    import requests

    with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
        list(requests.get(url, stream=True, timeout=10).iter_lines())
    assert "Response ended prematurely" in str(caught.value)
    return "requests.exceptions.ChunkedEncodingError: Response ended prematurely"


def with_aiohttp(url: str) -> str:
    parts.need("aiohttp")
    import aiohttp

    async def read() -> None:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            await response.read()

    with pytest.raises(aiohttp.ClientPayloadError) as caught:
        asyncio.run(read())
    assert "TransferEncodingError" in str(caught.value)
    return "aiohttp.ClientPayloadError: ... TransferEncodingError"


def with_openai(url: str) -> str:
    parts.need("openai")
    import openai

    with pytest.raises(openai.APIConnectionError) as caught:
        list(chunks(url))
    return f"openai.APIConnectionError: {caught.value}"


def chunks(url: str):
    """Ask for a streamed chat with OpenAI's SDK."""
    import openai

    client = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    messages = [{"role": "user", "content": "?"}]
    with (
        client,
        client.chat.completions.create(model="m", messages=messages, stream=True) as stream,
    ):
        yield from stream


def with_curl(url: str) -> str:
    parts.need("program:curl")
    done = subprocess.run(
        ["curl", "-sSN", url], capture_output=True, text=True, timeout=20, check=False
    )
    return done.stderr.strip()


def with_node(url: str) -> str:
    parts.need("program:node")
    script = f"fetch({url!r}).then((r) => r.text()).catch((e) => console.log(String(e)))"
    done = subprocess.run(
        [parts.NODE, "-e", script], capture_output=True, text=True, timeout=20, check=False
    )
    return done.stdout.strip()


CLIENTS = {
    "httpx": with_httpx,
    "OpenAI's SDK": with_openai,
    "requests": with_requests,
    "aiohttp": with_aiohttp,
    "curl": with_curl,
    "Node.js, `fetch`": with_node,
}

ROWS = dict(re.findall(r"^\| ([^|]+) \| `([^`|]+)` \|$", PAGE, re.MULTILINE))
"""What the page shows for each client."""


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_says_what_the_page_shows(client):
    with answering(lambda _: CUT) as (url, _):
        assert CLIENTS[client](url) == ROWS[client]


def test_every_client_of_the_page_is_tried():
    assert {*CLIENTS, "Chromium"} == ROWS.keys()


@pytest.mark.parametrize("engine", [CHROMIUM], indirect=True, ids=["Chromium"])
def test_chromium_says_what_the_page_shows(browser):
    with (
        answering(lambda path: CUT if path == "/cut" else html(path)) as (url, _),
        browser.tab(url) as tab,
    ):
        tab.evaluate("() => { fetch('/cut').then((got) => got.text()).catch(() => {}) }")
        wait_for(lambda: tab.failed_loads or tab.evaluate("0"), "what the console says")
        assert ROWS["Chromium"] in tab.failed_loads[0]


@pytest.mark.parametrize(("ping", "breaks"), [(Ping.event(), True), (Ping.comment(), False)])
def test_an_event_breaks_openais_sdk_and_a_comment_does_not(ping, breaks):
    parts.need("openai")
    with answering(lambda _: whole(ping.payload + EVENT)) as (url, _):
        if not breaks:
            assert [chunk.id for chunk in chunks(url)] == ["1"]
            return
        with pytest.raises(json.JSONDecodeError) as caught:
            list(chunks(url))
    assert f"## `JSONDecodeError: {caught.value}`" in PAGE


# Browsers


SOURCE = """() => {
  done = 0;
  source = new EventSource('/stream');
  source.addEventListener('done', () => { done += 1; source.close(); });
}"""


def html(path: str) -> bytes:
    return STREAM.replace(b"event-stream", b"html") + b"Content-Length: 0\r\n\r\n"


@pytest.mark.parametrize("engine", [CHROMIUM], indirect=True, ids=["Chromium"])
def test_the_event_stream_tab_shows_events_and_no_comments(browser):
    """The tab is made of the messages of this name, of DevTools' protocol."""
    heard: list[str] = []
    body = b"retry: 100000\n: ping\n" + Ping.event().payload + b"data: x\n\n"
    with (
        answering(lambda path: whole(body) if path == "/stream" else html(path)) as (url, _),
        browser.tab(url) as tab,
    ):

        def listen(page: object) -> None:
            session = page.context.new_cdp_session(page)
            session.send("Network.enable")
            session.on(
                "Network.eventSourceMessageReceived", lambda x: heard.append(x["eventName"])
            )

        tab.do(listen)
        tab.evaluate(SOURCE)
        wait_for(lambda: len(heard) == 2 or tab.evaluate("0"), "two events")
    assert heard == ["ping", "message"]


@pytest.mark.parametrize("engine", [CHROMIUM], indirect=True, ids=["Chromium"])
@pytest.mark.parametrize("last", ["204", "done"])
def test_an_event_source_comes_back_until_it_is_told(browser, last):
    """It is told by a status of 204, or by an event at which the page closes it."""
    ends = {
        "204": b"HTTP/1.1 204 No Content\r\n\r\n",
        "done": whole(b"event: done\ndata: x\n\n"),
    }
    streams = iter([whole(b"retry: 50\ndata: x\n\n")] * 3 + [ends[last]])
    assert 'addEventListener("done", () => source.close())' in PAGE
    with (
        answering(lambda path: next(streams) if path == "/stream" else html(path)) as (
            url,
            asked,
        ),
        browser.tab(url) as tab,
    ):
        tab.evaluate(SOURCE)
        tab.wait_for("source.readyState === EventSource.CLOSED", "the end")
    assert asked.count("/stream") == 4


# All at once


def test_django_reads_a_synchronous_generator_to_its_end(tmp_path):
    page = HowTo("django")
    page.need()
    changes = QUICKLY | {
        "async def events()": "def events()",
        "await asyncio.sleep(60)": "__import__('time').sleep(1)",
    }
    with page.running(tmp_path, changes) as process, listening(process, "/think") as stream:
        body = stream.read()
    pings, _, events = body.partition(b"data: thinking")
    assert pings.count(PING) >= 2
    assert events == b"\n\ndata: 42\n\n"


def test_httpx_collects_the_response_of_an_app():
    sent: list[bytes] = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"1", b"2"):
            sent.append(part)
            await send({"type": "http.response.body", "body": part, "more_body": part == b"1"})

    async def main() -> None:
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app))
        async with client, client.stream("GET", "http://x/"):
            assert sent == [b"1", b"2"]  # all of it, before a part could be read

    asyncio.run(main())
