"""The request's side: one reader, nothing lost, and a client that leaves is noticed."""

from contextvars import copy_context

import anyio
import pytest
from support.harness import END, PING, START, body, http, play, run, settle, start
from support.internals import Responder, current_loop

from keepalive import KeepaliveMiddleware, StopReason


def request(data: bytes = b"", *, more: bool = False) -> dict:
    return {"type": "http.request", "body": data, "more_body": more}


DISCONNECT = {"type": "http.disconnect"}


def requests(*messages):
    return lambda world: setattr(world, "requests", [*messages])


def asking(got, times=1):
    async def ask(scope, receive, send):
        for _ in range(times):
            got.append(await receive())

    return ask


def test_what_was_read_ahead_is_kept_for_the_app(backend):
    got = []
    world = play(backend, [(20, asking(got)), (30, END)])
    assert got == [request()]
    assert world.pings == [15]


def test_one_disconnect_is_remembered_forever(backend):
    got = []
    steps = [(20, asking(got, 3))]
    world = play(backend, steps, prepare=lambda world: setattr(world, "leave_at", 16))
    assert got == [request(), DISCONNECT, DISCONNECT]
    assert world.asked == 2


def test_an_app_that_asks_before_the_first_ping_is_the_reader(backend):
    got = []
    world = play(
        backend,
        [(0, asking(got, 2)), (60, END)],
        prepare=lambda world: setattr(world, "leave_at", 50),
    )
    assert got == [request(), DISCONNECT]
    assert world.asked == 2
    assert world.pings == [15, 30, 45]


def test_an_app_that_asks_while_the_stream_listens_gets_the_same_disconnect(backend):
    got = []
    world = play(
        backend,
        [(20, asking(got, 2)), (60, END)],
        prepare=lambda world: setattr(world, "leave_at", 50),
    )
    assert got == [request(), DISCONNECT]
    assert world.asked == 2


def test_nobody_asks_the_server_before_the_response_starts(backend):
    async def main():
        asked = []

        async def app(scope, receive, send):
            await anyio.sleep(100)
            assert asked == []
            await send(start())
            await anyio.sleep(14)
            assert asked == []
            await anyio.sleep(2)
            assert asked

        async def receive():
            asked.append(1)
            await anyio.sleep_forever()

        async def send(message): ...

        await KeepaliveMiddleware(app)(http(), receive, send)

    run(backend, main)


def test_nobody_asks_for_a_response_that_is_not_a_stream(backend):
    world = play(backend, [(100, END)], head=start([(b"content-type", b"text/html")]))
    assert world.asked == 0


def test_an_upload_is_never_read_ahead_beyond_one_message(backend):
    """The pace of an upload is the app's."""
    parts = [request(b"a", more=True), request(b"b", more=True), request(b"c")]
    got, counts = [], []

    async def count(scope, receive, send):
        counts.append(world_of[0].asked)

    world_of = []

    def prepare(world):
        world_of.append(world)
        world.requests = [*parts]

    steps = [
        (50, count), (50, asking(got)), (100, count), (100, asking(got, 2)), (130, count),
        (150, END),
    ]  # fmt: skip
    world = play(backend, steps, prepare=prepare)
    assert counts == [1, 1, 4]
    assert got == parts
    assert world.ended.reason is StopReason.COMPLETED


def test_a_post_that_nobody_reads_is_watched_all_the_same(backend):
    def prepare(world):
        world.requests = [request(b"small")]
        world.leave_at = 40

    world = play(backend, [(100, END)], scope=http(method="POST"), prepare=prepare)
    assert (world.ended.reason, world.ended.duration) == (StopReason.DISCONNECTED, 40)


@pytest.mark.parametrize("name", [b"content-length", b"Content-Length"])
def test_a_post_is_watched_whose_whole_body_comes_before_its_end(backend, name):
    """hypercorn and granian tell the end of a body, however small, in a message of its own."""
    got = []
    parts = [request(b"small", more=True), request()]

    def prepare(world):
        world.requests = [*parts]
        world.leave_at = 40

    scope = http(method="POST", headers=[(b"accept", b"1"), (name, b"5")])
    world = play(backend, [(100, asking(got, 3)), (101, END)], scope=scope, prepare=prepare)
    assert (world.ended.reason, world.ended.duration) == (StopReason.DISCONNECTED, 40)
    assert got == [*parts, DISCONNECT]


@pytest.mark.parametrize("size", [b"6", b"some", b""])
def test_a_body_that_may_go_on_is_not_read_ahead(backend, size):
    def prepare(world):
        world.requests = [request(b"small", more=True), request(b"!")]

    scope = http(method="POST", headers=[(b"content-length", size)])
    world = play(backend, [(100, END)], scope=scope, prepare=prepare)
    assert world.asked == 1


