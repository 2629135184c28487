"""A live stream: sends the app's messages, and pings while it is idle.

The rules
    1. Data takes precedence. A message of the app is sent as soon as it comes. A ping is sent
       only when nothing else is being sent, and when nothing was sent for an interval.
    2. A ping is inserted only at the boundary that it needs; see `_boundary`. If it becomes
       due in between, it is sent right after the app's message that reaches the boundary.
    3. There is never more than one send of the middleware's own, and never at the same time as
       a send of the app. Sends of the app that come during a ping wait for it, first come,
       first served. Without a ping in between, the app's sends are passed on as they come,
       several at once if the app does that; whether that is permitted is up to the server.
    4. Data and pings both reset the timer (with steady pacing, only pings do).

The states of sending (`SendState`)
    IDLE           No ping is due.
    QUICK          The same, and the stream is busy: ordinary bodies take a short path through
                   `send`, which is one coroutine and reads a coarse clock.
    QUICK_SENDING  Such a body is being sent.
    OVERTAKEN      A ping became due while the app was sending. If that send had bytes, the
                   ping is no longer needed (IDLE); if it had none, it is (DUE). Idle pacing
                   only.
    DUE            A ping is due, but can't be sent yet: the stream is not at the boundary or,
                   with steady pacing, the app is sending.
    SENDING        A ping, or the last body, is being sent by the middleware.

What moves them
    The scheduler calls `poll` when a ping may be due: IDLE becomes SENDING where that is
    possible, otherwise OVERTAKEN or DUE. The end of a send of the app resolves OVERTAKEN, and
    sends a ping that is DUE if the stream is now at the boundary. The end of a ping's send
    leads back to IDLE. A stop leads to IDLE, except from SENDING: that send continues.

    IDLE becomes QUICK when two bodies have followed each other within CLOCK_RESOLUTION.
    Whatever concerns a send of the app from outside (a ping that is due, a stop, an end, a
    message that is not an ordinary body, a second send at the same time) first calls
    `leave_quick_mode`, so that the short path need not know of any of it.

Two turns of the event loop
    When its timer fires, the scheduler waits for two turns before it polls. If the app sends
    at this very time, the first turn wakes its task and in the second it sends. So at equal
    times the data comes first and the ping is not needed.

The stream's course
    It exists as soon as the response start is known to be a stream's, so that stops and time
    limits apply to a start that blocks, too: that counts as a send of the app. It is open
    until the first `StopReason`, which stops its pings. It has ended once `StreamEnded` has
    been emitted: after the last body, a disconnect, or the end of the app's call. A stopped
    stream goes on sending the app's messages. What has been emitted is its `report`.
"""

from collections.abc import Awaitable
from contextvars import Context, copy_context
from typing import Any, Final, Literal, TypeAlias

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint

from ._abort import AbortSignal
from ._boundary import BoundaryTracker, has_data, is_last_body
from ._connection import ClientDisconnected
from ._eventloop import DONE, Cancel, finish, must_propagate, steps_of, try_spawn
from ._events import PingSent, StopReason, StreamEnded, StreamStarted, emit, is_observed
from ._nesting import Nesting
from ._ping import BLANK_LINE, LF, Ping, frame_or_fallback
from ._request import DISCONNECTED, Request
from ._routing import Plan
from ._scheduler import (
    CLOCK_RESOLUTION,
    NOT_DUE,
    SENT,
    PingCoroutine,
    PingScheduler,
    PollResult,
)
from ._timerqueue import TIMER_ERROR
from ._timing import first_ping_at, next_due, next_poll
from ._types import BODY, TRAILERS, Message

LOOP_TURNS_BEFORE_FIRST_PING: Final = 3
"""Turns of the event loop that a server needs to report an earlier disconnect.

Counted from the start of a task that calls `receive`: one until that task runs, one until the
server's queue has woken it, one until its callback has run. Without this wait, a ping to a
client that has disconnected would be counted as sent.
"""

LOOP_TURNS_OF_LAST_BODY: Final = 10
"""Turns of the event loop within which a send of the last body that does not block returns.

Servers report a disconnect after each complete response, and hypercorn does so before the send
returns. So a disconnect during that send is significant only if the send continues.
"""

