"""Compression, around ours and inside it: pings are compressed with the rest, or none come."""

import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple

import pytest
from real.compatibility import BOOKS
from real.frameworks.measuring import LULL, Taken, taken
from real.frameworks.reading import Reading, serving
from real.parts import missing, need

pytestmark = [pytest.mark.real, pytest.mark.parts]

BOOK = BOOKS["frameworks"]
TABLE = "compression"
COLUMNS = {"/events": "event stream", "/records": "NDJSON"}
LEFT_ALONE = "compressed, no pings, one warning"
KEPT = "kept alive, compressed"
KEPT_PLAIN = "kept alive, not compressed"


class Stack(NamedTuple):
    """A compressor and ours, one around the other.

    `events` and `records` say what comes of each.
    """

    framework: str
    compressor: str
    place: str
    title: str
    used: tuple[str, ...]
    events: str
    records: str

    def found(self, path: str) -> str:
        """Return what comes of a path."""
        return self.events if path == "/events" else self.records

    @property
    def variant(self) -> str:
        """Where it is served."""
        return f"{self.compressor}-{self.place}"


STARLETTE, COMPRESS = ("starlette", "uvicorn"), ("starlette-compress", "starlette", "uvicorn")
LITESTAR = ("litestar", "uvicorn")
ALL = "`GZipMiddleware(exclude_content_types=())`"
STACKS = [
    Stack("starlette", "gzip", "outside", "Starlette: inside `GZipMiddleware`",
          STARLETTE, KEPT_PLAIN, KEPT),
    Stack("starlette", "gzip", "inside", "Starlette: around `GZipMiddleware`",
          STARLETTE, KEPT_PLAIN, LEFT_ALONE),
    Stack("starlette", "gzip-all", "outside", f"Starlette: inside {ALL}",
          STARLETTE, KEPT, KEPT),
    Stack("starlette", "gzip-all", "inside", f"Starlette: around {ALL}",
          STARLETTE, LEFT_ALONE, LEFT_ALONE),
    Stack("starlette", "compress", "outside", "inside starlette-compress",
          COMPRESS, KEPT, KEPT_PLAIN),
    Stack("starlette", "compress", "inside", "around starlette-compress",
          COMPRESS, LEFT_ALONE, KEPT_PLAIN),
    Stack("litestar", "gzip", "outside", "Litestar: inside `CompressionMiddleware`",
          LITESTAR, KEPT, KEPT),
    Stack("litestar", "gzip", "inside", "Litestar: with `compression_config`",
          LITESTAR, LEFT_ALONE, LEFT_ALONE),
]  # fmt: skip
CASES = [(stack, path) for stack in STACKS for path in COLUMNS]
UNTOUCHED = [(stack, path) for stack, path in CASES if stack.found(path) == LEFT_ALONE]
PINGED = [case for case in CASES if case not in UNTOUCHED]
NEEDED = {"starlette": COMPRESS, "litestar": LITESTAR}


def stream(server, variant, path, *, pings: int) -> Taken:
    """Read a stream to its end, with so many pings in each silence; with none, see it silent.

    Compressors hold the response's start back until the first bytes, be they a ping's.
    """
    with closing(Reading(server, variant, path, {"Accept-Encoding": "gzip"})) as made:
        for number in range(3):
            if pings:
                made.read_pings(pings)
            elif number:
                assert made.is_quiet_for(LULL), "who broke the silence?"
            server.open(made.token)
            if number < 2:
                made.read_item()
        made.read()
        server.open_background(made.token)
        server.wait(made.token, "call over")
        return taken(made)


def measure(server, stack, path) -> list[Taken]:
    """Read a stream of the compressor alone, and two of the stack, one after the other."""
    alone = stream(server, f"{stack.compressor}-alone", path, pings=0)
    pings = 0 if stack.found(path) == LEFT_ALONE else 2
    return [alone, *(stream(server, stack.variant, path, pings=pings) for _ in range(2))]


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    """The frameworks' processes, started at the same time."""
    here = [name for name, parts in NEEDED.items() if not missing(*parts)]
    with serving(here, tmp_path_factory.mktemp("compression")) as running:
        yield running


@pytest.fixture(scope="module")
def measured(servers):
    """All stacks, at the same time."""
    with ThreadPoolExecutor(8) as pool:
        yield {
            (stack, path): pool.submit(measure, servers[stack.framework], stack, path)
            for stack, path in CASES
            if stack.framework in servers
        }


@pytest.fixture
def streams(measured, stack, path):
    """Return the compressor's stream, and two of the stack."""
    need(*NEEDED[stack.framework])
    return measured[stack, path].result()


def each(cases):
    names = [f"{stack.framework}-{stack.variant}{path}" for stack, path in cases]
    return pytest.mark.parametrize(("stack", "path"), cases, ids=names)


def encoding(one):
    return one.headers.get("content-encoding")


@each(PINGED)
def test_pings_go_through_the_compressor(streams, stack, path):
    alone, kept, _ = streams
    assert kept.pings >= 6
    assert kept.app_bytes == alone.app_bytes == alone.body
    added = {"x-accel-buffering": "no", "cache-control": "no-cache, no-transform"}
    assert kept.headers == added | alone.headers
    assert encoding(kept) in (None, "gzip")
    cell = KEPT if encoding(kept) else KEPT_PLAIN
    assert cell == stack.found(path)
    assert not kept.of("warning")
    BOOK.hold(TABLE, stack.title, COLUMNS[path], cell, *stack.used)


def without_time(raw):
    """Return gzip's bytes without the time in their head."""
    assert raw.startswith(b"\x1f\x8b")
    return raw[:4] + raw[8:]


@each(UNTOUCHED)
def test_what_is_compressed_further_in_is_left_alone_and_warned_of_once(streams, stack, path):
    alone, first, second = streams
    for one in (first, second):
        assert one.headers == alone.headers
        assert without_time(one.raw) == without_time(alone.raw)
        assert one.body == alone.body
        assert not one.of("StreamStarted")
    assert encoding(alone) == "gzip"
    (warning,) = first.of("warning")
    assert "add KeepaliveMiddleware inside the compression middleware" in warning["text"]
    assert not second.of("warning")
    BOOK.hold(TABLE, stack.title, COLUMNS[path], LEFT_ALONE, *stack.used)


def test_pings_that_are_not_compressed_spoil_what_is(servers):
    need(*COMPRESS)
    request = (servers["starlette"], "gzip-blind", "/records", {"Accept-Encoding": "gzip"})
    with closing(Reading(*request)) as made:
        made.server.open(made.token, 3)
        with pytest.raises(zlib.error):
            made.read()


def test_the_table_has_a_cell_for_each_test_and_no_other():
    assert BOOK.cells(TABLE) == {(stack.title, COLUMNS[path]) for stack, path in CASES}
