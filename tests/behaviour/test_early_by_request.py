"""As what the middleware starts a response: by `Accept`, by the request's body, by `start_as`.

One configuration serves requests for both kinds of responses: timelines.
"""

import functools
import gc
import json
import weakref
from http import HTTPStatus

import anyio
import pytest
from support import harness
from support.early import ACCEPTS, JSON, SSE_START, error_event, summary_of
from support.endings import FAREWELL, X
from support.harness import END, PING, START, World, body, http, run, start
from support.internals import MAX_EXAMINED_BODY, RequestBody

from keepalive import AbortController, KeepaliveMiddleware, Ping, StopReason

play = functools.partial(harness.play, ping=Ping.event())
"""Play an app; its pings are events, whatever the request."""

AS_JSON = {"start_as": "application/json"}
AS_EVENTS = {"start_as": "text/event-stream"}
NDJSON = {
    "start_as": "application/x-ndjson",
    "media_types": {"application/x-ndjson": Ping.space()},
}
WANTS = b'{"model": "m", "stream": true}'
DOES_NOT = b'{"model": "m", "stream": false}'
BOTH = [(b"accept", b"application/json, text/event-stream")]


def post(content=WANTS, headers=(), **scope):
    """Return the scope of a request with a body of that length."""
    length = (b"content-length", b"%d" % len(content))
    return http(method="POST", headers=[length, *headers], **scope)


def uploads(*chunks, more=False):
    """Make a client send its body in chunks."""

    def prepare(world):
        world.requests = [
            {
                "type": "http.request",
                "body": chunk,
                "more_body": more or number < len(chunks),
            }
            for number, chunk in enumerate(chunks, 1)
        ]

    return prepare


async def read(scope, receive, send):
    while (await receive()).get("more_body"):
        pass


async def read_once(scope, receive, send):
    await receive()


def slow(backend, content, steps=(), *, reads_at=1, **options):
    """Play an app that reads its request after a second, and starts late."""
    options = {
        "scope": post(content),
        "prepare": uploads(content),
        "start_after": 20,
    } | options
    steps = steps or [(60, start()), (60, X), (61, END)]
    return play(backend, [(reads_at, read), *steps], head=None, **options)


def started_as(world):
    """Return the media type of the middleware's own start; `None` if there was none."""
    when, message = world.sent[0]
    return message["headers"][0][1].decode() if when < 60 else None


EVENTS, SPACES, LINES, NOT_STARTED = (
    "text/event-stream",
    "application/json",
    "application/x-ndjson",
    None,
)


@pytest.mark.parametrize("content", [WANTS, DOES_NOT], ids=["wants", "does not"])
@pytest.mark.parametrize("options", [{}, AS_JSON, AS_EVENTS, NDJSON], ids=str)
def test_accept_comes_first(backend, content, options):
    headers = [(b"Accept", b"text/event-stream, */*;q=0.1")]
    world = slow(backend, content, scope=post(content, headers), **options)
    assert world.timeline[:3] == [(20, START), (20, PING), (35, PING)]
    assert world.headers == SSE_START


@pytest.mark.parametrize("accept", [[], BOTH, [(b"accept", b"application/json")]], ids=str)
@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (WANTS, {}, EVENTS),
        (WANTS, AS_JSON, EVENTS),
        (WANTS, AS_EVENTS, EVENTS),
        (WANTS, NDJSON, EVENTS),
        (DOES_NOT, {}, NOT_STARTED),
        (DOES_NOT, AS_JSON, SPACES),
        (DOES_NOT, AS_EVENTS, EVENTS),
        (DOES_NOT, NDJSON, LINES),
    ],
)
def test_the_body_comes_next_and_then_start_as(backend, accept, content, options, expected):
    world = slow(backend, content, scope=post(content, accept), **options)
    assert started_as(world) == expected
    assert world.sent[0][0] == (60 if expected is NOT_STARTED else 20)


