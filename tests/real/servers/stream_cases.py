"""What every server's streams are tried with.

A case is a function that is given a running server; it asserts what must hold, and returns
what it has found, in a word or two. It compares with the plain app wherever the middleware
must not change anything.
"""

import contextlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from real.http_clients import PING, complaints, parsed, split_pings
from real.servers.early_cases import started_early
from real.servers.known_behaviour import CALLED_LATE, NOT_YET
from real.servers.serving import Serving, new_key
from real.servers.stream_apps import BULKY, GOODBYE, HELLO, PIECES, RECORDS, SILENT
from real.servers.stream_clients import Reply

YES: Final = "yes"
ADDED: Final = {"x-accel-buffering": "no", "cache-control": "no-cache, no-transform"}
MORE_THAN_BUFFERS: Final = 16
"""Bulky pings. A server that takes so many for a client that doesn't read takes any number."""

CROWD: Final = 50
ROOM: Final = {"1.1": None, "2": 1}
"""Connections that streams at the same time take, at most."""

DROPPED: Final = {"granian": '[INFO] ASGI transport error: "Closed(..)"'}
"""What a server says of each body that it leaves out of a HEAD's answer, `server_habits`."""


def bodies(server: Serving, app: str, *variants: str) -> list[bytes]:
    """Return the bodies of some variants of an app, read at the same time."""
    paths = [f"/{variant}/{app}/{new_key()}" for variant in variants]
    with ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(lambda path: server.whole(path), paths))


def comparable(reply: Reply) -> dict[str, str]:
    """Return what a plain and a kept response must have in common."""
    return {**reply.headers, "date": ""}


def silent_stream(server: Serving) -> str:
    """A silent stream is pinged between its events, and its bytes are the app's."""
    plain, kept = bodies(server, "silent", "plain", "kept")
    assert plain == b"".join(SILENT)
    rest, pings = split_pings(kept)
    assert rest == plain
    assert pings >= 2 * (len(SILENT) + 1)
    assert kept.startswith(PING)
    assert kept.endswith(PING)
    return YES


def events_in_pieces(server: Serving) -> str:
    """A ping never stands inside an event; one sent blindly does, and the checks see it."""
    plain, kept, blind = bodies(server, "pieces", "plain", "kept", "blind")
    assert plain == b"".join(PIECES)
    rest, pings = split_pings(kept)
    assert rest == plain
    assert pings >= 4
    assert [event for event in parsed(kept) if event[0] != "ping"] == parsed(plain)
    assert split_pings(blind)[0] != plain
    assert [event for event in parsed(blind) if event[0] != "ping"] != parsed(plain)
    return YES


def ndjson(server: Serving) -> str:
    """Spaces stand before records, and every line is the JSON that the app sent."""
    plain, kept = bodies(server, "records", "plain", "kept")
    assert plain == b"".join(RECORDS)
    lines = kept.splitlines(keepends=True)
    assert b"".join(line.lstrip(b" ") for line in lines) == plain
    assert [json.loads(line) for line in lines] == [json.loads(x) for x in plain.splitlines()]
    spaces = [len(line) - len(line.lstrip(b" ")) for line in lines]
    assert [number >= 2 for number in spaces] == [True, True, False, True]  # 2, 3 came at once
    return YES


def headers_at_once(server: Serving) -> str:
    """With `first_ping=0`, headers and a ping are there before the app has said anything."""
    for end, ping in (("", PING), ("/ndjson", b" ")):
        key = new_key()
        path = f"/gated/{key}{end}"
        with server.asked(f"/early{path}") as reply:
            assert reply.until_mark(ping).startswith(ping)
            assert reply.headers.items() >= ADDED.items()
            assert reply.status == 200
            server.open_gate(key)
            assert reply.rest().replace(ping, b"") == (HELLO + GOODBYE).replace(ping, b"")
        assert server.wait_until_noted("ended", path)[0]["reason"] == "completed"
    return YES


