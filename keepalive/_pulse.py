"""The pulse: the sends of one open stream, the app's and its pings'.

Law: data first; a ping only where it may stand, never beside another send. Knows no request,
no signal and no other stream; why it stops is its owner's affair.
"""

import math
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Final, Protocol

import anyio

from ._asgi import BODY, Message, Send
from ._backend import Cancel
from ._frames import Boundary, Ping, frame_of, with_newlines
from ._heart import Entry, Heart
from ._observe import LOGGER, StopReason
from ._passage import Passage
from ._policy import Placed, Policy, first_at, idle_due, slack, steady_next

ROUNDING: Final = 1e-9
"""Seconds within which two sums of the same times may differ."""


class Owner(Protocol):
    """What a pulse asks of its stream."""

    @property
    def alive(self) -> bool:
        """Whether nothing has stopped the stream."""
        ...  # pragma: no cover

    @property
    def ended(self) -> bool:
        """Whether the stream's end has been reported."""
        ...  # pragma: no cover

    def attend(self) -> None:
        """See that somebody listens for the disconnect."""
        ...  # pragma: no cover

    def heed(self) -> None:
        """See what the signals say."""
        ...  # pragma: no cover

    def pinged(self, count: int, payload: bytes) -> None:
        """Take note of a ping."""
        ...  # pragma: no cover

    def stop(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Stop the pings."""
        ...  # pragma: no cover

    def end(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Stop the pings: the stream is over."""
        ...  # pragma: no cover


class Pulse:
    """Passes the app's messages on, and sends a ping when they fail to come."""

    # As small as can be: there is one for every idle stream.
    __slots__ = (
        "_boundary",
        "_cancel",
        "_due",
        "_entry",
        "_first_at",
        "_last_ping",
        "_last_sent",
        "_line",
        "_looked_at",
        "_owner",
        "_passage",
        "_ping",
        "_pinging",
        "_policy",
        "_send",
        "_sending",
        "_time",
        "bytes_sent",
        "context",
        "count",
        "heart",
        "started",
    )

    def __init__(self, owner: Owner, send: Send, policy: Policy, placed: Placed) -> None:
        self._owner = owner
        self._send = send
        self._policy = policy
        self._ping: Ping = placed[0]
        self._boundary: Boundary = placed[1]
        self._passage = Passage()
        self._line: deque[anyio.Event] | None = None
        self._entry: Entry | None = None
        self._cancel: Cancel | None = None
        self._due = False  # a ping waits for the app: for a boundary, or behind its send
        self._pinging = False
        self._sending = 0
        self.bytes_sent = 0
        self.count = 0
        self._last_ping = -math.inf
        self.context = copy_context()
        self.heart = Heart.current()
        self._time: Callable[[], float] = self.heart.loop.time
        self.started = self._looked_at = self._time()
        self._first_at = first_at(policy, self.started)
        self._last_sent = self._first_at - policy.interval

    @property
    def slack(self) -> float:
        """Seconds that a ping may come early."""
        return slack(self._policy)

    @property
    def finishing(self) -> bool:
        """Whether the last body message has been handed to the server."""
        return self._passage.finishing

    @property
    def duration(self) -> float:
        """Seconds since the response's start."""
        return self._time() - self.started

    async def begin(self) -> None:
        """Start beating; a first ping that is to come at once comes here."""
        at_once = self._first_at <= self.started
        first_look = self._first_at + (self._policy.interval if at_once else 0.0)
        self._entry = self.heart.add(self, first_look)
        if at_once and self._may_ping():
            await self._send_ping()

    def rest(self) -> None:
        """Stop beating."""
        self._due = False
        if self._entry is not None:
            self.heart.remove(self._entry)
            self._entry = None

    def cancel(self) -> None:
        """Give up a ping that is still being sent."""
        if self._cancel is not None:
            self._cancel()
            self._cancel = None

    async def send(self, message: Message) -> None:
        """Pass on a message of the app's, and a ping that has waited for it."""
        if self._pinging or self._line:
            await self._wait_in_line()
        message, size = self._passage.take(message)
        self._sending += 1
        try:
            await self._send(message)
        except BaseException as error:
            if size:
                self._passage.lose()  # it may have been written, or not
            if isinstance(error, Exception):
                self._passage.finishing = False  # the server has refused it
            if isinstance(error, OSError):
                self._owner.end(StopReason.DISCONNECTED, error)
            raise
        finally:
            self._sending -= 1
        if size:
            self.bytes_sent += size
            self._last_sent = self._time()
        if self._passage.finishing:
            self._owner.end(StopReason.COMPLETED)
        elif self._due and self._may_ping():
            await self._send_ping()

    def look(self, when: float, now: float) -> tuple[bool, float]:
        """Tell the heart whether a ping is due, and when to look again."""
        self._owner.attend()
        policy = self._policy
        if policy.pacing == "steady":
            self._looked_at = now
            return True, steady_next(policy, self._first_at, max(when, now))
        due = idle_due(policy, self._last_sent, self._first_at)
        if due > when + ROUNDING:
            return False, due
        self._looked_at = now
        return True, now + policy.interval

    def say(self) -> None:
        """Send the ping that was due at the last look, now or as soon as it may stand."""
        if self._wanted():
            if self._may_ping():
                self._cancel = self.heart.loop.spawn(self._ping_alone, self.context)
            else:
                self._due = True

    def heed(self) -> None:
        """See what the signals say."""
        self._owner.heed()

    def _wanted(self) -> bool:
        """Whether the ping of the last look is still wanted.

        Not while the one before it is still being sent. In steady pacing, not if that one
        was late and has only just gone out; in idle pacing, not if the app has sent or is
        sending.
        """
        if self._pinging:
            return False
        if self._policy.pacing == "steady":
            return self._looked_at - self._last_ping > self.slack
        due = idle_due(self._policy, self._last_sent, self._first_at)
        return not self._sending and due <= self._looked_at + self.slack

    def _may_ping(self) -> bool:
        return (
            not (self._pinging or self._sending or self._passage.finishing)
            and self._owner.alive
            and self._passage.stands_at(self._boundary)
        )

    async def _ping_alone(self) -> None:
        """Ping in a task of its own; things may have changed since it was started."""
        if self._wanted():
            if self._may_ping():
                await self._send_ping()
            else:
                self._due = True
        self._cancel = None

    async def _send_ping(self) -> None:
        self._due = False
        payload = self._payload()
        self._pinging = True
        self._passage.pinged()
        try:
            await self._send({"type": BODY, "body": payload, "more_body": True})
        except OSError as error:
            self._owner.end(StopReason.DISCONNECTED, error)
        except Exception as error:  # the app meets its own error at its own next send
            self._owner.stop(StopReason.WRITE_FAILED, error)
        else:
            if not self._owner.ended:  # a blocked send may outlast its stream
                self._note_ping(payload)
        finally:
            self._pinging = False
            if self._line:
                self._line[0].set()

    def _payload(self) -> bytes:
        try:
            return frame_of(self._ping, self._passage.newline)
        except Exception:
            LOGGER.exception("a ping's callable failed")
            newline = self._passage.newline
            return with_newlines(self._ping, self._ping.payload, newline)

    def _note_ping(self, payload: bytes) -> None:
        now = self._time()
        # Counted from the look, unless it took long: the next ping is an interval after
        # this one was due, not an interval and a little.
        early = now - self._looked_at <= self.slack
        self._last_sent = self._last_ping = self._looked_at if early else now
        self.count += 1
        self.bytes_sent += len(payload)
        self._owner.pinged(self.count, payload)

    async def _wait_in_line(self) -> None:
        """Wait for the ping that is being sent, and for whoever has waited longer."""
        line = self._line = self._line or deque()
        turn = anyio.Event()
        line.append(turn)
        try:
            await turn.wait()
        finally:
            line.remove(turn)
            if turn.is_set() and line:
                line[0].set()  # it runs in a later turn of the loop, behind this one's send
