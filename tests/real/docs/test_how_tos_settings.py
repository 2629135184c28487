"""The how-tos that set something: their programs send what the pages say, tables agree."""

import importlib
import inspect
import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from real import parts
from real.browsers.engines import CHROMIUM
from real.docs.how_tos import QUICKLY, HowTo, listening
from real.http_clients import PING
from real.processes import PATIENCE, wait_for

pytestmark = [pytest.mark.real, pytest.mark.parts]

COMMENT = b": ping\n"
BLANK = b"\n"


def test_pings_are_chosen_by_route(tmp_path):
    page = HowTo("choose-the-ping")
    with page.running(tmp_path, QUICKLY, "uvicorn main:by_route") as process:
        for path, ping in [("/", PING), ("/v1/chat", COMMENT), ("/v1beta/models", BLANK)]:
            with listening(process, path) as stream:
                said = b"data: {}\n\n" + ping * 2
                body = stream.read_until(lambda body, said=said: len(body) >= len(said))
            assert body.startswith(said)


def test_pings_are_chosen_by_request(tmp_path):
    """The page's own curl lines say which ping comes, in a comment."""
    page = HowTo("choose-the-ping")
    lines = [line for line in page.text.splitlines() if line.startswith("curl")]
    assert [line.rpartition("# ")[2] for line in lines] == ["event: ping", ": ping"]
    with page.running(tmp_path) as process:
        for line in lines:
            agent = re.findall(r"-A '(.+?)'", line)[0]
            accept = "".join(re.findall(r"-H 'Accept: (.+?)'", line)) or "*/*"
            with listening(
                process, "/", headers={"User-Agent": agent, "Accept": accept}
            ) as stream:
                body = stream.read_until(lambda body: b"ping\n" in body)
            assert body.startswith(f"data: {{}}\n\n{line.rpartition('# ')[2]}\n".encode())


@pytest.fixture(scope="module")
def policy_for():
    """The page's own choice: given headers, the ping that they get."""
    names: dict[str, object] = {}
    exec(HowTo("choose-the-ping").program({}), names)

    def choose(headers):
        words = [
            (name.lower(), text) for name, text in headers.items() if isinstance(text, str)
        ]
        scope = {"headers": [(name.encode(), text.encode()) for name, text in words]}
        return names["options_for"](scope)["ping"].payload

    return choose


@pytest.mark.parametrize("engine", [CHROMIUM], indirect=True, ids=["Chromium"])
def test_a_browser_says_what_the_choice_looks_at(browser, policy_for):
    """Of an `EventSource`, and of a page's `fetch`."""
    sent: dict[str, bytes] = {}

    def answer(route):
        name = route.request.url.rpartition("/")[2]
        sent[name] = policy_for(route.request.headers)
        route.fulfill(status=200, content_type="text/html", body="<title>x</title>")

    with browser.tab("about:blank") as tab:
        tab.do(lambda page: page.route("http://how.to/*", answer))
        tab.do(lambda page: page.goto("http://how.to/page"))
        tab.evaluate("() => { new EventSource('/source'); fetch('/fetch'); }")
        wait_for(lambda: {"source", "fetch"} <= sent.keys() or tab.evaluate("0"), "requests")
    assert sent["source"] == PING
    assert sent["fetch"] == COMMENT


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_an_sdk_says_what_the_choice_looks_at(policy_for, name):
    parts.need(name)
    module = importlib.import_module(name)
    client = {"openai": "OpenAI", "anthropic": "Anthropic"}[name]
    for kind in (client, f"Async{client}"):
        headers = dict(getattr(module, kind)(api_key="none").default_headers)
        assert headers["User-Agent"].startswith(f"{kind}/Python ")
        assert policy_for(headers) == COMMENT


def test_records_are_kept_alive(tmp_path):
    changes = QUICKLY | {"sleep(12)": "sleep(0.9)"}
    with HowTo("ndjson").running(tmp_path, changes) as process:
        with listening(process, "/count") as stream:
            body = stream.read()
        lines = httpx.Response(200, content=body).iter_lines()
        assert [json.loads(line) for line in lines] == [{"n": n} for n in range(3)]
        assert body.endswith(b"}\n")
        assert all(re.match(rb" +\{", line) for line in body.splitlines())
        assert stream.response.headers["content-type"] == "application/x-ndjson"


