"""A stream: one request, from its response's start to its end.

Law: one way to stop; the first reason wins and is reported once. Knows no bytes, no other
stream and no middleware but what it was given.
"""

from collections.abc import Awaitable
from typing import Final, Literal

from typing_extensions import override

from ._abort import AbortController, AbortSignal
from ._asgi import BODY, START, Message, Receive, Scope, Send
from ._head import judge, may_be_stream, readable, with_anti_buffering
from ._inbox import Inbox, body_size
from ._observe import (
    PingSent,
    StopReason,
    StreamEnded,
    StreamStarted,
    report,
)
from ._policy import Placed, Policy
from ._pulse import Pulse
from ._routes import Choice
from ._surroundings import Surroundings

SCOPE_KEY: Final = "asgi-keepalive"
"""Where a request's scope holds its stream while the app runs."""

_DECIDING: Final = (START, BODY)


class Stream(Inbox):
    """One request. What only a stream needs is made when it proves to be one."""

    # As small as can be: there is one for every request.
    __slots__ = (
        "_around",
        "_asked",
        "_choice",
        "_controller",
        "_error",
        "_outer",
        "_own",
        "_pulse",
        "_scope",
        "pass_on",
        "pings",
        "reason",
    )

    pass_on: Send
    """The server's own `send`."""

    _choice: Choice | None
    """`None`: hands off, from the start or from now on."""

    def __init__(
        self,
        around: Surroundings,
        choice: Choice | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        Inbox.__init__(self, receive)  # `super()` would take three times as long
        self._around = around
        self._choice = choice
        self._scope = scope
        self.pass_on = send
        self._pulse: Pulse | None = None
        self._controller: AbortController | None = None
        self._asked = False  # to abort, by whichever thread
        self.pings = 0
        self.reason: StopReason | None = None
        self._outer: Stream | None = scope.get(SCOPE_KEY)
        scope[SCOPE_KEY] = self

    def send(self, message: Message) -> Awaitable[None]:
        """Take a message of the app's: the app's own `send`."""
        if self._pulse is not None:
            return self._pulse.send(message)
        if self._choice is not None:
            kind = message.get("type")
            if kind == START and may_be_stream(message, self._choice.policy):
                return self._start(readable(message), self._choice)
            if kind in _DECIDING:  # a body: its start is still on its way, or missing
                self._choice = None
        return self.pass_on(message)

    def _start(self, message: Message, choice: Choice) -> Awaitable[None]:
        """Take a start that is worth a closer look."""
        verdict = judge(message, choice.policy)
        if verdict.placed is not None and self._takes_over():
            return self._open(message, choice.policy, verdict.placed, verdict.media_type)
        if verdict.compressed:
            self._around.warn_compressed(choice.route)
        if verdict.final:
            self._choice = None
        return self.pass_on(message)

    def _takes_over(self) -> bool:
        return self._outer is None or self._outer.step_aside()

    def step_aside(self) -> bool:
        """Leave the response to a middleware further in; false where it is too late."""
        if self._pulse is not None:
            return False
        self._choice = None
        return self._takes_over()

    async def _open(
        self, message: Message, policy: Policy, placed: Placed, media_type: str
    ) -> None:
        self._around.before_stream()
        await self.pass_on(with_anti_buffering(message) if policy.headers else message)
        if self._choice is None:  # a body has overtaken its start
            return
        self._own: AbortSignal | None = None
        self._error: BaseException | None = None
        # pyright takes a callable in `__slots__`, `pass_on`, for a method that would be bound.
        pulse = self._pulse = Pulse(self, policy, placed)  # pyright: ignore[reportArgumentType]
        fact = StreamStarted(path=self._scope["path"], media_type=media_type, policy=policy)
        report(self._around.observer, fact)
        self._follow_signals()
        if self.reason is None:
            await pulse.begin()

    def _follow_signals(self) -> None:
        if self.gone:  # before the response started
            self._end_once()
            return
        self._own = self._ask_for_signal()
        if self._own is not None:
            self._own.add_callback(self.abort)
        self.heed()

    def _ask_for_signal(self) -> AbortSignal | None:
        """Return the signal of this stream's own, if it is given one."""
        return self._around.own_signal(self._scope)

    @property
    def alive(self) -> bool:
        """Whether nothing has stopped the stream, nor is about to."""
        return self.reason is None and not (self._asked or self._around.stops.aborted)

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to report."""
        return self._choice is None

    @property
    def started_by(self) -> Literal["app", "middleware"]:
        """Who has started the response."""
        return "app"

    @property
    def late_status(self) -> int | None:
        """The status that the app gave behind a start which was not its own."""
        return None

    @property
    def stops(self) -> AbortSignal:
        """What stops all streams of the middleware."""
        return self._around.stops

    def abort(self) -> None:
        """Hear that this stream is to stop. From any thread or signal handler."""
        if not self._around.stops.aborted:
            self._asked = True
        if (pulse := self._pulse) is not None:
            pulse.heart.post(pulse)

    def heed(self) -> None:
        """Do what was asked for from anywhere."""
        if not self.alive:
            self.stop(StopReason.ABORTED)

    def _settle(self, reason: StopReason) -> bool:
        """Note why the stream is to stop; tell whether this reason is the first.

        In the loop's own thread only, so that what was noted once stays.
        """
        if self.reason is not None:
            return False
        stops = self._around.stops
        first = not (self._asked or stops.aborted)
        if not first:
            given = None if self._asked else stops.reason
            reason = given if isinstance(given, StopReason) else StopReason.ABORTED
        self.reason = reason
        return first

    def attend(self) -> bool:
        """See that somebody listens for the disconnect; tell whether that has just begun."""
        pulse = self._pulse
        if self._reading or pulse is None or not self.may_read_ahead:
            return False
        self.read_ahead(pulse.heart.loop, pulse.context)
        return True

    @override
    def on_disconnect(self) -> None:
        # Servers say it as well when a response is complete.
        if self._pulse is None or not self._pulse.finishing:
            self.end(StopReason.DISCONNECTED)
            if self._pulse is not None:
                self._pulse.cancel()  # some servers block what is sent to a client that left

    @override
    def goes_on(self, message: Message) -> bool:
        if not Inbox.goes_on(self, message):
            return False
        # Some servers tell the end of a body, however small, in a message of its own.
        size = body_size(self._scope)
        return size is None or len(message.get("body", b"")) < size

    def pinged(self, payload: bytes) -> None:
        """Take note of a ping."""
        self.pings += 1
        if self._around.observer is not None:
            fact = PingSent(path=self._scope["path"], count=self.pings, payload=payload)
            report(self._around.observer, fact)

    def stop(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Stop the pings. The first reason wins."""
        first = self._settle(reason)
        if self._pulse is not None:
            if first:
                self._error = error
            self._pulse.rest()
            if self._own is not None:
                self._own.remove_callback(self.abort)
        if self._controller is not None:
            self._controller.abort(self.reason)

    def end(self, reason: StopReason, error: BaseException | None = None) -> None:
        """Stop the pings: the stream is over."""
        self.stop(reason, error)
        self._end_once()

    def close(
        self,
        reason: StopReason = StopReason.COMPLETED,
        error: BaseException | None = None,
    ) -> None:
        """Leave nothing behind: the app's call is over."""
        if self._outer is None:
            self._scope.pop(SCOPE_KEY, None)
        else:
            self._scope[SCOPE_KEY] = self._outer
        if self._pulse is not None:
            self.end(reason, error)
            self.stop_reading()
            self._pulse.cancel()
            self._pulse = None
        elif self._controller is not None or self._asked:
            self.stop(reason)
        elif self.reason is None:
            self.reason = reason
        self._choice = None

    def _end_once(self) -> None:
        pulse, reason = self._pulse, self.reason
        if pulse is None or reason is None or self.ended:
            return
        self._choice = None
        fact = StreamEnded(
            path=self._scope["path"],
            reason=reason,
            pings=self.pings,
            duration=pulse.duration,
            bytes_sent=pulse.bytes_sent,
            error=self._error,
            started_by=self.started_by,
            late_status=self.late_status,
        )
        self._error = None  # its traceback refers to this stream
        report(self._around.observer, fact)

    @property
    def signal(self) -> AbortSignal:
        """The stream's own signal, made when it is first asked for."""
        if self._controller is None:
            self._controller = AbortController()
            if self.reason is not None:
                self._controller.abort(self.reason)
        return self._controller.signal
