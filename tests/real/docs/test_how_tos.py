"""The how-tos that add the middleware to a framework: their programs, served as they say."""

import re
import signal
from collections.abc import Callable

import httpx
import pytest
from real import parts
from real.browsers.engines import CHROMIUM
from real.docs.how_tos import FOLDER, QUICKLY, HowTo, listening
from real.frameworks.mcp_client import HEADERS, NEWER, VERSION, message, metadata
from real.http_clients import PING, complaints, parsed, split_pings
from real.processes import PATIENCE, running

pytestmark = [pytest.mark.real, pytest.mark.parts]

COMMENT = b": ping\n"

APPS = [
    ("starlette", "/think"),
    ("fastapi", "/think"),
    ("fastapi", "/native"),
    ("litestar", "/think"),
    ("quart", "/think"),
    ("django", "/think"),
    ("falcon", "/think"),
    ("blacksheep", "/think"),
    ("blacksheep", "/news"),
    ("sanic", "/think"),
]
SAID = {"/think": "thinking", "/native": "thinking", "/news": "news"}

INDEX = (FOLDER.parent / "index.md").read_text(encoding="utf-8")
ELSEWHERE = {"mcp", "mcp-restarts", "vllm", "migrate-from-sse-starlette"}
"""Pages of the same kind with tests of their own."""


def pings(count: int, ping: bytes = PING) -> Callable[[bytes], bool]:
    """Whether a body has so many pings between its events."""
    return lambda body: split_pings(body, ping)[1] >= count


@pytest.mark.parametrize(("name", "path"), APPS, ids=map("".join, APPS))
def test_the_app_of_a_framework_is_kept_alive(tmp_path, name, path):
    page = HowTo(name)
    page.need()
    with page.running(tmp_path) as process:
        with listening(process, path) as stream:
            body = stream.read_until(pings(2))
        ((kind, data, _, _),) = parsed(split_pings(body)[0])
        assert (kind, data.strip('"')) == ("message", SAID[path])


def test_every_framework_of_the_list_is_tried():
    _, _, frameworks = INDEX.partition(':caption: "How-to: frameworks"\n')
    names = re.findall(r"<how-to/([\w-]+)>$", frameworks.partition("```")[0], re.MULTILINE)
    assert set(names) == {name for name, _ in APPS} | ELSEWHERE


@pytest.mark.parametrize("name", sorted({name for name, _ in APPS}))
def test_a_page_tells_the_path_to_ask_for(name):
    assert HowTo(name).paths == ["/think"]


def test_blacksheep_ends_a_generator_by_its_signal(tmp_path):
    """One that goes on keeps uvicorn from ending."""
    page = HowTo("blacksheep")
    page.need()
    with page.running(tmp_path) as process:
        with listening(process, "/news") as stream:
            stream.read_until(pings(2))
        process.process.send_signal(signal.SIGTERM)
        assert process.gone_within(PATIENCE)


def test_django_leaves_a_stream_uncompressed_that_says_so(tmp_path):
    page = HowTo("django")
    page.need()
    (headers,) = re.findall(r"`(headers=.*?)`", page.text)
    zipped = 'MIDDLEWARE=["django.middleware.gzip.GZipMiddleware"], SECRET_KEY'
    changes = QUICKLY | {"SECRET_KEY": zipped}
    with (
        page.running(tmp_path / "gzip", changes) as process,
        listening(process, "/think") as stream,
    ):
        assert stream.response.headers["content-encoding"] == "gzip"
    changes |= {'"text/event-stream"': f'"text/event-stream", {headers}'}
    with (
        page.running(tmp_path / "identity", changes) as process,
        listening(process, "/think") as stream,
    ):
        stream.read_until(pings(2))


def called(process, headers, call) -> bytes:
    """Call the tool; return the body up to its second ping."""
    with listening(process, "/mcp", "POST", headers=HEADERS | headers, json=call) as stream:
        return stream.read_until(
            lambda body: len(re.findall(rb"^: ping\r$", body, re.MULTILINE)) >= 2
        )


def test_a_call_of_an_mcp_tool_is_kept_alive(tmp_path):
    page = HowTo("mcp")
    page.need()
    client = {"name": "tests", "version": "0"}
    hello = message(
        "initialize", 1, protocolVersion=VERSION, capabilities={}, clientInfo=client
    )
    call = message("tools/call", 2, name="think", arguments={}, _meta={"progressToken": 1})
    with page.running(tmp_path) as process:
        address = process.url("/mcp")
        answer = httpx.post(address, headers=HEADERS, json=hello, timeout=PATIENCE)
        headers = {
            "Mcp-Session-Id": answer.headers["mcp-session-id"],
            "Mcp-Protocol-Version": VERSION,
        }
        assert b"notifications/progress" in called(process, headers, call)


