"""The clients of the chaos test: they come, read well, badly or not at all, leave, come again.

They use raw sockets. What is received is decoded strictly by HTTP's chunked coding, and every
event must be one of the app's, complete and in order, a ping or a farewell.
"""

import asyncio
import random
import re
import socket
import struct
from collections import Counter
from typing import Final

from real.chaos.app import FAREWELL, KINDS, checksum
from real.processes import PORTS

PING: Final = b"event: ping\ndata: \n\n"
EVENT: Final = re.compile(
    rb"id: (\d+)\nevent: (news|end)\ndata: ([a-z]*)\ndata: ([0-9a-f]{8})\n\n"
)
SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
BAD: Final = ("slow", "stalling")
HABITS: Final = ("patient", "leaving", *BAD)
FLOOD: Final = "flood"
"""What only those ask for who read badly: this process must read all else in time."""

SMALL: Final = 4096
"""Bytes of a receive buffer that is soon full."""


class BrokenError(Exception):
    """What a client must never see."""


class PartialEventError(BrokenError):
    """A stream that ends within an event, as it may if its app was late with the rest."""


class Events:
    """The events of one stream, checked as they come."""

    def __init__(self, token: str, seen: Counter[str]) -> None:
        self._token, self._seen = token, seen
        self._rest = bytearray()
        self._number = 0
        self._over = False

    def feed(self, data: bytes) -> None:
        """Read bytes of the body."""
        self._rest += data
        while (at := self._rest.find(b"\n\n")) >= 0:
            frame = bytes(self._rest[: at + 2])
            del self._rest[: at + 2]
            self._take(frame)

    def _take(self, frame: bytes) -> None:
        if self._over:
            raise BrokenError(f"behind the last event comes {frame[:200]!r}")
        if frame == PING:
            self._seen["pings"] += 1
        elif frame == FAREWELL.payload:
            self._seen["farewells"] += 1
            self._over = True
        else:
            self._over = self._check(frame)

    def _check(self, frame: bytes) -> bool:
        """Check an event of the app's; return whether it says that it is the last."""
        found = EVENT.fullmatch(frame)
        self._number += 1
        if (
            found is None
            or int(found[1]) != self._number
            or int(found[4], 16) != checksum(self._token, self._number, found[3])
        ):
            raise BrokenError(f"event {self._number} is {frame[:200]!r}")
        self._seen["events"] += 1
        return found[2] == b"end"

    def finish(self) -> None:
        """Check that the stream may end here."""
        if self._rest or not self._over:
            kind = PartialEventError if self._rest else BrokenError
            raise kind(f"ends behind event {self._number} with {self._rest[:200]!r}")


class Response:
    """One response, decoded as it comes."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._rest = bytearray()
        self._step = self._head
        self.begun = False
        self.complete = False

    def feed(self, data: bytes) -> None:
        """Process what was received."""
        self.begun = True
        self._rest += data
        while self._step():
            pass

    def _line(self, end: bytes) -> bytes | None:
        at = self._rest.find(end)
        if at < 0:
            return None
        line = bytes(self._rest[:at])
        del self._rest[: at + len(end)]
        return line

    def _head(self) -> bool:
        head = self._line(b"\r\n\r\n")
        if head is None:
            return False
        status, *headers = head.lower().split(b"\r\n")
        if status != b"http/1.1 200 ok" or b"transfer-encoding: chunked" not in headers:
            raise BrokenError(f"a response begins with {head!r}")
        self._step = self._chunk
        return True

    def _chunk(self) -> bool:
        line, rest, end = bytes(self._rest[:12]).partition(b"\r\n")[0], self._rest, b"\r\n"
        whole = line + end
        if not rest.startswith(whole):
            if len(rest) > 10:
                raise BrokenError(f"no size of a chunk: {line!r}")
            return False
        if not SIZE.fullmatch(line):
            raise BrokenError(f"no size of a chunk: {line!r}")
        size, at = int(line, 16), len(whole)
        if len(rest) < at + size + 2:
            return False
        if rest[at + size : at + size + 2] != end:
            raise BrokenError(f"a chunk of {size} bytes does not end there")
        data = bytes(rest[at : at + size])
        del rest[: at + size + 2]
        if size:
            self._events.feed(data)
        else:
            self._events.finish()
            self.complete, self._step = True, self._nothing
        return True

    def _nothing(self) -> bool:
        if self._rest:
            raise BrokenError(f"behind the end comes {bytes(self._rest[:200])!r}")
        return False


class Place:
    """Where the clients go: a port, whether a server is there, and streams to be explained."""

    def __init__(self) -> None:
        self.port = PORTS.take()
        self.life = 0
        self.partial: dict[str, BrokenError] = {}  # by token
        self._open, self._closing = asyncio.Event(), asyncio.Event()

    def open(self, port: int) -> None:
        """Say that a server is there; the next one."""
        self.port, self.life = port, self.life + 1
        self._closing.clear()
        self._open.set()

    def close(self) -> None:
        """Record that it is about to be stopped."""
        self._open.clear()
        self._closing.set()

    @property
    def closing(self) -> bool:
        """Whether it is being stopped, or has gone."""
        return self._closing.is_set()

    async def opened(self) -> None:
        """Wait for a server."""
        await self._open.wait()

    async def dawdle(self, seconds: float) -> None:
        """Wait. Not while a server is being stopped.

        uvicorn waits until its clients have read all that was written to them; how long a
        server takes to go would be theirs to say.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._closing.wait()
        except TimeoutError:
            pass


