"""The boundary tracker: exhaustive, against a reading of whole streams by WHATWG's rules."""

import itertools

import httpx_sse
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.event_streams import events_of, is_at, lines_of
from support.harness import PING
from support.internals import CRLF, LF, boundary_in, frame_of

from keepalive import Ping
from keepalive._boundary import BOM, BomFilter, BoundaryTracker

STRINGS = [
    "".join(letters).encode()
    for length in range(8)
    for letters in itertools.product("\r\nx", repeat=length)
]


def splits(stream: bytes):
    """Return every way of cutting a stream into chunks."""
    for cuts in itertools.product((False, True), repeat=max(len(stream) - 1, 0)):
        chunks, at = [], 0
        for index, cut in enumerate(cuts, 1):
            if cut:
                chunks.append(stream[at:index])
                at = index
        yield [*chunks, stream[at:]] if stream else []


def position_after(chunks) -> BoundaryTracker:
    position = BoundaryTracker()
    for chunk in chunks:
        position.feed(chunk)
    return position


@pytest.mark.slow
def test_every_string_in_every_split():
    for stream in STRINGS:
        event, line = is_at(stream, "event"), is_at(stream, "line")
        newline = CRLF if CRLF in stream else LF
        for chunks in splits(stream):
            position = position_after(chunks)
            assert position.is_at("event") is event, chunks
            assert position.is_at("line") is line, chunks
            assert position.newline == newline, chunks


def test_the_table_has_both_kinds_of_every_answer():
    for boundary in ("event", "line"):
        assert {is_at(stream, boundary) for stream in STRINGS} == {True, False}


@pytest.mark.parametrize("prefix", [BOM, BOM + b"x", b"\xef", b"\xef\xbb", b"x" + BOM])
@pytest.mark.parametrize("rest", [b"", b"\n", b"\r", b"\r\n", b"\n\n", b"x\n", b"\xbf\n\n"])
def test_a_bom_at_the_start_is_ignored(prefix, rest):
    for chunks in splits(prefix + rest):
        position = position_after(chunks)
        assert position.is_at("event") is is_at(prefix + rest, "event"), chunks
        assert position.is_at("line") is is_at(prefix + rest, "line"), chunks


def test_a_position_that_was_lost_is_found_at_the_next_boundary():
    position = position_after([b"\n\n"])
    position.mark_unknown()
    assert not position.is_at("line")
    position.feed(b"\n")
    assert position.is_at("line")
    assert not position.is_at("event")
    position.feed(b"\n")
    assert position.is_at("event")


@pytest.mark.parametrize("stream", [BOM + b"x", BOM, BOM + BOM, b"\xef\xbbx", b"xyz", b"\xef"])
def test_the_bom_filter_leaves_out_one_bom_and_nothing_else(stream):
    for chunks in splits(stream):
        out, bom, decided = b"", BomFilter(), False
        for index, chunk in enumerate(chunks, 1):
            if decided:
                out += chunk
                continue
            data, decided = bom.feed(chunk, more=index < len(chunks))
            out += data
        assert decided
        assert out == stream.removeprefix(BOM), chunks


# A ping at a boundary changes no event; one anywhere else does change some.


def with_pings(chunks, ping: Ping, boundary) -> bytes:
    """Return a stream with a ping wherever one may stand."""
    position, out = BoundaryTracker(), b""
    for chunk in chunks:
        position.feed(chunk)
        out += chunk
        if position.is_at(boundary):
            out += frame_of(ping, position.newline)
    return out


PINGS = [Ping.event(), Ping.comment(), Ping.blank_line(), Ping.raw(b": x\n\n", at="line")]


@pytest.mark.parametrize("ping", PINGS, ids=["event", "comment", "blank", "raw"])
def test_pings_at_boundaries_change_no_event_of_any_string(ping):
    boundary = boundary_in("text/event-stream", ping)
    for letters in itertools.product([b"\r", b"\n", b"data:x"], repeat=6):
        stream = b"".join(letters)
        for chunks in ([stream], letters, [stream[:7], stream[7:]], byte_by_byte(stream)):
            pinged = with_pings([chunk for chunk in chunks if chunk], ping, boundary)
            assert events_of(pinged) == events_of(stream), chunks


def byte_by_byte(stream: bytes) -> list[bytes]:
    return [stream[i : i + 1] for i in range(len(stream))]


@pytest.mark.parametrize("ping", PINGS, ids=["event", "comment", "blank", "raw"])
def test_the_same_pings_one_byte_further_do_change_events(ping):
    stream = b"data: a\ndata: b\n\ndata: c\n\n"
    broken = [
        cut
        for cut in range(len(stream))
        if events_of(stream[:cut] + ping.payload + stream[cut:]) != events_of(stream)
    ]
    boundary = boundary_in("text/event-stream", ping)
    at_boundaries = [
        cut
        for cut in range(len(stream))
        if position_after([stream[:cut]] if cut else []).is_at(boundary)
    ]
    assert at_boundaries
    assert broken
    assert not set(broken) & set(at_boundaries)


@st.composite
def real_looking_streams(draw):
    """Events as apps write them, with one line ending or several, cut anywhere."""
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    text = st.text(
        st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=12
    )
    field = st.one_of(
        st.builds("data: {}".format, text),
        st.builds("event: {}".format, text),
        st.builds(": {}".format, text),
        st.builds("id: {}".format, st.integers(0, 9)),
    )
    events = draw(st.lists(st.lists(field, min_size=1, max_size=4), max_size=5))
    stream = "".join(
        "".join(f + newline for f in event) + newline for event in events
    ).encode()
    cuts = draw(st.lists(st.integers(0, len(stream)), max_size=8))
    edges = sorted({0, len(stream), *cuts})
    return [stream[a:b] for a, b in itertools.pairwise(edges)]


def httpx_sse_events(stream: bytes):
    decoder = httpx_sse._decoders.SSEDecoder()
    lines = lines_of(stream)
    decoded = [decoder.decode(line.decode()) for line in lines]
    return [
        (event.event, event.data)
        for event in decoded
        if event is not None
        and (event.event, event.data) != ("ping", "")
        # without data: the parser reports an event that WHATWG's rules drop
        and event.data
    ]


@given(real_looking_streams(), st.sampled_from([Ping.event(), Ping.comment()]))
def test_real_looking_streams_keep_their_events_for_two_parsers(chunks, ping):
    stream = b"".join(chunks)
    pinged = with_pings(chunks, ping, boundary_in("text/event-stream", ping))
    assert events_of(pinged) == events_of(stream)
    assert httpx_sse_events(pinged) == httpx_sse_events(stream)


def test_the_reading_itself():
    assert events_of(b"data: a\r\ndata: b\r\revent: e\ndata\n\ndata: cut") == [
        ("message", "a\nb"),
        ("e", ""),
    ]
    assert events_of(PING) == []
