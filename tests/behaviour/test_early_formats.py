"""Responses that the middleware starts as JSON or as another media type."""

import json

import anyio
import pytest
from support.early import JSON, OnPurposeError, raising, slow, summary_of
from support.harness import END, START, World, body, http, run, start

from keepalive import KeepaliveMiddleware, Ping


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


def test_the_ping_for_json_may_be_ones_own(backend):
    options = {"media_types": {"application/json": Ping.blank_line()}}
    steps = [(30, start(JSON)), (31, b"42"), (32, END)]
    world = slow(backend, steps, start_as="application/json", **options)
    assert world.body == b"\n42"
