"""What servers do by themselves, and go on doing: each case says it in a few words.

One function for each habit. Where a server waits for something, so does the case.
"""

from collections.abc import Callable
from typing import Final

from real.servers.serving import Serving, new_key
from real.servers.stream_apps import GOODBYE, HELLO, INTERVAL
from real.servers.stream_clients import SPOILT, connected

NOT_YET: Final = 5 * INTERVAL
"""Seconds in which nothing comes that a server withholds."""

WITHHELD: Final = {"daphne": ("", "/ndjson"), "granian": ("/ndjson",)}
"""Whose headers a server keeps back until the first body message."""

CALLED_LATE: Final = {"daphne"}
"""Servers that call the app only when the whole upload is there."""

INVITES_EARLY: Final = {"hypercorn", "daphne"}
"""Servers that send `100 Continue` before the app has asked for the body."""


def _headers(server: Serving, end: str) -> str:
    """Say when the headers of a plain response are sent."""
    key = new_key()
    with server.asked(f"/plain/gated/{key}{end}") as reply:
        server.wait_until_noted("started", f"/gated/{key}")
        if end in WITHHELD.get(server.flavour.server, ()):
            reply.read_for(NOT_YET)
            assert not reply.status
        else:
            reply.until_head()
        early = reply.status
        server.open_gate(key)
        assert reply.rest() == HELLO + GOODBYE
    return "immediately" if early else "with the first body message"


def headers_of_sse(server: Serving) -> str:
    """Say when the headers of an event stream are sent."""
    return _headers(server, "")


def headers_of_ndjson(server: Serving) -> str:
    """Say when the headers of another stream are sent."""
    return _headers(server, "/ndjson")


def app_is_called(server: Serving) -> str:
    """Say when the app is called for an upload."""
    path = f"/expected/{(key := new_key())}"
    with server.connected() as connection:
        reply = connection.request(f"/plain{path}", "POST", size=2)
        if server.flavour.server in CALLED_LATE:
            reply.read_for(NOT_YET)
        else:
            server.wait_until_noted("called", path)
        called = server.noted("called", path)
        server.open_gate(key)
        connection.upload(reply, b"2\n")
        connection.end_upload(reply)
        assert reply.rest() == b"2\n"
    return "with the headers" if called else "after the whole body"


def _invited(server: Serving, variant: str) -> str:
    """Return when a client that asks for it is allowed to continue its upload."""
    path = f"/expected/{(key := new_key())}"
    with connected("1.1", server.port) as connection:
        reply = connection.request(f"/{variant}{path}", "POST", 2, "100-continue")
        if server.flavour.server in INVITES_EARLY:
            reply.until(lambda: reply.early, "100")
        else:
            server.wait_until_noted("called", path)
            reply.read_for(NOT_YET)
        early = bool(reply.early)
        server.open_gate(key)
        reply.until(lambda: reply.early, "100")
        connection.upload(reply, b"2\n")
        connection.end_upload(reply)
        assert reply.rest() == b"2\n"
        assert reply.early == [100]
    return "immediately" if early else "at the first `receive`"


def hundred_continue(server: Serving) -> str:
    """`100 Continue` is sent when it is sent without us."""
    plain, kept = (_invited(server, variant) for variant in ("plain", "kept"))
    assert kept == plain
    return kept


def head_with_bodies(server: Serving) -> str:
    """Say what becomes of an app's body messages in answer to a HEAD; a plain app's."""
    try:
        with server.connected() as connection:
            reply = connection.request(f"/plain/head/{new_key()}/wordy", "HEAD")
            assert reply.rest() == b""
            assert connection.request(f"/plain/whole/{new_key()}").rest() == b"whole"
    except SPOILT:
        return "no: sent"
    return "dropped"


HABITS: Final[dict[str, Callable[[Serving], str]]] = {
    "headers of an event stream": headers_of_sse,
    "headers of NDJSON": headers_of_ndjson,
    "app is called": app_is_called,
    "`100 Continue`": hundred_continue,
    "body messages for HEAD": head_with_bodies,
}

OF_HTTP_1: Final = {"`100 Continue`"}
"""The habits that are not looked for on HTTP/2."""
