"""`python -m keepalive`: the whole command, with scripted servers, on the virtual clock."""

import contextlib
import io
import json
import re
import runpy
import socket
import ssl
import sys
import zlib
from dataclasses import dataclass

import anyio
import pytest
from support import harness as virtual
from support.internals import DefaultPing, choose_ping
from support.scripted_connection import (
    CHUNKED,
    COMMENT,
    EOF,
    EVENT,
    HEAD,
    LAST,
    PING,
    RESET,
    Connection,
    chunk,
    every,
)

from keepalive import __main__ as command


class Terminal(io.StringIO):
    def isatty(self):
        return True


@dataclass
class Outcome:
    """What a run of the command did."""

    status: int
    output: str
    requests: list[bytes]
    addresses: list[tuple[str, int, bool]]

    @property
    def finding(self):
        """The conclusions, each in one line."""
        labels = ("ok", "problem", "note")
        return " ".join(
            f"{x} {row[row.index(': ') + 2 :]}" for x in labels for row in self.rows(x)
        )

    def rows(self, label):
        """What the report says of something, each row in one line."""
        found = re.findall(
            rf"^ *([\d.]+ s)  {label} +(.*(?:\n {{18}}.*)*)", self.output, re.MULTILINE
        )
        return [f"{at}: {' '.join(text.split())}" for at, text in found]

    def row(self, label):
        (text,) = self.rows(label)
        return text


@pytest.fixture
def call(backend):
    """Runs the command. Each connection has the steps of one server, or cannot be made."""

    def call(*servers, options=(), url="http://server/events", output=None, run=None):
        addresses, connections, left = [], [], list(servers)

        async def connect(host, port, *, tls, tls_standard_compatible):
            assert not tls_standard_compatible
            addresses.append((host, port, tls))
            server = left.pop(0)
            if isinstance(server, float):  # seconds until there is a connection
                await anyio.sleep(server)
                server = left.pop(0)
            if isinstance(server, Exception):
                raise server
            connections.append(
                server if isinstance(server, Connection) else Connection(server)
            )
            return connections[-1]

        output = output or io.StringIO()
        with contextlib.redirect_stdout(output):
            status = command.main(
                [*options, url],
                run=run or (lambda function: virtual.run(backend, function)),
                connect=connect,
            )
        assert not left
        return Outcome(status, output.getvalue(), [x.request for x in connections], addresses)

    return call


# What the verdict is


SCREEN = """\
  0.0 s  request  GET http://server/events as browser
  0.1 s  response HTTP/1.1 200 OK
  0.1 s  header   content-type: text/event-stream
  0.1 s  header   server: uvicorn
  0.1 s  data     received, 6 times: 0.1, 15.0, 30.0, 45.0, 60.0, 75.0
  0.1 s  event    event: message
 15.0 s  ping     event: ping, 5 times: 15.0, 30.0, 45.0, 60.0, 75.0
 75.0 s  end      still open
 75.0 s  ok       Open for 75.0 s, idle for at most 15.0 s.
"""


def test_a_stream_that_is_kept_alive(call):
    steps = [(0.1, CHUNKED + chunk(EVENT)), *every(14.99, 75, chunk(PING))]
    made = call(steps)
    assert made.output == SCREEN
    assert made.status == 0


def test_a_stream_that_is_silent(call):
    made = call([(0.1, CHUNKED + chunk(EVENT))])
    assert "Idle for 74.9 s without a ping. Add the middleware" in made.finding
    assert made.rows("ping") == []
    assert made.status == 1
    assert call([(0, CHUNKED)], options=["--for", "3"]).status == 1


def test_pings_that_are_too_rare(call):
    assert call([(0, CHUNKED), *every(30, 70, chunk(PING))]).status == 0
    made = call([(0, CHUNKED), *every(32, 70, chunk(PING))])
    assert "Idle for 32.0 s without a ping." in made.finding
    assert made.status == 1
    stopped = [(0, CHUNKED), *every(5, 20, chunk(PING))]
    assert "Idle for 55.0 s without a ping." in call(stopped).finding


