"""What clients make of a response that the middleware starts in its app's place."""

import itertools
import json
import re
import subprocess
import sys
from functools import partial

import httpx
import pytest
from real import parts
from real.browsers.engines import ENGINES
from real.clients.early_start_app import (
    OVERLOADED,
    PINGS,
    REFUSAL,
    REPORT,
    WORDS,
    OnPurposeError,
)
from real.clients.pings import INVISIBLE
from real.compatibility import BOOKS
from real.http_clients import complaints
from real.processes import running

pytestmark = [pytest.mark.real, pytest.mark.parts]

BOOK, TABLE = BOOKS["clients"], "early"
COLUMNS = {
    "answers": "late response",
    "refused": "a late 503",
    "raises": "late exception",
}
REPORTED = {
    "type": "error",
    "error": {"message": REFUSAL["detail"], "type": "api_error", "code": "503"},
    "status": 503,
    "media_type": "application/json",
    "body": json.dumps(REFUSAL),
}
FAILED = {
    "type": "error",
    "error": {"message": "Internal Server Error", "type": "api_error", "code": "500"},
    "status": 500,
    "media_type": None,
    "body": "",
}
AS_EVENTS = {"refused": REPORTED, "raises": FAILED}
AS_JSON = {"answers": REPORT, "refused": REFUSAL, "raises": FAILED}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    parts.need("uvicorn")

    def command(port):
        options = ["--port", str(port), "--lifespan", "off", "--log-level", "warning"]
        return [
            sys.executable,
            "-m",
            "uvicorn",
            "real.clients.early_start_app:application",
            *options,
        ]

    with running("uvicorn", command, tmp_path_factory.mktemp("early")) as process:
        yield process
        on_purpose = ("Traceback (most recent", "in ASGI application", OnPurposeError.__name__)
        found = complaints(process.log)
        assert [line for line in found if not any(words in line for words in on_purpose)] == []


def hold(row, column, found, *used):
    BOOK.hold(TABLE, row, COLUMNS[column], found, *used)


def by_requests(url):
    import requests

    response = requests.get(url, timeout=20)
    return response.status_code, response.content, response.json()


def by_httpx(url):
    response = httpx.get(url, timeout=20)
    return response.status_code, response.content, response.json()


FETCH = """
const response = await fetch(process.argv[1]);
const text = await response.text();
console.log(JSON.stringify([response.status, text, JSON.parse(text)]));
"""


def by_fetch(url):
    command = [parts.NODE, "--input-type=module", "-e", FETCH, url]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    assert not done.stderr
    status, text, value = json.loads(done.stdout)
    return status, text.encode(), value


def by_jq(url):
    command = ["curl", "-sS", "-w", "%{stderr}%{http_code}", url]
    body = subprocess.run(command, capture_output=True, check=True, timeout=30)
    done = subprocess.run(["jq", "."], input=body.stdout, capture_output=True, check=True)
    return int(body.stderr), body.stdout, json.loads(done.stdout)


READERS = {
    "requests, `.json()`": (by_requests, "requests"),
    "httpx, `.json()`": (by_httpx, "httpx"),
    "`fetch` of Node.js": (by_fetch, "program:node"),
    "`curl` and `jq`": (by_jq, "program:curl", "program:jq"),
}
PATHS = {"answers": "report", "refused": "refused", "raises": "raises"}


@pytest.mark.parametrize("what", COLUMNS)
@pytest.mark.parametrize("client", READERS)
def test_who_reads_json_whole_reads_it_after_spaces(server, client, what):
    read, *used = READERS[client]
    parts.need(*used)
    status, body, value = read(server.url(f"/json/{PATHS[what]}"))
    assert status == 200
    assert len(body) - len(body.lstrip(b" ")) >= PINGS
    assert value == AS_JSON[what]
    if what == "answers":
        plain_status, plain, plain_value = read(server.url(f"/plain/{PATHS[what]}"))
        assert (plain_status, plain_value) == (200, value)
        assert body.lstrip(b" ") == plain
    words = {"answers": INVISIBLE, "refused": "the app's JSON, status 200"}
    hold(client, what, words.get(what, "error object, status 200"), *used)


# SDKs, on a path that serves both kinds of responses: one configuration

HELLO = [{"role": "user", "content": "Is all well?"}]


def by_openai(base, case, *, stream):
    import openai

    with openai.OpenAI(api_key="none", base_url=base, max_retries=0) as client:
        try:
            made = client.chat.completions.create(model=case, messages=HELLO, stream=stream)
            return [item.to_dict() for item in (made if stream else [made])]
        except openai.APIError as error:
            kind = type(error).__name__
            return [{"raised": kind, "message": error.message, "type": error.type}]


def by_anthropic(base, case, *, stream):
    import anthropic

    with anthropic.Anthropic(api_key="none", base_url=base, max_retries=0) as client:
        try:
            made = client.messages.create(
                model=case, messages=HELLO, stream=stream, max_tokens=9
            )
            return [item.to_dict() for item in (made if stream else [made])]
        except anthropic.APIError as error:
            kind = type(error).__name__
            return [{"raised": kind, "message": error.api_message, "type": error.type}]


def by_node(base, case, *, stream, sdk):
    reader = f"{sdk}-{'stream' if stream else 'whole'}"
    done = subprocess.run(
        [parts.NODE, "reading.mjs", "early"],
        input=json.dumps([[reader, f"{base}#{case}"]]).encode(),
        cwd=parts.NPM,
        capture_output=True,
        check=True,
        timeout=60,
    )
    (reading,) = json.loads(done.stdout)
    assert (reading["error"], reading["logged"]) == (None, [])
    return reading["got"]


