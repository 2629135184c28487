"""The pulse: the sends of one open stream, the app's and its pings'.

Law: data first; a ping only where it may stand, never beside another send. Knows no request,
no signal and no other stream; why it stops is its owner's affair.
"""

from contextvars import Context, copy_context
from typing import Any, Final, Literal, TypeAlias

from anyio.lowlevel import checkpoint

from ._abort import AbortSignal
from ._asgi import BODY, Message
from ._backend import Cancel
from ._frames import Boundary, Ping, frame_of, with_newlines
from ._heart import Heart, Saying
from ._line import Line
from ._observe import LOGGER, StopReason
from ._owner import Owner
from ._passage import Passage
from ._policy import Placed, Policy
from ._times import due_at, first_at, next_look, slack

TURNS_TO_LISTEN: Final = 3
"""Turns of the loop in which a server tells of a client that has left already."""

Stage: TypeAlias = Literal["silent", "overtaken", "due", "pinging"]

SILENT: Final = "silent"
OVERTAKEN: Final = "overtaken"
"""A ping fell due while the app was sending; bytes make up for it, an empty body does not."""
DUE: Final = "due"
"""A ping waits for the app: for a boundary, or behind its send."""
PINGING: Final = "pinging"
"""A ping is being sent."""


class Pulse(Passage):
    """Passes the app's messages on, and sends a ping when they fail to come."""

    # As small as can be: there is one for every idle stream.
    __slots__ = (
        "_boundary",
        "_cancel",
        "_context",
        "_last",
        "_line",
        "_owner",
        "_ping",
        "_policy",
        "_sending",
        "_stage",
        "ahead",
        "behind",
        "bytes_sent",
        "heart",
        "started",
    )

    def __init__(self, owner: Owner, policy: Policy, placed: Placed) -> None:
        super().__init__()
        self._owner = owner
        self._policy = policy
        self._ping: Ping = placed[0]
        self._boundary: Boundary = placed[1]
        self._line: Line | None = None
        self._cancel: Cancel | None = None
        self._stage: Stage = SILENT
        self._sending = 0
        self.bytes_sent = 0
        # An empty one, as servers' are unless something traces requests, need not be kept.
        self._context = copy_context() or None
        self.heart = Heart.current()
        self.ahead: Any = None
        self.behind: Any = None
        self.started = self.heart.time()
        # When anything was last sent; in steady pacing, when a ping was.
        self._last = first_at(policy, self.started) - policy.interval

    @property
    def slack(self) -> float:
        """Seconds that a ping may come early."""
        return slack(self._policy)

    @property
    def context(self) -> Context:
        """The request's own context, as it was when the response started."""
        return self._context or Context()

    @property
    def stops(self) -> AbortSignal:
        """What stops the stream, and many others."""
        return self._owner.stops

    @property
    def duration(self) -> float:
        """Seconds since the response's start."""
        return self.heart.time() - self.started

    async def begin(self) -> None:
        """Start beating; a first ping that is to come at once comes here."""
        first = first_at(self._policy, self.started)
        at_once = first <= self.started
        self.heart.add(self, first + (self._policy.interval if at_once else 0.0))
        if at_once and self._may_ping():
            await self._send_ping(first)

    def rest(self) -> None:
        """Stop beating."""
        if self._stage is not PINGING:
            self._stage = SILENT
        self.heart.remove(self)

    def cancel(self) -> None:
        """Give up a ping that is still being sent."""
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    def blocked(self, cancel: Cancel) -> None:
        """Hear that the ping has to wait, and what would end that."""
        self._cancel = cancel

    async def send(self, message: Message) -> None:
        """Pass on a message of the app's, and a ping that has waited for it."""
        if self._stage is PINGING or self._line:
            await self.wait_in_line()
        if self._bom is not None:
            message = self.readied(message)
        size = self.take(message)
        self._sending += 1
        try:
            await self._owner.pass_on(message)
        except BaseException as error:
            self._not_sent(size, error)
            raise
        finally:
            self._sending -= 1
        if size:
            self.bytes_sent += size
            if self._policy.pacing == "idle":
                self._last = self.heart.time()
        if self.finishing:
            self._owner.end(StopReason.COMPLETED)
        elif self._stage is not SILENT:
            await self._send_late_ping(size)

    async def _send_late_ping(self, size: int) -> None:
        """Send a ping that has waited for a send of the app's, unless that made up for it."""
        if self._stage is OVERTAKEN:
            self._stage = SILENT if size else DUE
        if self._stage is DUE and self._may_ping():
            await self._send_ping(self.heart.time())

    def _not_sent(self, size: int, error: BaseException) -> None:
        if size:
            self.lose()  # it may have been written, or not
        if isinstance(error, Exception):
            self.finishing = False  # the server has refused it
        if isinstance(error, OSError):
            self._owner.end(StopReason.DISCONNECTED, error)

    def look(self, now: float, latest: float) -> tuple[Saying | None, float]:
        """Return a ping to send, if one was due by `latest`; and when to look again."""
        began_to_listen = self._owner.attend()
        due = due_at(self._policy, self.started, self._last, now)
        if due > latest:
            return None, due
        saying = self._listen_first(now) if began_to_listen else self._due_ping(now)
        return saying, next_look(self._policy, due, now)

    def _due_ping(self, now: float) -> Saying | None:
        """Return the ping that is due, if it may be sent now.

        If not, it is sent as soon as it may stand: behind the app's own send. In idle pacing,
        what the app is sending makes up for it.
        """
        if self._stage is PINGING:
            return None
        if self._may_ping():
            return self._send_ping(now)
        if self._stage is not DUE:  # nor has been since the last look
            idle = self._policy.pacing == "idle"
            sending = self._sending or self._line
            self._stage = OVERTAKEN if idle and sending else DUE
        return None

    async def _listen_first(self, now: float) -> None:
        """Send the ping that is due, unless the client turns out to have left long ago."""
        try:
            for _ in range(TURNS_TO_LISTEN):
                await checkpoint()
            if due_at(self._policy, self.started, self._last, now) <= now + self.slack:
                saying = self._due_ping(now)
                if saying is not None:
                    await saying
        finally:
            self._cancel = None

    def heed(self) -> None:
        """See what the signals say."""
        self._owner.heed()

    @property
    def busy(self) -> bool:
        """Whether anything is being sent or about to be, or nothing more may be."""
        sending = self._stage is PINGING or self._sending > 0 or bool(self._line)
        return sending or self.finishing

    @property
    def complete(self) -> bool:
        """Whether the last body message has been sent."""
        return self.finishing and not (self._sending or self._stage is PINGING)

    def _may_ping(self) -> bool:
        return not self.busy and self._owner.alive and self.stands_at(self._boundary)

    async def wait_in_line(self) -> None:
        """Wait while a ping is being sent, and for whoever has waited longer."""
        if self._stage is PINGING or self._line:
            self._line = self._line or Line()
            await self._line.wait()

    async def finish(self, farewell: Ping | None) -> None:
        """Send a last message, and the last body, in the app's place. Not while `busy`."""
        self._stage = PINGING
        try:
            if farewell is not None:
                payload = self._payload(farewell)
                await self._owner.pass_on({"type": BODY, "body": payload, "more_body": True})
                self.bytes_sent += len(payload)
            self.finishing = True
            await self._owner.pass_on({"type": BODY, "body": b"", "more_body": False})
        finally:
            self._stage = SILENT
            if self._line:
                self._line.call_next()

    async def _send_ping(self, now: float) -> None:
        payload = self._payload(self._ping)
        self._stage = PINGING
        if self.untouched:
            self.filter_bom()
        try:
            await self._owner.pass_on({"type": BODY, "body": payload, "more_body": True})
        except OSError as error:
            self._owner.end(StopReason.DISCONNECTED, error)
        except Exception as error:  # the app meets its own error at its own next send
            self._owner.stop(StopReason.WRITE_FAILED, error)
        else:
            if not self._owner.ended:  # a blocked send may outlast its stream
                self._note_ping(payload, now)
        finally:
            self._stage = SILENT
            self._cancel = None
            if self._line:
                self._line.call_next()

    def _payload(self, ping: Ping) -> bytes:
        try:
            return frame_of(ping, self.newline)
        except Exception:
            LOGGER.exception("a ping's callable failed")
            return with_newlines(ping, ping.payload, self.newline)

    def _note_ping(self, payload: bytes, begun: float) -> None:
        now = self.heart.time()
        # Counted from its beginning, unless it took long: the next ping is an interval after
        # that, not an interval and a little.
        self._last = begun if now - begun <= self.slack else now
        self.bytes_sent += len(payload)
        self._owner.pinged(payload)