def test_an_upload_echoed_as_a_stream_both_ways(backend):
    parts = [request(f"data: {n}\n\n".encode(), more=n < 9) for n in range(10)]

    async def echo(scope, receive, send):
        more = True
        while more:
            message = await receive()
            await anyio.sleep(20)
            await send(body(message["body"]))
            more = message["more_body"]

    world = play(backend, [(0, echo), (205, END)], prepare=requests(*parts))
    assert world.body.replace(PING, b"") == b"".join(part["body"] for part in parts)
    assert len(world.pings) == 10


def test_an_ask_within_a_cancelled_scope_learns_what_is_known(backend):
    """As Starlette's `request.is_disconnected()` asks."""
    known = []

    async def is_disconnected(scope, receive, send):
        message = {}
        with anyio.CancelScope() as cancelled:
            cancelled.cancel()
            message = await receive()
        known.append(message.get("type"))

    steps = [(time, is_disconnected) for time in (20, 20, 30, 50, 50)]
    world = play(backend, steps, prepare=lambda world: setattr(world, "leave_at", 40))
    assert known == ["http.request", None, None, "http.disconnect", "http.disconnect"]
    assert world.ended.reason is StopReason.DISCONNECTED


def test_an_ask_reaches_the_server_without_a_checkpoint_before_it(backend):
    async def main():
        reached = []

        async def app(scope, receive, send):
            with anyio.CancelScope() as cancelled:
                cancelled.cancel()
                await receive()

        async def receive():
            reached.append(1)
            await anyio.sleep_forever()

        await KeepaliveMiddleware(app)(http(), receive, None)
        return reached

    assert run(backend, main) == [1]


def test_two_tasks_of_the_app_may_ask(backend):
    """The server has one reader all the same, and both learn of the disconnect."""
    got = []

    async def both(scope, receive, send):
        async with anyio.create_task_group() as group:
            group.start_soon(ask, "a", receive)
            group.start_soon(ask, "b", receive)

    async def ask(name, receive):
        while (message := await receive()) != DISCONNECT:
            got.append((name, message))
        got.append((name, message))

    world = play(backend, [(0, both)], prepare=lambda world: setattr(world, "leave_at", 20))
    assert sorted(name for name, message in got if message == DISCONNECT) == ["a", "b"]
    assert [message for _, message in got if message != DISCONNECT] == [request()]
    assert world.asked == 2


def test_an_asker_that_gives_up_makes_way_for_the_next(backend):
    got = []

    async def give_up_then_ask(scope, receive, send):
        with anyio.move_on_after(5):
            await asking(got, 2)(scope, receive, send)
        await asking(got)(scope, receive, send)

    world = play(
        backend,
        [(0, give_up_then_ask)],
        prepare=lambda world: setattr(world, "leave_at", 40),
    )
    assert got == [request(), DISCONNECT]
    assert world.asked == 3


def test_a_receive_that_fails_is_the_apps_own_to_meet(backend):
    async def main():
        sent, asked = [], []

        async def app(scope, receive, send):
            await send(start())
            await anyio.sleep(40)
            with pytest.raises(IndexError):
                await receive()

        async def receive():
            asked.append(anyio.current_time())
            return [].pop()

        async def send(message):
            sent.append(message.get("body"))

        await KeepaliveMiddleware(app)(http(), receive, send)
        return sent, [when - asked[0] for when in asked]

    # By the stream once, at its first poll, and by the app.
    assert run(backend, main) == ([None, PING, PING], [0, 25])


def answers(*steps):
    """Return a server's `receive` that gives each message so long after the one before."""
    left = iter(steps)

    async def receive():
        seconds, message = next(left, (1e6, DISCONNECT))
        await anyio.sleep(seconds)
        return message

    return receive


def test_what_comes_while_the_app_waits_reaches_it_at_once(backend):
    """Though it is the stream that reads, and goes on reading."""

    async def main():
        got, began = [], anyio.current_time()

        async def app(scope, receive, send):
            await send(start())
            await anyio.sleep(20)
            for _ in range(3):
                message = await receive()
                got.append((anyio.current_time() - began, message["type"]))

        async def send(message): ...

        receive = answers((0, request()), (10, {"type": "a"}), (5, {"type": "b"}))
        await KeepaliveMiddleware(app)(http(), receive, send)
        return got

    assert run(backend, main) == [(20, "http.request"), (25, "a"), (30, "b")]


def test_who_waits_for_a_reader_that_reads_no_further_asks_in_its_place(backend):
    async def main():
        got, began = [], anyio.current_time()

        async def app(scope, receive, send):
            async def ask():
                message = await receive()
                got.append((anyio.current_time() - began, message["body"]))

            await send(start())
            await anyio.sleep(20)
            async with anyio.create_task_group() as group:
                group.start_soon(ask)
                group.start_soon(ask)

        async def send(message): ...

        upload = [(10, request(b"a", more=True)), (5, request(b"b"))]
        await KeepaliveMiddleware(app)(http(), answers(*upload), send)
        return got

    assert run(backend, main) == [(25, b"a"), (30, b"b")]


