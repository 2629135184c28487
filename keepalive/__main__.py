r"""Report what happens to a stream on its way to the client.

Opens URL as a client would, receives for a while, and reports when the headers, the events and
the pings arrived, whether something on the way holds them back, compresses them or cuts the
stream, and what to do about it.

Examples:
  python -m keepalive http://127.0.0.1:8000/events
  python -m keepalive --as curl --for 130 https://example.com/events
  python -m keepalive --as openai -H 'Authorization: Bearer KEY' \
      -d '{"model": "m", "stream": true, "messages": []}' https://example.com/v1/chat
  python -m keepalive --json http://127.0.0.1:8000/events | jq .

Exit status:
  0    the stream was kept alive, or ended by itself
  1    it was not
  2    incorrect usage
  130  interrupted by Ctrl-C, after a report of what had arrived until then
"""

import argparse
import json
import os
import re
import sys
import textwrap
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal, NamedTuple, TextIO, TypeAlias
from urllib.parse import SplitResult, urljoin, urlsplit

import anyio
from anyio.abc import ByteStream

# The command line and the request


def http_url(text: str) -> SplitResult:
    """Return a URL's parts; raise `ValueError` if it is not an http or https URL."""
    url = urlsplit(text)
    if not (re.fullmatch(r"(?i)https?://[!-~]+", text) and url.hostname and url.port != 0):
        raise ValueError(f"not an http or https URL: {text}")
    return url


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the options of the command line; exit with a message if it is not correct."""
    description, _, epilog = (__doc__ or "").partition("Examples:")
    parser = argparse.ArgumentParser("python -m keepalive", description=description)
    parser.epilog, parser.formatter_class = f"Examples:{epilog}", argparse.RawTextHelpFormatter
    add = parser.add_argument
    add("url", metavar="URL", help="address of the stream, http or https")
    clients = ("browser", "openai", "anthropic", "curl")
    add("--as", dest="client", choices=clients, default="browser", help="default: browser")
    add("-X", dest="method", help="request method; default: GET, or POST if there is a body")
    add("-H", dest="header", action="append", default=[], help="request header, NAME: VALUE")
    add("-d", dest="data", type=str.encode, help="request body")
    add("--for", dest="seconds", type=float, default=75.0, help="seconds to wait; default: 75")
    add("--json", action="store_true", help="print each observation as a line of JSON")
    options = parser.parse_args(arguments)
    try:
        options.url = http_url(options.url)
    except ValueError as error:
        parser.error(str(error))
    if not 0 < options.seconds < 1e6:
        parser.error("--for takes a positive number of seconds")
    if options.data is None:
        options.data = b'{"stream": true}' if options.client in clients[1:3] else b""
    options.method = options.method or ("POST" if options.data else "GET")
    return options


def client_headers(client: str) -> dict[str, str]:
    """Return the headers by which the middleware recognizes a client, see `_defaultping`."""
    if client == "curl":
        return {"accept": "*/*", "user-agent": "curl/8.0.0"}
    common = {"accept": "application/json", "accept-encoding": "gzip, deflate"}
    if client == "browser":  # an `EventSource`
        no_cache = {"cache-control": "no-cache", "pragma": "no-cache"}
        return common | no_cache | {"accept": "text/event-stream", "accept-language": "en"}
    sdk = common | {"content-type": "application/json", "x-stainless-lang": "python"}
    return sdk | ({"anthropic-version": "2023-06-01"} if client == "anthropic" else {})


def encode_request(options: argparse.Namespace, url: SplitResult) -> bytes:
    """Return the request for a URL: the given one, or that of a redirect.

    The headers of `-H` are for the given origin only, since they may contain credentials.
    """
    headers = {"host": url.netloc.rpartition("@")[2]}
    if options.data:
        headers["content-type"] = "application/x-www-form-urlencoded"
        headers["content-length"] = str(len(options.data))
    headers |= client_headers(options.client)
    for text in options.header if url[:2] == options.url[:2] else ():
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    fields = [f"{name}: {value}" for name, value in headers.items() if value]
    lines = [f"{options.method} {target} HTTP/1.1", *fields, "", ""]
    return "\r\n".join(lines).encode() + bytes(options.data)


# HTTP/1.1


class Response:
    """Parses an HTTP/1.1 response that arrives in pieces of any size.

    Attributes:
        head: The status line and the headers.
        status: 0 until the headers are complete.
        is_complete: Whether the end of the response has arrived. A response that is not a
            stream, one with an error or with a length, is complete without its body.
        ends_at_eof: Whether the end of the connection is the end of the response.
    """

    def __init__(self) -> None:
        self.head = ""
        self.status = 0
        self.is_complete = self.ends_at_eof = False
        self._buffer = self._body = b""
        self._parser = self._parse()

    def header(self, name: str) -> str:
        """Return the values of a header, joined; an empty string if there is none."""
        return ", ".join(re.findall(rf"(?im)^{name}:[ \t]*(.*?)[ \t]*$", self.head))

    def feed(self, data: bytes) -> bytes:
        """Return the part of the body that is in `data`, decompressed.

        Raises:
            ValueError: The response is not HTTP/1.1.
            zlib.error: The body is not compressed as the headers say.
        """
        self._buffer += data
        next(self._parser, None)
        body, self._body = self._body, b""
        return body

    def _parse(self) -> Generator[None]:
        """Parse the response from its start to its end; each `yield` waits for more data."""
        status = 0
        while status < 200:  # informational responses come before the final one
            self.head = (yield from self._line()) + "\n"
            if not (found := re.match(r"HTTP/1\.[01] (\d{3})", self.head)):
                raise ValueError(f"not a status line: {self.head[:40]!r}")
            while line := (yield from self._line()):
                self.head += line + "\n"
            status = int(found[1])
        self.status = status
        if 200 <= status < 300 and status != 204 and not self.header("content-length"):
            yield from self._parse_body()
        self.is_complete = True

    def _parse_body(self) -> Generator[None]:
        is_compressed = self.header("content-encoding") in ("gzip", "deflate")
        decompress = zlib.decompressobj(47).decompress if is_compressed else bytes
        self.ends_at_eof = "chunked" not in self.header("transfer-encoding").lower()
        while size := sys.maxsize if self.ends_at_eof else (yield from self._chunk_size()):
            while size > 0:
                while not self._buffer:
                    yield
                part, self._buffer = self._buffer[:size], self._buffer[size:]
                self._body += decompress(part)
                size -= len(part)
            yield from self._line()
        while (yield from self._line()):  # trailers
            pass

    def _chunk_size(self) -> Generator[None, None, int]:
        return int((yield from self._line()).partition(";")[0], 16)

    def _line(self) -> Generator[None, None, str]:
        while b"\n" not in self._buffer:
            yield
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("latin-1").rstrip("\r")


# What is observed

End: TypeAlias = Literal["", "still open", "complete", "cut off", "interrupted", "failed"]
Verdict: TypeAlias = Literal["ok", "problem", "note"]
Kind: TypeAlias = (
    Literal["headers", "header", "first byte", "event", "ping", "data", "end"] | Verdict
)
RELEVANT_HEADERS: Final = "location|content-[a-z]+|cache-control|x-accel-buffering|server|via"


class Observation(NamedTuple):
    """Something that was observed, and how many seconds after the request was sent."""

    at: float
    what: Kind
    detail: str


class Recorder:
    """Records what is observed of a response. It is given the time, and has no clock.

    Attributes:
        now: The time, in seconds since the request was sent.
        observations: In the order of their times.
        arrivals: When data arrived, headers included, the mere end of a body excluded.
        size: Bytes of the body, decompressed.
        end: An empty string until the end.
    """

    def __init__(self) -> None:
        self.response = Response()
        self.now = 0.0
        self.observations: list[Observation] = []
        self.arrivals: list[float] = []
        self.size = 0
        self.end: End = ""
        self._line = b""
        self._block = ""

    def times(self, *kinds: Kind) -> list[float]:
        """Return when something was observed, to a tenth of a second."""
        return [round(x.at, 1) for x in self.observations if x.what in kinds]

    @property
    def silences(self) -> list[float]:
        """Seconds between arrivals, and from the last one to the end."""
        return [b - a for a, b in pairwise([*self.arrivals, self.now])]

    def note(self, what: Kind, detail: str) -> None:
        """Record an observation."""
        self.observations.append(Observation(round(self.now, 3), what, detail))

    def finish(self, end: End, detail: str = "") -> None:
        """Record the end."""
        self.end = end
        self.note("end", detail or end)

    def receive(self, now: float, data: bytes) -> None:
        """Record data; no data are the end of the connection. Raises as `Response.feed`."""
        self.now = now
        if not data:
            self.finish("complete" if self.response.ends_at_eof else "cut off")
            return
        body = self.response.feed(data)
        if body or not self.response.is_complete or not self.arrivals:
            self.arrivals.append(now)
        if self.response.status and not self.times("headers"):
            self.note("headers", self.response.head.partition("\n")[0])
            for text in re.findall(rf"(?im)^(?:{RELEVANT_HEADERS}):.*$", self.response.head):
                self.note("header", text)
        if body:
            self._receive_body(body)
        if self.response.is_complete:
            self.finish("complete")

    def _receive_body(self, body: bytes) -> None:
        if not self.size:
            self.note("first byte", "")
        self.size += len(body)
        is_readable = self.response.header("content-encoding") in ("", "gzip", "deflate")
        if is_readable and "text/event-stream" in self.response.header("content-type"):
            *lines, self._line = (self._line + body).split(b"\n")
            for line in lines:
                self._receive_line(line.decode(errors="replace").rstrip("\r"))
        elif body.isspace():
            for _ in body:
                self.note("ping", "whitespace")
        else:
            self.note("data", f"{len(body)} bytes")

    def _receive_line(self, line: str) -> None:
        if line.startswith(":"):
            self.note("ping", "comment")
        if line:
            self._block += f"{line}\n"
            return
        *_, name = re.findall("(?m)^event: ?(.+)$", f"event: message\n{self._block}")
        if re.search("(?m)^[^:]", self._block):  # it has a field
            self.note("ping" if name == "ping" else "event", f"event: {name}")
        elif not self._block:
            self.note("ping", "blank line")
        self._block = ""


# What it means

START: Final = """If the app starts its response that late, set start_after. If not, a proxy
holds the headers back: leave anti_buffering=True, or set first_ping=0. See docs/early.md."""
IDLE: Final = """Set interval to half of that at most, or raise nginx's proxy_read_timeout,
HAProxy's timeout server, Caddy's read_timeout, Apache's ProxyTimeout. See docs/proxies.md."""
TOTAL: Final = """Pings do not help: set max_lifetime below that, so that streams end well and
clients reconnect, or raise the limit. See docs/how-to/intervals.md."""
HELD: Final = """Leave anti_buffering=True. Where a proxy ignores it, exclude event streams
from buffering and compression: nginx's proxy_buffering and gzip_types, Caddy's encode,
Varnish's do_gzip. See docs/proxies.md."""
NO_PING: Final = """Wrap the app in KeepaliveMiddleware, inside any compressor. See whether
routes exclude the path and whether interval is longer than that. See docs/tutorial.md."""
REQUEST: Final = "Check the URL, its scheme and port, and the request: --as, -X, -H, -d."
LOGS: Final = "See the logs of the app and of the proxies."
Finding: TypeAlias = tuple[Verdict, str]