def test_a_stream_that_is_never_silent_for_long(call):
    made = call([(0, CHUNKED), *every(1, 75, chunk(EVENT))])
    assert "ok Open for 75.0 s, idle for at most 1.0 s." in made.finding
    assert made.row("event") == (
        "1.0 s: event: message, 74 times: 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, ..."
    )
    assert made.status == 0
    assert call([(0, CHUNKED), *every(19, 70, chunk(EVENT))]).status == 0
    assert call([(0, CHUNKED), *every(21, 70, chunk(EVENT))]).status == 1


@pytest.mark.parametrize("limit", [2, 2.1, 9, 10, 29.7, 30, 60.3])
@pytest.mark.parametrize("end", [EOF, RESET])
def test_an_idle_timeout(call, limit, end):
    made = call([(0.2, CHUNKED + chunk(EVENT)), (0.2 + limit, end)])
    assert f"Closed when idle for {limit:.1f} s: an idle timeout. Set interval" in made.finding
    assert made.status == 1


def test_an_idle_timeout_that_is_counted_from_the_request(call):
    made = call([(0.3, CHUNKED + chunk(EVENT)), (2, EOF)])
    assert "Closed when idle for 1.7 s: an idle timeout." in made.finding
    made = call([(0.3, CHUNKED + chunk(EVENT)), (2, LAST)])
    assert made.status == 0


def test_an_idle_timeout_shorter_than_the_interval(call):
    """A limit on silence is longer than each silence before."""
    steps = [(0, CHUNKED), *every(0.1, 1, chunk(EVENT)), (11, EOF)]
    assert "Closed when idle for 10.0 s: an idle timeout" in call(steps).finding


@pytest.mark.parametrize("limit", [3, 10, 30, 60.2])
def test_a_total_timeout(call, limit):
    steps = [(0, CHUNKED), *every(0.9, limit, chunk(PING)), (limit, EOF)]
    made = call(steps)
    assert f"Closed after {limit:.1f} s: a total timeout." in made.finding
    assert "max_lifetime" in made.finding
    assert made.status == 1


@pytest.mark.parametrize(
    ("interval", "last"),
    [(2.3, 3.0), (0.6, 1.0)],
)
def test_a_silence_is_not_a_timeout_if_it_is_hardly_longer_than_others(call, interval, last):
    steps = [(interval * n, chunk(EVENT)) for n in range(1, 5)]
    made = call([(0, CHUNKED), *steps, (interval * 4 + last, EOF)])
    assert "a crash or a restart." in made.finding


@pytest.mark.parametrize("when", [0.3, 1.4, 12.4])
def test_a_crash(call, when):
    made = call([(0, CHUNKED), *every(0.9, when, chunk(PING)), (when, RESET)])
    assert f"Closed after {when:.1f} s: a crash or a restart." in made.finding
    assert made.status == 1


def test_an_end_of_the_stream(call):
    made = call([(0, CHUNKED + chunk(EVENT)), (3.5, chunk(EVENT) + LAST)])
    assert made.row("end") == "3.5 s: complete"
    assert made.finding.startswith("ok Open for 3.5 s")
    assert made.status == 0


def test_an_end_of_the_stream_after_a_silence_that_is_not_long(call):
    assert call([(0, CHUNKED + chunk(EVENT)), (18.5, chunk(EVENT) + LAST)]).status == 0
    assert call([(0, CHUNKED + chunk(EVENT)), (1, LAST)]).status == 0


def test_an_end_of_the_stream_after_a_long_silence(call):
    made = call([(0, CHUNKED + chunk(EVENT)), (21.5, chunk(EVENT) + LAST)])
    assert "Idle for 21.5 s without a ping." in made.finding
    assert made.status == 1


def test_a_proxy_that_ends_a_silent_stream_as_if_it_was_complete(call):
    made = call([(0, CHUNKED + chunk(EVENT)), (2, LAST)])
    assert made.finding.startswith("ok Open for 2.0 s")
    assert "note Ended when idle for 2.0 s, perhaps by an idle timeout." in made.finding
    assert made.status == 0
    regular = [(0, CHUNKED), *every(2, 6, chunk(EVENT)), (8, LAST)]
    assert "note" not in call(regular).finding  # an app that sleeps after its last event, too


