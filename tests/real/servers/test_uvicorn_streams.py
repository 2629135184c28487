"""Streams under uvicorn, over real sockets, in real time: what the clients get."""

import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from real.http_clients import (
    PING,
    TESTS,
    Exchange,
    Server,
    curl,
    events,
    exchange,
    parsed,
    split_pings,
    token,
    wait_for,
)
from real.servers.uvicorn_apps import CHUNKS, INTERVAL, RECORDS, SILENT

pytestmark = [pytest.mark.real, pytest.mark.slow]

SILENT_EVENTS = [
    ("message", "one", "", None),
    ("update", "two\nlines", "7", 1000),
    ("message", "three", "7", None),
]


def each(read, server, path, *variants):
    """Read one path from several variants of the app at the same time."""
    paths = [f"/{variant}{path}/{token()}" for variant in variants]
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda one: read(server, one), paths))


def read_bytes(server, path):
    with exchange(server, path) as made:
        assert made.status == 200
        return made.read()


def read_headers(server, path):
    with exchange(server, path) as made:
        return {**made.headers, "date": ""}


def test_httpx_sse_gets_the_apps_events_and_pings(server):
    plain, kept = each(events, server, "/silent", "plain", "kept")
    assert plain == SILENT_EVENTS
    assert [event for event in kept if event[0] != "ping"] == SILENT_EVENTS
    assert all(event[1] == "" for event in kept if event[0] == "ping")
    assert len(kept) - len(plain) >= 2 * (len(SILENT) + 1)


def test_curl_gets_the_apps_bytes_and_pings(server):
    plain, kept = each(curl, server, "/silent", "plain", "kept")
    assert plain == b"".join(SILENT)
    rest, pings = split_pings(kept)
    assert rest == plain
    assert pings >= 2 * (len(SILENT) + 1)


def test_read_byte_by_byte_the_pings_stand_between_the_events(server):
    plain, kept = each(read_bytes, server, "/silent", "plain", "kept")
    assert plain == b"".join(SILENT)
    assert kept.startswith(PING)
    assert kept.endswith(PING)
    rest, pings = split_pings(kept)
    assert rest == plain
    assert pings >= 2 * (len(SILENT) + 1)


@pytest.mark.parametrize("ending", ["lf", "crlf"])
def test_a_ping_never_stands_inside_an_event_that_comes_in_pieces(server, ending):
    path = f"/chunks/{ending}"
    plain, kept, blind = each(read_bytes, server, path, "plain", "kept", "blind")
    newline = b"\r\n" if ending == "crlf" else b"\n"
    assert plain == b"".join(CHUNKS).replace(b"\n", newline)
    rest, pings = split_pings(kept)
    assert rest == plain
    # One that is due inside each event waits for its end, and goes out right behind it.
    first, _, behind = kept.partition(b"id: 1" + newline * 2)
    assert split_pings(first)[1] == 0
    ping = PING.replace(b"\n", newline)
    assert behind.startswith(ping * 2)
    assert behind.endswith(ping * 2)
    assert pings >= 4

    assert parsed(plain) == [("update", "first", "1", None), ("message", "second", "1", None)]
    assert [event for event in parsed(kept) if event[0] != "ping"] == parsed(plain)
    assert sum(event[0] == "ping" for event in parsed(kept)) == pings

    # The checks have teeth: they see what blind pings do to the same app.
    assert PING in blind
    assert split_pings(blind)[0] != plain
    assert [event for event in parsed(blind) if event[0] != "ping"] != parsed(plain)


def test_ndjson_is_pinged_with_spaces_where_it_is_asked_for(server):
    plain, kept = each(curl, server, "/records", "plain", "kept")
    assert plain == b"".join(RECORDS)
    lines = kept.splitlines(keepends=True)
    assert b"".join(line.lstrip(b" ") for line in lines) == plain
    assert [json.loads(line) for line in lines] == [json.loads(x) for x in plain.splitlines()]
    assert [len(line) - len(line.lstrip(b" ")) >= 2 for line in lines] == [
        True,
        True,
        False,  # it came in one message with the record before it
        True,
    ]


def test_the_head_of_a_stream_forbids_buffering(server):
    plain, kept = each(read_headers, server, "/non_listening/brief", "plain", "kept")
    added = {"x-accel-buffering": "no", "cache-control": "no-cache, no-transform"}
    assert kept == plain | added
    assert not plain.keys() & added


def test_a_response_that_is_not_a_stream_is_left_alone(server):
    path = f"/whole/{token()}"
    plain = httpx.get(server.url(f"/plain{path}"))
    kept = httpx.get(server.url(f"/kept{path}"))
    assert kept.content == plain.content == b'{"answer":"whole"}'
    assert {**kept.headers, "date": ""} == {**plain.headers, "date": ""}
    assert server.facts(path) == []


def lines_of(size):
    """Return about so many bytes of lines, of many lengths."""
    parts, length, number = [], 0, 0
    while length < size:
        parts.append(b'{"n": %d, "x": "%s"}\n' % (number, b"x" * (number * 37 % 3000)))
        length += len(parts[-1])
        number += 1
    return parts


def send_up(made: Exchange, parts, paused: threading.Event, go_on: threading.Event):
    """Upload in portions that end anywhere; in the middle pause at the end of a line."""
    half = len(parts) // 2
    for portion in (b"".join(parts[:half]), b"".join(parts[half:])):
        for at in range(0, len(portion), 50_001):
            made.write(portion[at : at + 50_001])
        paused.set()
        assert go_on.wait(20)


def without_blank_lines(text: bytes) -> bytes:
    """Return the lines that are not pings."""
    return re.sub(rb"\n+", b"\n", text).lstrip(b"\n")


@pytest.mark.parametrize("variant", ["plain", "kept"])
def test_an_upload_is_echoed_while_it_goes_on(server, variant):
    parts = lines_of(6_000_000)
    sent = b"".join(parts)
    half = len(b"".join(parts[: len(parts) // 2]))
    paused, go_on = threading.Event(), threading.Event()
    pings = 2 if variant == "kept" else 0
    with (
        ThreadPoolExecutor() as pool,
        exchange(server, f"/{variant}/echo/{token()}", upload=len(sent)) as made,
    ):
        try:
            upload = pool.submit(send_up, made, parts, paused, go_on)
            echoed = made.read_until(parts[len(parts) // 2 - 1] + b"\n" * pings)
            assert paused.wait(20)
            if variant == "plain":
                assert not made.has_more_within(3 * INTERVAL)
        finally:
            go_on.set()
        received = made.read()
        upload.result()
    # On a busy machine the upload may pause elsewhere too, and pings come there as well.
    assert without_blank_lines(echoed) == sent[:half]
    assert without_blank_lines(received) == sent
    assert len(received) - len(sent) >= pings
    if variant == "plain":
        assert received == sent


def test_the_log_of_a_server_tells_of_an_error(tmp_path):
    server = Server(tmp_path, "real.servers.uvicorn_apps:application", TESTS)
    try:
        assert server.new_complaints() == []
        assert httpx.get(server.url(f"/kept/fails/{token()}")).status_code == 500
        wait_for(lambda: "LookupError: on purpose" in server.log, "the traceback")
        assert {line.split()[0] for line in server.new_complaints()} >= {"ERROR:", "Traceback"}
    finally:
        server.stop()