SERVERS = re.findall(r"^\| \w+ \| `(.+?)` \|$", HowTo("end-streams").text, re.MULTILINE)
NEEDED = {"gunicorn": ("gunicorn", "uvicorn-worker")}


@pytest.mark.parametrize("command", SERVERS, ids=lambda command: command.partition(" ")[0])
def test_streams_end_when_the_server_is_stopped(tmp_path, command):
    server = command.partition(" ")[0]
    parts.need(*NEEDED.get(server, (server,)))
    changes = {"drain=2.0": "drain=1.0"}
    with (
        HowTo("end-streams").running(tmp_path, changes, command) as process,
        ExitStack() as stack,
    ):
        streams = {
            path: stack.enter_context(listening(process, path))
            for path in ("/polite", "/endless")
        }
        for stream in streams.values():
            stream.read_until(lambda body: body.endswith(b"news\n\n"))
        process.process.send_signal(signal.SIGTERM)
        with ThreadPoolExecutor() as pool:
            polite, endless = pool.map(lambda stream: stream.read(), streams.values())
        assert polite == b"data: news\n\nevent: bye\ndata: back in a minute\n\n"
        assert endless == b"data: news\n\nevent: stopping\ndata: \n\n"
        assert process.gone_within(PATIENCE)


def test_servers_of_the_page_about_ends_are_all_tried():
    names = [command.partition(" ")[0] for command in SERVERS]
    assert names == ["uvicorn", "gunicorn", "granian", "hypercorn"]


def test_every_option_of_sse_starlette_has_its_counterpart():
    page = HowTo("migrate-from-sse-starlette")
    page.need()
    from sse_starlette import EventSourceResponse

    every = [*inspect.signature(EventSourceResponse).parameters]
    options = every[every.index("background") :]
    assert len(options) >= 8
    table = "".join(line for line in page.text.splitlines() if line.startswith("|"))
    assert [name for name in options if not re.search(rf"`{name}\b", table)] == []


def test_what_comes_from_sse_starlette_is_what_came_before(tmp_path):
    page = HowTo("migrate-from-sse-starlette")
    page.need()
    ping = b"event: ping\r\ndata: still here\r\n\r\n"
    changes = QUICKLY | {"ping=5,": "ping=0.2,", "drain=2.0": "drain=1.0"}
    with page.running(tmp_path, changes) as process, ExitStack() as stack:
        before, after = [stack.enter_context(listening(process, path)) for path in page.paths]
        for stream in (before, after):
            body = stream.read_until(lambda body: body.count(ping) >= 2)
            assert body.startswith(b"data: thinking\r\n\r\n" + ping * 2)
        process.process.send_signal(signal.SIGTERM)
        with pytest.raises(httpx.RemoteProtocolError):
            before.read()
        assert after.read().endswith(b"event: stopping\r\ndata: \r\n\r\n")
        assert process.gone_within(PATIENCE)


def seconds(cell: str) -> list[float]:
    return [float(number) for number in re.findall(r"(\d+) s\b", cell)]


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading of the page about intervals."""
    _, _, below = HowTo("intervals").text.partition(f"## {heading}\n")
    table = [line for line in below.partition("\n## ")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_intervals_are_half_of_the_limits_at_most():
    for hop, limit, *_ in rows("Idle timeouts that work with the default interval"):
        assert min(seconds(limit)) >= 30, hop
    for hop, limit, interval, *_ in rows("Idle timeouts that need a shorter interval"):
        assert seconds(interval)[0] <= seconds(limit)[0] / 2, hop
        assert seconds(limit)[0] < 20, hop


HEADINGS = re.findall(
    r"^## (.*\btimeouts\b.*)$", HowTo("intervals").text, re.MULTILINE | re.IGNORECASE
)


@pytest.mark.parametrize("heading", HEADINGS)
def test_each_limit_has_a_source(heading):
    table = rows(heading)
    assert len(table) >= 3
    assert all(seconds(row[1]) and row[-1] for row in table)
