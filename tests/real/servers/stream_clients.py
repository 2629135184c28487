"""Clients of HTTP/1.1 and of HTTP/2 that read only when asked to, and leave when asked to.

They are strict about both protocols.

A connection reads nothing in the background: what a test doesn't wait for stays in the
buffers, and holds the server back.
"""

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h11

PATIENCE: Final = 30.0
SMALL: Final = 65_536
"""Bytes that the kernel keeps for a client that doesn't read."""

SPOILT: Final = (h11.RemoteProtocolError, h2.exceptions.ProtocolError)
"""What a client raises on bytes that don't belong where they stand."""

Headers = list[tuple[bytes, bytes]]


class Reply:
    """What has come so far of a response."""

    def __init__(self, connection: "H1 | H2", leave: Callable[[], None]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.early: list[int] = []
        self.body = bytearray()
        self.ended = False
        self._connection = connection
        self.leave = leave

    def begin(self, headers: Headers, status: int) -> None:
        """Parse the head."""
        self.status = status
        self.headers = {name.decode().lower(): text.decode() for name, text in headers}

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Read until something is so."""
        while not condition():
            assert not self.ended, f"no {what} in {bytes(self.body[-300:])!r}"
            self._connection.read_some()

    def until_head(self) -> None:
        """Read until the head has come."""
        self.until(lambda: self.status, "head")

    def until_mark(self, mark: bytes) -> bytes:
        """Read until the body has these bytes; return it."""
        self.until(lambda: mark in self.body, repr(mark))
        return bytes(self.body)

    def read_for(self, seconds: float) -> None:
        """Read what comes within this time."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._connection.has_more_within(left):
                self._connection.read_some()

    def rest(self) -> bytes:
        """Read up to the proper end; return the whole body."""
        while not self.ended:
            self._connection.read_some()
        return bytes(self.body)


class _Connection:
    """A socket that is read when asked to."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(("127.0.0.1", port))

    def has_more_within(self, seconds: float) -> bool:
        """Whether the server says anything within this time."""
        return bool(select.select([self.socket], [], [], seconds)[0])

    def close(self) -> None:
        """Leave."""
        self.socket.close()


class H1(_Connection):
    """One request after the other."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._state = h11.Connection(h11.CLIENT)
        self._reply: Reply | None = None

    def request(
        self, path: str, method: str = "GET", size: int | None = None, expect: str = ""
    ) -> Reply:
        """Send a request's head; the `size` bytes of its body are for `upload`."""
        headers = [("Host", "test")]
        headers += [("Content-Length", str(size))] if size is not None else []
        headers += [("Expect", expect)] if expect else []
        self._send(h11.Request(method=method, target=path, headers=headers))
        if size is None:
            self._send(h11.EndOfMessage())
        self._reply = Reply(self, self.close)
        return self._reply

    def _send(self, event: h11.Event) -> None:
        self.socket.sendall(self._state.send(event) or b"")

    def upload(self, reply: Reply, data: bytes) -> None:
        """Send a part of the body."""
        self._send(h11.Data(data=data))

    def end_upload(self, reply: Reply) -> None:
        """End the body."""
        self._send(h11.EndOfMessage())

    def hold(self, reply: Reply) -> None:
        """Read nothing: nobody asks for it."""

    def release(self, reply: Reply) -> None:
        """Read it again."""

    def read_some(self) -> None:
        """Wait until something comes, and take all of it."""
        self._state.receive_data(self.socket.recv(65_536))
        while (event := self._state.next_event()) is not h11.NEED_DATA:
            self._take(event)
            if isinstance(event, h11.EndOfMessage):
                return

    def _take(self, event: Any) -> None:
        reply = self._reply
        match event:
            case h11.InformationalResponse():
                reply.early.append(event.status_code)
            case h11.Response():
                reply.begin(event.headers, event.status_code)
            case h11.Data():
                reply.body += event.data
            case h11.EndOfMessage():
                reply.ended = True
                if self._state.our_state is h11.DONE:
                    self._state.start_next_cycle()
            case _:
                raise EOFError(f"{event} in {bytes(reply.body[-300:])!r}")


class H2(_Connection):
    """Any number of requests at the same time, without TLS and with prior knowledge."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._state = h2.connection.H2Connection(h2.config.H2Configuration())
        self._state.initiate_connection()
        self._replies: dict[int, Reply] = {}
        self._numbers: dict[Reply, int] = {}
        self._held: dict[int, int] = {}
        self._flush()

    def _flush(self) -> None:
        self.socket.sendall(self._state.data_to_send())

    def request(self, path: str, method: str = "GET", size: int | None = None) -> Reply:
        """Open a stream; the bytes of its body are for `upload`."""
        number = self._state.get_next_available_stream_id()
        fields = {":method": method, ":scheme": "http", ":authority": "test", ":path": path}
        fields |= {} if size is None else {"content-length": str(size)}
        self._state.send_headers(number, [*fields.items()], end_stream=size is None)
        self._flush()
        reply = self._replies[number] = Reply(self, lambda: self._reset(number))
        self._numbers[reply] = number
        return reply

    def _reset(self, number: int) -> None:
        self._state.reset_stream(number, error_code=8)
        self._flush()

    def upload(self, reply: Reply, data: bytes) -> None:
        """Send a part of the body, as the server has room for it."""
        number = self._numbers[reply]
        while data:
            room = min(
                self._state.local_flow_control_window(number),
                self._state.max_outbound_frame_size,
            )
            if room <= 0:
                self.read_some()
                continue
            self._state.send_data(number, data[:room])
            data = data[room:]
            self._flush()

    def end_upload(self, reply: Reply) -> None:
        """End the body."""
        self._state.end_stream(self._numbers[reply])
        self._flush()

    def read_some(self) -> None:
        """Wait until something comes, take it, and make room for as much again."""
        data = self.socket.recv(65_536)
        if not data:
            raise EOFError("the connection was closed")
        for event in self._state.receive_data(data):
            self._take(event)
        self._flush()

    def _take(self, event: Any) -> None:
        reply = self._replies.get(getattr(event, "stream_id", None) or 0)
        match event:
            case h2.events.ResponseReceived():
                fields = dict(event.headers)
                reply.begin(event.headers, int(fields[b":status"]))
            case h2.events.DataReceived():
                reply.body += event.data
                self._make_room(event.flow_controlled_length, event.stream_id)
            case h2.events.StreamEnded():
                reply.ended = True
            case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                raise EOFError(f"{event}")

    def hold(self, reply: Reply) -> None:
        """Make no room for a stream's bytes any more, but for those of the others."""
        self._held[self._numbers[reply]] = 0

    def release(self, reply: Reply) -> None:
        """Make room again."""
        number = self._numbers[reply]
        self._state.increment_flow_control_window(self._held.pop(number), number)
        self._flush()

    def _make_room(self, size: int, number: int) -> None:
        if size:
            self._state.increment_flow_control_window(size)
        if number in self._held:
            self._held[number] += size
        elif size:
            with contextlib.suppress(h2.exceptions.StreamClosedError):
                self._state.increment_flow_control_window(size, number)


CONNECTIONS: Final = {"1.1": H1, "2": H2}


@contextlib.contextmanager
def connected(http: str, port: int) -> Iterator[Any]:
    """Connect to a server, and close the connection at the end."""
    connection = CONNECTIONS[http](port)
    try:
        yield connection
    finally:
        connection.close()