def test_a_call_of_an_mcp_tool_is_kept_alive_by_the_newer_protocol(tmp_path):
    page = HowTo("mcp")
    page.need()
    assert f"of {NEWER}" in page.text
    headers = {"Mcp-Protocol-Version": NEWER, "Mcp-Method": "tools/call", "Mcp-Name": "think"}
    call = message("tools/call", 1, name="think", arguments={}, _meta=metadata())
    with page.running(tmp_path) as process:
        assert b"notifications/progress" in called(process, headers, call)


def middlewares(page: HowTo) -> list[str]:
    """Return what the commands of the page give to `--middleware`."""
    commands = [words for words in page.commands if "vllm" in words]
    return [words[words.index("--middleware") + 1] for words in commands]


def test_vllm_loads_the_class_and_keeps_its_answers_alive(tmp_path):
    """As vLLM's source does it; vLLM itself is no part of the tests."""
    parts.need("fastapi", "openai")
    import openai
    from real.docs import vllm_like

    page = HowTo("vllm")
    assert middlewares(page) == ["keepalive.KeepaliveMiddleware", "options.Keepalive"]
    path = middlewares(page)[1]
    page.saved(tmp_path, "options.py", {"interval=10.0": "interval=0.1"})
    environ = {vllm_like.MIDDLEWARE: path}
    with running("vllm", vllm_like.command, tmp_path, environ) as process:
        question = {
            "model": "m",
            "stream": True,
            "messages": [{"role": "user", "content": "?"}],
        }
        with listening(process, "/v1/chat/completions", "POST", json=question) as stream:
            body = stream.read()
        assert body.startswith(COMMENT * 2)
        client = openai.OpenAI(base_url=process.url("/v1"), api_key="none", max_retries=0)
        with client, client.chat.completions.create(**question) as chunks:
            words = [chunk.choices[0].delta.content for chunk in chunks]
        assert words == vllm_like.WORDS
        assert complaints(process.log) == []


def test_vllm_is_given_what_it_takes():
    """A name that is neither a class nor a coroutine function is refused as vLLM does."""
    parts.need("fastapi")
    from real.docs import vllm_like

    with pytest.raises(ValueError, match="class"):
        vllm_like.imported("keepalive.on_signals")
    assert vllm_like.imported("keepalive.KeepaliveMiddleware")


@pytest.mark.parametrize("engine", [CHROMIUM], indirect=True, ids=["Chromium"])
def test_fastapi_serves_browsers_and_openais_sdk_on_one_app(browser, tmp_path):
    """And each gets the ping that the page says."""
    parts.need("fastapi", "openai")
    import openai

    page = HowTo("fastapi")
    assert 'base_url="http://127.0.0.1:8000/v1"' in page.text
    changes = QUICKLY | {"sleep(60)": "sleep(1)"}
    with page.running(tmp_path, changes) as process:
        question = {
            "model": "m",
            "messages": [{"role": "user", "content": "?"}],
            "stream": True,
        }
        client = openai.OpenAI(base_url=process.url("/v1"), api_key="none", max_retries=0)
        with client, client.chat.completions.create(**question) as chunks:
            assert [chunk.choices[0].delta.content for chunk in chunks] == ["42"]
        with listening(process, "/v1/chat/completions", "POST", json=question) as stream:
            assert stream.read().startswith(COMMENT * 2)
        with browser.tab(process.url("/docs")) as tab:
            tab.evaluate(READ_IN_A_PAGE)
            tab.wait_for("seen.includes('42') && text.includes('42')", "both answers")
            assert set(tab.evaluate("seen")) == {"thinking", "ping", "42"}
            text = tab.evaluate("text")
        assert text.startswith("data: thinking\n\n: ping\n")
        assert complaints(process.log) == []


READ_IN_A_PAGE = """() => {
  seen = []; text = '';
  const source = new EventSource('/think');
  source.onmessage = (event) => {
    seen.push(event.data);
    if (event.data === '42') source.close();
  };
  source.addEventListener('ping', () => seen.push('ping'));
  fetch('/think').then((got) => got.text()).then((whole) => { text = whole; });
}"""
