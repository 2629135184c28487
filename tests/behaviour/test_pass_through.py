"""What is passed through untouched, and who gives way to whom."""

import anyio
import pytest
from support.harness import END, PING, SSE, START, body, http, play, run, start
from support.sent_pings import sent_pings

from keepalive import (
    KeepaliveMiddleware,
    Ping,
    PingSent,
    Policy,
    StopReason,
    StreamEnded,
    get_stream,
)

TYPE = b"content-type"


def untouched(world, head):
    assert world.sent[0][1] == head
    assert world.pings == []
    assert world.events == []
    return True


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(TYPE, b"text/html")],
        [(TYPE, b"text/event-streams")],
        [(TYPE, b"application/x-ndjson")],
        [(TYPE, b"text/event-stream"), (b"Content-Length", b"100")],
        [(TYPE, b"text/event-stream"), (b"content-length", b"0")],
        [(TYPE, b"\xff")],
    ],
)
def test_responses_that_are_not_streams(backend, headers):
    head = start(headers)
    assert untouched(play(backend, [(50, END)], head=head), head)


@pytest.mark.parametrize("status", [100, 103, 204, 304])
def test_statuses_without_a_body(backend, status):
    head = start(SSE, status)
    assert untouched(play(backend, [(50, END)], head=head), head)


@pytest.mark.parametrize("status", [200, 201, 206, 404, 500])
def test_statuses_with_a_body_are_kept_alive(backend, status):
    assert play(backend, [(20, END)], head=start(SSE, status)).pings == [15]


def test_an_informational_response_is_followed_by_another(backend):
    world = play(backend, [(1, start()), (20, END)], head=start([], 103))
    assert world.timeline == [(0, START), (1, START), (16, PING), (20, END)]


@pytest.mark.parametrize("name", [b"content-type", b"Content-Type", b"CONTENT-TYPE"])
@pytest.mark.parametrize(
    "value",
    [b"text/event-stream", b"Text/Event-Stream;charset=utf-8", b" text/event-stream ;x"],
)
def test_header_names_come_in_any_case(backend, name, value):
    assert play(backend, [(20, END)], head=start([(name, value)])).pings == [15]


def test_headers_may_be_a_one_shot_generator(backend):
    for value, pings in ((b"text/event-stream", [15]), (b"text/html", [])):
        headers = (pair for pair in [(TYPE, value)])
        world = play(backend, [(20, END)], head=start(headers), anti_buffering=False)
        assert world.headers == [(TYPE, value)]
        assert world.pings == pings


def test_head_requests(backend):
    head = start()
    assert untouched(play(backend, [(50, END)], head=head, scope=http(method="HEAD")), head)


def test_a_route_that_is_none(backend):
    head = start()
    assert untouched(play(backend, [(50, END)], head=head, routes={"/": None}), head)


@pytest.mark.parametrize("scope", [http(method="HEAD"), http("/off")])
def test_excluded_scopes_get_the_servers_own_callables(backend, scope):
    async def main():
        seen = []

        async def app(scope, receive, send):
            seen.append((receive, send))
            assert not get_stream(scope).signal.aborted

        async def receive(): ...
        async def send(message): ...

        await KeepaliveMiddleware(app, routes={"/off": None})(scope, receive, send)
        return seen == [(receive, send)]

    assert run(backend, main)


@pytest.mark.parametrize("kind", ["websocket", "lifespan", "other"])
def test_other_scopes(backend, kind):
    async def main():
        seen = []

        async def app(*args):
            seen.append(args)

        scope, receive, send = {"type": kind}, object(), object()
        await KeepaliveMiddleware(app)(scope, receive, send)
        return seen == [(scope, receive, send)] and scope == {"type": kind}

    assert run(backend, main)


def test_the_call_takes_keywords_as_daphne_gives_them(backend):
    async def main():
        called = []

        async def app(scope, receive, send):
            called.append(scope["type"])

        middleware = KeepaliveMiddleware(app)
        await middleware(scope={"type": "lifespan"}, receive=None, send=None)
        await middleware(scope=http(), receive=None, send=None)
        return called

    assert run(backend, main) == ["lifespan", "http"]


# compression


