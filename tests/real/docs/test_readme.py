"""The README's two programs, on uvicorn: pings, and the end of all streams at a SIGTERM."""

import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from real import parts
from real.docs.how_tos import listening
from real.http_clients import PING
from real.processes import TESTS, Process, running, wait_for

pytestmark = [pytest.mark.real, pytest.mark.slow]

README = (TESTS.parent / "README.md").read_text(encoding="utf-8")
FIRST, SECOND = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
(OUTPUT,) = re.findall(r"^```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
ENDLESS = """
@app.get("/{path:path}")
async def endless() -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        yield "data: x\\n\\n"
        await asyncio.sleep(3600)

    return StreamingResponse(events(), media_type="text/event-stream")
"""
DRAIN = 10.0
PATHS = {"/other": b"", "/events": PING, "/v1/chat": b""}
"""A path of each route that is kept alive, and the ping that comes before the signal."""


def serve(folder: Path, source: str):
    """Serve a program of the README by the command that it gives."""
    assert "Run `uvicorn main:app`" in README
    (folder / "main.py").write_text(source)

    def command(port: int) -> list[str]:
        options = ["--app-dir", str(folder), "--port", str(port), "--log-level", "warning"]
        return [sys.executable, "-m", "uvicorn", "main:app", *options]

    return running("uvicorn", command, folder / "server")


def changed(source: str, changes: dict[str, str]) -> str:
    """Return a program with other durations."""
    for before, after in changes.items():
        assert source.count(before) == 1
        source = source.replace(before, after)
    return source


def test_the_first_program_sends_what_the_page_shows(tmp_path):
    parts.need("fastapi", "uvicorn")
    source = changed(FIRST, {"interval=15.0": "interval=0.6", "sleep(40)": "sleep(1.6)"})
    with serve(tmp_path, source) as server, listening(server, "/think") as stream:
        assert stream.read() == OUTPUT.encode()


def read(server: Process, path: str, done: Callable[[bytes], None]) -> None:
    """Read a stream to its end, and tell what has come after each part."""
    with httpx.stream("GET", server.url(path), timeout=60) as response:
        for part in response.iter_raw():
            done(part)
    done(b"<end>")  # the response was complete


def test_a_sigterm_ends_the_streams_of_all_routes(tmp_path):
    parts.need("fastapi", "uvicorn")
    got: dict[str, list[bytes]] = {path: [] for path in PATHS}
    with serve(tmp_path, FIRST + SECOND + ENDLESS) as server:
        readers = [
            threading.Thread(target=read, args=(server, path, got[path].append))
            for path in PATHS
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
