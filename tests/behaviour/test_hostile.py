"""What a client can and can't make the middleware do: what the page "Security" claims."""

import logging

import anyio
import pytest
from support.harness import BACKENDS, END, PING, START, body, http, play

from keepalive import KeepaliveMiddleware, Ping, Policy, StreamEnded

on_both = pytest.mark.parametrize("backend", BACKENDS)
FORGED = "/a\r\n2026-01-01 ERROR forged\x1b[31m"


class Lines(logging.Handler):
    """Keeps what a plain formatter makes of each record."""

    def __init__(self):
        super().__init__()
        self.lines = []
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))

    def emit(self, record):
        self.lines.append(self.format(record))


@pytest.fixture
def lines():
    logger, handler = logging.getLogger("keepalive"), Lines()
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    yield handler.lines
    logger.setLevel(level)
    logger.removeHandler(handler)


@on_both
def test_a_path_forges_no_line_of_the_log(backend, lines):
    world = play(backend, [(20, END)], scope=http(FORGED))
    assert world.ended.path == FORGED
    assert lines == ["DEBUG stream started", "DEBUG stream ended"]
    assert "\n" not in repr(world.ended)
    assert "\x1b" not in repr(world.ended)


@on_both
def test_a_path_forges_no_line_where_a_callable_fails(backend, lines):
    def fails(scope):
        raise LookupError

    play(backend, [(1, END)], scope=http(FORGED), routes=fails, abort=fails)
    assert not any("forged" in line for line in lines)
    assert {line.splitlines()[0] for line in lines} == {
        "ERROR the routes callable failed",
        "DEBUG stream started",
        "ERROR the abort callable failed",
        "DEBUG stream ended",
    }


@on_both
@pytest.mark.parametrize("line_end", ["\n", "\r", "\r\n"])
def test_text_of_the_moment_stays_within_its_ping(backend, line_end):
    """Be it a client's: of data each line becomes data, a comment of two lines is not sent."""
    text = f"x{line_end}{line_end}event: evil{line_end}data: y"
    event = play(backend, [(20, END)], ping=Ping.event(data=lambda: text))
    assert event.timeline[1][1] == (
        b"event: ping\ndata: x\ndata: \ndata: event: evil\ndata: data: y\n\n"
    )
    comment = play(backend, [(20, END)], ping=Ping.comment(lambda: text))
    assert comment.timeline[1][1] == b": ping\n"


@pytest.mark.parametrize("text", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\0"])
def test_other_separators_are_not_line_endings_and_stay_where_they_are(text):
    payload = Ping.event(data=f"a{text}event: b").payload
    assert payload == f"event: ping\ndata: a{text}event: b\n\n".encode()


@on_both
@pytest.mark.parametrize("length", [None, b"0", b"1", b"-1", b"9" * 400, b"\xb2"])
def test_an_upload_that_nobody_reads_is_not_read_ahead_forever(backend, length):
    """However long its head says it is; an app that never asks is behind it."""
    chunk = {"type": "http.request", "body": b"x" * 1000, "more_body": True}
    headers = [] if length is None else [(b"content-length", length)]

    def upload(world):
        world.requests = [chunk] * 100

    world = play(backend, [(200, END)], scope=http(headers=headers), prepare=upload)
    assert world.asked <= 3
    assert len(world.pings) == 13


@on_both
def test_a_client_that_stops_reading_has_one_ping_waiting_for_it_and_no_more(backend):
    begun = []

    def stuck(message):
        if message.get("body") == PING:
            begun.append(message)
            return 3000
        return 0

    def stops_reading(world):
        world.slow = stuck

    play(backend, [(2000, END)], prepare=stops_reading)
    assert len(begun) == 1


@on_both
@pytest.mark.parametrize("accept", [b"text/event-stream", b"application/json", b"*/*"])
def test_a_client_alone_starts_no_response(backend, accept):
    """Only a policy does; and what it is started as is the policy's, whatever is accepted."""
    scope = http(headers=[(b"accept", accept)])
    late = [(100, lambda scope, receive, send: send({**HEAD})), (100, END)]
    world = play(backend, late, scope=scope, head=None)
    assert world.timeline == [(100, START), (100, END)]
    early = {"start_after": 5.0, "start_as": "text/event-stream"}
    world = play(backend, late, scope=scope, head=None, **early)
    assert world.timeline[0] == (5, START)
    assert dict(world.headers)[b"content-type"] == b"text/event-stream"


HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/event-stream")],
}


@on_both
def test_an_exceptions_message_is_not_reported(backend):
    async def fails(scope, receive, send):
        raise LookupError("password=hunter2")

    scope = http(headers=[(b"accept", b"text/event-stream")])
    world = play(
        backend, [(20, fails)], scope=scope, head=None, start_after=5.0, raises=LookupError
    )
    assert b"error" in world.body
    assert b"hunter2" not in world.body


@on_both
def test_what_the_app_sends_too_late_is_reported_up_to_a_limit(backend):
    async def refuses(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        for _ in range(1000):
            await send(body(b"x" * 1024))

    scope = http(headers=[(b"accept", b"text/event-stream")])
    world = play(backend, [(20, refuses)], scope=scope, head=None, start_after=5.0)
    assert 16 * 1024 <= len(world.body) < 17 * 1024


@on_both
def test_no_client_keeps_a_stream_beyond_its_lifetime(backend):
    async def stays(scope, receive, send):
        await anyio.sleep_forever()

    world = play(backend, [(0, stays)], max_lifetime=100.0)
    assert isinstance(world.events[-1], StreamEnded)
    assert world.timeline[-1][1] == END
    assert world.timeline[-1][0] <= 100


def test_the_middlewares_own_policy_is_what_a_failing_callable_gives():
    """So a client that can make one fail gets that, and is not excluded."""

    def routes(scope):
        return None if dict(scope["headers"])[b"x-tenant"] else 1.0

    world = play("asyncio", [(40, END)], routes=routes)
    assert world.pings == [15, 30]
    assert KeepaliveMiddleware(lambda *_: None, 15.0)._routes.single.policy == Policy()