def test_a_compressed_stream_is_left_alone_with_one_warning_per_route(backend, caplog):
    head = start([*SSE, (b"Content-Encoding", b"gzip")])
    made = {}

    def wrap(app, **options):
        made.setdefault("it", KeepaliveMiddleware(app, **options)).app = app
        return made["it"]

    for path in ("/a", "/a", "/b", "/c", "/d"):
        routes = {"/a": 15.0, "/b": 15.0}
        world = play(
            backend, [(50, END)], head=head, scope=http(path), routes=routes, wrap=wrap
        )
        assert world.sent[0][1] == head
        assert world.pings == []
    assert [(r.levelname, r.route) for r in caplog.records] == [
        ("WARNING", "/a"), ("WARNING", "/b"), ("WARNING", "*")
    ]  # fmt: skip
    assert "inside the compression middleware" in caplog.text


@pytest.mark.parametrize("values", [(b"identity", b"gzip"), (b"gzip", b"identity")])
def test_one_encoding_of_several_is_enough(backend, values):
    head = start([*SSE, *((b"content-encoding", value) for value in values)])
    assert play(backend, [(20, END)], head=head).pings == []


def test_the_identity_encoding_is_none(backend, caplog):
    head = start([*SSE, (b"content-encoding", b" Identity ")])
    assert play(backend, [(20, END)], head=head).pings == [15]
    assert caplog.records == []


def test_a_compressed_response_that_nobody_asked_for_is_not_warned_of(backend, caplog):
    head = start([(TYPE, b"text/html"), (b"content-encoding", b"gzip")])
    assert untouched(play(backend, [(20, END)], head=head), head)
    assert caplog.records == []


# extensions


def test_a_file_sent_by_path_is_the_end(backend):
    message = {"type": "http.response.pathsend", "path": "/x"}
    world = play(backend, [(20, message), (50, {"type": "http.response.debug"})])
    assert [m for _, m in world.sent if m.get("body") != PING][1:] == [
        message, {"type": "http.response.debug"}
    ]  # fmt: skip
    assert (world.ended.reason, world.ended.duration) == (StopReason.COMPLETED, 20)
    assert [when for when, m in world.sent if m.get("body") == PING] == [15]


def test_a_file_sent_by_descriptor_leaves_the_stream_who_knows_where(backend):
    message = {"type": "http.response.zerocopysend", "file": 3, "more_body": True}
    world = play(backend, [(1, message), (50, b"x\n\n"), (66, END)])
    assert [when for when, m in world.sent if m.get("body") == PING] == [50, 65]
    last = {"type": "http.response.zerocopysend", "file": 3}
    assert play(backend, [(1, last), (50, {"type": "x"})]).ended.duration == 1


def test_other_messages_pass_and_are_not_data(backend):
    message = {"type": "http.response.push", "path": "/x", "headers": []}
    world = play(backend, [(10, message), (20, END)])
    assert (10, message) in world.sent
    assert [when for when, m in world.sent if m.get("body") == PING] == [15]


def test_trailers_pass_after_the_end(backend):
    trailers = {"type": "http.response.trailers", "headers": []}
    world = play(backend, [(10, END), (30, trailers)])
    assert world.sent[-1] == (30, trailers)
    assert world.ended.duration == 10


# an app that breaks the rules meets the server's own error


class ServerError(Exception):
    pass


@pytest.mark.parametrize(
    ("head", "steps", "refused"),
    [
        (body(b"x"), [], 0),  # body before start
        (start(), [(20, start())], 2),  # start twice
        (start(), [(20, END), (21, body(b"x"))], 3),  # body after the end
        ({"type": "http.response.start"}, [], 0),
        ({"type": "http.response.start", "status": 200, "headers": None}, [], 0),
        ({"type": "http.response.start", "status": 200, "headers": [("a", "b"), 3]}, [], 0),
        ({"type": "http.response.start", "status": "200", "headers": SSE}, [], 0),
        ({"nothing": "at all"}, [], 0),
        (start(), [(20, {"type": "http.response.body", "body": "text"})], 2),
        (start(), [(20, {})], 2),
    ],
)
def test_the_servers_error_is_the_one_the_app_sees(backend, head, steps, refused):
    given = []

    def failing(message):
        given.append(message)
        return ServerError() if len(given) == refused + 1 else None

    world = play(
        backend,
        steps,
        head=head,
        prepare=lambda world: setattr(world, "failing", failing),
        raises=ServerError,
        anti_buffering=False,
    )
    assert given[-1] == (steps[-1][1] if steps and steps[-1][1] != END else head)
    assert len(world.sent) == refused


@pytest.mark.parametrize("data", [bytearray(b"x\n\n"), memoryview(b"x\n\n"), b"x\n\n"])
def test_bodies_of_any_bytes_pass_as_they_are(backend, data):
    world = play(backend, [(1, b"data: "), (2, data), (18, END)])
    assert any(message.get("body") is data for _, message in world.sent)
    assert world.pings == [17]
    assert world.ended.bytes_sent == len(b"data: x\n\n" + PING)