SDKS = {
    "openai": (by_openai, "v1", "openai"),
    "anthropic": (by_anthropic, "", "anthropic"),
    "openai (JavaScript)": (partial(by_node, sdk="openai"), "v1", "npm:openai"),
    "@anthropic-ai/sdk": (partial(by_node, sdk="anthropic"), "", "npm:@anthropic-ai/sdk"),
}
KINDS = {"streaming": True, "not streaming": False}
EXCEPTIONS = {"openai": "APIError", "anthropic": "APIStatusError"}
"""What they raise for an error within a stream; in JavaScript all of them raise `APIError`."""


def read_by(sdk, kind, server, case, *, variant="both"):
    read, path, part = SDKS[sdk]
    parts.need(part)
    return read(server.url(f"/{variant}/{path}").rstrip("/"), case, stream=KINDS[kind])


def words_of(got):
    """Return the words of an answer, in whatever form it has come."""
    text = json.dumps(got)
    return "".join(re.findall(r'"(?:content|text)": "([^"]*)"', text))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sdk", SDKS)
def test_sdks_get_a_late_answer_of_either_kind_on_one_path(server, sdk, kind):
    plain = read_by(sdk, kind, server, "in time", variant="bare")
    assert words_of(plain) == "".join(WORDS)
    assert (len(plain) > 1) == KINDS[kind]
    assert read_by(sdk, kind, server, "in time") == plain
    assert read_by(sdk, kind, server, "answers") == plain
    hold(f"{sdk}, {kind}", "answers", INVISIBLE, SDKS[sdk][2])


FAILURES = {
    "refused": (REFUSAL["detail"], "api_error"),
    "overloaded": (OVERLOADED["error"]["message"], "overloaded_error"),
    "raises": ("Internal Server Error", "api_error"),
}


@pytest.mark.parametrize("case", FAILURES)
@pytest.mark.parametrize("sdk", SDKS)
def test_sdks_raise_a_late_failure_of_a_stream(server, sdk, case):
    (got,) = read_by(sdk, "streaming", server, case)
    message, kind = FAILURES[case]
    raised = EXCEPTIONS.get(sdk, "APIError")
    assert (got["raised"], got["type"]) == (raised, kind)
    if sdk == "@anthropic-ai/sdk":  # its message is the whole object, for its own API's too
        assert json.loads(got["message"])["error"]["message"] == message
    else:
        assert got["message"] == message
    if case in COLUMNS:
        hold(f"{sdk}, streaming", case, f"raises `{raised}`: {message}", SDKS[sdk][2])


@pytest.mark.parametrize("case", ["refused", "raises"])
@pytest.mark.parametrize("sdk", SDKS)
def test_sdks_get_a_late_failure_in_json_if_they_do_not_stream(server, sdk, case):
    (got,) = read_by(sdk, "not streaming", server, case)
    assert got == AS_JSON[case]
    words = {"refused": "the app's JSON, status 200"}
    hold(
        f"{sdk}, not streaming",
        case,
        words.get(case, "error object, status 200"),
        SDKS[sdk][2],
    )


EVENT_SOURCE = "{}: `EventSource`"
LISTEN = """(path) => {
  seen = [];
  opened = 0;
  const source = new EventSource(path);
  source.onopen = () => opened += 1;
  for (const type of ["message", "update", "ping", "error"]) {
    source.addEventListener(type, (event) => {
      seen.push([type, event.data ?? null, source.readyState]);
    });
  }
}"""
CONNECTING = 0


def seen_by(browser, server, path):
    """Return what an `EventSource` sees until it is about to connect again."""
    with browser.tab(server.url("/")) as tab:
        tab.evaluate(LISTEN, path)
        tab.wait_for("seen.some(([type, data]) => type === 'error' && data === null)")
        *seen, end = tab.evaluate("seen")
        complained, opened = tab.complaints, tab.evaluate("opened")
    assert (complained, opened) == ([], 1)
    assert end == ["error", None, CONNECTING]
    return [(kind, data) for kind, data, _ in seen]


def behind_pings(seen):
    """Return what comes behind the first pings; on a slow machine there are more of them."""
    rest = list(itertools.dropwhile(("ping", "").__eq__, seen))
    assert len(seen) - len(rest) >= PINGS
    return rest


def test_a_browser_gets_a_late_answer(engine, browser, server):
    plain = seen_by(browser, server, "/plain/events")
    early = seen_by(browser, server, "/accepted/events")
    assert plain == [("message", "one"), ("update", "two")]
    assert behind_pings(early) == plain
    hold(EVENT_SOURCE.format(engine.title), "answers", INVISIBLE, engine.part)


@pytest.mark.parametrize("what", AS_EVENTS)
def test_a_browser_gets_a_late_failure_as_an_event_and_connects_again(
    engine, browser, server, what
):
    ((kind, data),) = behind_pings(seen_by(browser, server, f"/accepted/{what}"))
    assert (kind, json.loads(data)) == ("error", AS_EVENTS[what])
    hold(
        EVENT_SOURCE.format(engine.title),
        what,
        "`error` event with data; reconnects",
        engine.part,
    )


def test_a_browser_gives_up_at_an_early_failure(browser, server):
    """The twin: what the same app's refusal does without the middleware."""
    with browser.tab(server.url("/")) as tab:
        tab.evaluate(LISTEN, "/plain/refused")
        tab.wait_for("seen.length")
        assert tab.evaluate("seen") == [["error", None, 2]]
        assert tab.evaluate("opened") == 0


def test_the_table_has_all_its_cells_and_no_other():
    browsers = [EVENT_SOURCE.format(engine.title) for engine in ENGINES]
    rows = [*READERS, *(f"{sdk}, {kind}" for sdk in SDKS for kind in KINDS), *browsers]
    assert BOOK.cells(TABLE) == {(row, column) for row in rows for column in COLUMNS.values()}
