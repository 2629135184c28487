r"""Report what happens to a stream on its way to the client.

Opens URL as a client would, receives for a while, and reports when the headers, the events and
the pings arrived, whether something on the way buffers or compresses them or closes the
connection, and what to do about it.

Examples:
  python -m keepalive http://127.0.0.1:8000/events
  python -m keepalive --as curl --for 130 https://example.com/events
  python -m keepalive --as openai -H 'Authorization: Bearer KEY' \
      -d '{"model": "m", "stream": true, "messages": []}' https://example.com/v1/chat
  python -m keepalive --json http://127.0.0.1:8000/events | jq .

Exit status:
  0    the stream was kept alive, or completed
  1    a problem was found
  2    incorrect usage
  130  interrupted by Ctrl-C; what arrived before is reported
"""

import json
import os
import re
import sys
import textwrap
import zlib
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, suppress
from email import message_from_string
from email.message import Message
from itertools import pairwise
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import SplitResult, urljoin, urlsplit

import anyio
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream as Stream

# The command line and the request


def http_url(text: str) -> SplitResult:
    """Return a URL's parts; raise `ValueError` if it is not an http or https URL."""
    url = urlsplit(text)
    if not (re.fullmatch(r"(?i)https?://[!-~]+", text) and url.hostname and url.port != 0):
        raise ValueError(f"not an http or https URL: {text}")
    return url


def parse_arguments(arguments: Sequence[str] | None) -> Namespace:
    """Return the options of the command line; exit with a message if it is not correct."""
    parser = ArgumentParser("python -m keepalive", description=__doc__)
    parser.formatter_class = RawDescriptionHelpFormatter
    add = parser.add_argument
    add("url", metavar="URL", type=http_url, help="http or https URL of the stream")
    clients = ("browser", "openai", "anthropic", "curl")
    add("--as", dest="client", choices=clients, default="browser", help="default: browser")
    add("-X", dest="method", help="request method; default: GET, or POST with -d")
    add("-H", dest="header", action="append", default=[], help="request header, 'NAME: VALUE'")
    add("-d", dest="data", default="", help="request body")
    add("--for", dest="seconds", type=float, default=75.0, help="seconds to read; default: 75")
    add("--json", action="store_true", help="print each observation as a line of JSON")
    options = parser.parse_args(arguments)
    if not 0 < options.seconds < 1e6:
        parser.error("argument --for: must be a positive number of seconds")
    options.method = options.method or ("POST" if options.data else "GET")
    options.is_live = sys.stdout.isatty() and not options.json
    return options


def client_headers(client: str) -> dict[str, str]:
    """Return the headers by which the middleware recognizes a client, see `_defaultping`."""
    json_type = "application/json"
    sdk = {"accept": json_type, "content-type": json_type, "x-stainless-lang": "python"}
    return {
        "browser": {"accept": "text/event-stream", "pragma": "no-cache"},  # an `EventSource`
        "openai": sdk,
        "anthropic": sdk | {"anthropic-version": "2023-06-01"},
        "curl": {"accept": "*/*", "user-agent": "curl/8.0.0"},
    }[client]


def encode_request(options: Namespace) -> bytes:
    """Return the request, in which the headers of `-H` replace others of the same name."""
    url, length = options.url, len(options.data.encode())
    headers = {"host": url.netloc.rpartition("@")[2], "accept-encoding": "gzip, deflate"}
    if length:
        headers["content-type"] = "application/x-www-form-urlencoded"
        headers["content-length"] = str(length)
    headers |= client_headers(options.client)
    for header in options.header:
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    fields = [f"{name}: {value}" for name, value in headers.items() if value]
    lines = [f"{options.method} {target} HTTP/1.1", *fields, "", str(options.data)]
    return "\r\n".join(lines).encode()


# HTTP/1.1


async def receive_line(stream: Stream) -> str:
    """Receive a line, and return it without its end."""
    return (await stream.receive_until(b"\n", 65536)).decode("latin-1").rstrip("\r")


