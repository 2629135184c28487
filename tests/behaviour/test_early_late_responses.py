"""A late response that differs from what was started is reported within the stream."""

import contextlib
import json

import anyio
import pytest
from support.early import JSON, OnPurposeError, error_event, raising, slow, wanting
from support.endings import FAREWELL, X, leaves_at
from support.harness import END, PING, START, body, http, start

from keepalive import AbortController, StopReason


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
