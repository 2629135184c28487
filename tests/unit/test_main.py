"""`python -m keepalive`: what it parses and records, without the rest of the command."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.harness import run
from support.scripted_connection import EOF, Connection

from keepalive.__main__ import Recorder, Stream, is_round, record_response

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MESSAGE, NAMED = ("event", "event: message"), ("event", "event: a")
PING, COMMENT = ("ping", "event: ping"), ("ping", "comment")
SPACE = ("ping", "whitespace")


def record(*pieces, backend="asyncio"):
    """Record a response that arrives in pieces, one each second, and then ends."""
    seen = Recorder()
    steps = [*enumerate(pieces, 1), (len(pieces) + 1, EOF)]

    async def main():
        connection = Connection(steps)
        await connection.send(b"")
        seen.start("")
        await record_response(Stream(connection), seen)

    run(backend, main)
    return seen


def chunks(*parts):
    return [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]


def found(seen):
    """Return the events and the pings."""
    return [(x.what, x.detail) for x in seen.observations if x.what in ("event", "ping")]


# HTTP/1.1


LINES = b": a\n: b\n\n"
GZIP = zlib.compressobj(wbits=31)
GZIPPED = GZIP.compress(LINES) + GZIP.flush()
ENDED = b"0\r\n\r\n"

RESPONSES = {
    "chunked": CHUNKED + b"3\r\n: a\r\n6\r\n\n: b\n\n\r\n" + ENDED,
    "many digits": CHUNKED + b"0009\r\n: a\n: b\n\n\r\n" + ENDED,
    "chunk extensions": CHUNKED + b"9;a=b\r\n: a\n: b\n\n\r\n0;c\r\n\r\n",
    "trailers": CHUNKED + b"9\r\n: a\n: b\n\n\r\n0\r\nA: b\r\n\r\n",
    "until the end": HEAD + b"\r\n" + LINES,
    "informational": b"HTTP/1.1 103 Early\r\nA: b\r\n\r\n" + HEAD + b"\r\n" + LINES,
    "nothing but informational": b"HTTP/1.1 100\r\n\r\n" + HEAD + b"\r\n" + LINES,
    "only line feeds": CHUNKED.replace(b"\r", b"") + b"9\n: a\n: b\n\n\n0\n\n",
    "gzip": HEAD + b"content-encoding: gzip\r\n\r\n" + GZIPPED,
}


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("size", [10_000, 1, 2, 7])
def test_a_response_in_pieces(backend, name, size):
    data = RESPONSES[name]
    pieces = [data[n : n + size] for n in range(0, len(data), size)]
    seen = record(*pieces, backend=backend)
    assert found(seen) == [COMMENT, COMMENT]
    assert seen.status == 200
    assert seen.length == (len(GZIPPED) if name == "gzip" else len(LINES))


@pytest.mark.parametrize(
    ("head", "status", "length"),
    [
        (HEAD + b"Content-Length: 3\r\n", 200, 3),
        (b"HTTP/1.0 404 Not Found\r\n", 404, 0),
        (b"HTTP/1.1 204 No Content\r\n", 204, 0),
    ],
)
def test_a_response_that_is_not_a_stream_is_not_received(head, status, length):
    seen = record(head + b"\r\n" + LINES)
    assert (seen.status, seen.length, seen.times("data")) == (status, length, [])


def test_headers():
    fields = b"Server: a\r\nX: server: no\r\nSERVER:\tb \r\nSet-Cookie: secret\r\n"
    seen = record(b"HTTP/1.1 200\r\n" + fields + b"\r\n")
    assert [(x.what, x.detail) for x in seen.observations[1:]] == [
        ("response", "HTTP/1.1 200"),
        ("header", "Server: a"),
        ("header", "SERVER: b "),
    ]


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
    with pytest.raises(ValueError, match=r"not HTTP/1\.1|invalid literal"):
        record(data)


# Events and pings


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: x\n\n", [MESSAGE]),
        (b"data: x\ndata: y\nid: 1\n\ndata\n\n", [MESSAGE, MESSAGE]),
        (b"event: a\ndata: x\n\n", [NAMED]),
        (b"event:a\ndata: x\n\ndata\n\n", [NAMED, MESSAGE]),
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
        (b"data: x\n\n\n\ndata: y\n\n", [MESSAGE, MESSAGE]),
        (b"data: \xff\xc3\n\n", [MESSAGE]),
        (b"data: not complete\n", []),
    ],
)
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_events_and_pings(body, expected, newline):
    body = body.replace(b"\n", newline)
    head = HEAD + b"\r\n"
    assert found(record(head, body)) == expected
    assert found(record(head, *(body[n : n + 1] for n in range(len(body))))) == expected


@given(
    st.lists(st.sampled_from([b"data: x\n", b"\n", b": ping\n", b"event: ping\n", b"\r\n"])),
    st.data(),
)
def test_events_and_pings_do_not_depend_on_the_pieces(lines, data):
    body = b"".join(lines)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body))))) if body else []
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    head = HEAD + b"\r\n"
    assert found(record(head, *filter(None, pieces))) == found(record(head + body))


def test_other_media_types():
    head = HEAD.replace(b"text/event-stream", b"application/json") + b"\r\n"
    seen = record(head, b"{", b" ", b"  ", b"\n", b": }\n\n")
    assert found(seen) == [SPACE] * 3
    assert seen.times("data") == [2.0, 3.0, 4.0, 5.0, 6.0]
    assert seen.length == 10


# Times


def test_times_are_those_since_the_last_request():
    seen = record(HEAD + b"\r\n", b"data", b": x")
    assert seen.times("response", "data") == [1.0, 2.0, 3.0]

    async def main():
        seen.start("")

    run("asyncio", main)
    assert seen.times("response", "data") == []
    assert (seen.status, seen.length, seen.headers.items()) == (0, 0, [])


def test_the_end_of_a_body_is_no_data():
    seen = record(CHUNKED, *chunks(b"data", b": x"), ENDED)
    assert seen.times("data") == [2.0, 3.0]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        *((x, True) for x in (1, 1.9, 2, 2.1, 9, 9.3 + 0.3, 29.7, 30, 60.3, 100, 300, 3600)),
        *((x, False) for x in (0, 0.2, 0.5, 1.5, 2.2, 8.5, 12, 57, 61, 102.5)),
    ],
)
def test_round_numbers_of_seconds(seconds, expected):
    assert is_round(seconds) is expected