async def receive_head(stream: Stream) -> tuple[str, Message]:
    """Return the status line and the headers of the final response."""
    while True:
        status_line, fields = await receive_line(stream), ""
        if not re.match(r"HTTP/1\.[01] [1-9]\d\d", status_line):
            raise ValueError(f"not HTTP/1.1: {status_line[:40]!r}")
        while line := await receive_line(stream):
            fields += f"{line}\n"
        if status_line[9] != "1":  # not an informational response
            return status_line, message_from_string(fields)


async def receive_body(stream: Stream, headers: Message) -> AsyncGenerator[bytes, None]:
    """Yield the pieces of a body as they arrive, until it is complete."""
    if "chunked" not in headers.get("transfer-encoding", "").lower():
        async for piece in stream:
            yield piece
        return
    while size := int((await receive_line(stream)).partition(";")[0], 16):
        while size > 0:
            piece = await stream.receive(min(size, 65536))
            size -= len(piece)
            yield piece
        await receive_line(stream)


# What is observed

RELEVANT_HEADERS: Final = "location|content-[a-z]+|cache-control|x-accel-buffering|server|via"


class Observation(NamedTuple):
    """Something that was observed, and how many seconds after the request was sent."""

    at: float
    what: str
    detail: str


class Recorder:
    """Records observations, and can print each as a line of JSON when it is made.

    Attributes:
        observations: All of them, in the order of time.
        began: When the last request was sent.
        status: That of the last response; 0 until its headers have arrived.
        headers: Those of the last response.
        length: That of its body.
    """

    def __init__(self, *, prints_json: bool = False) -> None:
        self.observations: list[Observation] = []
        self._prints_json = prints_json

    def start(self, request: str) -> None:
        """Record a request, and forget the response to the one before."""
        self.began, self._first = anyio.current_time(), len(self.observations)
        self.status, self.headers, self.length = 0, Message(), 0
        self.note("request", request)

    def note(self, what: str, detail: str) -> None:
        """Record an observation."""
        at = round(anyio.current_time() - self.began, 3)
        self.observations.append(Observation(at, what, detail))
        if self._prints_json:
            print(json.dumps(self.observations[-1]._asdict()), flush=True)

    def times(self, *kinds: str) -> list[float]:
        """Return when something was observed since the last request."""
        return [x.at for x in self.observations[self._first :] if x.what in kinds]


async def record_response(stream: Stream, seen: Recorder) -> None:
    """Record a response to its end, or to its headers if they are not those of a stream."""
    status_line, seen.headers = await receive_head(stream)
    seen.status = int(status_line[9:12])
    seen.note("response", status_line)
    for name, value in seen.headers.items():
        if re.fullmatch(RELEVANT_HEADERS, name, re.IGNORECASE):
            seen.note("header", f"{name}: {value}")
    if "content-length" in seen.headers:
        seen.length = int(seen.headers["content-length"])
    elif 200 <= seen.status < 204:
        async with aclosing(receive_body(stream, seen.headers)) as pieces:
            await record_body(pieces, seen)


async def record_body(pieces: AsyncGenerator[bytes, None], seen: Recorder) -> None:
    """Record when a body arrives, and the events and pings in it."""
    encoding = seen.headers.get("content-encoding", "identity").lower()
    is_readable = encoding in ("identity", "gzip", "deflate")
    decode = zlib.decompressobj(47).decompress if encoding in ("gzip", "deflate") else bytes
    has_events = is_readable and seen.headers.get_content_type() == "text/event-stream"
    rest, event = b"", ""
    async for piece in pieces:
        seen.note("data", "received")
        seen.length += len(piece)
        data = decode(piece)
        if data.isspace() and not has_events:
            seen.note("ping", "whitespace")
        *lines, rest = (rest + data).split(b"\n") if has_events else [b""]
        for line in lines:
            name, colon, value = line.decode(errors="replace").strip().partition(":")
            if name:
                event = value.strip() if name == "event" else event or "message"
            elif colon:
                seen.note("ping", "comment")
            elif event:
                seen.note("ping" if event == "ping" else "event", f"event: {event}")
                event = ""