def test_a_body_that_ends_with_the_connection(call):
    made = call([(0, HEAD + b"\r\n" + EVENT), (0.7, EVENT), (0.9, EOF)])
    assert made.row("end") == "0.9 s: complete"
    assert made.row("event") == "0.0 s: event: message, 2 times: 0.0, 0.7"
    assert made.status == 0


# What is held back


def test_pings_that_arrive_at_once(call):
    steps = [(0, CHUNKED), *every(30, 70, chunk(PING) * 3)]
    made = call(steps)
    assert made.row("ping") == (
        "30.0 s: event: ping, 6 times: 30.0, 30.0, 30.0, 60.0, 60.0, 60.0"
    )
    assert made.finding.startswith("problem Buffered: 3 pings arrived at once. Keep anti_buff")
    assert "Alive" not in made.finding
    assert made.status == 1
    two = call([(0, CHUNKED), *every(30, 70, chunk(PING) * 2)])
    assert two.finding.startswith("problem Buffered: 2 pings arrived at once.")
    cut = call([*steps, (65, EOF)])
    assert cut.row("end") == "65.0 s: closed early"
    assert "Buffered: 3 pings arrived at once." in cut.finding


def test_comments_at_the_start_are_not_held_back(call):
    made = call(
        [(0, CHUNKED + chunk(b": hello\n: hello\n\n")), *every(15, 75, chunk(COMMENT))]
    )
    assert "Buffered" not in made.finding
    assert made.status == 0


def test_events_that_arrive_at_once_may_have_been_sent_so(call):
    made = call([(0, CHUNKED), *every(8, 75, chunk(EVENT) * 40)])
    assert "8.0, 8.0, 8.0" in made.row("event")
    assert "Buffered" not in made.finding
    assert made.status == 0


@pytest.mark.parametrize("data", [EVENT, PING])
def test_headers_that_come_with_the_first_byte(call, data):
    made = call([(15, CHUNKED + chunk(data)), *every(15, 60, chunk(PING))[1:]])
    assert "note The headers arrived only with the first data." in made.finding
    assert "first_ping=0" in made.finding
    assert made.status == 0


# Compression


def compressed(encoding, *parts):
    """Return a response's first bytes, and what is sent for each part."""
    compressor = zlib.compressobj(wbits={"gzip": 31, "deflate": 15}[encoding])
    head = HEAD + b"content-encoding: %b\r\n" % encoding.encode()
    yield head + b"transfer-encoding: chunked\r\n\r\n"
    for part in parts:
        yield chunk(compressor.compress(part) + compressor.flush(zlib.Z_SYNC_FLUSH))


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_pings_inside_compressed_data(call, encoding):
    head, *parts = compressed(encoding, EVENT, PING, PING, PING, PING)
    made = call([(0, head), *((15 * n, part) for n, part in enumerate(parts))])
    assert made.row("ping") == "15.0 s: event: ping, 4 times: 15.0, 30.0, 45.0, 60.0"
    assert f"content-encoding: {encoding}\n" in made.output
    assert made.status == 0


def test_compressed_data_without_pings(call):
    head, part = compressed("gzip", EVENT)
    made = call([(0, head + part)])
    assert "Add the middleware, inside any compressor." in made.finding
    assert made.status == 1


def test_compressed_data_that_cannot_be_read(call):
    head = CHUNKED.replace(b"server: uvicorn", b"Content-Encoding: br")
    made = call([(0, head + chunk(b"?\n" + PING))])
    assert made.row("data") == "0.0 s: received"
    assert made.rows("ping") == []


def test_compressed_data_that_is_not(call):
    head, _ = compressed("gzip", b"")
    made = call([(0, head + chunk(EVENT))])
    assert "failed: error: Error -3 while decompressing data" in made.row("end")
    assert made.status == 1


# What is not a stream


@pytest.mark.parametrize("when", [0, 2])
def test_a_response_with_a_length(call, when):
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1234\r\n\r\n"
    made = call([(when, head)])
    assert "problem Not a stream: application/json, 1234 bytes. Check the URL" in made.finding
    assert made.status == 1