def is_round(seconds: float) -> bool:
    """Return whether a time is close to a round number of seconds, as limits usually are.

    These are whole ones below 10 s, and multiples of 5 s above. nginx may be 0.3 s early, see
    tests/real/test_proxies.py.
    """
    step, tolerance = (1, 0.15) if seconds < 9.5 else (5, 0.4)
    return seconds > 0.5 and abs(seconds - round(seconds / step) * step) < tolerance


def diagnose(seen: Recorder) -> Iterator[Finding]:
    """Return what the observations mean and what to do about it, the main thing first."""
    status, after = seen.response.status, f"after {seen.now:.1f} s"
    media_type = seen.response.header("content-type") or "no media type"
    length = seen.response.header("content-length")
    if not length and seen.end == "complete" and seen.now < 1:
        length = "" if "text/event-stream" in media_type else str(seen.size)
    if seen.end == "failed":
        yield "problem", f"The request failed. {REQUEST}"
    elif not status:
        is_closed = seen.end == "cut off" and seen.now < 1
        yield "problem", f"No response {after}. {REQUEST if is_closed else START}"
    elif status >= 300:
        is_timeout = status in (408, 502, 503, 504, 524) and seen.now > 1
        yield "problem", f"Status {status} {after}. {START if is_timeout else REQUEST}"
    elif length:
        yield "problem", f"Not a stream: {media_type}, {length} bytes. {REQUEST}"
    else:
        delivery = list(diagnose_delivery(seen))
        is_held = any(what == "problem" for what, _ in delivery)
        yield from [] if is_held and seen.end != "cut off" else [diagnose_end(seen)]
        yield from delivery


