"""What is read off headers and messages: sizes, charsets, line ends."""

import json

import pytest
from support.harness import BROWSER, END, PING, START, http, play, start

from keepalive import Ping, StopReason

pytestmark = pytest.mark.timeout(20)

X = b"data: x\n\n"


def request(data, *, more):
    return {"type": "http.request", "body": data, "more_body": more}


def uploading(*messages):
    def prepare(world):
        world.requests = [*messages]
        world.leave_at = 40

    return prepare


async def read_one(scope, receive, send):
    await receive()


# the length of an upload


@pytest.mark.parametrize(
    "other", [(b"dnt", b"1"), (b"upgrade-insecure-requests", b"1"), (b"x-size", b"5")]
)
@pytest.mark.parametrize("first", [True, False], ids=["before it", "behind it"])
def test_no_other_number_is_taken_for_the_content_length(backend, other, first):
    """The middleware reads ahead behind a request's body, and never before its end."""
    length = (b"content-length", b"11")
    headers = [other, length] if first else [length, other]
    prepare = uploading(request(b"hello", more=True), request(b" world", more=False))
    world = play(
        backend,
        [(1, read_one), (100, END)],
        scope=http(method="POST", headers=headers),
        prepare=prepare,
    )
    assert world.asked == 1
    assert world.ended.reason is StopReason.COMPLETED


@pytest.mark.parametrize("length", [None, b"11"])
def test_a_browsers_upload_is_not_read_ahead(backend, length):
    headers = [*BROWSER, (b"content-length", length)] if length else BROWSER
    prepare = uploading(request(b"hello", more=True), request(b" world", more=False))
    scope = http(method="POST", headers=headers)
    world = play(backend, [(1, read_one), (100, END)], scope=scope, prepare=prepare)
    assert world.asked == 1


def test_the_end_of_a_browsers_upload_is_known_by_its_length(backend):
    """Some servers tell it in a message of its own."""
    prepare = uploading(request(b"hello", more=True), request(b"", more=False))
    scope = http(method="POST", headers=[*BROWSER, (b"content-length", b"5")])
    world = play(backend, [(100, END)], scope=scope, prepare=prepare)
    assert (world.ended.reason, world.ended.duration) == (StopReason.DISCONNECTED, 40)


# what is counted of files


PATH_SEND = {"type": "http.response.pathsend", "path": "/etc/hostname"}
ZERO_COPY = {"type": "http.response.zerocopysend", "file": 3, "offset": 0, "count": 100}


def test_a_path_that_is_sent_counts_no_bytes(backend):
    world = play(backend, [(20, PATH_SEND)])
    assert world.sent[-1][1] is PATH_SEND
    assert (world.ended.reason, world.ended.bytes_sent) == (StopReason.COMPLETED, len(PING))


@pytest.mark.parametrize("more", [False, True])
def test_a_file_that_is_sent_counts_no_bytes(backend, more):
    message = ZERO_COPY | {"more_body": more}
    steps = [(1, X), (10, message), *([(12, END)] if more else [])]
    world = play(backend, steps)
    assert (1, X) in world.timeline
    assert world.ended.bytes_sent == len(X)
    assert world.ended.duration == (12 if more else 10)


# the charset of a late response


def told(backend, content_type, data):
    """Return the text that a client is told of a response that comes too late."""
    steps = [(30, start([(b"content-type", content_type)])), (30, data), (30, END)]
    world = play(
        backend,
        steps,
        head=None,
        scope=http(headers=[(b"accept", b"text/event-stream")]),
        start_after=20,
    )
    (event,) = [what for _, what in world.timeline if what not in (START, PING, END)]
    lines = event.decode().splitlines()
    return json.loads(lines[1].removeprefix("data: "))["body"]


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        (b"text/plain", "é".encode()),
        (b"text/plain; charset=utf-8", "é".encode()),
        (b"text/plain; charset=latin-1", "é".encode("latin-1")),
        (b"text/plain; version=1; charset=latin-1", "é".encode("latin-1")),
        (b"text/plain; version=latin-1", "é".encode()),
        (b"charset=latin-1", "é".encode()),
        (b"text/plain; charset=nonsense", "é".encode()),
    ],
)
def test_a_late_response_is_reported_in_its_own_charset(backend, content_type, data):
    assert told(backend, content_type, data) == "é"


# line ends


def test_a_ping_has_the_line_ends_of_a_body_that_has_both(backend):
    """CRLF within, LF at its end: it stands between events, and has sent CRLF."""
    steps = [(1, X), (2, b"data: a\r\ndata: b\n\n"), (20, END)]
    assert play(backend, steps).timeline[-2:] == [
        (17, PING.replace(b"\n", b"\r\n")),
        (20, END),
    ]


@pytest.mark.parametrize(
    ("data", "pings"),
    [
        (b"data: a\r\n\r\n", 1),
        (b"data: a\r\n\n", 1),
        (b"data: a\n\r\n", 1),
        (b"data: a\r\r", 0),  # a CR may be the first half of a CRLF
        (b"data: a\n\ndata: b\r\n", 0),
        (b"data: a\r\ndata: b\n\n", 1),
        (b"data: a\rdata: b\n\n", 1),
    ],
)
def test_a_ping_is_sent_between_events_whatever_their_line_ends(backend, data, pings):
    for before in ([], [(1, X)]):
        world = play(backend, [*before, (2, data), (20, END)])
        assert world.ended.pings == pings


@pytest.mark.parametrize("before", [[], [(1, X)], [(1, X), (1.5, X)]])
def test_a_bom_is_data_after_the_first_event(backend, before):
    """So that its line is not blank, and no ping stands behind it."""
    world = play(backend, [*before, (2, b"\xef\xbb\xbf\n"), (20, END)])
    assert world.ended.pings == (0 if before else 1)


@pytest.mark.parametrize("parts", [[b"\xef\xbb\xbf", X], [b"\xef", b"\xbb\xbf" + X]])
def test_whole_events_after_a_bom_leave_the_stream_between_events(backend, parts):
    steps = [(number, part) for number, part in enumerate([*parts, X, X])]
    world = play(backend, [*steps, (20, END)], ping=Ping.event())
    assert world.ended.pings == 1