MAX_QUICK_BODY: Final = 65536
"""Bytes of a body that is too long for the short path.

A body that takes it is kept until the stream is polled, up to an interval later. 64 KiB is the
high-water mark of asyncio's and uvicorn's write buffers, which hold as much for a slow client.
"""

Report: TypeAlias = Literal["nothing", "started", "ended"]

NOTHING: Final = "nothing"
"""The response start is still being sent."""
STARTED: Final = "started"
"""`StreamStarted` has been emitted."""
ENDED: Final = "ended"
"""`StreamEnded` has been emitted."""

SendState: TypeAlias = Literal["idle", "quick", "quick_sending", "overtaken", "due", "sending"]

IDLE: Final = "idle"
"""No ping is due."""
QUICK: Final = "quick"
"""No ping is due, the stream is busy, and nothing about it is unusual."""
QUICK_SENDING: Final = "quick_sending"
"""The same; a body of the app is being sent."""
OVERTAKEN: Final = "overtaken"
"""A ping became due while the app was sending; bytes replace it, an empty body does not."""
DUE: Final = "due"
"""A ping waits for a boundary, or for a send of the app to return."""
SENDING: Final = "sending"
"""The middleware itself is sending: a ping, or the last body."""


class LiveStream(BoundaryTracker):
    """An open response that is kept alive. One object with its tracker, to save memory.

    Args:
        request: The state of its request.
        plan: How it is kept alive.
    """

    # There is one for every idle stream, so it is as small as possible.
    __slots__ = (
        "_last_data",
        "_last_ping",
        "_next",
        "_prev",
        "_rare",
        "_request",
        "_sends",
        "_state",
        "bytes_sent",
        "path",
        "plan",
        "report",
        "scheduler",
        "started",
    )

    report: Report
    """What has been emitted for the observer."""

    started: float
    """When the response started."""

    def __init__(self, request: Request, plan: Plan) -> None:
        super().__init__()
        self._request = request
        self.plan = plan
        self._rare: _Rare | None = None
        self._state: SendState = IDLE
        self._sends = 0  # of the app, in progress; without one in quick mode
        self.bytes_sent = 0
        self.report = NOTHING
        self.path = str(request.scope.get("path", ""))  # an app may delete it
        context = copy_context()
        if context:  # servers' contexts are empty, unless requests are traced
            self._make_rare().context = context
        self.scheduler = PingScheduler.current()
        self._prev: Any = None  # the scheduler's
        self._next: Any = None
        self._restart_timer()

    def _restart_timer(self) -> None:
        policy = self.plan.policy
        # When the app's bytes were last sent, and when a ping was; or when they would have
        # been, for the first ping to be due.
        self.started = self._last_data = self._last_ping = self.scheduler.time()
        if policy.first_ping is not None:
            self._last_ping += policy.first_ping - policy.interval
            self._last_data = min(self.started, self._last_ping)

    @property
    def last_data(self) -> float:
        """When the app's bytes were last sent, or the response started."""
        return max(self.started, self.scheduler.corrected(self._last_data))

    @property
    def _last_sent(self) -> float:
        """From when the next ping is due an interval later."""
        if self.plan.idle:
            return max(self._last_data, self._last_ping)
        return self._last_ping

    # The start

    async def start(self, message: Message) -> None:
        """Send the response start, and begin to send pings."""
        request, policy = self._request, self.plan.policy
        if request.hooks is not None:
            request.hooks.opened()
        own_signal = request.config.signal_for(request.scope)
        if own_signal is not None:
            self._make_rare().own_signal = own_signal
            own_signal.add_callback(self.abort)
        self.check_signals()
        delay = first_ping_at(policy, 0.0)  # 0: sent here, at once
        if request.reason is None:
            self.scheduler.add(self, self.started + (delay or policy.interval))
        await self._send_start(message)
        if request.inbound is DISCONNECTED:
            self.report_end()
        await self._call_after_send()
        if request.reason is None:
            self._restart_timer()
            self.scheduler.reschedule(self, self.started + (delay or policy.interval))
            if not delay and request.sends_pings and self._can_ping:
                await self._send_ping(self.started)

    async def _pass(self, message: Message) -> None:
        """Send a message that is not one of the app's bodies."""
        self._sends += 1
        try:
            await self._write(message)
        except OSError as error:
            self.end(StopReason.DISCONNECTED, error)
            raise
        finally:
            self._sends -= 1

    async def _write(self, message: Message) -> None:
        """Pass a message to the server."""
        sending = self._request.server_send(message)
        if sending is not None:
            await sending

    async def _send_start(self, message: Message) -> None:
        is_apps = not self._is_early
        if is_apps:
            self._pause_silence()
        try:
            await self._pass(message)
        finally:
            if is_apps:
                self._resume_silence(is_data=False)
        self._state = IDLE  # the first ping is due an interval from now
        self._report_start()

    @property
    def _is_early(self) -> bool:
        """Whether the middleware has started the response."""
        hooks = self._request.hooks
        return hooks is not None and hooks.late is not None

    def _report_start(self) -> None:
        if self.report is not NOTHING:
            return
        self.report = STARTED
        observer, plan = self._request.config.observer, self.plan
        if is_observed(observer):
            event = StreamStarted(
                path=self.path,
                route=plan.pattern,
                media_type=plan.media_type,
                policy=plan.configured,
                ping=plan.ping,
            )
            emit(observer, event)

    def cancel_start(self) -> None:
        """Leave nothing behind: the server has rejected the response start."""
        self.scheduler.remove(self)
        self._request.cancel_read_ahead()
        self._forget_own_signal()

    # The app's messages

    async def send(self, message: Message) -> None:
        """Send a message of the app, and then a ping that has been waiting for it.

        In quick mode, most of it is the short path: for a body that determines the position
        by itself, leaves the line ending as it is, and is small enough to be kept.
        """
        try:
            body, more = message["body"], message["more_body"]
        except KeyError:
            body = more = None
        if not (
            self._state is QUICK
            and more
            and type(body) is bytes
            and 2 < (size := len(body)) < MAX_QUICK_BODY
            and 0x0D not in body
        ):
            await self._send_checked(message)
            return
        self._state = QUICK_SENDING
        self._tail = body
        try:
            sending = self._request.server_send(message)
            if sending is not None:
                await sending
        except BaseException as error:
            await self._quick_send_failed(message, size, error)
            raise
        self.bytes_sent += size
        self._last_data = self.scheduler.now
        if self._state is QUICK_SENDING:
            self._state = QUICK
        else:
            await self._end_quick_send(message, size)

    def _send_checked(self, message: Message) -> Awaitable[None]:
        """Send a message of the app about which something may be unusual."""
        self.leave_quick_mode()
        if self._request.hooks is None and self._request.nesting is None:
            return self._send(message)
        return self._send_hooked(message)

    async def _quick_send_failed(
        self, message: Message, size: int, error: BaseException
    ) -> None:
        self.leave_quick_mode()
        try:
            await self._send_failed(message, size, error)
        finally:
            self._sends -= 1
            self._resume_silence(is_data=True)

    async def _end_quick_send(self, message: Message, size: int) -> None:
        """End a send that began in quick mode, which has been left since."""
        self._sends -= 1
        self._last_data = self.scheduler.time()  # the coarse clock may have stopped
        try:
            await self._after_send(message, size)
        finally:
            self._resume_silence(is_data=True)

    async def _send_hooked(self, message: Message) -> None:
        """Send a message of the app on a route with limits, or within another middleware."""
        nesting, hooks = self._request.nesting, self._request.hooks
        if nesting is not None and nesting.is_inner_ping(message):
            await self._pass_ping(message)
        elif hooks is not None and hooks.discard is not None:
            await hooks.discard()
        else:
            self._pause_silence()
            try:
                await self._send(message)
            finally:
                self._resume_silence(is_data=has_data(message))

    async def _send(self, message: Message) -> None:
        if self._state is SENDING or self._has_waiters:
            await self.wait_turn()
        if self._bom is not None:
            message = self.without_late_bom(message)
        size = self.feed_message(message)
        self._sends += 1
        try:
            sending = self._request.server_send(message)
            if sending is not None:
                await sending
        except BaseException as error:
            await self._send_failed(message, size, error)
            raise
        finally:
            self._sends -= 1
        if size:
            self._record_data(size)
        await self._after_send(message, size)

    def _record_data(self, size: int) -> None:
        """Record that bytes were sent, and change to quick mode if they come that quickly."""
        before, now = self._last_data, self.scheduler.time()
        if now - before > TIMER_ERROR:  # the same float otherwise: there are many idle streams
            self._last_data = now
        if now - before < CLOCK_RESOLUTION and self.bytes_sent and self._can_be_quick:
            self._state = QUICK
            self.scheduler.use_coarse_clock()
        self.bytes_sent += size

    @property
    def _can_be_quick(self) -> bool:
        """Whether the next body may be sent without regard to anything but its bytes.

        Not if the stream has stopped, so that no end that follows meets quick mode.
        """
        is_quiet = not (self._sends or self._has_waiters or self.saw_last_body)
        return (
            is_quiet
            and self._state is IDLE
            and self._bom is None
            and not self._tail.endswith(b"\r")  # a LF may follow
            and self.is_scheduled  # until it stops
            and self.slack >= CLOCK_RESOLUTION
        )

    def leave_quick_mode(self) -> None:
        """Examine the app's messages fully again, and the end of one in progress."""
        if self._state is not QUICK and self._state is not QUICK_SENDING:
            return
        if self._state is QUICK_SENDING:
            self._sends += 1
            self._pause_silence()
        self._state = IDLE
        self._last_data = self.scheduler.corrected(self._last_data)
        self.shorten_tail()
        self.scheduler.leave_coarse_clock()

    def _pause_silence(self) -> None:
        hooks = self._request.hooks
        if hooks is not None and hooks.silence is not None:
            hooks.silence.pause(self.last_data)

    def _resume_silence(self, *, is_data: bool) -> None:
        hooks = self._request.hooks
        if hooks is not None and hooks.silence is not None:
            hooks.silence.resume(is_data=is_data)

    async def _after_send(self, message: Message, size: int) -> None:
        """Do what was postponed until a send of the app has ended."""
        if self.saw_last_body:
            if is_last_body(message):  # not a send of another task meanwhile
                self.end(StopReason.COMPLETED)
        elif self._state is not IDLE:
            await self._send_late_ping(size)
        await self._call_after_send()

    async def _call_after_send(self) -> None:
        hooks = self._request.hooks
        if hooks is not None and hooks.after_send is not None:
            await hooks.after_send()

    async def _send_failed(self, message: Message, size: int, error: BaseException) -> None:
        if size:
            self.mark_unknown()  # the server may have written some of it
        if not isinstance(error, Exception):
            return
        if is_last_body(message) and self.report is not ENDED:
            self.saw_last_body = False  # the server has rejected it
        if isinstance(error, OSError):
            self.end(StopReason.DISCONNECTED, error)
        else:
            await self._await_disconnect()

    async def _await_disconnect(self) -> None:
        """Give the server time to report a disconnect, if that is why it raised an error.

        uvicorn raises a `RuntimeError` on uvloop for a client that has reset its connection.
        """
        # A copy, since a ping runs in that context, which a task of trio can't enter then.
        self._request.ensure_listening(self.scheduler.loop, self.context.copy())
        for _ in range(LOOP_TURNS_BEFORE_FIRST_PING):
            await cancel_shielded_checkpoint()

    async def _send_late_ping(self, size: int) -> None:
        """Send a ping that became due during a send of the app, if it is still needed."""
        if self._state is OVERTAKEN:
            self._state = IDLE if size else DUE
        if self._state is DUE and self._can_ping:
            await self._send_ping(self.scheduler.time())

    async def wait_turn(self) -> None:
        """Wait while the middleware is sending, and for everyone who has waited longer."""
        if self._state is SENDING or self._has_waiters:
            await self._make_rare().waiters.wait()

    @property
    def _has_waiters(self) -> bool:
        return self._rare is not None and bool(self._rare.waiters)

    def _make_rare(self) -> "_Rare":
        """Return what few streams need; it is made for those only."""
        if self._rare is None:
            self._rare = _Rare()
        return self._rare

    def _forget_own_signal(self) -> None:
        if self._rare is not None and self._rare.own_signal is not None:
            self._rare.own_signal.remove_callback(self.abort)

    @property
    def is_busy(self) -> bool:
        """Whether anything is being sent or about to be, or the last body has been."""
        sending = self._state is SENDING or self.is_app_sending or self._has_waiters
        return sending or self.saw_last_body

    @property
    def is_complete(self) -> bool:
        """Whether the last body has been sent."""
        sending = self.is_app_sending or self._state is SENDING
        return self.saw_last_body and not sending

    @property
    def is_app_sending(self) -> bool:
        """Whether a message of the app is being passed to the server."""
        return self._sends > 0 or self._state is QUICK_SENDING

    # Pings. The scheduler uses the public members, and `check_signals`.

    @property
    def is_scheduled(self) -> bool:
        """Whether the scheduler polls it."""
        return self._prev is not None

    @property
    def slack(self) -> float:
        """Seconds by which a ping may be early."""
        return self.plan.slack

    @property
    def context(self) -> Context:
        """The request's own context, as it was when the response started."""
        context = None if self._rare is None else self._rare.context
        return context or Context()

    @property
    def stop_signal(self) -> AbortSignal:
        """The signal that stops all streams of the middleware."""
        return self._request.config.stop_signal

    def poll(self, now: float, latest: float) -> tuple[PollResult, float]:
        """Send a ping, if one was due by `latest`.

        Returns what came of it, and when to poll again. The usual case is decided here: it is
        most of what an idle stream costs.
        """
        request, plan = self._request, self.plan
        if self._state is QUICK and now - self._last_data > CLOCK_RESOLUTION:
            self.leave_quick_mode()  # no longer busy
        if not (request.is_reading and plan.idle and request.nesting is None):
            return self._poll_unusual(now, latest)
        last, interval = self._last_ping, plan.policy.interval
        if self._last_data > last:  # noqa: PLR1730  # a call less for each ping
            last = self._last_data
        if last + interval > latest:
            return NOT_DUE, last + interval
        if self._state is not IDLE or not self._can_ping:
            return self._due_ping(now), now + interval
        context = Context() if self._rare is None else self.context
        ping = context.run(self._begin_ping, now)
        return SENT if ping is None else (context, ping), now + interval

    def _poll_unusual(self, now: float, latest: float) -> tuple[PollResult, float]:
        """Do the same in less usual cases: no listener, steady pacing, or nested."""
        policy = self.plan.policy
        request = self._request
        listening_began = not request.is_reading and request.ensure_listening(
            self.scheduler.loop, self.context
        )
        if not request.sends_pings:
            return NOT_DUE, now + policy.interval
        due = next_due(policy, self.started, self._last_sent, now)
        if due > latest:
            return NOT_DUE, due
        result: PollResult
        if listening_began and self._state is not SENDING:
            result = self.context, self._ping_unless_disconnected(now)
        else:
            result = self._due_ping(now)
        return result, next_poll(policy, due, now)

    def ping_blocked(self, cancel: Cancel) -> None:
        """Called when the ping's send blocks; `cancel` aborts it."""
        self._make_rare().cancel_ping = cancel

    def _due_ping(self, now: float) -> PollResult:
        """Return the ping that is due, if it can be sent now; otherwise record that it is."""
        if self._state is SENDING:
            return NOT_DUE
        if self._can_ping:
            return self.context, self._send_ping(now)
        self._mark_due()
        return NOT_DUE

    def _mark_due(self) -> None:
        """Record that a ping is due that can't be sent now."""
        self.leave_quick_mode()
        if self._state is not DUE:  # not since the last poll either
            app_is_sending = self._sends or self._has_waiters
            self._state = OVERTAKEN if self.plan.idle and app_is_sending else DUE

    async def _ping_unless_disconnected(self, now: float) -> None:
        """Send the ping that is due, unless the client has already disconnected."""
        for _ in range(LOOP_TURNS_BEFORE_FIRST_PING):
            await checkpoint()
        due = next_due(self.plan.policy, self.started, self._last_sent, now)
        if due <= now + self.slack:
            if self._can_ping:
                await self._send_ping(now)
            elif self._state is not SENDING:
                self._mark_due()

    @property
    def _can_ping(self) -> bool:
        # As `not self.is_busy and self._request.is_alive`, which are five more calls a ping.
        request = self._request
        return not (
            self._sends
            or self._state is SENDING
            or self._state is QUICK_SENDING
            or (self._rare is not None and self._rare.waiters)
            or self.saw_last_body
            or request.reason is not None
            or request.abort_requested
            or request.config.stop_signal.aborted
        ) and (self._tail is BLANK_LINE or self.is_at(self.plan.boundary))

    def _begin_ping(self, now: float) -> PingCoroutine | None:
        """Send a ping in the stream's context.

        Returns `None` if the server has sent it; a coroutine if it has to wait, or has failed.
        """
        message = self._prepare_ping()
        payload = message["body"]  # now: a compressing middleware around may replace it
        try:
            sending = self._request.server_send(message)
            if sending is not None:
                awaited = next(steps := steps_of(sending), DONE)
                if awaited is not DONE:
                    return self._finish_ping(finish(steps, awaited), payload, now)
        except BaseException as error:
            return self._finish_ping(_raise(error), payload, now)
        self._sent()
        self._record_ping(payload, now)
        return None

    async def _send_ping(self, now: float) -> None:
        message = self._prepare_ping()
        await self._finish_ping(self._write(message), message["body"], now)

    def _prepare_ping(self) -> Message:
        """Return a message for this ping alone, and record that it is being sent."""
        if self._state is not IDLE:
            self.leave_quick_mode()
        payload = self.plan.payload
        if payload is None or self.newline is not LF:
            payload = frame_or_fallback(self.plan.ping, self.newline)
        self._state = SENDING
        if self._bom is not None and self.is_empty:
            self.filter_bom()
        nesting: Nesting[Any] | None = self._request.nesting
        if nesting is not None:
            nesting.announce_ping(payload)
            for outer in nesting.outward:
                if outer.responder.live is not None:  # or it would take the ping for data
                    outer.responder.live.leave_quick_mode()
        return {"type": BODY, "body": payload, "more_body": True}

    async def _finish_ping(self, sending: Awaitable[None], payload: bytes, now: float) -> None:
        try:
            await sending
        except OSError as error:
            self.end(StopReason.DISCONNECTED, error)
        except BaseException as error:
            if must_propagate(error):
                raise
            await self._await_disconnect()
            self.stop(StopReason.WRITE_FAILED, error)  # the app gets an error of its own
        else:
            if self.report is not ENDED:  # a blocked send may outlast its stream
                # Counted from when its send began, unless that took long: the next ping comes
                # an interval later, not an interval and the time of a send.
                ended = self.scheduler.time()
                self._record_ping(payload, now if ended - now <= self.slack else ended)
        finally:
            if self._rare is not None:
                self._rare.cancel_ping = None
            self._sent()

    def _record_ping(self, payload: bytes, when: float) -> None:
        self._last_ping = when
        self.bytes_sent += len(payload)
        request = self._request
        request.pings += 1
        if request.config.observer is not None:
            event = PingSent(
                path=self.path,
                route=self.plan.pattern,
                count=request.pings,
                payload=payload,
            )
            emit(request.config.observer, event)

    def cancel_ping(self) -> None:
        """Abort a ping whose send is blocked."""
        rare = self._rare
        if rare is not None and rare.cancel_ping is not None:
            rare.cancel_ping()
            rare.cancel_ping = None

    # The end

    async def send_last(self, farewell: Ping | None) -> None:
        """Send a farewell and the last body. Not while `is_busy`."""
        self.leave_quick_mode()
        self._state = SENDING
        send, hooks = self._write, self._request.hooks
        nesting = self._request.nesting
        if nesting is not None:
            nesting.is_finishing = True
        try:
            if farewell is not None:
                payload = frame_or_fallback(farewell, self.newline)
                await send({"type": BODY, "body": payload, "more_body": True})
                self.bytes_sent += len(payload)
            self.saw_last_body = True
            await send({"type": BODY, "body": b"", "more_body": False})
            if hooks is not None and hooks.trailers:
                await send({"type": TRAILERS, "headers": [], "more_trailers": False})
        finally:
            self._sent()
            if nesting is not None:
                nesting.is_finishing = False

    async def _pass_ping(self, message: Message) -> None:
        """Send a ping of a middleware within this one. Raises an error if it is discarded.

        It ends at the boundary at which it was inserted, so the position stays the same.
        """
        self._pause_silence()  # the app's next send may have to wait for it
        try:
            await self.wait_turn()
            await self._pass(message)
            hooks = self._request.hooks
            if hooks is not None and hooks.discard is not None:
                raise ClientDisconnected.after(self._request.reason)
            self.bytes_sent += len(message["body"])
            await self._call_after_send()
        finally:
            self._resume_silence(is_data=False)

    def _sent(self) -> None:
        self._state = IDLE
        if self._rare is not None:
            self._rare.waiters.wake_next()

    def abort(self) -> None:
        """Request that the pings stop. Thread-safe and signal-safe."""
        self._request.request_abort()
        self.scheduler.notify(self)

    def check_signals(self) -> None:
        """Stop if a signal was aborted. Called by the scheduler, in the stream's context."""
        request = self._request
        if not request.is_alive:
            self.stop(StopReason.ABORTED)
            if request.abort_requested and request.hooks is not None:
                request.hooks.aborted()

    def stop(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Stop the pings. The first reason wins."""
        request = self._request
        stopped_before = request.reason is not None
        if request.record_reason(reason) and error is not None:
            self._make_rare().error = error
        self.leave_quick_mode()  # no poll will end it
        if self._state is not SENDING:
            self._state = IDLE
        self.scheduler.remove(self)
        if request.nesting is not None and not stopped_before:
            request.on_stopped(error)
        if not stopped_before and request.hooks is not None:
            request.hooks.stopped()
        request.abort_signal()

    def end(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Stop the pings and report the end."""
        self.stop(reason, error)
        self.report_end()

    def report_end(self) -> None:
        """Emit `StreamEnded`, once, if the pings have stopped."""
        request = self._request
        if self.report is not ENDED and request.reason is not None:
            self._report_start()
            self.report = ENDED
            self._forget_own_signal()
            observer = request.config.observer
            event = self._end_event(request.reason) if is_observed(observer) else None
            if self._rare is not None:
                self._rare.error = None  # its traceback refers to this stream
            if event is not None:
                emit(observer, event)
        if request.hooks is not None:
            request.hooks.ended()

    def _end_event(self, reason: StopReason) -> StreamEnded:
        request = self._request
        late = None if request.hooks is None else request.hooks.late
        return StreamEnded(
            path=self.path,
            route=self.plan.pattern,
            reason=reason,
            pings=request.pings,
            duration=self.scheduler.time() - self.started,
            bytes_sent=self.bytes_sent,
            error=None if self._rare is None else self._rare.error,
            started_by="app" if late is None else "middleware",
            late_status=None if late is None else late.status,
        )

    def disconnected(self) -> None:
        """Called when the client has disconnected."""
        if not self.saw_last_body:
            self.end(StopReason.DISCONNECTED)
            self.cancel_ping()  # on hypercorn, a send to a disconnected HTTP/2 client blocks
        elif not (self.is_complete or self.report is ENDED):
            # A copy, since this is called in that context, which trio can't enter twice.
            context = self.context.copy()
            try_spawn(self.scheduler.loop, self._end_unless_complete, context)

    async def _end_unless_complete(self) -> None:
        """End the stream if the send of its last body blocks after a disconnect."""
        for _ in range(LOOP_TURNS_OF_LAST_BODY):
            await checkpoint()
        if not self.is_complete:
            self.end(StopReason.DISCONNECTED)

    def close(self, reason: StopReason, error: BaseException | None) -> None:
        """Leave nothing behind. Called when the app's call is over."""
        self.end(reason, error)
        self._request.cancel_read_ahead()
        self.cancel_ping()


class _Rare:
    """What most streams never need. A stream makes it on demand, to be small without."""

    __slots__ = ("cancel_ping", "context", "error", "own_signal", "waiters")

    cancel_ping: Cancel | None
    """Set while a ping's send is blocked."""
    context: Context | None
    """The request's own context, if that is not empty."""
    error: BaseException | None
    """Why the stream has stopped, if that was an error."""
    own_signal: AbortSignal | None
    """The signal that stops this stream alone."""
    waiters: "WaitQueue"
    """Sends of the app that wait for the middleware's own."""

    def __init__(self) -> None:
        self.cancel_ping = self.context = self.error = self.own_signal = None
        self.waiters = WaitQueue()


async def _raise(error: BaseException) -> None:
    raise error


class WaitQueue(list[anyio.Event]):
    """Tasks that wait for their turn to send, first come, first served."""

    __slots__ = ()

    async def wait(self) -> None:
        """Wait until everyone who has waited longer has been served."""
        turn = anyio.Event()
        self.append(turn)
        try:
            await turn.wait()
        finally:
            self.remove(turn)
            if turn.is_set():
                self.wake_next()  # it runs in a later turn of the loop, after this task

    def wake_next(self) -> None:
        """Wake the task that has waited longest, if there is one."""
        if self:
            self[0].set()
