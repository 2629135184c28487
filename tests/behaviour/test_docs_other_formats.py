"""The page about other formats: each is kept alive, and parses as without pings."""

import csv
import json
import re
from pathlib import Path

import pytest
from support.harness import END, play, start

from keepalive import Ping

FILE = Path(__file__).parents[2] / "docs" / "other-formats.md"
PAGE = FILE.read_text(encoding="utf-8") if FILE.exists() else ""

pytestmark = pytest.mark.skipif(not PAGE, reason="the pages are not in this copy of the tests")

ROWS = dict(re.findall(r"^\| [^|]+ \| `(\S+)` \| `Ping\.(\w+)\(\)` \|$", PAGE, re.MULTILINE))
"""The ping that the page has for each media type."""


def sequence(body: bytes) -> list[object]:
    """Parse a JSON text sequence."""
    before, *records = body.split(b"\x1e")
    assert before == b""
    return [json.loads(record) for record in records]


def data_stream(body: bytes) -> list[object]:
    """Parse the lines of the AI SDK 4 as its parser does: empty ones are skipped."""
    lines = [line for line in body.decode().split("\n") if line]
    return [(line[0], json.loads(line[2:])) for line in lines]


FORMATS = {
    "application/json-seq": ([b'\x1e{"n": 0}\n', b'\x1e{"n": 1}\n'], sequence),
    "application/json": ([b'[\n{"n": 0}', b",\n", b'{"n": 1}\n', b"]\n"], json.loads),
    "text/plain": ([b'0:"Hello"\n', b'0:" you"\n'], data_stream),
}


def served(backend, media_type: str, parts: list[bytes], ping: Ping) -> bytes:
    """Return the body of a response, with a minute after each part."""
    steps = [(60 * number, part) for number, part in enumerate(parts)]
    return play(
        backend,
        [*steps, (60 * len(parts), END)],
        head=start([(b"content-type", media_type.encode())]),
        media_types={media_type: ping},
    ).body


@pytest.mark.parametrize("media_type", FORMATS)
def test_a_format_is_kept_alive_and_parses_as_without(backend, media_type):
    parts, parse = FORMATS[media_type]
    ping = getattr(Ping, ROWS[media_type])()
    body = served(backend, media_type, parts, ping)
    assert len(body) >= len(b"".join(parts)) + 3 * len(ping.payload)
    assert parse(body) == parse(b"".join(parts))


def test_the_table_has_these_formats():
    assert ROWS.keys() == FORMATS.keys()


@pytest.mark.parametrize(
    ("media_type", "parts"),
    [
        ("application/json", [b'[{"n": 0}', b',{"n": 1}]']),
        ("multipart/mixed", [b'--x\r\n\r\n{"n": 0}', b'\r\n--x\r\n\r\n{"n": 1}']),
    ],
)
def test_a_format_without_line_ends_gets_no_pings(backend, media_type, parts):
    assert served(backend, media_type, parts, Ping.blank_line()) == b"".join(parts)


def test_csv_gets_an_empty_row_from_a_blank_line():
    assert list(csv.reader(["a,b\n", "\n", "1,2\n"])) == [["a", "b"], [], ["1", "2"]]
