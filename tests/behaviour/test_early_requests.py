"""Requests whose responses the middleware may not start, and when it waits for an upload."""

import anyio
import pytest
from support.early import ACCEPTS, JSON, slow, wanting
from support.harness import END, PING, START, http, start

from keepalive import Policy


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


def test_informational_responses_go_on_before_the_start_and_are_dropped_after_it(backend):
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