def diagnose_end(seen: Recorder) -> Finding:
    """Return whether the stream was kept alive, or why not."""
    *silences, last = seen.silences
    longest, total = max(seen.silences), f"{seen.now:.1f} s"
    is_complete, is_cut = seen.end == "complete", seen.end == "cut off"
    # An idle timeout is longer than each idle period before it. Some proxies count it from the
    # request if the data arrived soon after that.
    is_longest = last > 1.5 * max(silences, default=0) + 0.5
    is_limit = is_round(last) or (is_cut and is_round(seen.now))
    if is_longest and is_limit and (is_cut or (is_complete and last > 1.5)):
        how = "Ended as if complete, but" if is_complete else "Cut off"
        return "problem", f"{how} after {last:.1f} s of silence: an idle timeout. {IDLE}"
    if is_cut and is_round(seen.now):
        return "problem", f"Cut off after {total}, though not silent: a total timeout. {TOTAL}"
    if is_cut:
        return "problem", f"Cut off after {total}: a crash or a restart. {LOGS}"
    if seen.times("ping") and longest < 31:  # half of the usual limit, 60 s
        return "ok", f"Kept alive for {total}."
    if longest < (
        20 if is_complete else min(20, seen.now / 2)
    ):  # the default interval is 15 s
        return "ok", f"Alive for {total}, and never silent for so long that a ping was due."
    return "problem", f"Silent for {longest:.1f} s without a ping. {NO_PING}"


