"""The README's configuration on uvicorn: a SIGTERM ends all of its streams in time."""

import re
import signal
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest
from real import parts
from real.processes import TESTS, running, wait_for

pytestmark = [pytest.mark.real, pytest.mark.slow]

README = TESTS.parent / "README.md"
STUB = '    """Be any ASGI app: Starlette, FastAPI, Litestar, Quart, Django, ..."""\n'
ENDLESS = """\
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: x\\n\\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
"""
DRAIN = 10.0
PATHS = {"/other": b"", "/events": b"event: ping\ndata: \n\n", "/v1/chat": b""}
"""A path of each route that is kept alive, and the ping that comes before the signal."""


def write_app(folder: Path) -> None:
    """Write the README's Python as one module, with an app that never ends by itself."""
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    source = "\n".join(blocks)
    assert STUB in source
    (folder / "readme_app.py").write_text(source.replace(STUB, ENDLESS))


def read(url: str, got: list[bytes]) -> None:
    with httpx.stream("GET", url, timeout=60) as response:
        got.extend(response.iter_raw())
    got.append(b"<end>")  # the response was complete


def test_a_sigterm_ends_the_streams_of_all_routes(tmp_path):
    parts.need("uvicorn")
    write_app(tmp_path)
    got = {path: [] for path in PATHS}

    def command(port):
        options = ["--app-dir", str(tmp_path), "--port", str(port), "--log-level", "warning"]
        return [sys.executable, "-m", "uvicorn", "readme_app:wrapped", *options]

    with running("uvicorn", command, tmp_path / "server") as server:
        readers = [
            threading.Thread(target=read, args=(server.url(path), got[path])) for path in PATHS
        ]
        for reader in readers:
            reader.start()
        wait_for(lambda: all(got.values()), "the first event of each stream")
        wait_for(lambda: PATHS["/events"] in got["/events"], "a ping")
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert server.gone_within(DRAIN + 10)
        for reader in readers:
            reader.join(10)
    assert time.monotonic() - began < DRAIN + 10
    for path, chunks in got.items():
        body = b"".join(chunks)
        assert body.startswith(b"data: x\n\n"), path
        assert body.endswith(b"event: stopping\ndata: \n\n<end>"), path