@pytest.mark.parametrize("content", [WANTS, DOES_NOT], ids=["wants", "does not"])
def test_a_compressed_body_is_not_examined(backend, content):
    for encoding in (b"gzip", b"identity", b""):
        scope = post(content, [(b"Content-Encoding", encoding)])
        assert started_as(slow(backend, content, scope=scope, **AS_JSON)) == SPACES
        assert started_as(slow(backend, content, scope=scope)) is NOT_STARTED


def test_a_body_that_nothing_announces_is_examined_in_http_2(backend):
    for method, expected in (("POST", EVENTS), ("PATCH", EVENTS), ("GET", NOT_STARTED)):
        world = slow(backend, WANTS, scope=http(method=method, headers=[]))
        assert started_as(world) == expected
    scope = http(method="GET", headers=[(b"transfer-encoding", b"chunked")])
    assert started_as(slow(backend, WANTS, scope=scope)) == EVENTS


def test_a_body_in_chunks_is_examined_when_it_is_complete(backend):
    chunks = [WANTS[at : at + 1] for at in range(len(WANTS))]
    world = slow(backend, WANTS, prepare=uploads(*chunks))
    assert world.timeline[:2] == [(20, START), (20, PING)]
    # The upload goes on when the start is due, which waits for its end.
    world = play(
        backend,
        [(1, read_once), (25, read), (60, start()), (61, END)],
        head=None,
        scope=post(),
        prepare=uploads(WANTS[:9], WANTS[9:]),
        start_after=20,
    )
    assert world.timeline[:2] == [(25, START), (25, PING)]


def test_a_body_whose_end_the_app_does_not_wait_for_is_complete(backend):
    """hypercorn and granian send the end of a body, however small, as another message."""
    options = {"head": None, "start_after": 20, "prepare": uploads(WANTS, b"")}
    steps = [(1, read_once), (60, start()), (61, END)]
    assert started_as(play(backend, steps, scope=post(), **options)) == EVENTS


@pytest.mark.parametrize(("options", "expected"), [({}, NOT_STARTED), (AS_JSON, SPACES)])
def test_a_body_that_the_app_has_not_begun_to_read_does_not_count(backend, options, expected):
    world = slow(backend, WANTS, reads_at=40, steps=[(60, start()), (61, END)], **options)
    if options:
        assert (world.sent[0][0], started_as(world)) == (20, expected)
    else:  # but it counts when it has been read
        assert world.timeline[:2] == [(40, START), (40, PING)]
    steps = [(60, start()), (61, END)]
    scope = post(headers=ACCEPTS)
    world = play(backend, steps, head=None, scope=scope, start_after=20, **options)
    assert world.timeline[:2] == [(20, START), (20, PING)]


def test_a_body_is_examined_once(backend, monkeypatch):
    examined = []
    monkeypatch.setattr("keepalive._body.asks_for_stream", examined.append)

    async def poll(scope, receive, send):
        for _ in range(5):
            with anyio.move_on_after(1):
                await receive()

    world = slow(backend, WANTS, [(30, poll), (60, start()), (61, END)])
    assert started_as(world) is NOT_STARTED
    assert examined == [WANTS]


def test_a_body_is_not_examined_in_time(backend, monkeypatch):
    examined = []
    monkeypatch.setattr("keepalive._body.asks_for_stream", examined.append)
    world = slow(backend, WANTS, [(19, start()), (19, X), (61, END)])
    assert world.timeline[0] == (19, START)
    assert examined == []


class Chunk(bytearray):
    """Bytes that can be referred to weakly."""