def test_a_short_response_without_a_length(call):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    made = call([(0, head + chunk(b"<html>") + LAST)])
    assert "problem Not a stream: no media type, 6 bytes." in made.finding
    assert call([(0, CHUNKED + LAST)]).status == 0
    assert call([(0, head + chunk(b"<html>")), (2.5, chunk(b"</html>") + LAST)]).status == 0


def test_a_response_without_a_body(call):
    made = call([(0, b"HTTP/1.1 204 No Content\r\n\r\n")])
    assert "problem Status 204 after 0.0 s." in made.finding


def test_records_with_spaces(call):
    head = CHUNKED.replace(b"text/event-stream", b"application/x-ndjson")
    steps = [
        (0, head + chunk(b'{"n": 1}\n')),
        *every(15, 74, chunk(b" ")),
        (74, chunk(b"{}\n")),
    ]
    made = call(steps)
    assert made.row("data").startswith("0.0 s: received, 6 times: 0.0, 15.0")
    assert made.row("ping") == "15.0 s: whitespace, 4 times: 15.0, 30.0, 45.0, 60.0"
    assert made.status == 0


@pytest.mark.parametrize(
    ("status", "when", "advice"),
    [
        ("504 Gateway Time-out", 60, "Set start_after"),
        ("502 Bad Gateway", 5, "Set start_after"),
        ("502 Bad Gateway", 0, "Check the URL"),
        ("404 Not Found", 5, "Check the URL"),
        ("304 Not Modified", 0, "Check the URL"),
        ("302 Found", 0, "Check the URL"),  # to nowhere
    ],
)
def test_an_error(call, status, when, advice):
    made = call([(when, b"HTTP/1.1 %b\r\n\r\n" % status.encode())])
    assert f"problem Status {status[:3]} after {when:.1f} s. " in made.finding
    assert advice in made.finding
    assert made.row("response") == f"{when:.1f} s: HTTP/1.1 {status}"
    assert made.status == 1


def test_no_response(call):
    made = call([], options=["--for", "20"])
    assert "problem No response after 20.0 s. Set start_after if the app" in made.finding
    assert made.status == 1
    assert "No response after 60.0 s. Set start_after" in call([(60, EOF)]).finding
    assert "No response after 0.1 s. Check the URL" in call([(0.1, EOF)]).finding


def test_what_is_not_http(call):
    made = call([(0, b"SSH-2.0-OpenSSH_9.2\r\n")])
    assert "failed: ValueError: not HTTP/1.1: 'SSH-2.0-OpenSSH_9.2'" in made.row("end")
    assert made.status == 1


# Redirects


def redirect(location, status=302):
    return [(0, b"HTTP/1.1 %d Moved\r\nLocation: %b\r\n\r\n" % (status, location))]


STREAM = [(0, CHUNKED + chunk(EVENT) + LAST)]


def test_a_redirect_is_followed(call):
    made = call(redirect(b"/other?x=1"), STREAM)
    assert made.requests[1].startswith(b"GET /other?x=1 HTTP/1.1\r\nhost: server\r\n")
    assert "0.0 s: Location: /other?x=1" in made.rows("header")
    assert made.rows("request")[1] == "0.0 s: GET http://server/other?x=1 as browser"
    assert made.status == 0


def test_five_redirects_are_followed(call):
    assert call(*[redirect(b"/")] * 5, STREAM).status == 0
    made = call(*[redirect(b"/")] * 6)
    assert "Status 302" in made.finding
    assert made.status == 1


def test_another_origin_does_not_get_the_users_headers(call):
    options = ["-H", "Authorization: secret"]
    for location in (b"https://server/", b"http://server:81/", b"http://other/"):
        made = call(redirect(location), STREAM, options=options)
        assert [b"secret" in x for x in made.requests] == [True, False]
    made = call(redirect(b"http://server/"), STREAM, options=options)
    assert [b"secret" in x for x in made.requests] == [True, True]