def diagnose_delivery(seen: Recorder) -> Iterator[Finding]:
    """Return whether something holds the stream back or compresses it."""
    items = seen.times("event", "ping", "data")
    bursts = [count for count in Counter(items).values() if count > 2]
    pings = [count for at, count in Counter(seen.times("ping")).items() if at > 1]
    if max(pings, default=0) > 1:
        yield "problem", f"Held back: {max(pings)} pings came at once. {HELD}"
    elif len(bursts) > 1 and sum(bursts) > 0.8 * len(items) and seen.now > len(set(items)):
        text = f"Held back, unless the app does so: {max(bursts)} events came at once."
        yield "problem", f"{text} {HELD}"
    if items and items[0] > 1 and items[0] == seen.times("headers")[0]:
        yield "note", f"The headers came only with the first event or ping. {START}"
    if encoding := seen.response.header("content-encoding"):
        yield "note", f"Compressed: {encoding}." + ("" if pings else f" {HELD}")


# Input and output

Connect: TypeAlias = Callable[..., Awaitable[ByteStream]]


async def open_connection(url: SplitResult, tcp: Connect = anyio.connect_tcp) -> ByteStream:
    """Connect to the host of a URL."""
    tls = url.scheme == "https"
    port = url.port or (443 if tls else 80)
    return await tcp(url.hostname, port, tls=tls, tls_standard_compatible=False)