@pytest.mark.parametrize("case", ["examined", "by start_as", "app", "too long", "raises"])
def test_chunks_are_released(backend, case):
    kept = []

    async def read_chunks(scope, receive, send):
        message = await receive()
        kept.append(weakref.ref(message["body"]))
        left.append(receive)  # as a task does that outlives the call

    async def look(scope, receive, send):
        await receive()
        gc.collect()
        found.append(kept[0]() is not None)

    async def fail(scope, receive, send):
        raise LookupError

    def prepare(world):
        chunk = Chunk(DOES_NOT if case != "too long" else b" " * (MAX_EXAMINED_BODY + 1))
        given = [{"type": "http.request", "body": chunk}, *[{"type": "http.x"}] * 3]
        world.receive = lambda: hand_over(given)

    async def hand_over(given):
        return given.pop(0)

    found, left, options = [], [], {} if case == "examined" else AS_JSON
    steps = [(1, read_chunks), (10, look)]
    if case == "app":
        steps.append((11, start()))
    if case == "raises":
        steps.append((12, fail))
    else:
        steps += [(30, look), (60, start()) if case != "app" else (60, X), (61, END)]
    raises = LookupError if case == "raises" else None
    slow_app = {"head": None, "scope": post(DOES_NOT), "start_after": 20, "raises": raises}
    play(backend, steps, prepare=prepare, **slow_app, **options)
    gc.collect()
    assert kept[0]() is None
    assert found == {"too long": [False, False], "raises": [True]}.get(case, [True, False])


def kept_chunks():
    return sum(len(each.chunks) for each in gc.get_objects() if type(each) is RequestBody)


@pytest.mark.parametrize(
    ("options", "reads_at", "kept"),
    [
        (AS_JSON, 5, 1),
        (AS_JSON, 25, 0),  # after the start
        (AS_EVENTS, 5, 0),  # whatever the body says
    ],
)
def test_chunks_are_kept_while_they_may_decide(backend, log, options, reads_at, kept):
    async def count(scope, receive, send):
        log.add(kept_chunks())

    def prepare(world):
        log.prepare(world)
        uploads(WANTS)(world)

    steps = [(reads_at, count), (30, count), (60, start()), (61, END)]
    slow(backend, WANTS, steps, reads_at=reads_at, prepare=prepare, **options)
    assert log == [(reads_at, kept), (30, 0)]


def test_an_inner_middleware_keeps_no_chunks_after_the_outer_one_has_started(backend, log):
    async def count(scope, receive, send):
        log.add(kept_chunks())

    def prepare(world):
        log.prepare(world)
        uploads(WANTS)(world)

    def wrap(app, **options):
        inner = KeepaliveMiddleware(app, **options | {"start_after": 30})
        return KeepaliveMiddleware(inner, **options)

    steps = [(10, count), (25, count), (35, count), (60, start()), (61, END)]
    world = slow(backend, WANTS, steps, wrap=wrap, prepare=prepare, **AS_JSON)
    assert world.timeline[:2] == [(20, START), (20, PING)]
    assert log == [(10, 2), (25, 1), (35, 0)]


# One path for both kinds


ANSWER = b'{"content": "Hello"}'


@pytest.mark.parametrize("late", [False, True], ids=["in time", "late"])
def test_one_path_serves_both_kinds(backend, late):
    when = 60 if late else 10
    world = slow(backend, WANTS, [(when, start()), (when, X), (61, END)], **AS_JSON)
    assert world.body.replace(PING, b"") == X
    assert world.pings == ([20, 35, 50] if late else [25, 40, 55])
    steps = [(when, start(JSON)), (when, ANSWER), (61, END)]
    world = slow(backend, DOES_NOT, steps, **AS_JSON)
    assert world.body == (b"   " if late else b"") + ANSWER


# A late event stream after a start as JSON


def test_a_newline_precedes_a_late_event_stream_after_a_start_as_json(backend):
    steps = [(30, start()), (40, X), (40, b""), (80, b"data: two\n\n"), (100, END)]
    world = slow(backend, DOES_NOT, steps, **AS_JSON)
    assert world.timeline == [
        (20, START),
        (20, b" "),
        (35, b" "),
        (40, b"\n"),
        (40, X),
        # From now on, a space would spoil the name of the next field.
        (55, PING),
        (70, PING),
        (80, b"data: two\n\n"),
        (95, PING),
        (100, END),
    ]
    assert world.ended.bytes_sent == len(world.body)


def test_pings_after_that_wait_for_the_end_of_an_event(backend):
    steps = [(30, start()), (30, b"data: o"), (60, b"ne\n"), (80, b"\n"), (90, END)]
    world = slow(backend, DOES_NOT, steps, **AS_JSON)
    assert world.timeline[2:] == [
        (30, b"\n"),
        (30, b"data: o"),
        (60, b"ne\n"),
        (80, b"\n"),
        (80, PING),
        (90, END),
    ]