class Client:
    """Somebody who comes again and again."""

    def __init__(self, seed: int, number: int, place: Place, seen: Counter[str]) -> None:
        self._number, self._place, self._seen = number, place, seen
        self._choose = random.Random(f"{seed} {number}")
        self._visits = 0

    async def live(self) -> None:
        """Visit for ever.

        Raises:
            BrokenError: Something was not as it must be.
        """
        bold = False
        while True:
            if not bold:
                await self._place.opened()
            self._visits += 1
            habit = self._choose.choice(HABITS)
            # A bold client may read without pauses, and then a flood would never end.
            can_flood = habit in BAD and not bold
            kind = self._choose.choice([one for one in KINDS if one != FLOOD or can_flood])
            token, life = f"{self._number}-{self._visits}", self._place.life
            try:
                end = await self._visit(habit, kind, token)
            except BrokenError as error:
                about = f"life {life}, {habit} client of /{kind}/{token}"
                told = BrokenError(f"{about}: {error}")
                if not isinstance(error, PartialEventError):
                    raise told from None
                self._place.partial[token] = told
                end = "partial"
            self._seen[f"{habit} {kind}: {end}"] += 1
            self._seen[end] += 1
            # Who is sent away comes again at once, and may find that nobody is there.
            bold = self._place.closing and end in ("clean", "cut")

    async def _visit(self, habit: str, kind: str, token: str) -> str:
        """Ask for a stream, and return how it ended."""
        life, response = self._place.life, Response(Events(token, self._seen))
        how = "cut"
        with socket.socket() as connection:
            self._prepare(connection, habit)
            stay = self._choose.uniform(0, 3) if habit == "leaving" else None
            try:
                async with asyncio.timeout(stay):
                    await self._ask(connection, f"/{kind}/{token}")
                    await self._read(connection, response, habit)
            except TimeoutError:
                return "left"
            except ConnectionError as error:
                how = type(error).__name__
        if response.complete:
            return "clean"
        self._judge(life, response.begun, habit, kind, how)
        return "cut" if response.begun else "refused"

    def _judge(self, life: int, begun: bool, habit: str, kind: str, how: str) -> None:
        """See whether a stream may have ended so, without its last chunk."""
        if begun:
            # A client that doesn't read doesn't get the end either.
            fine = kind in ("raising", FLOOD)
        else:
            fine = self._place.closing or self._place.life != life
        if not fine:
            raise BrokenError(f"{how}, {'with' if begun else 'before'} a response begun")

    def _prepare(self, connection: socket.socket, habit: str) -> None:
        connection.setblocking(False)
        if habit in BAD:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        if self._choose.random() < 0.5:  # go with a reset
            linger = struct.pack("ii", 1, 0)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async def _ask(self, connection: socket.socket, path: str) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, ("127.0.0.1", self._place.port))
        await loop.sock_sendall(connection, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def _read(self, connection: socket.socket, response: Response, habit: str) -> None:
        """Read up to the end, as well as the client's habit lets it."""
        loop, choose = asyncio.get_running_loop(), self._choose
        stalls_at = choose.randrange(4 * SMALL) if habit == "stalling" else None
        size = 0
        while not response.complete:
            data = await loop.sock_recv(connection, SMALL if habit == "slow" else 65536)
            if not data:
                return
            size += len(data)
            response.feed(data)
            if habit == "slow":
                await self._place.dawdle(choose.uniform(0, 0.1))
            elif stalls_at is not None and size >= stalls_at:
                stalls_at = None
                await self._place.dawdle(choose.uniform(1, 4))