def test_a_body_that_is_not_bytes_is_the_servers_to_judge(backend):
    none = {"type": "http.response.body", "body": None, "more_body": True}
    world = play(backend, [(1, none), (40, b"x\n\n"), (41, body(more=False))])
    assert world.sent[1][1]["body"] is None
    assert [when for when, m in world.sent if m.get("body") == PING] == [40]


def test_a_body_that_overtakes_its_start_gets_no_ping_inside_its_event(backend):
    """An app whose tasks don't wait for each other; the server takes a while for the start."""

    async def main():
        wire = []

        async def app(scope, receive, send):
            async def early():
                await anyio.sleep(1)
                await send(body(b"data: half"))

            async with anyio.create_task_group() as group:
                group.start_soon(early)
                await send(start())
            await anyio.sleep(40)
            await send(body(b"\n\n", more=False))

        async def send(message):
            if message["type"] == "http.response.start":
                await anyio.sleep(2)
            wire.append(message.get("body"))

        await KeepaliveMiddleware(app)(http(), anyio.sleep_forever, send)
        return wire

    assert run(backend, main) == [b"data: half", None, b"\n\n"]


def test_other_messages_may_come_before_the_start(backend):
    hint = {"type": "http.response.early_hint", "links": []}
    world = play(backend, [(1, start()), (20, END)], head=hint)
    assert [when for when, m in world.sent if m.get("body") == PING] == [16]


# nested middlewares


def nested(*intervals, **outermost):
    def wrap(app, **options):
        for index, interval in enumerate(intervals):
            if index == len(intervals) - 1:
                options = {**options, **outermost}
            routes = {"/": None} if interval is None else None
            app = KeepaliveMiddleware(app, interval or 15, routes=routes, **options)
        return app

    return wrap


@pytest.mark.parametrize(
    ("inner_to_outer", "pings"),
    [
        ((10, 4), [10, 20]),
        ((4, 10), [4, 8, 12, 16, 20]),
        ((10, 4, 3), [10, 20]),
        ((None, 4), []),
        ((10, None), [10, 20]),
        ((10, None, 4), [10, 20]),
        ((None, 4, 3), []),
    ],
)
def test_the_innermost_does_the_pinging_alone(backend, inner_to_outer, pings):
    world = play(backend, [(22, END)], wrap=nested(*inner_to_outer))
    assert world.pings == pings
    assert len([event for event in world.events if isinstance(event, PingSent)]) == len(pings)
    # Each middleware that does not exclude the path observes the stream.
    keepers = len([interval for interval in inner_to_outer if interval is not None])
    ends = [event for event in world.events if isinstance(event, StreamEnded)]
    assert sorted(event.pings for event in ends) == [*[0] * (keepers - 1), len(pings)]


def test_headers_are_added_once(backend):
    world = play(backend, [(1, END)], wrap=nested(10, 4))
    assert [name for name, _ in world.headers].count(b"cache-control") == 1


def test_what_the_inner_one_leaves_alone_the_outer_one_may_keep_alive(backend):
    head = start([(TYPE, b"application/x-ndjson")])
    media_types = {"application/x-ndjson": Ping.raw(PING, at="line")}
    world = play(backend, [(9, END)], head=head, wrap=nested(10, 4, media_types=media_types))
    assert world.pings == [4, 8]


def test_an_outer_one_that_has_begun_goes_on(backend):
    """An app that starts its response and then hands the scope to another app."""

    def wrap(app, **options):
        inner = KeepaliveMiddleware(app, 2, **options)

        async def composed(scope, receive, send):
            await send(start())
            await anyio.sleep(1)
            await inner(scope, receive, send)

        return KeepaliveMiddleware(composed, 5, **options)

    world = play(backend, [(12, END)], wrap=wrap)
    assert world.pings == [5, 10]


def test_the_app_sees_the_innermost_stream(backend):
    counts = []

    async def count(scope, receive, send):
        counts.append(sent_pings(get_stream(scope)))

    play(backend, [(9, count), (10, END)], wrap=nested(4, 3))
    assert counts == [2]


def test_a_policy_for_a_mounted_app(backend):
    """A middleware inside a mount sees the path less the mount's."""
    routes = {"/events": Policy(interval=3)}
    scope = http("/mount/events", root_path="/mount")
    assert play(backend, [(7, END)], scope=scope, routes=routes).pings == [3, 6]