def _left(server: Serving, path: str, mark: bytes) -> dict[str, object]:
    """Leave a stream when a mark has come; return what its app has heard of that."""
    with server.connected() as connection:
        reply = connection.request(path, "POST", size=6)
        connection.upload(reply, b"upload")
        connection.end_upload(reply)
        reply.until_mark(mark)
        reply.leave()
        name = "/" + path.split("/", 2)[2]
        (heard,) = server.wait_until_noted("heard", name)
    return {name: fact for name, fact in heard.items() if name in ("body", "last")}


def client_leaves(server: Serving) -> str:
    """The app hears the request and the disconnect exactly as it does without us."""
    plain = _left(server, f"/plain/listening/{new_key()}", HELLO)
    path = f"/listening/{new_key()}"
    assert plain == {"body": "upload", "last": {"type": "http.disconnect"}}
    assert _left(server, f"/kept{path}", PING) == plain
    server.wait_until_noted("ended", path)
    assert server.reasons(path) == ["disconnected"]
    return YES


UNREAD: Final = {"1.1": (None, b"", b"small"), "2": (None, b"")}
"""What an app that never listens leaves unread; `None`: a GET."""


def client_leaves_a_non_listening_app(server: Serving) -> str:
    """The stream notices in the place of an app that never calls `receive`."""
    for body in UNREAD[server.http]:
        path = f"/non_listening/{new_key()}"
        with server.connected() as connection:
            if body is None:
                reply = connection.request(f"/kept{path}")
            else:
                reply = connection.request(f"/kept{path}", "POST", size=len(body))
                connection.upload(reply, body)
                connection.end_upload(reply)
            reply.until_mark(PING)
            assert not server.noted("notified", path)
            reply.leave()
            server.wait_until_noted("notified", path)
        assert server.reasons(path) == ["disconnected"]
    return YES


UPLOAD: Final = b"".join(b'{"n": %d, "x": "%s"}\n' % (n, b"x" * (n % 999)) for n in range(800))
"""More than a server keeps for an app that doesn't read."""


