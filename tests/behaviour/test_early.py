"""Streams that the middleware starts, because their app takes too long: timelines."""

import asyncio
import contextlib
import contextvars
import gc
import json
import logging
import sys
from http import HTTPStatus

import anyio
import pytest
from support.endings import FAREWELL, X, leaves_at
from support.harness import END, PING, SSE, START, World, body, http, play, run, start

from keepalive import (
    AbortController,
    KeepaliveMiddleware,
    Ping,
    Policy,
    StopReason,
    StreamStarted,
    get_stream,
)
from keepalive._late import MAX_SUMMARY_BODY, LateResponse

SSE_START = [
    (b"content-type", b"text/event-stream"),
    (b"x-accel-buffering", b"no"),
    (b"cache-control", b"no-cache, no-transform"),
]
JSON = [(b"content-type", b"application/json")]
ACCEPTS = [(b"accept", b"text/event-stream")]


def wanting(*headers, **scope):
    """Return the scope of a request whose response may be started early."""
    return http(headers=[*ACCEPTS, *headers], **scope)


def slow(backend, steps, **options):
    """Play an app that starts when its steps say so; after 20 s it is done in its place."""
    asks = options.get("start_as") in (None, "text/event-stream")
    scope = wanting() if asks else http(method="POST")
    options = {"scope": scope, "start_after": 20, "ping": Ping.event()} | options
    return play(backend, steps, head=None, **options)


TYPES = {400: "invalid_request_error", 404: "not_found_error", 504: "timeout_error"}


def summary_of(status, media_type, text, message=None):
    """Return the object that stands for an app's response."""
    unexpected = f"the app sent an unexpected response: {status} {media_type or ''}".rstrip()
    phrase = HTTPStatus(status).phrase if status >= 400 else unexpected
    error = {
        "message": message or phrase,
        "type": TYPES.get(status, "api_error"),
        "code": str(status),
    }
    details = {"status": status, "media_type": media_type, "body": text}
    return {"type": "error", "error": error, **details}


def error_event(*details):
    return b"event: error\ndata: %s\n\n" % json.dumps(summary_of(*details)).encode()


def test_a_response_is_started_in_the_apps_place_and_goes_on(backend):
    world = slow(backend, [(60, start()), (60, X), (61, END)])
    assert world.timeline == [
        (20, START),
        (20, PING),
        (35, PING),
        (50, PING),
        (60, X),
        (61, END),
    ]
    assert world.sent[0][1]["status"] == 200
    assert world.headers == SSE_START
    assert (world.ended.reason, world.ended.pings) == (StopReason.COMPLETED, 3)
    assert (world.ended.started_by, world.ended.late_status) == ("middleware", 200)
    assert world.ended.duration == 41
    assert world.ended.bytes_sent == len(world.body)


def test_an_app_that_starts_in_time_is_as_without(backend):
    steps = [(19, start()), (40, X), (41, END)]
    world, other = slow(backend, steps), slow(backend, steps, start_after=None)
    assert world.sent == other.sent
    assert world.timeline == [(19, START), (34, PING), (40, X), (41, END)]
    assert (world.ended.started_by, world.ended.late_status) == ("app", None)


def test_the_start_comes_once_where_both_come_at_the_same_time(backend):
    world = slow(backend, [(20, start()), (20, X), (21, END)])
    assert [what for _, what in world.timeline] in ([START, X, END], [START, PING, X, END])


@pytest.mark.parametrize("turns", range(12))
def test_the_start_comes_once_some_turns_later_too(backend, turns):
    async def late(scope, receive, send):
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        await send(start())
        await send(body(X))

    world = slow(backend, [(20, late), (21, END)])
    assert [what for _, what in world.timeline] in ([START, X, END], [START, PING, X, END])


