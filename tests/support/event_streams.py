"""Event streams read as a whole, by WHATWG's rules."""

from support.internals import BOM


def lines_of(stream: bytes) -> list[bytes]:
    """Return the finished lines: a line ends at CRLF, LF or CR."""
    lines, line, at = [], b"", 0
    while at < len(stream):
        if stream[at : at + 2] == b"\r\n":
            at += 1
        if stream[at : at + 1] in (b"\r", b"\n"):
            lines.append(line)
            line = b""
        else:
            line += stream[at : at + 1]
        at += 1
    return [*lines, line] if line else lines


def events_of(stream: bytes) -> list[tuple[str, str]]:
    """Read a whole stream as WHATWG HTML 9.2.6 says; pings are left out."""
    events, kind, data = [], "", []
    stream = stream.removeprefix(BOM)
    ended = stream.endswith((b"\r", b"\n"))
    lines = lines_of(stream)
    for line in lines if ended else lines[:-1]:
        if not line:
            if data:
                events.append((kind or "message", "\n".join(data)))
            kind, data = "", []
            continue
        name, _, value = line.decode().partition(":")
        if name == "event":
            kind = value.removeprefix(" ")
        elif name == "data":
            data.append(value.removeprefix(" "))
    return [event for event in events if event != ("ping", "")]


def is_at(stream: bytes, boundary: str) -> bool:
    """Whether a whole stream ends at a boundary, read from its beginning."""
    if stream in (b"", BOM):
        return True
    stream = stream.removeprefix(BOM)
    if not stream.endswith(b"\n"):
        return False  # a trailing CR may be half a CRLF
    return boundary == "line" or lines_of(stream)[-1] == b""