def upload(server: Serving) -> str:
    """What is read slowly, and partly ahead of the app, comes back whole, and in order."""
    half = UPLOAD.index(b"\n", len(UPLOAD) // 2) + 1
    for variant in ("plain", "kept"):
        path = f"/echo/{new_key()}"
        with server.connected() as connection:
            reply = connection.request(f"/{variant}{path}", "POST", size=len(UPLOAD))
            connection.upload(reply, UPLOAD[:half])
            if server.flavour.server in CALLED_LATE:
                assert not connection.has_more_within(NOT_YET)
                assert not server.noted("called", path)
            else:
                reply.until_mark(UPLOAD[:half][-200:])
                if variant == "kept":
                    reply.until_mark(b"}\n\n")
            connection.upload(reply, UPLOAD[half:])
            connection.end_upload(reply)
            lines = reply.rest().splitlines(keepends=True)
        assert b"".join(line for line in lines if line != b"\n") == UPLOAD
        assert (b"\n" in lines) is (variant == "kept")
    return YES


def head(server: Serving) -> str:
    """A HEAD is answered as without us, and its connection goes on."""
    answers = []
    for variant in ("plain", "kept"):
        with server.connected() as connection:
            path = f"/head/{new_key()}"
            reply = connection.request(f"/{variant}{path}", "HEAD")
            assert reply.rest() == b""
            answers.append((reply.status, comparable(reply)))
            assert connection.request("/plain/whole/x").rest() == b"whole"
            assert not server.noted("", path)
    assert answers[0] == answers[1]
    assert not answers[1][1].keys() & ADDED.keys()
    return YES


def connection_used_again(server: Serving) -> str:
    """Requests that follow each other on a connection, or that share it, are answered."""
    paths = [f"/silent/{new_key()}" for _ in range(3)]
    with server.connected() as connection:
        if server.http == "2":
            replies = [connection.request(f"/kept{path}") for path in paths]
            for reply in replies:
                reply.until_mark(PING)
            replies.pop(1).leave()
        else:
            replies = (connection.request(f"/kept{path}") for path in paths)
        for reply in replies:
            rest, pings = split_pings(reply.rest())
            assert rest == b"".join(SILENT)
            assert pings >= 2 * (len(SILENT) + 1)
        assert connection.request("/plain/whole/x").rest() == b"whole"
    for path in paths:
        server.wait_until_noted("ended", path)
    middle = "disconnected" if server.http == "2" else "completed"
    assert [server.reasons(path) for path in paths] == [
        ["completed"],
        [middle],
        ["completed"],
    ]
    return YES


def opened(server: Serving, stack: contextlib.ExitStack, paths: list[str]) -> list[Reply]:
    """Open streams at the same time: on HTTP/2 over one connection, else over one each."""
    over = [stack.enter_context(server.connected()) for _ in paths[: ROOM[server.http]]]
    replies = [over[n % len(over)].request(path) for n, path in enumerate(paths)]
    for reply in replies:
        reply.until_mark(PING)
    return replies


def fifty_at_once(server: Serving) -> str:
    """Of many streams some are left and some end: each is counted, and none is left over."""
    key = new_key()
    ends = ["listening" if number % 2 else "non_listening" for number in range(CROWD)]
    paths = [f"/kept/crowd/{key}/{end}/{number}" for number, end in enumerate(ends)]
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as short:
        opened(server, short, paths[:6])
        replies = opened(server, stack, paths[6:])
        short.close()  # the connection and not the stream, on HTTP/2 too
        for reply in replies[::5]:
            reply.leave()
        gone = 6 + len(replies[::5])
        server.wait_until_noted("through", f"/crowd/{key}", gone)
        server.open_gate(key)
        for number, reply in enumerate(replies):
            if number % 5:
                assert split_pings(reply.rest())[0] == HELLO + GOODBYE
        server.wait_until_noted("ended", f"/crowd/{key}", CROWD)
    server.wait_until_noted("through", f"/crowd/{key}", CROWD)
    assert len(server.noted("begun", f"/crowd/{key}")) == CROWD
    left = ["completed"] * (CROWD - gone) + ["disconnected"] * gone
    assert sorted(server.reasons(f"/crowd/{key}")) == left
    return YES


def client_stops_reading(server: Serving) -> str:
    """A ping that can't be sent is the last, and no other stream waits for it."""
    key = new_key()
    path = f"/gated/{key}"
    with server.connected() as connection, contextlib.ExitStack() as stack:
        reply = connection.request(f"/bulky{path}")
        connection.hold(reply)
        beside = connection if server.http == "2" else stack.enter_context(server.connected())
        before, now = -1, 0
        while before != now and now < MORE_THAN_BUFFERS:
            other = beside.request(f"/kept/silent/{new_key()}")  # as long as some pings take
            assert split_pings(other.rest())[0] == b"".join(SILENT)
            before, now = now, len(server.noted("pinged", path))
        server.open_gate(key)
        connection.release(reply)
        pings = reply.rest().index(HELLO) // len(BULKY.payload)
    (end,) = server.wait_until_noted("ended", path)
    assert reply.body == BULKY.payload * pings + HELLO + GOODBYE
    assert (end["reason"], end["pings"]) == ("completed", pings)
    if before != now:
        return "no: buffers everything"
    assert pings <= now + 1
    return "back-pressure"


def log_and_exit(server: Serving) -> str:
    """After all that the server has nothing to complain of, and nothing to wait for."""
    server.stop_gently()
    said = complaints(server.server.log)
    # For each client that has left, or not: it depends on when the server has noticed that.
    dropped = DROPPED.get(server.flavour.server)
    assert set(said) <= {dropped}
    assert len(said) <= len(SILENT)
    return YES


Case = Callable[[Serving], str]

STREAMS: Final[dict[str, Case]] = {
    "idle stream": silent_stream,
    "split events": events_in_pieces,
    "NDJSON": ndjson,
    "`first_ping=0`": headers_at_once,
    "`start_after`": started_early,
    "client disconnects": client_leaves,
    "client disconnects, app not listening": client_leaves_a_non_listening_app,
    "upload": upload,
    "HEAD": head,
    "connection reused": connection_used_again,
    "50 concurrent streams": fifty_at_once,
    "client stops reading": client_stops_reading,
    "logs and exit": log_and_exit,
}