@pytest.mark.parametrize(("status", "method"), [(303, b"GET"), (302, b"GET"), (307, b"POST")])
def test_the_method_of_a_redirected_request(call, status, method):
    _, request = call(redirect(b"/", status), STREAM, options=["-d", "body"]).requests
    assert request.startswith(method + b" ")
    assert request.endswith(b"\r\n\r\nbody") == (method == b"POST")


def test_a_redirect_to_what_is_not_http(call):
    made = call(redirect(b"ftp://server/"))
    assert "failed: ValueError: not an http or https URL: ftp://server/" in made.row("end")
    assert made.status == 1


# Connections that cannot be made


REFUSED = ConnectionRefusedError(111, "refused")


def caused(error):
    failure = OSError("All connection attempts failed")
    failure.__cause__ = error
    return failure


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (caused(REFUSED), "ConnectionRefusedError: [Errno 111] refused"),
        (
            caused(ExceptionGroup("", [REFUSED, OSError(101, "no route"), REFUSED])),
            "ConnectionRefusedError: [Errno 111] refused, OSError: [Errno 101] no route",
        ),
        (socket.gaierror(-2, "Name not known"), "gaierror: [Errno -2] Name not known"),
        (
            ssl.SSLCertVerificationError(1, "self-signed"),
            "SSLCertVerificationError: self-signed",
        ),
    ],
)
def test_a_connection_that_cannot_be_made(call, error, text):
    made = call(error)
    assert made.row("end") == f"0.0 s: failed: {text}"
    assert made.finding.startswith("problem No response after 0.0 s. Check the URL")
    assert made.requests == []
    assert made.status == 1


def test_a_connection_that_takes_long(call):
    assert call(9.0, STREAM).status == 0
    made = call(11.0)
    assert made.row("end") == "10.0 s: failed: TimeoutError"
    assert made.status == 1


def test_a_connection_that_is_lost_while_the_request_is_sent(call):
    class Lost(Connection):
        async def send(self, item):
            raise RESET

    made = call(Lost([]))
    assert made.row("end") == "0.0 s: closed early"
    assert made.status == 1


@pytest.mark.parametrize(
    ("url", "arguments"),
    [
        ("http://server/", ("server", 80, False)),
        ("http://server:8000/", ("server", 8000, False)),
        ("https://server/", ("server", 443, True)),
        ("https://[::1]:8000/", ("::1", 8000, True)),
    ],
)
def test_where_it_connects_to(call, url, arguments):
    made = call(STREAM, url=url)
    assert made.addresses == [arguments]


# Requests


@pytest.mark.parametrize(
    ("client", "ping", "method"),
    [
        ("browser", DefaultPing.EVENT, "GET"),
        ("curl", DefaultPing.EVENT, "GET"),
        ("openai", DefaultPing.COMMENT, "POST"),
        ("anthropic", DefaultPing.ANTHROPIC, "POST"),
        ("openai", DefaultPing.COMMENT, "GET"),
        ("anthropic", DefaultPing.ANTHROPIC, "GET"),
    ],
)
def test_each_client_gets_its_ping(call, client, ping, method):
    body = ["-d", "{}"] if method == "POST" else []
    (request,) = call(STREAM, options=["--as", client, *body]).requests
    head, _, body = request.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    headers = [tuple(x.split(b": ", 1)) for x in fields]
    scope = {"method": line.split()[0].decode(), "path": "/events", "headers": headers}
    assert scope["method"] == method
    assert choose_ping(scope, []) is ping
    assert body == (b"{}" if method == "POST" else b"")
    assert len({name for name, _ in headers}) == len(headers)