@pytest.mark.parametrize("split", [0, 1, 3])
def test_a_byte_order_mark_after_that_newline_is_omitted(backend, split):
    """It would become a part of the first field's name."""
    marked = b"\xef\xbb\xbf" + X
    steps = [(30, start()), (30, marked[:split]), (31, marked[split:]), (32, END)]
    world = slow(backend, DOES_NOT, steps, **AS_JSON)
    assert world.body == b" \n" + X


def test_a_late_event_stream_in_one_message(backend):
    steps = [(30, start()), (30, body(X, more=False))]
    world = slow(backend, DOES_NOT, steps, **AS_JSON)
    assert world.timeline[2:] == [(30, b"\n"), (30, X), (30, END)]


def test_a_late_event_stream_without_a_body_is_reported_in_json(backend):
    world = slow(backend, DOES_NOT, [(30, start()), (31, END)], **AS_JSON)
    assert json.loads(world.body) == summary_of(200, "text/event-stream", "")


@pytest.mark.parametrize(("status", "reported"), [(200, 500), (404, 404), (503, 503)])
def test_an_app_that_raises_before_the_first_byte_is_reported_in_json(
    backend, status, reported
):
    async def fail(scope, receive, send):
        raise LookupError("secret")

    steps = [(30, start(JSON, status)), (31, b""), (32, fail)]
    world = slow(backend, DOES_NOT, steps, raises=LookupError, **AS_JSON)
    assert json.loads(world.body) == summary_of(reported, "application/json", "")
    assert world.timeline[-1] == (32, END)
    steps = [(30, start(JSON, status)), (31, b"{"), (32, fail)]
    world = slow(backend, DOES_NOT, steps, raises=LookupError, **AS_JSON)
    assert world.body == b" {"


def test_an_app_that_returns_before_the_first_byte_is_reported_in_json(backend):
    world = slow(backend, DOES_NOT, [(30, start(JSON, 503)), (31, b"")], **AS_JSON)
    assert json.loads(world.body) == summary_of(503, "application/json", "")


def test_a_ping_that_is_due_during_that_newline_is_one_for_events(backend):
    def prepare(world):
        uploads(DOES_NOT)(world)
        world.slow = lambda message: 10 if message.get("body") == b"\n" else 0

    steps = [(30, start()), (30, X), (60, END)]
    world = slow(backend, DOES_NOT, steps, prepare=prepare, pacing="steady", **AS_JSON)
    assert world.timeline[2:] == [
        (40, b"\n"),
        (40, PING),
        (40, X),
        (50, PING),
        (60, END),
    ]


def test_no_newline_precedes_other_late_bodies(backend):
    for headers in (JSON, [(b"content-type", b"text/html")], []):
        world = slow(
            backend, DOES_NOT, [(30, start(headers)), (30, b"42"), (31, END)], **AS_JSON
        )
        assert world.body == b" 42"
    world = slow(backend, DOES_NOT, [(30, start()), (30, X), (31, END)], **NDJSON)
    assert world.body.startswith(b" {")


# The error


def late_error(backend, content, status=503, media=JSON, **options):
    """Return the `error` of what stands for a late response with that body."""
    steps = [(30, start(media, status)), (31, body(content, more=False))]
    world = slow(backend, WANTS, steps, **options)
    _, _, data = world.body.removesuffix(b"\n\n").rpartition(b"event: error\ndata: ")
    return json.loads(data)["error"]


