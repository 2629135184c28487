"""`python -m keepalive`: what it parses, records and concludes, without input and output."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepalive.__main__ import Recorder, Response, diagnose, is_round, moments

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def gzipped(data):
    compressor = zlib.compressobj(wbits=31)
    return compressor.compress(data) + compressor.flush()


def parse(data, sizes=(1,)):
    """Parse data in pieces of the sizes given, again and again."""
    response, body, at, turn = Response(), b"", 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        body += response.feed(data[at : at + size])
        at, turn = at + size, turn + 1
    return response, body


# HTTP/1.1


RESPONSES = {
    "chunked": (
        CHUNKED + b"3\r\nabc\r\nB\r\ndefghijklmn\r\n0\r\n\r\n",
        b"abcdefghijklmn",
        True,
    ),
    "not complete": (CHUNKED + b"3\r\nabc\r\nB\r\ndef", b"abcdef", False),
    "line feeds inside": (CHUNKED + b"4\r\na\r\n\n\r\n0\r\n\r\n", b"a\r\n\n", True),
    "chunk extensions": (CHUNKED + b"3;a=b\r\nabc\r\n0;c\r\n\r\n", b"abc", True),
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\nA: b\r\nC: d\r\n\r\n", b"a", True),
    "trailers, not complete": (CHUNKED + b"1\r\na\r\n0\r\nA: b\r\n", b"a", False),
    "until the end": (HEAD + b"\r\nabc\n\ndef", b"abc\n\ndef", False),
    "length": (HEAD + b"Content-Length: 3\r\n\r\nabc", b"", True),
    "error": (b"HTTP/1.0 404 Not Found\r\n\r\nabc", b"", True),
    "informational": (
        b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n" + CHUNKED + b"1\r\na\r\n",
        b"a",
        False,
    ),
    "only line feeds": (CHUNKED.replace(b"\r", b"") + b"1\na\n0\n\n", b"a", True),
    "gzip": (
        HEAD + b"content-encoding: gzip\r\n\r\n" + gzipped(b"abc" * 100),
        b"abc" * 100,
        False,
    ),
}


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("sizes", [(10_000,), (1,), (2, 3), (5, 1, 7)])
def test_a_response_in_pieces(name, sizes):
    data, body, is_complete = RESPONSES[name]
    response, found = parse(data, sizes)
    assert (found, response.is_complete) == (body, is_complete)
    assert response.ends_at_eof == (name in ("until the end", "gzip"))


def test_headers():
    fields = b"Server: a\r\nX: server: no\r\nSERVER:\tb \r\nempty:\r\n"
    response, _ = parse(b"HTTP/1.1 200\r\n" + fields + b"\r\n")
    assert (response.status, response.head.split("\n")[0]) == (200, "HTTP/1.1 200")
    assert response.header("server") == "a, b"
    assert response.header("empty") == response.header("none") == ""


def test_nothing_is_known_before_the_end_of_the_headers():
    response, _ = parse(CHUNKED[:-1])
    assert (response.status, response.is_complete, response.ends_at_eof) == (0, False, False)
    response.feed(b"\n")
    assert response.status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/2 200\r\n",
        b"HTTP/1.1 20\r\n",
        b"\r\n",
        b"220 smtp\r\n",
        CHUNKED + b"x\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"1\r\na\r\nx\r\n",
    ],
)
def test_what_is_not_http(data):
    with pytest.raises(ValueError, match=r"not a status line|invalid literal"):
        parse(data)


def test_compressed_data_that_are_not():
    with pytest.raises(zlib.error):
        parse(HEAD + b"content-encoding: gzip\r\n\r\nabc")


# Events and pings


def record(*pieces, head=CHUNKED, interval=1.0):
    """Record pieces of a body at regular times."""
    seen = Recorder()
    seen.receive(0.0, head)
    for number, piece in enumerate(pieces, 1):
        seen.receive(
            interval * number, b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        )
    return seen


def items(seen):
    return [
        (x.what, x.detail) for x in seen.observations if x.what in ("event", "ping", "data")
    ]


MESSAGE, NAMED, PING = (
    ("event", "event: message"),
    ("event", "event: a"),
    ("ping", "event: ping"),
)
COMMENT, BLANK = ("ping", "comment"), ("ping", "blank line")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: x\n\n", [MESSAGE]),
        (b"data: x\ndata: y\nid: 1\n\ndata\n\n", [MESSAGE, MESSAGE]),
        (b"event: a\ndata: x\n\n", [NAMED]),
        (b"event:a\ndata: x\n\nevent\n\n", [NAMED, MESSAGE]),
        (b"data: x\nevent: b\nevent: a\n\n", [NAMED]),
        (b"data: event: ping\n\n", [MESSAGE]),
        (b"event: ping\ndata: \n\n", [PING]),
        (b'event: ping\ndata: {"type": "ping"}\n\n', [PING]),
        (b"event: pings\n\n", [("event", "event: pings")]),
        (b": ping\n", [COMMENT]),
        (b":\n\n: b\n\n", [COMMENT, COMMENT]),
        (
            b"data: x\n: ping\n: ping\n\n: ping\ndata: y\n\n",
            [COMMENT, COMMENT, MESSAGE, COMMENT, MESSAGE],
        ),
        (b"\n", [BLANK]),
        (b"data: x\n\n\n\ndata: y\n\n", [MESSAGE, BLANK, BLANK, MESSAGE]),
        (b"data: \xff\xc3\n\n", [MESSAGE]),
        (b"data: not complete\n", []),
    ],
)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_events_and_pings(body, expected, newline):
    body = body.replace(b"\n", newline)
    assert items(record(body)) == expected
    assert items(record(*(body[n : n + 1] for n in range(len(body))))) == expected


@given(
    st.lists(st.sampled_from([b"data: x\n", b"\n", b": ping\n", b"event: ping\n", b"\r\n"])),
    st.data(),
)
def test_events_and_pings_do_not_depend_on_the_pieces(lines, data):
    body = b"".join(lines)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body))))) if body else []
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert items(record(*filter(None, pieces))) == items(record(*filter(None, [body])))


def test_other_media_types():
    head = CHUNKED.replace(b"text/event-stream", b"application/json")
    seen = record(b"{", b" ", b"  ", b"\n", b" }", head=head)
    space = ("ping", "whitespace")
    assert items(seen) == [("data", "1 bytes"), *[space] * 4, ("data", "2 bytes")]
    assert seen.size == 7


# Times


def test_arrivals():
    seen = record(b"data: x", b"\n\n", b"")
    assert seen.arrivals == [0.0, 1.0, 2.0]
    assert (seen.end, seen.now) == ("cut off", 3.0)
    seen = record(b"x")
    seen.receive(2.5, b"0\r\n\r\n")
    assert seen.arrivals == [0.0, 1.0]  # the end is no data
    assert (seen.end, seen.now) == ("complete", 2.5)


def test_the_first_byte_is_that_of_the_body():
    assert record().times("first byte") == []
    assert record(b"d", b"a").times("first byte") == [1.0]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        *((x, True) for x in (1, 1.9, 2, 2.1, 9, 9.3 + 0.3, 29.7, 30, 60.3, 100, 300, 3600)),
        *((x, False) for x in (0, 0.2, 0.5, 1.5, 2.2, 8.5, 12, 57, 61, 102.5)),
    ],
)
def test_round_numbers_of_seconds(seconds, expected):
    assert is_round(seconds) is expected


def test_many_moments_are_shortened():
    assert moments([]) == "none"
    assert moments([0.1]) == "1, at 0.1 s"
    assert moments([1.0, 1.0, 2.0]) == "3, at 1.0 (2x), 2.0 s"
    assert moments([float(x) for x in range(8)]).endswith("5.0, 6.0, 7.0 s")
    assert moments([float(x) for x in range(90)]).endswith("5.0, 6.0, ..., 89.0 s")


# Conclusions


def test_a_conclusion_does_not_change_what_it_is_drawn_from():
    seen = record(b"data: x\n\n")
    seen.finish("still open")
    before = list(seen.observations)
    assert list(diagnose(seen)) == list(diagnose(seen))
    assert seen.observations == before