@dataclass
class Session:
    """The request and its response, and those to which redirects lead.

    Attributes:
        terminal: For the live line; `None` for no such line.
        recorders: A new one; one for each redirect that is followed is added.
    """

    options: argparse.Namespace
    connect: Connect
    terminal: TextIO | None
    recorders: list[Recorder]

    async def run(self) -> None:
        """Send the request, and follow up to 5 redirects."""
        url = self.options.url
        try:
            for redirects in range(6):
                if redirects:
                    self.recorders.append(Recorder())
                await self._exchange(url, self.recorders[-1])
                response = self.recorders[-1].response
                if not (300 <= response.status < 400 and response.header("location")):
                    break
                url = http_url(urljoin(url.geturl(), response.header("location")))
                if response.status < 307:  # as browsers and curl do
                    self.options.method, self.options.data = "GET", b""
        except (OSError, ValueError, zlib.error, anyio.BrokenResourceError) as error:
            reason = getattr(error.__cause__, "exceptions", [error.__cause__ or error])[0]
            text = str(reason) or "not connected within 10 s"
            self.recorders[-1].finish("failed", f"{type(reason).__name__}, {text}")

    async def _exchange(self, url: SplitResult, seen: Recorder) -> None:
        """Send one request, and record the response until it ends or the time is over."""
        with anyio.fail_after(10):
            stream = await self.connect(url)
        async with stream:
            await stream.send(encode_request(self.options, url))
            began = anyio.current_time()
            while not seen.end:
                self._show_progress(seen)
                with anyio.move_on_after(min(1.0, self.options.seconds - seen.now)):
                    try:
                        data = await stream.receive()
                    except (anyio.EndOfStream, anyio.BrokenResourceError):
                        data = b""
                    seen.receive(anyio.current_time() - began, data)
                seen.now = anyio.current_time() - began
                if not seen.end and seen.now >= self.options.seconds:
                    seen.finish("still open")

    def _show_progress(self, seen: Recorder) -> None:
        if self.terminal:
            at, what, _ = seen.observations[-1] if seen.observations else (0.0, "nothing", "")
            text = f"{seen.now:.0f} of {self.options.seconds:g} s; "
            text += f"{seen.now - at:.0f} s of silence; last: {what} at {at:.1f} s"
            print(f"\r{text:79}", end="\r", file=self.terminal, flush=True)


def moments(times: list[float], forms: str = "") -> str:
    """Return how many times there are and which: the first ones and the last."""
    words = [f"{at}" if n == 1 else f"{at} ({n}x)" for at, n in Counter(times).items()]
    words[7:-1] = ["..."] if len(words) > 8 else words[7:-1]
    return f"{len(times)}{forms}, at {', '.join(words)} s" if words else "none"


def report(seen: Recorder) -> Iterator[tuple[str, str]]:
    """Return what was observed, as labels and texts."""
    forms = sorted({f" ({x.detail})" for x in seen.observations if x.what == "ping"})
    for at, what, detail in seen.observations:
        if what == "end" and seen.size:
            yield "events", moments(seen.times("event", "data"))
            yield "pings", moments(seen.times("ping"), "".join(forms))
            yield "silence", f"{max(seen.silences):.1f} s at most"
        if what in ("headers", "first byte", "end"):
            yield what, f"{detail} at {at:.1f} s".strip()
        elif what not in ("event", "ping", "data"):
            yield "" if what == "header" else what, detail
        if what == "end":
            yield "", ""


def formatted(label: str, text: str, *, is_colored: bool) -> str:
    """Return a part of the report in 80 columns, without control characters of a server's."""
    text = re.sub(r"[^\s -~]", "?", text)
    text = textwrap.fill(text, 80, initial_indent=f"{label:12}", subsequent_indent=" " * 12)
    code = {"ok": "32", "problem": "31"}.get(label) if is_colored else None
    return f"\x1b[{code}m{label}\x1b[0m{text[len(label) :]}" if code else text


def main(
    arguments: Sequence[str] | None = None,
    *,
    run: Callable[[Callable[[], Awaitable[None]]], object] = anyio.run,
    connect: Connect = open_connection,
    output: TextIO | None = None,
) -> int:
    """Run the command; return its exit status."""
    options = parse_arguments(arguments)
    out = output or sys.stdout
    is_terminal = out.isatty() and not options.json
    seen = [Recorder()]
    try:
        run(Session(options, connect, out if is_terminal else None, seen).run)
    except KeyboardInterrupt:
        seen[-1].finish("interrupted")
    for what, detail in list(diagnose(seen[-1])):
        seen[-1].note(what, " ".join(detail.split()))
    if options.json:
        lines = [json.dumps(x._asdict()) for each in seen for x in each.observations]
    else:
        is_colored = is_terminal and not os.environ.get("NO_COLOR")
        request = f"{options.method} {options.url.geturl()} as {options.client}"
        rows = [("request", request), *(row for each in seen for row in report(each))]
        lines = [formatted(*row, is_colored=is_colored) for row in rows]
    print("\r" + " " * 79 + "\r" if is_terminal else "", end="", file=out)  # no live line
    print(*lines, sep="\n", file=out)
    return 130 if seen[-1].end == "interrupted" else int(bool(seen[-1].times("problem")))


if __name__ == "__main__":
    sys.exit(main())