def test_options_of_the_request(call):
    options = ["-X", "PUT", "-H", "accept: text/plain", "-H", "Pragma:", "-d", "a=b"]
    (request,) = call(STREAM, options=options, url="http://me:pw@server:81").requests
    assert request == (
        b"PUT / HTTP/1.1\r\nhost: server:81\r\naccept-encoding: gzip, deflate\r\n"
        b"content-type: application/x-www-form-urlencoded\r\ncontent-length: 3\r\n"
        b"accept: text/plain\r\n\r\na=b"
    )
    (request,) = call(STREAM, options=["-d", ""]).requests
    assert request.startswith(b"GET ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["server"],
        ["ftp://server/"],
        ["http://"],
        ["http://server:x/"],
        ["http://server:0/"],
        ["http://server/ x"],
        ["http://server/", "--as", "nobody"],
        *(["http://server/", "--for", x] for x in ("0", "-1", "x", "nan", "inf")),
        ["http://server/", "--unknown"],
    ],
)
def test_incorrect_usage(arguments, capsys):
    with pytest.raises(SystemExit) as raised:
        command.main(arguments)
    assert raised.value.code == 2
    assert "usage: python -m keepalive" in capsys.readouterr().err


def test_help(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["keepalive", "--help"])
    with pytest.raises(SystemExit) as raised:
        runpy.run_path(command.__file__, run_name="__main__")
    assert raised.value.code == 0
    text = capsys.readouterr().out
    assert "Report what happens to a stream" in text
    assert "Examples:\n  python -m keepalive http://" in text


# Output


def test_lines_of_json(call):
    output = Terminal()
    steps = [(0.1, CHUNKED + chunk(EVENT)), (1, chunk(PING))]
    made = call(steps, options=["--json", "--for", "2.5"], output=output)
    assert [tuple(json.loads(line).items()) for line in made.output.splitlines()] == [
        (("at", at), ("what", what), ("detail", detail))
        for at, what, detail in [
            (0.0, "request", "GET http://server/events as browser"),
            (0.1, "response", "HTTP/1.1 200 OK"),
            (0.1, "header", "content-type: text/event-stream"),
            (0.1, "header", "server: uvicorn"),
            (0.1, "data", "received"),
            (0.1, "event", "event: message"),
            (1.0, "data", "received"),
            (1.0, "ping", "event: ping"),
            (2.5, "end", "still open"),
            (2.5, "ok", "Open for 2.5 s, idle for at most 1.5 s."),
        ]
    ]
    assert made.status == 0


@pytest.mark.parametrize("no_color", ["", "1"])
def test_a_terminal(call, monkeypatch, no_color):
    monkeypatch.setenv("NO_COLOR", no_color)
    steps = [(0.5, CHUNKED + chunk(EVENT)), (2.1, chunk(PING))]
    made = call(steps, options=["--for", "4"], output=Terminal())
    *lines, report = made.output.split("\r")
    assert [x.rstrip() for x in lines if x.strip()] == [
        "0 s elapsed, idle for 0 s, last: request at 0.0 s",
        "1 s elapsed, idle for 0 s, last: event at 0.5 s",
        "2 s elapsed, idle for 2 s, last: event at 0.5 s",
        "3 s elapsed, idle for 1 s, last: ping at 2.1 s",
    ]
    assert max(map(len, lines)) < 80
    assert report.startswith("  0.0 s  request  GET")
    assert ("\x1b[32mok\x1b[0m       Open for 4.0 s" in report) == (not no_color)
    assert ("\x1b" in report) == (not no_color)
    problem = call([], options=["--for", "4"], output=Terminal())
    assert ("\x1b[31mproblem\x1b[0m  No response" in problem.output) == (not no_color)


def test_a_report_has_80_columns_and_no_control_characters(call):
    head = CHUNKED.replace(b"uvicorn", b"\x1b[2J\xff" + b"long " * 40)
    made = call([(0, head + chunk(EVENT) * 50), *every(1.01, 75, chunk(COMMENT))])
    assert max(map(len, made.output.splitlines())) <= 80
    assert made.output.isascii()
    assert made.output.replace("\n", "").isprintable()


def test_an_interrupted_run(call, backend):
    def run(function):
        """Cancel and raise, as asyncio's runner does."""

        async def cancelled():
            with anyio.move_on_after(5):
                await function()

        virtual.run(backend, cancelled)
        raise KeyboardInterrupt

    made = call([(0, CHUNKED + chunk(EVENT)), (1, chunk(PING))], run=run)
    assert made.row("end") == "5.0 s: interrupted"
    assert made.finding.startswith("ok Open for 5.0 s")
    assert made.status == 130
