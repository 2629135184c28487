"""The notes on deployment: request limits, streams from threads, options of granian."""

import subprocess
import sys

import httpx
import pytest
from real import parts
from real.docs.how_tos import HowTo, listening
from real.http_clients import PING
from real.processes import PATIENCE, running, wait_for

pytestmark = [pytest.mark.real, pytest.mark.parts]

PAGE = HowTo("deployment-notes")
FEED = """
async def app(scope, receive, send):
    headers = [(b"content-type", b"text/event-stream")]
    if scope["path"] != "/feed":
        headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while scope["path"] == "/feed" and (await receive())["type"] != "http.disconnect":
        pass
    await send({"type": "http.response.body"})
"""


def program(count: int, changes: dict[str, str]) -> str:
    """Return the first Python blocks of the page, with some changes."""
    blocks = PAGE.text.split("```python\n")[1 : count + 1]
    source = "".join(block.partition("```")[0] for block in blocks)
    for before, after in changes.items():
        assert before in source
        source = source.replace(before, after)
    return source


def serve(folder, source, *options):
    folder.mkdir(exist_ok=True)
    (folder / "main.py").write_text(source)

    def command(port):
        return [sys.executable, "-m", "uvicorn", "main:app", "--port", str(port), *options]

    return running("uvicorn", command, folder)


@pytest.mark.parametrize(
    ("lifetime", "ends"), [("max_lifetime=2.0", True), ("drain=2.0", False)]
)
def test_a_worker_at_its_request_limit_waits_for_streams_without_a_lifetime(
    tmp_path, lifetime, ends
):
    parts.need("uvicorn")
    stub = "async def app(scope, receive, send): ...\n"
    source = program(1, {stub: FEED, "max_lifetime=600.0": f"interval=0.2, {lifetime}"})
    limit = ("--limit-max-requests", "4", "--lifespan", "off")
    with serve(tmp_path, source, *limit) as process, listening(process, "/feed") as stream:
        stream.read_until(lambda body: PING in body)
        while "Maximum request limit" not in process.log:
            try:
                httpx.get(process.url("/"), timeout=PATIENCE)
            except httpx.HTTPError:
                break
        wait_for(
            lambda: "Waiting for connections to close" in process.log, "the server's wait"
        )
        if ends:
            assert stream.read().endswith(b"event: reconnect\ndata: \n\n")
            assert process.gone_within(PATIENCE)
        else:
            count = stream.body.count(PING)
            stream.read_until(lambda body: body.count(PING) > count + 15)  # three seconds
            assert process.gone_at is None


def test_a_generator_in_a_thread_ends_when_its_client_disconnects(tmp_path):
    parts.need("starlette", "uvicorn")
    loop = "                continue\n"
    changes = {
        "news.get(timeout=1)": "news.get(timeout=0.1)",
        "KeepaliveMiddleware, drain=5.0": "KeepaliveMiddleware, interval=0.2",
        loop: f"{loop}        print('over', flush=True)\n",
    }
    with serve(tmp_path, program(2, changes)) as process:
        with listening(process, "/feed") as stream:
            stream.read_until(lambda body: PING in body)
            assert "over" not in process.log
        wait_for(lambda: "over" in process.log, "the end of the generator")


def test_granian_has_the_options_for_http_2():
    parts.need("granian")
    done = subprocess.run(
        [sys.executable, "-m", "granian", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    for option in ("--http2-keep-alive-interval", "--http2-keep-alive-timeout"):
        assert option in done.stdout
        assert f"`{option}`" in PAGE.text