# What it means

START: Final = "Set start_after if the app is slow, else set first_ping=0. See docs/early.md."
IDLE: Final = """Set interval to at most half of that, or raise nginx's proxy_read_timeout,
HAProxy's timeout server, Caddy's read_timeout, Apache's ProxyTimeout. See docs/proxies.md."""
TOTAL: Final = "Pings do not help: set a shorter max_lifetime. See docs/how-to/intervals.md."
HELD: Final = """Keep anti_buffering=True, and exclude event streams from nginx's gzip_types
and proxy_buffering, Caddy's encode and Varnish's do_gzip. See docs/proxies.md."""
NO_PING: Final = "Add the middleware, inside any compressor. See docs/troubleshooting.md."
REQUEST: Final = "Check the URL, its scheme and port, and the options --as, -X, -H and -d."


def is_round(seconds: float) -> bool:
    """Return whether a time is close to a round number of seconds, as limits usually are.

    These are whole ones below 10 s, and multiples of 5 s above. nginx may be 0.3 s early, see
    tests/real/proxies/test_proxies.py.
    """
    step, tolerance = (1, 0.15) if seconds < 9.5 else (5, 0.4)
    return seconds > 0.5 and abs(seconds - round(seconds / step) * step) < tolerance


def diagnose(seen: Recorder, end: str) -> Iterator[tuple[str, str]]:
    """Yield what the observations mean and what to do about it: the verdict, then notes."""
    is_complete, is_cut = end == "complete", end.startswith(("closed early", "failed"))
    times = seen.times("response", "data", "end")
    *before, last = [b - a for a, b in pairwise(times)] or [0.0]
    now, longest = times[-1], max([*before, last])
    # Some proxies count the last silence from the request.
    is_idle = last > 1.5 * max(before, default=0) + 0.5 and (is_round(last) or is_round(now))
    pings = [round(at, 1) for at in seen.times("ping") if at > 1]  # not an app's at the start
    at_once = max(map(pings.count, pings), default=0)
    allowed = 31 if seen.times("ping") else 20 if is_complete else min(20, now / 2)
    status, media_type = seen.status, seen.headers.get("content-type", "no media type")
    is_page = is_complete and now < times[0] + 1 and "text/event-stream" not in media_type
    is_page = is_page or "content-length" in seen.headers
    advice = START if now > 1 and status in (0, 502, 503, 504) else REQUEST
    problems = [
        (not status, f"No response after {now:.1f} s. {advice}"),
        (status >= 204, f"Status {status} after {now:.1f} s. {advice}"),
        (is_page, f"Not a stream: {media_type}, {seen.length} bytes. {REQUEST}"),
        (at_once > 1, f"Buffered: {at_once} pings arrived at once. {HELD}"),
        (is_cut and is_idle, f"Closed when idle for {last:.1f} s: an idle timeout. {IDLE}"),
        (is_cut and is_round(now), f"Closed after {now:.1f} s: a total timeout. {TOTAL}"),
        (is_cut, f"Closed after {now:.1f} s: a crash or a restart. See the logs."),
        (longest > allowed, f"Idle for {longest:.1f} s without a ping. {NO_PING}"),
    ]
    ok = f"Open for {now:.1f} s, idle for at most {longest:.1f} s."
    yield next((("problem", text) for applies, text in problems if applies), ("ok", ok))
    if is_complete and is_idle:
        yield "note", f"Ended when idle for {last:.1f} s, perhaps by an idle timeout. {IDLE}"
    if times[0] > 1 and any(at < times[0] + 0.1 for at in seen.times("data")):
        yield "note", f"The headers arrived only with the first data. {START}"


# Input and output

Connect: TypeAlias = Callable[..., Awaitable[ByteStream]]


