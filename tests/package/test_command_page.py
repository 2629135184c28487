"""The page about the command shows what is printed, and the advice names real pages."""

import contextlib
import io
import re
import zlib
from pathlib import Path

import pytest
from support.harness import run
from support.scripted_connection import EOF, EVENT, LAST, PING, Connection, chunk, every
from support.sources import SOURCES

from keepalive import __main__ as command

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "command.md").read_text(encoding="utf-8")
SCREENS = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)

GZIP = zlib.compressobj(wbits=31)
HELD = GZIP.compress(EVENT + PING * 3 + EVENT) + GZIP.flush()

HEALTHY = [(0, chunk(EVENT)), *((15 * n - 0.06, chunk(PING)) for n in range(1, 6))]
BUFFERED = [(50, chunk(HELD) + LAST)]
IDLE = [(0, chunk(EVENT)), (60.1, EOF)]
TOTAL = [(0, chunk(EVENT)), *every(5, 59, chunk(PING)), (60, EOF)]


@pytest.mark.parametrize(
    ("screen", "body"), list(zip(SCREENS, (HEALTHY, BUFFERED, IDLE, TOTAL), strict=True))
)
def test_the_page_shows_what_is_printed(screen, body):
    """The page's screens are those of real runs: the same is printed for the same data."""
    (url,) = re.findall(r"^  0.0 s  request  GET (\S+) as browser$", screen, re.MULTILINE)
    fields = re.findall(r"^ *[\d.]+ s  header   (.*)$", screen, re.MULTILINE)
    head = "\r\n".join(["HTTP/1.1 200 OK", *fields, "Transfer-Encoding: chunked", "", ""])
    output = io.StringIO()

    async def connect(*_, **_options):
        return Connection([(0, head.encode()), *body])

    with contextlib.redirect_stdout(output):
        command.main([url], run=lambda main: run("asyncio", main), connect=connect)
    assert output.getvalue() == screen


def test_each_option_is_on_the_page():
    options = set(re.findall(r'add\("(--?\w+)"', SOURCES["__main__"]))
    assert options == set(re.findall(r"^\| `(--?\w+)", PAGE, re.MULTILINE))


def test_each_advice_names_a_page_that_exists():
    pages = set(re.findall(r"docs/[\w/-]+\.md", SOURCES["__main__"]))
    assert len(pages) == 4
    assert [page for page in pages if not (ROOT / page).exists()] == []