@pytest.mark.parametrize(
    "error",
    [
        {"message": "no model", "type": "overloaded_error"},
        {"code": 7, "status": "UNAVAILABLE", "details": []},
    ],
)
def test_the_apps_own_error_object_is_sent(backend, error):
    for media in (JSON, [(b"content-type", b"application/problem+json")], []):
        content = json.dumps({"type": "error", "error": error, "request_id": "x"}).encode()
        assert late_error(backend, content, media=media) == error


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"detail": "no model"}', "no model"),  # FastAPI
        (b'{"message": "no model", "error": "Bad"}', "no model"),
        (b'{"error": "no model"}', "no model"),
        (b'{"title": "x", "detail": "no model", "status": 503}', "no model"),  # RFC 9457
        (b'{"detail": [{"msg": "field required"}]}', "Service Unavailable"),
        (b'{"detail": ""}', "Service Unavailable"),
        (b'{"error": null}', "Service Unavailable"),
        (b'{"error": {}}', "Service Unavailable"),
        (b'["error"]', "Service Unavailable"),
        (b'"error"', "Service Unavailable"),
        (b"<h1>no</h1>", "Service Unavailable"),
        (b'{"error": {"message": NaN}}', "Service Unavailable"),
        (b'{"error": {"message": 1e999}}', "Service Unavailable"),
        (b'{"error": {"message": "' + b"x" * 17_000 + b'"}}', "Service Unavailable"),
        (b'{"error":' * 8_000, "Service Unavailable"),
        (b'{"error": {"n": %s}}' % (b"9" * 5_000), "Service Unavailable"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_another_body_has_an_error_made_of_its_message_or_of_the_status(
    backend, content, message
):
    error = {"message": message, "type": "api_error", "code": "503"}
    assert late_error(backend, content) == error


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (400, "Bad Request", "invalid_request_error"),
        (401, "Unauthorized", "authentication_error"),
        (403, "Forbidden", "permission_error"),
        (404, "Not Found", "not_found_error"),
        (413, HTTPStatus(413).phrase, "request_too_large"),
        (422, HTTPStatus(422).phrase, "invalid_request_error"),
        (429, "Too Many Requests", "rate_limit_error"),
        (500, "Internal Server Error", "api_error"),
        (504, "Gateway Timeout", "timeout_error"),
        (529, "status 529", "overloaded_error"),
        (599, "status 599", "api_error"),
        (302, "the app sent an unexpected response: 302 application/json", "api_error"),
        (200, "the app sent an unexpected response: 200 application/json", "api_error"),
    ],
)
def test_each_status_has_a_message_and_a_type(backend, status, message, kind):
    error = {"message": message, "type": kind, "code": str(status)}
    assert late_error(backend, b"", status) == error


def test_a_success_of_another_media_type_is_an_error_whatever_its_body_says(backend):
    error = late_error(backend, b'{"detail": "all is well"}', 200)
    assert error["message"] == "the app sent an unexpected response: 200 application/json"


# Limits that end a stream before the app has answered

GIVEN_UP = error_event(504, None, "")


@pytest.mark.parametrize("farewell", [{}, {"farewell": FAREWELL}], ids=["", "farewell"])
def test_a_limit_that_comes_before_the_answer_is_reported(backend, monkeypatch, farewell):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    world = slow(backend, WANTS, [(60, X)], max_lifetime=20, raises=None, **farewell)
    assert world.timeline == [(20, START), (20, PING), (35, PING), (40, GIVEN_UP), (40, END)]
    assert world.ended.reason is StopReason.MAX_LIFETIME
    assert (world.ended.started_by, world.ended.late_status) == ("middleware", None)


@pytest.mark.parametrize("steps", [[(60, X)], [(30, start()), (60, X)]], ids=["", "started"])
def test_a_limit_that_comes_before_the_answer_is_the_body_in_json(backend, monkeypatch, steps):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    steps = [*steps[:-1], (38, b"")] if len(steps) > 1 else []
    steps.append((60, stay))
    world = slow(backend, DOES_NOT, steps, max_lifetime=20, **AS_JSON)
    media_type = "text/event-stream" if len(steps) > 1 else None
    assert json.loads(world.body) == summary_of(504, media_type, "")
    assert world.timeline[-1] == (40, END)


async def stay(scope, receive, send):
    await anyio.sleep(5)


