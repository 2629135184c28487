"""Headers of a late start, which can't be sent any more, are named in the log."""

import logging

from support.early import slow, wanting
from support.endings import X
from support.harness import END, SSE, body, start

from keepalive import KeepaliveMiddleware, Policy


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
        "response headers set after start_after were dropped: set-cookie, vary"
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