async def exchange(options: Namespace, connect: Connect, seen: Recorder, hops: int = 5) -> str:
    """Send a request, follow redirects, and return how the last response ended."""
    url, end = options.url, "still open"
    seen.start(f"{options.method} {url.geturl()} as {options.client}")
    tls = url.scheme == "https"
    port = url.port or (443 if tls else 80)
    with anyio.fail_after(10):
        stream = await connect(url.hostname, port, tls=tls, tls_standard_compatible=False)
    async with stream, anyio.create_task_group() as tasks:
        await stream.send(encode_request(options))
        seen.began = anyio.current_time()  # from which proxies count
        tasks.cancel_scope.deadline = seen.began + options.seconds
        tasks.start_soon(show_progress, options, seen)
        await record_response(Stream(stream), seen)
        end = "complete"
        tasks.cancel_scope.cancel()
    if not (300 <= seen.status < 400 and "location" in seen.headers and hops):
        return end
    options.url = http_url(urljoin(url.geturl(), seen.headers["location"]))
    if options.url[:2] != url[:2]:
        options.header = []  # another origin must not get credentials
    if seen.status < 307:  # as browsers and curl do
        options.method, options.data = "GET", ""
    return await exchange(options, connect, seen, hops - 1)


async def probe(options: Namespace, connect: Connect, seen: Recorder) -> None:
    """Record what happens to the stream until its end, and what that means."""
    end = "interrupted"
    try:
        end = await exchange(options, connect, seen)
    except* (anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
        end = "closed early"
    except* (OSError, ValueError, zlib.error, anyio.DelimiterNotFound) as group:
        error = group.exceptions[0].__cause__ or group.exceptions[0]
        each = (f"{type(x).__name__}: {x}" for x in getattr(error, "exceptions", [error]))
        end = "failed: " + ", ".join(dict.fromkeys(each)).strip(": ")
    finally:
        seen.note("end", end)
        for verdict, text in diagnose(seen, end):
            seen.note(verdict, text)


async def show_progress(options: Namespace, seen: Recorder) -> None:
    """On a terminal, show each second for how long nothing has arrived."""
    while options.is_live:
        at, what, _ = seen.observations[-1]
        now = anyio.current_time() - seen.began
        text = f"{now:.0f} s elapsed, idle for {now - at:.0f} s, last: {what} at {at:.1f} s"
        print(f"\r{text:79}", end="\r", flush=True)
        await anyio.sleep(1)


def report(observations: list[Observation], *, is_colored: bool) -> Iterator[str]:
    """Yield the report in 80 columns. Equal observations share a line."""
    groups: dict[tuple[str, str], list[float]] = {}
    for at, what, detail in observations:
        groups.setdefault((what, detail), []).append(at)
    for (what, detail), times in groups.items():
        text = f"{times[0]:5.1f} s  {what:9}{detail}"
        if len(times) > 1:
            text += f", {len(times)} times: " + ", ".join(f"{at:.1f}" for at in times[:7])
            text += ", ..." if len(times) > 7 else ""
        text = re.sub(r"(?a)[^\s -~]", "?", text)
        text = textwrap.fill(text, 80, subsequent_indent=" " * 18)
        color = {"ok": 32, "problem": 31}.get(what) if is_colored else None
        yield text.replace(what, f"\x1b[{color}m{what}\x1b[0m", 1) if color else text


def main(
    arguments: Sequence[str] | None = None,
    *,
    run: Callable[[Callable[[], Awaitable[None]]], object] = anyio.run,
    connect: Connect = anyio.connect_tcp,
) -> int:
    """Run the command; return its exit status."""
    options = parse_arguments(arguments)
    seen = Recorder(prints_json=options.json)
    with suppress(KeyboardInterrupt):
        run(lambda: probe(options, connect, seen))
    if options.is_live:
        print(" " * 79, end="\r")
    if not options.json:
        is_colored = options.is_live and not os.environ.get("NO_COLOR")
        print(*report(seen.observations, is_colored=is_colored), sep="\n")
    is_interrupted = "interrupted" in (x.detail for x in seen.observations)
    return 130 if is_interrupted else int(bool(seen.times("problem")))


if __name__ == "__main__":
    sys.exit(main())