def test_in_lines_it_is_a_line(backend, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    world = slow(backend, DOES_NOT, [(60, stay)], max_lifetime=20, **NDJSON)
    assert world.body == b"  " + json.dumps(summary_of(504, None, "")).encode() + b"\n"


def test_a_limit_that_comes_after_the_first_bytes_sends_the_farewell(backend, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    options = {"max_lifetime": 20, "farewell": FAREWELL}
    steps = [(30, start()), (30, X), (60, stay)]
    for content, begin in ((WANTS, PING), (DOES_NOT, b" \n")):
        world = slow(backend, content, steps, **options, **AS_JSON)
        assert world.body == begin + X + FAREWELL.payload


@pytest.mark.parametrize("listens", [False, True])
@pytest.mark.parametrize("steps", [[], [(30, start(JSON, 503))]], ids=["", "another kind"])
def test_an_answer_that_meets_the_report_is_discarded(
    backend, log, monkeypatch, listens, steps
):
    """The app sends while the middleware is sending that it has not answered."""
    monkeypatch.setattr("random.uniform", lambda _, most: most)

    async def answer(scope, receive, send):
        async with anyio.create_task_group() as group:
            if listens:
                group.start_soon(receive)
                await anyio.sleep(0.1)
            await send(start() if not steps else body(X))
            log.add("discarded")

    def prepare(world):
        log.prepare(world)
        uploads(WANTS)(world)
        world.slow = lambda message: 0.4 if b"error" in message.get("body", b"") else 0

    world = slow(backend, WANTS, [*steps, (40.2, answer)], prepare=prepare, max_lifetime=20)
    assert [what for _, what in world.timeline][:3] == [START, PING, PING]
    assert len(world.timeline) == 5
    assert log == ([(40.4, "discarded")] if listens else [])


def test_a_start_that_blocks_until_the_limit_is_not_followed_by_a_report(backend, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)

    def prepare(world):
        uploads(WANTS)(world)
        world.slow = lambda message: 100 if message["type"].endswith("start") else 0

    world = slow(backend, WANTS, [(60, X)], prepare=prepare, max_lifetime=20)
    assert world.timeline == []


def test_a_start_that_blocks_almost_until_the_limit_is_followed_by_a_report(
    backend, monkeypatch
):
    """The end waits half a second for it."""
    monkeypatch.setattr("random.uniform", lambda _, most: most)

    def prepare(world):
        uploads(WANTS)(world)
        world.slow = lambda message: 20.3 if message["type"].endswith("start") else 0

    world = slow(backend, WANTS, [(60, X)], prepare=prepare, max_lifetime=20)
    assert world.timeline == [(40.3, START), (40.3, GIVEN_UP), (40.3, END)]


def test_an_error_beside_the_report_is_not_reported_too(backend, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda _, most: most)

    async def fail(scope, receive, send):
        raise LookupError

    def prepare(world):
        uploads(WANTS)(world)
        world.slow = lambda message: (
            20.3
            if message["type"].endswith("start")
            else 0.1
            if b"error" in message.get("body", b"")
            else 0
        )

    options = {"prepare": prepare, "max_lifetime": 20, "raises": LookupError}
    world = slow(backend, WANTS, [(40.35, fail)], **options)
    assert [what for _, what in world.timeline].count(GIVEN_UP) <= 1
    assert error_event(500, None, "") not in world.body


def test_a_shutdown_before_the_answer_is_reported_too(backend):
    controller = AbortController()
    stop = {"abort": controller.signal, "at": [(30, controller.abort)]}
    world = slow(backend, WANTS, [(36, X)], drain=5, **stop)
    assert world.timeline == [(20, START), (20, PING), (35, GIVEN_UP), (35, END)]
    assert world.ended.reason is StopReason.ABORTED


def test_a_task_that_outlives_the_call_examines_nothing(backend):
    async def main():
        async def app(scope, receive, send):
            left.append(receive)

        left, world = [], World()
        uploads(WANTS)(world)
        await KeepaliveMiddleware(app, start_after=20)(post(), world.receive, world.send)
        await anyio.sleep(30)
        await left[0]()
        return world.sent

    assert run(backend, main) == []