def test_a_start_that_the_server_is_slow_to_take_is_waited_for(backend):
    def prepare(world):
        world.slow = lambda message: 10 if message["type"].endswith("start") else 0

    world = slow(backend, [(22, start()), (22, X), (40, END)], prepare=prepare)
    assert world.timeline == [(30, START), (30, PING), (30, X), (40, END)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are of Python 3.12")
@pytest.mark.parametrize("delay", [0, 1])
def test_a_start_by_a_task_that_begins_eagerly(delay):
    """It may be over before whoever began it goes on."""

    def prepare(world):
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        world.slow = lambda message: delay

    world = slow("asyncio", [(60, start()), (60, X), (70, END)], prepare=prepare)
    first = 20 + 2 * delay
    assert world.timeline[:2] == [(20 + delay, START), (first, PING)]
    assert world.ended.started_by == "middleware"
    assert world.body.endswith(X)


def test_pings_are_steady_from_the_start_on(backend):
    world = slow(backend, [(33, start()), (33, X), (66, END)], pacing="steady", first_ping=5)
    assert world.pings == [20, 35, 50, 65]


def test_what_happens_is_reported_in_the_requests_own_context(backend):
    seen, variable = [], contextvars.ContextVar("request")

    def wrap(app, **options):
        made = KeepaliveMiddleware(app, **options)

        async def outer(scope, receive, send):
            variable.set("the request's")
            await made(scope, receive, send)

        return outer

    slow(
        backend,
        [(60, start()), (61, END)],
        wrap=wrap,
        observer=lambda event: seen.append(variable.get(None)),
    )
    assert seen == ["the request's"] * 5


def test_what_a_stream_starts_with_is_reported(backend):
    world = slow(backend, [(60, start()), (61, END)], interval=7)
    (event,) = [event for event in world.events if isinstance(event, StreamStarted)]
    assert event.media_type == "text/event-stream"
    assert event.policy == Policy(interval=7, start_after=20, ping=Ping.event())
    assert (event.route, event.ping) == ("*", Ping.event())


def test_without_headers_none_are_added(backend):
    world = slow(backend, [(60, start()), (61, END)], anti_buffering=False)
    assert world.headers == SSE_START[:1]


# Requests that don't qualify


@pytest.mark.parametrize(
    "scope",
    [
        http(),
        http(headers=[]),
        http(headers=[(b"accept", b"*/*")]),
        http(headers=[(b"accept", b"text/*, text/event-stream;q=0")]),
        http(headers=[(b"accept", b"application/json, text/event-stream")]),
        http(headers=[*ACCEPTS, (b"Accept", b"Application/JSON;q=0.1")]),
        wanting(method="HEAD"),
        wanting(method="OPTIONS"),
        wanting(method="CONNECT"),
        wanting(method="TRACE"),
        http(headers=[(b"accept", b"text/event-stream; Q=0.")]),
        wanting((b"if-none-match", b'"x"')),
        wanting((b"If-Modified-Since", b"Sun, 06 Nov 1994 08:49:37 GMT")),
        wanting((b"range", b"bytes=0-5")),
        wanting((b"expect", b"100-continue")),
    ],
    ids=lambda scope: f"{scope['method']} {scope['headers'][:2]}",
)
@pytest.mark.parametrize("limits", [{}, {"drain": 5}], ids=["", "with a drain"])
def test_a_request_that_does_not_qualify_is_left_alone(backend, scope, limits):
    steps = [(60, start(JSON)), (60, b"{}"), (60, END)]
    world = slow(backend, steps, scope=scope, **limits)
    assert world.timeline == [(60, START), (60, b"{}"), (60, END)]
    assert world.headers == JSON
    assert world.events == []


@pytest.mark.parametrize(
    "headers",
    [
        [(b"accept", b"text/html, Text/Event-Stream; q=0.5")],
        [(b"accept", b"*/*;q=0"), (b"Accept", b" text/event-stream ;v=1")],
        ((b"accept", b"text/event-stream;q=0.01"),),
        [(b"accept", b"text/event-stream, application/json;q=0, */*")],
    ],
)
def test_a_request_that_accepts_events_qualifies(backend, headers):
    world = slow(backend, [(60, start()), (61, END)], scope=http(headers=headers))
    assert world.timeline[:2] == [(20, START), (20, PING)]


@pytest.mark.parametrize("headers", [[(b"accept",)], [7], iter(ACCEPTS), None])
def test_a_request_that_makes_no_sense_is_the_apps(backend, headers):
    world = slow(backend, [(60, start()), (61, END)], scope=http(headers=headers))
    assert world.timeline == [(60, START), (61, END)]


def test_a_route_that_is_excluded_is_passed_through(backend):
    world = slow(backend, [(60, start(JSON)), (60, END)], routes={"/": None})
    assert world.timeline == [(60, START), (60, END)]


def test_a_path_of_another_policy_is_left_alone(backend):
    routes = {"/": Policy(start_after=30)}
    world = slow(backend, [(60, start()), (61, END)], routes=routes, start_after=None)
    assert world.timeline[0] == (30, START)
    world = slow(
        backend,
        [(60, start()), (61, END)],
        routes={"/x": Policy(start_after=30)},
        start_after=None,
    )
    assert world.timeline[0] == (60, START)


def test_start_as_asks_for_no_accept(backend):
    options = {"start_as": "text/event-stream", "scope": http(method="POST")}
    world = slow(backend, [(60, start()), (61, END)], **options)
    assert world.timeline[:2] == [(20, START), (20, PING)]


def test_an_upload_is_not_answered_before_it_is_over(backend):
    """Some clients listen only when they have sent everything."""

    def prepare(world):
        parts = (b"one", True), (b"two", True), (b"three", False)
        world.requests = [
            {"type": "http.request", "body": part, "more_body": more} for part, more in parts
        ]

    async def read(scope, receive, send):
        return await receive()

    steps = [(1, read), (25, read), (40, read), (60, start()), (61, END)]
    world = slow(backend, steps, prepare=prepare)
    assert world.timeline[:3] == [(40, START), (40, PING), (55, PING)]
    world = slow(backend, [(1, read), (2, read), (3, read), *steps[3:]], prepare=prepare)
    assert world.timeline[:2] == [(20, START), (20, PING)]


def test_who_has_the_whole_body_and_listens_is_not_uploading(backend, log):
    async def listen(scope, receive, send):
        async with anyio.create_task_group() as group:
            group.start_soon(log.listen, scope, receive, send)
            await anyio.sleep(50)
            group.cancel_scope.cancel()

    scope = wanting((b"content-length", b"3"), method="POST")
    steps = [(1, listen), (60, start()), (61, END)]
    world = slow(backend, steps, scope=scope, prepare=log.prepare)
    assert world.timeline[:2] == [(20, START), (20, PING)]


@pytest.mark.parametrize(
    ("header", "first"),
    [
        ((b"Content-Length", b"3"), 30),
        ((b"transfer-encoding", b"chunked"), 30),
        ((b"content-length", b"0"), 20),
        ((b"x-length", b"3"), 20),
    ],
)
def test_an_upload_whose_first_part_is_late_is_waited_for(backend, header, first):
    async def read(scope, receive, send):
        await receive()

    def prepare(world):
        async def first_is_late():
            await world.sleep_until(30)
            return await given()

        given, world.receive = world.receive, first_is_late

    scope = wanting(header, method="POST")
    world = slow(backend, [(1, read), (60, start()), (61, END)], scope=scope, prepare=prepare)
    assert world.timeline[:2] == [(first, START), (first, PING)]


def test_an_upload_that_nobody_reads_does_not_hold_it_up(backend):
    def prepare(world):
        world.requests = [{"type": "http.request", "body": b"one", "more_body": True}]

    world = slow(backend, [(60, start()), (61, END)], prepare=prepare)
    assert world.timeline[:2] == [(20, START), (20, PING)]


def test_informational_responses_go_on_before_the_start_and_are_dropped_behind_it(backend):
    early_hint = {"type": "http.response.early_hint", "links": []}
    steps = [(5, start(status=103)), (6, early_hint)]
    late = [(30, start(status=103)), (31, early_hint), (60, start()), (61, END)]
    world = slow(backend, [*steps, *late])
    assert [(when, message["type"]) for when, message in world.sent[:4]] == [
        (5, "http.response.start"),
        (6, "http.response.early_hint"),
        (20, "http.response.start"),
        (20, "http.response.body"),
    ]
    assert world.timeline[1:] == [(6, END), *world.timeline[2:]]
    assert world.ended.late_status == 200


def test_the_start_waits_for_what_the_app_is_sending_before_its_own(backend):
    def prepare(world):
        world.slow = lambda message: 2 if message.get("status") == 103 else 0

    world = slow(backend, [(19, start(status=103)), (60, start()), (61, END)], prepare=prepare)
    statuses = [message.get("status") for _, message in world.sent]
    assert statuses[:2] == [103, 200]
    assert world.timeline[:3] == [(21, START), (21, START), (21, PING)]


# Late responses of another kind


@pytest.mark.parametrize("status", ["200", None, b"103"])
@pytest.mark.parametrize("when", [10, 30])
def test_a_status_that_is_none_is_rejected_by_the_server_or_reported(backend, status, when):
    odd = {"type": "http.response.start", "status": status, "headers": []}
    world = slow(backend, [(when, odd), (31, END)])
    assert world.timeline[0] == (min(when, 20), START)
    if when == 30:
        assert world.timeline[-2:] == [(31, error_event(500, None, "")), (31, END)]


@pytest.mark.parametrize("status", [302, 404, 503])
def test_another_status_is_reported_though_its_media_type_fits(backend, status):
    world = slow(backend, [(60, start(status=status)), (61, body(X, more=False))])
    assert world.timeline[-2:] == [
        (61, error_event(status, "text/event-stream", X.decode())),
        (61, END),
    ]


@pytest.mark.parametrize("status", [200, 201, 299])
def test_every_success_of_the_same_media_type_fits(backend, status):
    world = slow(backend, [(60, start(status=status)), (61, body(X, more=False))])
    assert world.timeline[-2:] == [(61, X), (61, END)]
    assert world.ended.late_status == status


@pytest.mark.parametrize("head", [start(), start(JSON, 503)])
def test_a_second_start_is_an_error_of_the_apps(backend, head):
    world = slow(backend, [(30, head), (31, start())], raises=RuntimeError)
    assert str(world.ended.error) == "http.response.start must come once"


def test_what_is_buffered_is_reported_when_the_stream_is_ended(backend, log):
    steps = [(30, start(JSON, 503)), (31, b'{"half'), (60, b"}")]
    for more in ({}, {"farewell": FAREWELL}):
        controller = AbortController()
        options = {"abort": controller.signal, "at": [(32, controller.abort)], "drain": 2}
        world = slow(backend, steps, **options, **more)
        summary = error_event(503, "application/json", '{"half')
        assert world.timeline[-2:] == [(34, summary), (34, END)]


def test_nothing_is_reported_after_a_disconnect(backend, log):
    steps = [(30, start(JSON, 503)), (31, b"{}"), (60, END)]
    world = slow(backend, steps, prepare=leaves_at(40, log))
    assert [what for _, what in world.timeline] == [START, PING, PING]
    assert world.ended.reason == StopReason.DISCONNECTED


def test_no_error_is_reported_after_a_disconnect(backend, log):
    steps = [(60, raising(OnPurposeError()))]
    world = slow(backend, steps, prepare=leaves_at(40, log), raises=OnPurposeError)
    assert [what for _, what in world.timeline] == [START, PING, PING]


def test_an_app_whose_answer_is_cut_sees_a_disconnect(backend, log):
    async def much(scope, receive, send):
        async with anyio.create_task_group() as group:
            group.start_soon(listen, receive)
            await send(start([(b"content-type", b"text/plain")]))
            await send(body(b"x" * 17_000))
        await anyio.sleep(3)
        log.add("done")

    async def listen(receive):
        await receive()
        log.add((await receive())["type"])

    world = slow(backend, [(30, much)], prepare=log.prepare)
    text = "x" * 16 * 1024
    assert world.timeline[-2:] == [(30, error_event(200, "text/plain", text)), (30, END)]
    assert log == [(30, "http.disconnect"), (33, "done")]


def test_a_send_after_a_complete_answer_that_was_reported_raises(backend):
    world = slow(backend, [(30, start(JSON, 503)), (31, END), (32, X)])
    summary = error_event(503, "application/json", "")
    assert world.timeline[-2:] == [(31, summary), (31, END)]


def test_an_app_whose_answer_was_whole_may_go_on(backend, log):
    async def go_on(scope, receive, send):
        await anyio.sleep(100)
        log.add("done")

    steps = [(30, start(JSON, 503)), (31, b"{}"), (31, END), (31, go_on)]
    slow(backend, steps, prepare=log.prepare)
    assert log == [(131, "done")]


@pytest.mark.parametrize("how", ["cancelled", "fails"])
def test_a_send_after_the_summary_raises_whatever_became_of_that(backend, log, how):
    def prepare(world):
        log.prepare(world)
        is_summary = lambda message: b"error" in message.get("body", b"")
        if how == "fails":
            world.failing = lambda message: (
                ValueError("server") if is_summary(message) else None
            )
        else:
            world.slow = lambda message: 100 if is_summary(message) else 0

    async def much(scope, receive, send):
        await send(start([(b"content-type", b"text/plain")]))
        with contextlib.suppress(ValueError), anyio.move_on_after(5):
            await send(body(b"x" * 17_000))
        for _ in range(2):
            try:
                await send(body(b"more"))
            except OSError as error:
                log.add(str(error)[:25])

    slow(backend, [(30, much)], prepare=prepare)
    when = 30 if how == "fails" else 35
    assert log == [(when, "the stream has been ended")] * 2


def test_a_send_beside_the_summary_raises(backend, log):
    def prepare(world):
        log.prepare(world)
        world.slow = lambda message: 1 if b"error" in message.get("body", b"") else 0

    async def much(scope, receive, send):
        await send(start([(b"content-type", b"text/plain")]))
        async with anyio.create_task_group() as group:
            group.start_soon(send, body(b"x" * 17_000))
            await anyio.sleep(0.5)
            try:
                await send(body(b"more"))
            except OSError:
                log.add("met the end")

    slow(backend, [(30, much)], prepare=prepare)
    assert log == [(30.5, "met the end")]


@pytest.mark.parametrize("limits", [{}, {"drain": 5, "send_timeout": 5}], ids=["", "limited"])
def test_another_status_is_reported_in_an_event_and_ends_the_stream(backend, limits):
    steps = [(60, start(JSON, 503)), (61, b'{"detail": '), (62, body(b'"no"}', more=False))]
    world = slow(backend, steps, **limits)
    assert world.timeline == [
        (20, START),
        (20, PING),
        (35, PING),
        (50, PING),
        (62, error_event(503, "application/json", '{"detail": "no"}', "no")),
        (62, END),
    ]
    assert world.ended.reason == StopReason.COMPLETED
    assert (world.ended.started_by, world.ended.late_status) == ("middleware", 503)


def test_another_media_type_is_reported_too(backend):
    html = [(b"Content-Type", b"text/html; charset=latin-1")]
    world = slow(
        backend, [(60, start(html)), (61, body("\xe9t\xe9\n".encode("latin-1"), more=False))]
    )
    assert world.timeline[-2:] == [
        (61, error_event(200, "text/html", "\xe9t\xe9\n")),
        (61, END),
    ]


def test_a_status_alone_is_reported(backend):
    world = slow(backend, [(30, start([], 204)), (31, END)])
    assert world.timeline[-2:] == [(31, error_event(204, None, "")), (31, END)]


def test_pings_go_on_until_the_other_response_is_whole(backend):
    world = slow(backend, [(30, start(JSON, 500)), (31, b"{"), (60, body(b"}", more=False))])
    assert world.pings == [20, 35, 50]
    assert world.timeline[-2][1] == error_event(500, "application/json", "{}")


def test_no_more_than_16_kib_of_a_body_are_reported_and_then_the_app_sees_a_disconnect(
    backend, log
):
    async def much(scope, receive, send):
        await send(start([(b"content-type", b"text/plain")]))
        await receive()
        try:
            for number in range(100):
                await send(body(b"%1023d\n" % number))
        except OSError as error:
            log.add(str(error))
            log.add(await receive())
            await send(body(b"more"))

    world = slow(backend, [(30, much)], prepare=log.prepare)
    text = "".join(f"{number:1023d}\n" for number in range(16))
    assert world.timeline[-2:] == [(30, error_event(200, "text/plain", text)), (30, END)]
    assert log == [
        (30, "the stream has been ended: completed"),
        (30, {"type": "http.disconnect"}),
    ]


def test_exactly_16_kib_are_reported_completely(backend):
    text = "x" * 16 * 1024
    plain = start([(b"content-type", b"text/plain")])
    world = slow(backend, [(30, plain), (30, text.encode()), (31, END)])
    assert world.timeline[-2:] == [(31, error_event(200, "text/plain", text)), (31, END)]


@pytest.mark.parametrize("charset", ["no-such", "base64", "idna", "utf-8\0"])
def test_a_charset_that_is_none_is_read_as_utf_8(backend, charset):
    html = [(b"content-type", f'text/html; a=b; charset="{charset}"'.encode())]
    steps = [(30, start(html)), (30, body(b"caf\xc3\xa9 \xff", more=False))]
    world = slow(backend, steps)
    assert world.timeline[-2:] == [
        (30, error_event(200, "text/html", "café \ufffd")),
        (30, END),
    ]


@pytest.mark.parametrize(
    ("charset", "text", "read"),
    [("latin-1", b"\xe9", "\xe9"), ("utf-16-le", b"a\0b\0c", "ab\ufffd")],
)
def test_a_charset_may_stand_in_quotes_and_bytes_may_be_wrong(backend, charset, text, read):
    html = [(b"content-type", f'text/html; charset="{charset}"'.encode())]
    world = slow(backend, [(30, start(html)), (30, body(text, more=False))])
    assert world.timeline[-2:] == [(30, error_event(200, "text/html", read)), (30, END)]


def test_a_compressed_body_can_not_be_reported(backend):
    head = start([(b"content-type", b"text/event-stream"), (b"content-encoding", b"gzip")])
    world = slow(backend, [(30, head), (30, body(b"\x1f\x8b", more=False))])
    assert world.timeline[-2:] == [(30, error_event(200, "text/event-stream", "")), (30, END)]


def test_a_compressed_body_is_warned_of(backend, caplog):
    head = start([*JSON, (b"content-encoding", b"gzip")])
    steps = [(30, head), (30, body(b"\x1f\x8b", more=False))]
    world = slow(backend, steps, start_as="application/json")
    assert json.loads(world.body)["status"] == 200
    (record,) = caplog.records
    assert "a compressed stream can't be kept alive" in record.getMessage()


@pytest.mark.parametrize("name", ["http.response.pathsend", "http.response.zerocopysend"])
def test_a_whole_body_is_not_offered_where_the_start_may_be_early(backend, log, name):
    """Behind a ping it could not be sent."""
    extensions = {name: {}, "http.response.push": {}}
    scope = wanting(extensions=extensions)

    async def look(scope, receive, send):
        log.add([*scope["extensions"]])

    slow(backend, [(1, look), (2, start()), (3, END)], scope=scope, prepare=log.prepare)
    assert log == [(1, ["http.response.push"])]
    assert scope["extensions"] is extensions
    del log[:]
    scope = http(extensions=extensions)
    slow(backend, [(1, look), (2, start()), (3, END)], scope=scope, prepare=log.prepare)
    assert log == [(1, [name, "http.response.push"])]


def test_what_a_file_holds_can_not_be_reported(backend):
    head = start([(b"content-type", b"text/html")])
    pathsend = {"type": "http.response.pathsend", "path": "/etc/hosts"}
    world = slow(backend, [(30, head), (30, pathsend)])
    assert world.timeline[-2:] == [(30, error_event(200, "text/html", "")), (30, END)]


def test_trailers_of_a_late_start_are_dropped(backend):
    trailers = {"type": "http.response.trailers", "headers": [], "more_trailers": False}
    steps = [(30, {**start(), "trailers": True}), (31, X), (32, END), (32, trailers)]
    world = slow(backend, steps)
    assert world.timeline == [(20, START), (20, PING), (31, X), (32, END)]
    assert trailers not in [message for _, message in world.sent]


# Apps that fail


def raising(error):
    async def fail(scope, receive, send):
        raise error

    return fail


class OnPurposeError(Exception):
    """The app's own."""


def test_an_error_reaches_the_server_when_the_client_has_been_answered(backend):
    error = OnPurposeError("secret")
    world = slow(backend, [(30, raising(error))], raises=OnPurposeError)
    assert world.timeline == [
        (20, START),
        (20, PING),
        (30, error_event(500, None, "")),
        (30, END),
    ]
    assert (world.ended.reason, world.ended.error) == (StopReason.APP_FAILED, error)
    assert (world.ended.started_by, world.ended.late_status) == ("middleware", None)


def test_an_error_in_time_is_the_servers_alone(backend):
    world = slow(backend, [(19, raising(OnPurposeError()))], raises=OnPurposeError)
    assert world.sent == world.events == []


def test_an_error_behind_another_start_tells_of_that(backend):
    steps = [(30, start(JSON, 502)), (31, b'{"half'), (32, raising(OnPurposeError()))]
    world = slow(backend, steps, raises=OnPurposeError)
    summary = error_event(502, "application/json", '{"half')
    assert world.timeline[-2:] == [(32, summary), (32, END)]
    assert (world.ended.reason, world.ended.late_status) == (StopReason.APP_FAILED, 502)


def test_an_error_in_the_midst_of_the_body_cuts_the_stream_as_ever(backend):
    steps = [(30, start()), (31, X), (32, raising(OnPurposeError()))]
    world = slow(backend, steps, raises=OnPurposeError)
    assert world.timeline == [(20, START), (20, PING), (31, X)]
    assert world.ended.reason == StopReason.APP_FAILED


def test_an_app_that_returns_without_an_answer_has_one_given(backend, caplog):
    world = slow(backend, [(30, start(status=103))])
    assert world.timeline[-2:] == [(30, error_event(500, None, "")), (30, END)]
    assert (world.ended.reason, world.ended.error) == (StopReason.COMPLETED, None)
    (record,) = caplog.records
    assert (record.getMessage(), record.path) == ("an app has not answered", "/")
    world = slow(backend, [(30, start(JSON, 404)), (31, b"{}")])
    assert world.timeline[-2:] == [(31, error_event(404, "application/json", "{}")), (31, END)]


def test_who_returns_because_its_client_has_left_owes_no_answer(backend, log, caplog):
    world = slow(backend, [(1, log.listen)], prepare=leaves_at(40, log))
    assert world.ended.reason == StopReason.DISCONNECTED
    assert caplog.records == []


def test_a_body_without_a_start_in_time_is_the_servers_to_refuse(backend):
    world = slow(backend, [(10, X), (30, END)])
    assert world.timeline == [(10, X), (30, END)]


def test_a_body_without_a_start_is_an_error_of_the_apps(backend):
    world = slow(backend, [(30, X)], raises=RuntimeError)
    assert "http.response.start must come before" in str(world.ended.error)
    assert world.timeline[-2:] == [(30, error_event(500, None, "")), (30, END)]


def test_a_start_that_makes_no_sense_is_reported_as_a_failure(backend):
    world = slow(backend, [(30, {"type": "http.response.start"}), (31, END)])
    assert world.timeline[-2:] == [(31, error_event(500, None, "")), (31, END)]


def test_a_client_that_does_not_read_keeps_no_error_back(backend):
    def prepare(world):
        world.slow = lambda message: 100 if b"error" in message.get("body", b"") else 0

    world = slow(
        backend, [(30, raising(OnPurposeError()))], raises=OnPurposeError, prepare=prepare
    )
    assert world.timeline == [(20, START), (20, PING)]
    assert (world.ended.reason, world.ended.duration) == (StopReason.APP_FAILED, 11)


def test_a_server_that_fails_to_take_the_answer_hides_no_error(backend):
    def prepare(world):
        world.failing = lambda message: (
            ValueError("server") if b"error" in message.get("body", b"") else None
        )

    slow(backend, [(30, raising(OnPurposeError()))], raises=OnPurposeError, prepare=prepare)


def test_a_server_that_fails_to_take_the_start_leaves_the_app_to_its_own(backend, caplog):
    def prepare(world):
        world.failing = lambda message: (
            ValueError("server") if message.get("headers") == SSE_START else None
        )

    own = start(JSON)
    world = slow(backend, [(30, own), (30, b"{}"), (30, END)], prepare=prepare)
    assert world.timeline == [(30, START), (30, b"{}"), (30, END)]
    assert world.events == []
    gc.collect()  # it is then that asyncio tells of an error that nobody has seen
    assert caplog.records == []


def test_a_start_that_the_server_is_slow_to_refuse_leaves_the_app_to_its_own(backend):
    def prepare(world):
        early = {b"cache-control"}
        world.slow = lambda message: 15 if early & {*dict(message.get("headers", ()))} else 0
        world.failing = lambda message: ValueError("server") if world.slow(message) else None

    options = {"start_as": "application/json", "prepare": prepare}
    world = slow(backend, [(30, start(JSON)), (60, b"{}"), (60, END)], **options)
    assert world.timeline == [(35, START), (60, b"{}"), (60, END)]
    assert world.events == []


def test_a_call_that_is_over_while_the_start_is_being_sent_leaves_nothing_behind(backend):
    def prepare(world):
        world.slow = lambda message: 100 if message["type"].endswith("start") else 0

    slow(backend, [(30, raising(OnPurposeError()))], raises=OnPurposeError, prepare=prepare)


def test_a_call_that_ends_while_the_start_is_being_sent_is_answered_behind_it(backend):
    def prepare(world):
        world.slow = lambda message: 0.5 if message["type"].endswith("start") else 0

    steps = [(20.2, raising(OnPurposeError()))]
    world = slow(backend, steps, raises=OnPurposeError, prepare=prepare)
    assert world.timeline == [
        (20.5, START),
        (20.5, PING),
        (20.5, error_event(500, None, "")),
        (20.5, END),
    ]


# Headers


def test_headers_that_come_too_late_are_named_once(backend, caplog):
    headers = [
        (b"Content-Type", b"text/event-stream; charset=utf-8"),
        (b"Set-Cookie", b"a=b"),
        (b"set-cookie", b"c=d"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"vary", b"origin"),
        (b"content-length", b"9"),
        (b"transfer-encoding", b"chunked"),
        (b"date", b"now"),
    ]
    made = []

    def wrap(app, **options):
        made[:] = made or [KeepaliveMiddleware(lambda *call: apps[-1](*call), **options)]
        apps.append(app)
        return made[0]

    apps = []
    for _ in range(2):
        slow(backend, [(60, start(headers)), (60, body(X, more=False))], wrap=wrap)
    (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
    assert record.getMessage() == (
        "headers that the app set after start_after were dropped: set-cookie, vary"
    )
    assert (record.route, record.headers) == ("*", ["set-cookie", "vary"])


def test_headers_are_named_once_for_each_route(backend, caplog):
    made = []

    def wrap(app, **options):
        made[:] = made or [KeepaliveMiddleware(lambda *call: apps[-1](*call), **options)]
        apps.append(app)
        return made[0]

    apps, routes = [], {"/a": Policy(start_after=20), "/{rest:path}": Policy(start_after=20)}
    steps = [(60, start([*SSE, (b"vary", b"x")])), (61, END)]
    for path in ("/a", "/b", "/a", "/c"):
        slow(backend, steps, scope=wanting(path=path), wrap=wrap, routes=routes)
    assert [record.route for record in caplog.records] == ["/a", "/{rest:path}"]


def test_a_header_that_was_not_added_is_missed(backend, caplog):
    head = start([*SSE, (b"cache-control", b"no-store")])
    slow(backend, [(60, head), (61, END)])
    assert caplog.records == []
    slow(backend, [(60, head), (61, END)], anti_buffering=False)
    assert [record.headers for record in caplog.records] == [["cache-control"]]


def test_headers_that_nobody_misses_are_not_named(backend, caplog):
    slow(backend, [(60, start()), (61, END)])
    assert caplog.records == []


# Other formats


def test_json_is_started_with_spaces(backend):
    answer = body(b'{\n"answer": 42\n}', more=False)
    length = [*JSON, (b"content-length", b"17")]
    options = {"start_as": "application/json", "scope": http(method="POST")}
    world = slow(backend, [(60, start(length)), (60, answer)], **options)
    assert world.timeline == [
        (20, START),
        (20, b" "),
        (35, b" "),
        (50, b" "),
        (60, answer["body"]),
        (60, END),
    ]
    assert world.headers[0] == (b"content-type", b"application/json")
    assert json.loads(world.body) == {"answer": 42}


def test_json_that_comes_in_time_is_as_without(backend):
    world = slow(
        backend, [(10, start(JSON)), (50, b"{}"), (50, END)], start_as="application/json"
    )
    assert world.timeline == [(10, START), (50, b"{}"), (50, END)]
    assert world.headers == JSON


@pytest.mark.parametrize("head", [start(JSON, 503), start([], 500)])
def test_json_without_a_body_is_reported_in_json(backend, head):
    steps = [(30, {**head, "status": 204}), (31, END)]
    world = slow(backend, steps, start_as="application/json")
    media_type = "application/json" if head["headers"] else None
    assert json.loads(world.body) == summary_of(204, media_type, "")
    steps = [(30, start(JSON)), (31, b"42"), (32, END)]
    world = slow(backend, steps, start_as="application/json")
    assert world.body == b" 42"


@pytest.mark.parametrize("leaves", [False, True])
def test_a_last_body_from_a_task_that_outlives_the_call(backend, leaves):
    """It comes after the summary; or, if the client has left, it is the server's affair."""

    async def main():
        async def app(scope, receive, send):
            await receive()
            with anyio.move_on_after(30):
                await receive()
            await anyio.sleep(30 - world.now())
            await send(start(JSON))
            left.append(send)

        left, world = [], World()
        world.leave_at = 25 if leaves else 100
        policy = {"start_after": 20, "start_as": "application/json"}
        await KeepaliveMiddleware(app, **policy)(http(), world.receive, world.send)
        await left[0](body(more=False))
        return world.body

    summary = json.dumps(summary_of(200, "application/json", "")).encode() + b"\n"
    assert run(backend, main) == (b" " if leaves else b" " + summary)


@pytest.mark.parametrize("head", [start(JSON, 503), start([], 500)])
def test_a_late_failure_passes_its_own_json_on(backend, head):
    steps = [(30, head), (31, b'{"detail": "no"}'), (31, END)]
    world = slow(backend, steps, start_as="application/json")
    assert world.body == b' {"detail": "no"}'
    assert world.ended.late_status == head["status"]


def test_an_error_of_a_json_app_is_reported_in_json(backend):
    steps = [(30, raising(OnPurposeError()))]
    world = slow(backend, steps, start_as="application/json", raises=OnPurposeError)
    assert json.loads(world.body) == summary_of(500, None, "")


def test_in_another_format_a_failure_is_reported_in_a_line(backend):
    ndjson = "application/x-ndjson"
    options = {"media_types": {ndjson: Ping.space()}, "start_as": "Application/X-NDJSON"}
    world = slow(backend, [(30, start(JSON, 503)), (31, b"{}"), (31, END)], **options)
    summary = summary_of(503, "application/json", "{}")
    assert world.body == b" " + json.dumps(summary).encode() + b"\n"
    head = start([(b"content-type", ndjson.encode())])
    world = slow(backend, [(30, head), (31, b"{}\n"), (31, END)], **options)
    assert world.body == b" {}\n"


# Ends


@pytest.mark.parametrize("at", [10, 19])
def test_a_client_that_leaves_before_the_start_has_nothing_started(backend, log, at):
    async def listen(scope, receive, send):
        await receive()
        log.add((await receive())["type"])

    world = slow(backend, [(1, listen), (30, start())], prepare=leaves_at(at, log))
    assert log == [(at, "http.disconnect")]
    assert [when for when, _ in world.timeline] == [30]


def test_a_client_that_leaves_behind_the_start_ends_the_stream(backend, log):
    world = slow(backend, [(60, start()), (61, X), (62, END)], prepare=leaves_at(40, log))
    assert (world.ended.reason, world.ended.duration) == (StopReason.DISCONNECTED, 20)
    assert world.ended.late_status is None
    assert world.pings == [20, 35]


@pytest.mark.parametrize("at", [10, 30])
def test_an_abort_stops_the_pings(backend, at):
    controller = AbortController()
    world = slow(
        backend,
        [(60, start()), (61, END)],
        abort=controller.signal,
        at=[(at, controller.abort)],
    )
    if at == 10:  # before the start: that is the app's again
        assert world.timeline == [(60, START), (61, END)]
    else:
        assert world.timeline == [(20, START), (20, PING), (61, END)]
    assert world.ended.reason == StopReason.ABORTED


def test_a_signal_of_its_own_is_asked_for_once_and_stops_a_stream_before_its_start(backend):
    asked = []

    def abort(scope):
        asked.append(context.get())
        return controllers[-1].signal

    async def at_once(scope, receive, send):
        controllers[-1].abort()

    context, controllers = contextvars.ContextVar("context"), [AbortController()]
    context.set("the request's")
    world = slow(backend, [(60, start()), (61, END)], abort=abort)
    assert world.timeline[:2] == [(20, START), (20, PING)]
    controllers.append(AbortController())
    world = slow(backend, [(10, at_once), (60, start()), (61, END)], abort=abort)
    assert world.timeline == [(60, START), (61, END)]
    assert world.ended.reason == StopReason.ABORTED
    assert asked == ["the request's"] * 2


@pytest.mark.parametrize("what", ["start", "body"])
def test_a_client_that_leaves_sets_free_who_waits_for_the_start(backend, log, what):
    """Some servers block what is sent to a client that has left."""

    def prepare(world):
        leaves_at(40, log)(world)
        early = lambda message: message.get("headers") == SSE_START or message.get("body")
        world.slow = lambda message: (
            10**6 if message["type"].endswith(what) and early(message) else 0
        )

    async def listen_and_start(scope, receive, send):
        async with anyio.create_task_group() as group:
            group.start_soon(log.listen, scope, receive, send)
            await send(start(JSON))
            log.add("sent")

    slow(backend, [(30, listen_and_start)], prepare=prepare)
    assert sorted(what for _, what in log) == ["http.disconnect", "sent"]
    assert {when for when, _ in log} == {40}


def test_an_abort_of_its_own_stops_a_stream_before_its_start(backend):
    async def give_up(scope, receive, send):
        get_stream(scope).abort()

    world = slow(backend, [(10, give_up), (60, start()), (61, END)])
    assert world.timeline == [(60, START), (61, END)]


def test_a_shutdown_with_a_drain_ends_a_stream_whose_app_has_not_started(backend, log):
    controller = AbortController()

    async def go_on(scope, receive, send):
        try:
            await send(start())
        except OSError as error:
            log.add(str(error))

    world = slow(
        backend,
        [(35.5, go_on)],
        abort=controller.signal,
        at=[(30, controller.abort)],
        drain=5,
        farewell=FAREWELL,
        prepare=log.prepare,
    )
    summary = error_event(504, None, "")
    assert world.timeline == [(20, START), (20, PING), (35, summary), (35, END)]
    assert log == [(35.5, "the stream has been ended: aborted")]


def test_an_error_after_the_end_is_not_reported(backend, log):
    controller = AbortController()
    world = slow(
        backend,
        [(35.5, raising(OnPurposeError()))],
        abort=controller.signal,
        at=[(30, controller.abort)],
        drain=5,
        raises=OnPurposeError,
    )
    summary = error_event(504, None, "")
    assert world.timeline == [(20, START), (20, PING), (35, summary), (35, END)]


def test_a_call_that_is_cancelled_is_not_answered(backend):
    async def main(scope, receive, send):
        with anyio.move_on_after(5) as scope_:
            await inner(scope, receive, send)
        assert scope_.cancelled_caught

    async def slowly(scope, receive, send):
        await anyio.sleep(100)

    inner = KeepaliveMiddleware(slowly, start_after=2, interval=2)
    world = play(backend, [(0, main)], head=None, scope=wanting(), wrap=lambda app, **_: app)
    assert world.timeline == [(2, START), (2, PING), (4, PING)]


# Nested middlewares

TIMES = [{}, {"start_after": 10}, {"start_after": 20}, {"start_after": 30}]


@pytest.mark.parametrize("head", [start(), start(JSON, 503)], ids=["fits", "does not"])
@pytest.mark.parametrize("inner", TIMES, ids=str)
@pytest.mark.parametrize("outer", TIMES, ids=str)
def test_one_of_two_starts_and_pings(backend, inner, outer, head):
    def wrap(app, **options):
        return KeepaliveMiddleware(KeepaliveMiddleware(app, **options | inner), **outer)

    steps = [(58, head), (58, X), (59, END)]
    world = slow(backend, steps, wrap=wrap, start_after=None)
    first = min((one["start_after"] for one in (inner, outer) if one), default=58)
    fits = head["status"] == 200
    expected = [(first, START)]
    if fits or first < 58:
        expected += [(t, PING) for t in range(first, 58, 15)]
    if fits or first == 58:
        expected += [(58, X), (59, END)]
    else:
        expected += [(59, error_event(503, "application/json", X.decode())), (59, END)]
    assert world.timeline == expected


@pytest.mark.parametrize("inner", TIMES, ids=str)
def test_one_of_two_starts_where_a_server_is_slow_to_take_it(backend, inner):
    def prepare(world):
        world.slow = lambda message: 1 if message["type"].endswith("start") else 0

    def wrap(app, **options):
        return KeepaliveMiddleware(KeepaliveMiddleware(app, **options | inner), start_after=20)

    steps = [(20.5, start()), (20.5, X), (22, END)]
    world = slow(backend, steps, wrap=wrap, start_after=None, prepare=prepare)
    assert [what for _, what in world.timeline if what != PING] == [START, X, END]


def test_one_of_three_starts(backend):
    def wrap(app, **options):
        for start_after in (30, None, 20):
            app = KeepaliveMiddleware(app, **options | {"start_after": start_after})
        return app

    world = slow(backend, [(60, start()), (61, END)], wrap=wrap)
    assert world.timeline == [(20, START), *((t, PING) for t in (20, 35, 50)), (61, END)]


# The pure parts


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start_after": 0}, "start_after must be above 0"),
        ({"start_after": "1"}, "start_after must be a number"),
        ({"start_as": "text/event-stream"}, "start_as needs start_after"),
        ({"start_after": 1, "start_as": "text/html"}, "start_as must be text/event-stream, "),
        (
            {"start_after": 1, "start_as": b"text/event-stream"},
            "start_as must be a media type",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(options, words):
    with pytest.raises((TypeError, ValueError), match=words):
        Policy(**options)


def test_no_more_is_buffered_than_can_be_reported():
    late = LateResponse("text/event-stream", [])
    assert [late.feed(b"x" * 5000) for _ in range(4)] == [False, False, False, True]
    assert late.feed(b"x" * 10**6)
    assert len(late._body) == MAX_SUMMARY_BODY + 1


def test_a_start_that_nobody_would_get_is_refused():
    with pytest.raises(ValueError, match="start_after must be on a route that is not None"):
        KeepaliveMiddleware(print, start_after=5, routes={"/{path:path}": None})


def test_a_media_type_is_read_as_people_write_it():
    policy = Policy(start_after=1, start_as=" Application/JSON ")
    assert policy.start_as == "application/json"


def test_the_ping_for_json_may_be_ones_own(backend):
    options = {"media_types": {"application/json": Ping.blank_line()}}
    steps = [(30, start(JSON)), (31, b"42"), (32, END)]
    world = slow(backend, steps, start_as="application/json", **options)
    assert world.body == b"\n42"


def test_a_task_that_outlives_its_call_answers_nobody(backend, log):
    late = []

    async def leave_a_task_behind(scope, receive, send):
        late.append(send)

    slow(backend, [(40, leave_a_task_behind)], prepare=leaves_at(25, log))

    async def main():
        await late[0](start(JSON))

    run(backend, main)


def test_an_app_whose_summary_the_server_has_refused_is_still_limited(
    backend, log, monkeypatch
):
    monkeypatch.setattr("random.uniform", lambda _, most: most)

    async def answer_and_stay(scope, receive, send):
        await send(start(JSON, 503))
        with pytest.raises(ValueError, match="refused"):
            await send(body(b"{}", more=False))
        await log.stay(scope, receive, send)

    def prepare(world):
        log.prepare(world)
        world.failing = lambda message: (
            None if message.get("more_body", True) else ValueError("refused")
        )

    world = slow(backend, [(30, answer_and_stay)], prepare=prepare, max_lifetime=40)
    assert world.ended.reason is StopReason.MAX_LIFETIME
    assert log == [(61, "cancelled")]