def test_a_receive_that_answers_with_anything_forever_does_not_spin(backend):
    async def main():
        asked = []

        async def app(scope, receive, send):
            await send(start())
            await anyio.sleep(40)

        async def receive():
            asked.append(1)
            return {}

        async def send(message): ...

        await KeepaliveMiddleware(app)(http(), receive, send)
        return len(asked)

    assert run(backend, main) == 3


def test_the_disconnect_is_heard_after_a_message_of_another_kind(backend):
    def prepare(world):
        world.requests = [{"type": "http.something"}, request()]
        world.leave_at = 20

    world = play(backend, [(100, END)], prepare=prepare)
    assert (world.ended.reason, world.ended.duration) == (StopReason.DISCONNECTED, 20)


@pytest.mark.parametrize("more", [False, True])
def test_a_receive_that_answers_at_once_forever_does_not_spin(backend, more):
    async def main():
        asked = []

        async def app(scope, receive, send):
            await send(start())
            await anyio.sleep(40)

        async def receive():
            asked.append(1)
            return request(more=more)

        async def send(message): ...

        await KeepaliveMiddleware(app)(http(), receive, send)
        return len(asked)

    assert run(backend, main) == (1 if more else 3)


def test_other_messages_are_kept_too(backend):
    got = []
    other = {"type": "http.something"}
    play(backend, [(20, asking(got, 2)), (21, END)], prepare=requests(other, request()))
    assert got == [other, request()]


def test_an_awaitable_that_is_no_coroutine_will_do(backend):
    """granian's `receive()` returns one."""

    class Awaitable:
        def __await__(self):
            return anyio.sleep(20).__await__()

    async def main():
        got = []

        async def app(scope, receive, send):
            await send(start())
            got.append(await receive())

        class Message(dict):
            def __await__(self):
                yield from anyio.lowlevel.checkpoint().__await__()
                return DISCONNECT

        async def send(message): ...

        await KeepaliveMiddleware(app)(http(), Message, send)
        return got

    assert run(backend, main) == [DISCONNECT]


def test_a_late_ask_after_the_end_reaches_the_server(backend):
    """Frameworks leave tasks behind; the stream's own reader is no longer in their way."""

    async def main():
        late, answers = [], ["first"]

        async def app(scope, receive, send):
            await send(start())
            await anyio.sleep(20)
            late.append(receive)

        async def receive():
            if len(answers) < 2:
                answers.append("hangs")
                await anyio.sleep_forever()
            return DISCONNECT

        async def send(message): ...

        await KeepaliveMiddleware(app)(http(), receive, send)
        await settle()
        return await late[0]()

    assert run(backend, main) == DISCONNECT


def test_a_reader_that_is_cancelled_before_its_first_step_gives_its_place_up(backend):
    async def main():
        async def receive():
            await anyio.lowlevel.checkpoint()
            return DISCONNECT

        request = Responder(KeepaliveMiddleware(print)._config, None, {}, receive, None)
        assert request.ensure_listening(current_loop(), copy_context())
        assert request.is_reading
        request.cancel_read_ahead()
        await settle()
        assert not request.is_reading
        assert request.inbound == "open"
        with anyio.fail_after(1):
            return await request.receive()

    assert run(backend, main) == DISCONNECT


def test_a_reader_that_has_begun_keeps_its_place_until_it_has_left(backend):
    async def main():
        at_once = []

        async def receive():
            at_once.append(1)
            assert len(at_once) == 1, "two readers"
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(5)
                at_once.pop()

        request = Responder(KeepaliveMiddleware(print)._config, None, {}, receive, None)
        assert request.ensure_listening(current_loop(), copy_context())
        await settle()
        request.cancel_read_ahead()
        await settle()
        assert at_once == [1]
        assert request.is_reading
        await anyio.sleep(6)
        assert not request.is_reading

    run(backend, main)


def test_the_timeline_of_a_stream_that_reads_ahead_is_no_other(backend):
    assert play(backend, [(31, END)]).timeline == [
        (0, START), (15, PING), (30, PING), (31, END)
    ]  # fmt: skip


def test_a_disconnect_is_noticed_after_a_body_that_was_read_up_to_its_length(backend):
    """hypercorn and granian send the end of the body as another message."""

    async def read_once(scope, receive, send):
        assert (await receive())["body"] == b"12345"

    def prepare(world):
        world.requests[:] = [{"type": "http.request", "body": b"12345", "more_body": True}]
        world.leave_at = 40

    scope = http(headers=[(b"content-length", b"5")])
    world = play(backend, [(1, read_once), (100, END)], scope=scope, prepare=prepare)
    assert world.ended.reason is StopReason.DISCONNECTED
    assert world.ended.duration == 40
