"""What the page about troubleshooting says of the middleware, on the virtual clock."""

import io
import logging
import re
from pathlib import Path

import pytest
from support.endings import BYE, Log, X, shut_down
from support.harness import END, http, play

from keepalive import KeepaliveMiddleware, get_stream
from keepalive.testing import timeline

FILE = Path(__file__).parents[2] / "docs" / "troubleshooting.md"
PAGE = FILE.read_text(encoding="utf-8") if FILE.exists() else ""

pytestmark = pytest.mark.skipif(not PAGE, reason="the pages are not in this copy of the tests")


def section(title: str) -> str:
    """Return the text of a section of the page."""
    _, _, rest = PAGE.partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0]


def test_the_log_shows_a_stream():
    (program,) = re.findall(
        r"^```python\n(import logging.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
    )
    (output,) = re.findall(
        r"^```text\n(.*?)^```$", PAGE[: PAGE.index("\n## ")], re.MULTILINE | re.DOTALL
    )
    names: dict[str, object] = {}
    logger = logging.getLogger("keepalive")
    handlers, level = logger.handlers[:], logger.level
    try:
        exec(program, names)
        stream = io.StringIO()
        names["handler"].setStream(stream)
        play("asyncio", [(40, END)], scope=http("/events"))
        logger.warning("something else")
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)
    started_and_ended, _, other = stream.getvalue().rpartition("keepalive: something else")
    assert started_and_ended == output
    assert other == ", path -, route -, ping -, reason -\n"


def test_an_excluded_route_has_a_stream_too(backend):
    found = []

    async def ask(scope, receive, send):
        found.append(get_stream(scope).signal.aborted)

    play(backend, [(0, ask), (1, END)], routes={"/": None})
    assert found == [False]


def rows() -> list[tuple[str, str, str]]:
    table = re.findall(r"^\| `(/[^`]*)` \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    assert len(table) == 3
    return table


def paths(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


async def silent(scope, receive, send):
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while (await receive())["type"] != "http.disconnect":
        pass


@pytest.mark.parametrize(("pattern", "matching", "others"), rows() if PAGE else [])
def test_the_patterns_match_what_the_page_says(pattern, matching, others):
    app = KeepaliveMiddleware(silent, interval=15.0, routes={pattern: 1.0})
    for cell, first in ((matching, 1.0), (others, 15.0)):
        assert paths(cell)
        for path in paths(cell):
            assert timeline(app, path, seconds=16.0)[1][0] == first, path


# The numbers of a shutdown


def test_the_shutdown_fits_into_the_formula(backend):
    """An app that ignores the shutdown is cancelled a second after `drain`."""
    log = Log()
    world = shut_down(backend, log, [(0, X), (0, log.stay)], drain=6)
    assert world.timeline[-2:] == [(26, BYE), (26, END)]
    assert log == [(27, "cancelled")]


def test_the_table_follows_the_formula():
    numbers = re.findall(
        r"^\| \w+ \| (\d+) s \| `--timeout-graceful-shutdown (\d+)` \| `drain=(\d+)` \|$",
        section("Waiting for connections to close"),
        re.MULTILINE,
    )
    assert len(numbers) == 3
    for killed, limit, drain in [map(int, row) for row in numbers]:
        assert (limit, drain) == (killed - 1, killed - 4)
    assert "    drain=6.0,\n" in PAGE
