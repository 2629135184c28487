"""`Ping`: its bytes, its boundary, and what it refuses."""

import dataclasses

import pytest

from keepalive import Ping
from keepalive._ping import CRLF, LF, boundary_in, frame_of


@pytest.mark.parametrize(
    ("ping", "payload", "at"),
    [
        (Ping.event(), b"event: ping\ndata: \n\n", "event"),
        (Ping.event("tick", "1"), b"event: tick\ndata: 1\n\n", "event"),
        (Ping.event("x", "a\r\nb\r\n"), b"event: x\ndata: a\ndata: b\ndata: \n\n", "event"),
        (Ping.event("\u00fc", "\u2028"), "event: \u00fc\ndata: \u2028\n\n".encode(), "event"),
        (Ping.comment(), b": ping\n", "line"),
        (Ping.comment(""), b": \n", "line"),
        (Ping.blank_line(), b"\n", "line"),
        (Ping.space(), b" ", "line"),
        (Ping.raw(b"{}\n", at="line"), b"{}\n", "line"),
        (Ping.raw(b": x\n\n", at="event"), b": x\n\n", "event"),
        (Ping.raw(b"   ", at="event"), b"   ", "event"),
        (Ping.raw(b"\n", at="event"), b"\n", "event"),
        (Ping.raw(b"x\r\r\n", at="event"), b"x\r\r\n", "event"),
    ],
)  # fmt: skip
def test_bytes_and_boundary(ping, payload, at):
    assert (ping.payload, ping.at) == (payload, at)
    assert frame_of(ping, LF) == payload


@pytest.mark.parametrize(
    ("ping", "frame"),
    [
        (Ping.event(data="a\nb"), b"event: ping\r\ndata: a\r\ndata: b\r\n\r\n"),
        (Ping.event(data=lambda: "a\nb"), b"event: ping\r\ndata: a\r\ndata: b\r\n\r\n"),
        (Ping.comment(), b": ping\r\n"),
        (Ping.blank_line(), b"\r\n"),
        (Ping.space(), b" "),
        (Ping.raw(b"{}\n", at="line"), b"{}\n"),
    ],
)
def test_line_endings_follow_the_streams_but_for_raw(ping, frame):
    assert frame_of(ping, CRLF) == frame


def test_a_pings_own_payload_follows_too():
    ping = dataclasses.replace(Ping.comment("old"), payload=b": new\n")
    assert frame_of(ping, CRLF) == b": new\r\n"


def test_a_callable_is_asked_each_time_and_not_when_the_ping_is_made():
    texts = iter(["1", "2"])
    ping = Ping.comment(lambda: next(texts))
    assert ping.payload == b": ping\n"
    assert [frame_of(ping, LF), frame_of(ping, CRLF)] == [b": 1\n", b": 2\r\n"]


@pytest.mark.parametrize("text", ["a\nb", "a\rb", None, 7, b"x", "\ud800"])
def test_a_callables_bad_text_is_refused_when_it_comes(text):
    ping = Ping.comment(lambda: text)
    with pytest.raises((TypeError, ValueError)):
        frame_of(ping, LF)
    assert ping.payload == b": ping\n"


def test_a_ping_is_an_immutable_value():
    assert Ping.event() == Ping.event("ping", "")
    assert Ping.event() != Ping.comment()
    assert len({Ping.event(), Ping.event(), Ping.space()}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Ping.event().payload = b""
    assert repr(Ping.space()) == "Ping(payload=b' ', at='line')"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Ping.event("a\nb"),
            ValueError,
            r"name must not contain CR or LF, got 'a\\nb'",
        ),
        (lambda: Ping.event("a\r"), ValueError, "name must not contain CR or LF"),
        (lambda: Ping.event(""), ValueError, "name must not be empty, got ''"),
        (lambda: Ping.event(3), TypeError, "name must be str or a callable, got 3"),
        (lambda: Ping.event(data=b"x"), TypeError, "data must be str or a callable, got b'x'"),
        (lambda: Ping.event("\ud800"), ValueError, "surrogates not allowed"),
        (lambda: Ping.comment("a\nb"), ValueError, "text must not contain CR or LF"),
        (lambda: Ping.comment(None), TypeError, "text must be str or a callable, got None"),
        (lambda: Ping.raw(b"", at="line"), ValueError, "payload must not be empty, got b''"),
        (lambda: Ping.raw("x\n", at="line"), TypeError, r"payload must be bytes, got 'x\\n'"),
        (
            lambda: Ping.raw(b"x", at="line"),
            ValueError,
            "must end at its own boundary .'line'.",
        ),
        (lambda: Ping.raw(b"x\r", at="line"), ValueError, "must end at its own boundary"),
        (lambda: Ping.raw(b"x\n", at="event"), ValueError, "must end at its own boundary"),
        (lambda: Ping.raw(b"x\n", at="word"), ValueError, 'at must be "event" or "line", got'),
    ],
)
def test_bad_input_is_refused_by_name_rule_and_value(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_in_an_event_stream_a_blank_line_needs_the_end_of_an_event():
    assert boundary_in("text/event-stream", Ping.blank_line()) == "event"
    assert boundary_in("application/x-ndjson", Ping.blank_line()) == "line"
    assert boundary_in("text/event-stream", Ping.comment()) == "line"
    assert boundary_in("text/event-stream", Ping.raw(b": x\n\n", at="line")) == "event"
    assert boundary_in("text/event-stream", Ping.raw(b": x\r\n\r\n", at="line")) == "event"
