"""The how-to about logging out: who is stopped, when, and that nothing is left of anybody."""

import re
from pathlib import Path

import anyio
import pytest
import trio.testing
from support.harness import PING, start

from keepalive import KeepaliveMiddleware
from keepalive.testing import timeline

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "log-out.md"
BYE = b"event: bye\ndata: you left\n\n"

pytestmark = pytest.mark.skipif(
    not PAGE.exists(), reason="the pages are not in this copy of the tests"
)


@pytest.fixture
def page():
    """What the page's first two blocks define."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names = {}
    for block in blocks[:2]:
        exec(block, names)
    return names


def serve(backend, sessions, *requests, at):
    """Serve requests at the same time, each of a user and a path; return their timelines."""
    sent = {}

    async def app(scope, receive, send):
        async def one(user, path):
            line = sent[user, path] = []
            began = anyio.current_time()

            async def note(message):
                line.append((anyio.current_time() - began, message.get("body", "start")))

            await sessions({**scope, "user": user, "path": path}, receive, note)

        async with anyio.create_task_group() as group:
            for request in requests:
                group.start_soon(one, *request)

    clock = trio.testing.MockClock(autojump_threshold=0) if backend == "trio" else None
    timeline(app, seconds=60, at=at, clock=clock)
    return sent


def test_all_streams_of_a_user_end_and_nobody_elses(backend, page):
    sessions = page["sessions"]
    sizes = []
    sent = serve(
        backend,
        sessions,
        *(("ada", "/news"), ("ada", "/silent"), ("bob", "/news"), (None, "/other")),
        at={
            20: lambda: (sizes.append(len(sessions.open["ada"])), sessions.log_out("ada")),
            25: lambda: sizes.append(list(sessions.open)),
        },
    )
    assert sent["ada", "/news"][1:3] == [(15, PING), (20, BYE)]
    assert sent["ada", "/silent"][1:3] == [(15, PING), (22, b"event: bye\ndata: \n\n")]
    for other in [("bob", "/news"), (None, "/other")]:
        assert sent[other] == [(0, "start"), (15, PING), (30, PING), (45, PING)]
    assert sizes == [2, ["bob"]]
    assert sessions.open == {}


def test_who_was_let_in_just_before_is_stopped_as_the_stream_starts(backend, page):
    async def late(scope, receive, send):
        await anyio.sleep(10)
        await send(start())
        await anyio.sleep(30)

    kept = KeepaliveMiddleware(late, interval=1, abort=page["signal_of"], drain=2)
    sessions = page["Sessions"](kept)
    sent = serve(backend, sessions, ("ada", "/late"), at={5: lambda: sessions.log_out("ada")})
    assert sent["ada", "/late"] == [(10, "start"), (12, b"")]


def test_nothing_is_left_of_a_request_that_fails(backend, page):
    async def broken(scope, receive, send):
        raise KeyError

    sessions = page["Sessions"](broken)
    with pytest.raises(ExceptionGroup):
        serve(backend, sessions, ("ada", "/"), at={})
    assert sessions.open == {}
    sessions.log_out("nobody")
